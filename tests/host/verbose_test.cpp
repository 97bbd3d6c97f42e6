// QKV_VERBOSE: each word prints its lines and no others; the repro line says all of a problem.
#include "host/core/verbose.h"

#include <gtest/gtest.h>

#include <locale>
#include <string>
#include <vector>

#include "host/core/disable.h"
#include "host/core/plan_cache.h"
#include "host/ops/attention/op.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/small_problem.h"

namespace qkv::test {
namespace {

class Verbose : public testing::Test {
 protected:
  Verbose() { lines().clear(); }
  ~Verbose() override {
    host::set_verbose_for_test("", nullptr);
    host::clear_plan_cache();
  }

  static std::vector<std::string>& lines() {
    static std::vector<std::string> instance;
    return instance;
  }
  static void listen(const std::string& words) {
    host::clear_plan_cache();
    host::set_verbose_for_test(words, [](const std::string& line) { lines().push_back(line); });
  }
  // A call that is planned, one that runs again, one that is refused.
  static void call() {
    SmallProblem f({.heads_q = 2, .heads_kv = 1, .s_q = 3, .s_kv = 5, .d_qk = 8, .d_v = 8});
    f.desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
    f.desc.causal = 1;
    EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    f.desc.q.stride[3] = 2;
    EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_INVALID_STRIDE);
  }
};

// BHSD, as SmallProblem has it.
constexpr const char* kLine = "fwd:cpu:f32:d8:causal:b1:hq2:hkv1:sq3:skv5:lse:q=0.24.8:o=0.24.8\n";

TEST_F(Verbose, SilentByDefault) {
  listen("");
  call();
  EXPECT_TRUE(lines().empty()) << lines()[0];
}

// Thousands by dots, a comma before fractions, as German has them.
class GermanNumbers : public std::numpunct<char> {
  char do_thousands_sep() const override { return '.'; }
  char do_decimal_point() const override { return ','; }
  std::string do_grouping() const override { return "\3"; }
};

// A program's locale changes no line that another program reads, and no message.
TEST_F(Verbose, LinesDoNotFollowTheLocale) {
  const std::locale before =
      std::locale::global(std::locale(std::locale::classic(), new GermanNumbers));
  listen("repro,check");
  SmallProblem f({.heads_q = 1, .heads_kv = 1, .s_q = 1, .s_kv = 1200, .d_qk = 8, .d_v = 8});
  f.desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  f.desc.scale_set = 1;
  f.desc.scale = 0.25f;
  const qkv_status ran = qkv_attention(&f.desc, nullptr);
  f.desc.q.stride[3] = 1234;
  const qkv_status refused = qkv_attention(&f.desc, nullptr);
  std::locale::global(before);
  ASSERT_EQ(ran, QKV_SUCCESS);
  ASSERT_EQ(refused, QKV_INVALID_STRIDE);
  ASSERT_EQ(lines().size(), 2);
  EXPECT_NE(lines()[0].find("skv1200:"), std::string::npos) << lines()[0];
  EXPECT_NE(lines()[0].find(":scale=0.25"), std::string::npos) << lines()[0];
  EXPECT_NE(lines()[1].find("q.stride[3] is 1234;"), std::string::npos) << lines()[1];
}

TEST_F(Verbose, Check) {
  listen("check");
  call();
  ASSERT_EQ(lines().size(), 1);
  EXPECT_EQ(lines()[0],
            "qkv:check: QKV_INVALID_STRIDE: q.stride[3] is 2; the innermost stride must be 1\n");
}

TEST_F(Verbose, Exec) {
  listen("exec");
  call();
  ASSERT_EQ(lines().size(), 2);
  for (const std::string& line : lines()) {
    EXPECT_EQ(line.rfind("qkv:exec: cpu_forward ", 0), 0) << line;
    EXPECT_NE(line.find(std::string(" us ") + kLine), std::string::npos) << line;
  }
}

TEST_F(Verbose, DispatchAndReproOncePerPlan) {
  listen("repro,dispatch");
  call();
  ASSERT_EQ(lines().size(), 2);
  EXPECT_EQ(lines()[0], std::string("qkv:dispatch: cpu_forward takes ") + kLine);
  EXPECT_EQ(lines()[1], std::string("qkv:repro: attention_bench --problem ") + kLine);
}

TEST_F(Verbose, DispatchSaysWhoDeclinedAndWhy) {
  FakeCuda cuda({fake_device(90)});
  cuda.map_everything(0);
  listen("dispatch");
  SmallProblem f({.s_q = 2, .s_kv = 2, .d_qk = 4, .d_v = 4});
  f.desc.device = QKV_DEVICE_CUDA;
  f.desc.softcap = 2.5f;
  ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(lines().size(), 12);
  EXPECT_EQ(lines()[0].rfind("qkv:dispatch: simt_general takes fwd:cuda:", 0), 0) << lines()[0];
  EXPECT_EQ(lines()[1],
            "qkv:dispatch:   declined by sm90_forward: computes in fp16 and bf16 only\n");
  EXPECT_EQ(lines()[2],
            "qkv:dispatch:   declined by sm80_forward: computes in fp16 and bf16 only\n");
  EXPECT_EQ(lines()[3].rfind("qkv:dispatch:   declined by sm80_tf32x3: ", 0), 0) << lines()[3];
  EXPECT_EQ(lines()[4], "qkv:dispatch:   declined by sm90_hard: computes hard selection only\n");
  EXPECT_EQ(lines()[5], "qkv:dispatch:   declined by sm80_hard: computes hard selection only\n");
  EXPECT_EQ(lines()[6],
            "qkv:dispatch:   declined by sm80_tf32x3_hard: computes hard selection only\n");
  EXPECT_EQ(lines()[7], "qkv:dispatch:   declined by sm80_top_k: computes top-k selection only\n");
  EXPECT_EQ(lines()[8],
            "qkv:dispatch:   declined by simt_additive: computes additive scores only\n");
  EXPECT_EQ(lines()[9],
            "qkv:dispatch:   declined by sm80_additive: computes additive scores only\n");
  EXPECT_EQ(lines()[10], "qkv:dispatch:   declined by sm90_wide: computes in fp16 and bf16 only\n");
  EXPECT_EQ(lines()[11],
            "qkv:dispatch:   declined by simt_forward: has no softcap, softcap is 2.5\n");
}

TEST_F(Verbose, Error) {
  FakeCuda cuda({fake_device(90)});
  cuda.map_everything(0);
  cuda.launch_code = 700;
  listen("error");
  SmallProblem f({.s_q = 2, .s_kv = 2, .d_qk = 4, .d_v = 4});
  f.desc.device = QKV_DEVICE_CUDA;
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_DEVICE_ERROR_CALL);
  ASSERT_EQ(lines().size(), 1);
  EXPECT_EQ(lines()[0],
            std::string("qkv:error: QKV_DEVICE_ERROR_CALL: ") + qkv_last_error() + "\n");
}

// Every op's runs are logged and can be replayed.
TEST_F(Verbose, OfAMerge) {
  listen("dispatch,exec,repro");
  std::vector<float> o0{1, 2}, o1{3, 4}, lse0{0}, lse1{1}, o(2);
  const qkv_tensor o_parts[] = {contiguous(o0, QKV_TYPE_F32, {1, 1, 1, 2}),
                                contiguous(o1, QKV_TYPE_F32, {1, 1, 1, 2})};
  const qkv_tensor lse_parts[] = {contiguous(lse0, QKV_TYPE_F32, {1, 1, 1, 1}),
                                  contiguous(lse1, QKV_TYPE_F32, {1, 1, 1, 1})};
  qkv_merge_desc desc;
  ASSERT_EQ(qkv_merge_desc_init(&desc, sizeof desc), QKV_SUCCESS);
  desc.device = QKV_DEVICE_CPU;
  desc.parts = 2;
  desc.o_parts = o_parts;
  desc.lse_parts = lse_parts;
  desc.o = contiguous(o, QKV_TYPE_F32, {1, 1, 1, 2});
  for (int n = 0; n < 2; ++n) ASSERT_EQ(qkv_merge(&desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  const std::string line = "merge:cpu:f32:d2:b1:h1:s1:parts2\n";
  ASSERT_EQ(lines().size(), 4) << "one plan, two runs";
  EXPECT_EQ(lines()[0], "qkv:dispatch: cpu_merge takes " + line);
  EXPECT_EQ(lines()[1], "qkv:repro: attention_bench --problem " + line);
  for (const size_t n : {2, 3}) {
    EXPECT_EQ(lines()[n].rfind("qkv:exec: cpu_merge ", 0), 0) << lines()[n];
    EXPECT_NE(lines()[n].find(" us " + line), std::string::npos) << lines()[n];
  }
}

TEST_F(Verbose, AllIsEverything) {
  listen("all");
  call();
  EXPECT_EQ(lines().size(), 5);  // dispatch, repro, exec, exec, check
}

TEST_F(Verbose, UnknownWordsAreNamed) {
  listen("exec,speed");
  ASSERT_EQ(lines().size(), 1);
  EXPECT_NE(lines()[0].find("'speed'; known: error, check,"), std::string::npos) << lines()[0];
  EXPECT_TRUE(host::verbose(host::kVerboseExec));
  EXPECT_FALSE(host::verbose(host::kVerboseRepro));
}

TEST_F(Verbose, DisabledKernelsAndUnknownOnes) {
  listen("exec");
  host::set_disabled_for_test("cpu_merge,cpu_foward");
  ASSERT_EQ(lines().size(), 1);
  EXPECT_EQ(lines()[0],
            "qkv:error: QKV_DISABLE has 'cpu_foward', which is no kernel; see qkv_build_info\n");
  lines().clear();
  listen("dispatch");
  call();
  host::set_disabled_for_test("");
  ASSERT_EQ(lines().size(), 2);
  EXPECT_EQ(lines()[1],
            "qkv:dispatch:   declined by cpu_foward: QKV_DISABLE names it, but there is no such "
            "kernel\n");
}

TEST(Repro, SaysAllOfAProblem) {
  const auto shape = [](int64_t b, int64_t h, int64_t s, int64_t d) {
    host::View view{nullptr, QKV_TYPE_BF16, {b, h, s, d}, {s * h * d, d, h * d, 1}};
    return view;
  };
  host::attention::Problem p;
  p.batch = 2, p.heads_q = 6, p.heads_kv = 3, p.s_q = 7, p.s_kv = 9, p.d_qk = 40, p.d_v = 24;
  p.type = QKV_TYPE_BF16;
  p.q = shape(2, 6, 7, 40), p.k = shape(2, 3, 9, 40), p.v = shape(2, 3, 9, 24);
  p.o = shape(2, 6, 7, 24);
  p.scale = host::attention::default_scale(p.score, p.d_qk);
  const std::string plain = "fwd:cpu:bf16:d40:dv24:full:b2:hq6:hkv3:sq7:skv9";
  EXPECT_EQ(host::attention::repro(p), plain);

  p.device = QKV_DEVICE_CUDA;
  p.score = QKV_SCORE_ADDITIVE;
  p.selection = QKV_SELECT_HARD;
  p.scale = -0.5f, p.softcap = 30;
  p.alignment = QKV_ALIGN_EXPLICIT, p.explicit_offset = -3;
  p.left = 4, p.right = 2;
  p.mask = {nullptr, QKV_TYPE_BOOL, {2, 6, 7, 9}, {0, 0, 9, 1}};
  p.bias = {nullptr, QKV_TYPE_F32, {2, 6, 7, 9}, {0, 0, 0, 0}};
  p.alibi_slopes = {nullptr, QKV_TYPE_F32, {2, 6, 1, 1}, {0, 1, 0, 0}};
  p.kv_lengths = {nullptr, QKV_TYPE_I32, {2, 1, 1, 1}, {1, 0, 0, 0}};
  p.lse = {nullptr, QKV_TYPE_F32, {2, 6, 7, 1}, {42, 7, 1, 0}};
  p.index = {nullptr, QKV_TYPE_I64, {2, 6, 7, 1}, {42, 7, 1, 0}};
  p.weights = {nullptr, QKV_TYPE_F32, {2, 6, 7, 9}, {378, 63, 9, 1}};
  p.weights_mode = QKV_WEIGHTS_MASKED;
  p.v.stride[2] = 80;
  p.fixed_split_size = 64;
  p.threads = 3;
  EXPECT_EQ(host::attention::repro(p),
            "fwd:cuda:bf16:d40:dv24:full:b2:hq6:hkv3:sq7:skv9:additive:hard:scale=-0.5:softcap=30:"
            "offset=-3:left=4:right=2:mask=qk:bias32=1:alibi:lengths:lse:index64:weights32=2:"
            "split=64:threads=3:v=648.24.80");
  p.selection = QKV_SELECT_TOP_K, p.top_k = 10;
  p.top_scores = {nullptr, QKV_TYPE_F32, {2, 6, 7, 10}, {420, 70, 10, 1}};
  EXPECT_NE(host::attention::repro(p).find(":additive:top-k=10:scale"), std::string::npos);
  EXPECT_NE(host::attention::repro(p).find(":weights32=2:top-scores:split"), std::string::npos);
  p.right = 0, p.alignment = QKV_ALIGN_TOP_LEFT;
  EXPECT_NE(host::attention::repro(p).find(":causal:"), std::string::npos);
  EXPECT_NE(host::attention::repro(p).find(":top-left:left=4:mask"), std::string::npos);
}

}  // namespace
}  // namespace qkv::test
