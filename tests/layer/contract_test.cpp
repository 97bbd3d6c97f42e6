// qkv_layer against fp64 and against a call for each of its steps. Runs where the linked place
// computes.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "host/verify/layer_parts.h"
#include "tests/support/verify.h"

namespace qkv::test {
namespace {

class Layer : public testing::TestWithParam<LayerCase> {
 protected:
  void SetUp() override {
    std::string reason = place().missing();
    if (reason.empty()) reason = missing_cublaslt();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
  void TearDown() override { place().set_threads(0); }

  std::unique_ptr<BuiltLayer> run(const BuildOptions& options, Api api) {
    auto built = std::make_unique<BuiltLayer>(GetParam(), options);
    EXPECT_EQ(built->run(api), QKV_SUCCESS) << qkv_last_error() << "\nseed " << options.seed;
    EXPECT_EQ(built->damage(), "") << "seed " << options.seed;
    return built;
  }
};

// One result, whatever lies in unused slots and in the workspace before, through either way to
// call, with any number of threads; it is that of a call for each step, bit for bit, and fp64's but
// for what the contract's roundings do.
TEST_P(Layer, Holds) {
  const uint64_t seed = test_seed();
  const auto first = run({.seed = seed, .fill = Fill::kZero}, Api::kOneShot);
  const Judgement judgement = first->judge();
  ASSERT_EQ(judgement.wrong, "") << "QKV_TEST_SEED=" << seed;

  constexpr Fill kOthers[] = {Fill::kNaN, Fill::kPositiveInf, Fill::kNegativeInf, Fill::kMax};
  for (uint64_t n = 1; n <= std::min<uint64_t>(test_repeats(), 3); ++n) {
    place().set_threads(static_cast<int>(n));
    const auto again = run({.seed = seed,
                            .fill = kOthers[(seed + n) % 4],
                            .poison = static_cast<unsigned char>(n % 2 == 0 ? 0xa5 : 0xff)},
                           n % 2 == 0 ? Api::kOneShot : Api::kPlan);
    ASSERT_EQ(again->output_bits(), first->output_bits()) << n << " threads, seed " << seed;
  }
  place().set_threads(0);

  BuiltLayer apart(GetParam(), {.seed = seed});
  ASSERT_EQ(apart.run_steps(), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(apart.output_bits(), first->output_bits()) << "apart, seed " << seed;

  // With every buffer at the edge of memory that may be touched, where alignment differs, which may
  // change the last bits.
  const auto edge = run({.seed = seed, .fit = Memory::Fit::kExact}, Api::kPlan);
  if (edge->output_bits() == first->output_bits()) return;
  EXPECT_EQ(edge->judge().wrong, "") << "at the edge, QKV_TEST_SEED=" << seed;
}

INSTANTIATE_TEST_SUITE_P(Cases, Layer, testing::ValuesIn(layer_cases()),
                         [](const auto& row) { return row.param.attention.name; });

class LayerCall : public testing::Test {
 protected:
  void SetUp() override {
    std::string reason = place().missing();
    if (reason.empty()) reason = missing_cublaslt();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }

  static LayerCase small() {
    LayerCase row;
    row.attention.sizes(5, 5).heads(2, 2).dims(8, 8);
    row.attention.index = QKV_TYPE_NONE;
    row.biases = "qkvo";
    return row;
  }
  static LayerCase small_packed() {
    LayerCase row = small();
    row.packed = true;
    return row;
  }
  static LayerCase small_cross() {
    LayerCase row = small();
    row.e_kv = 16;
    row.attention.sizes(5, 7);
    return row;
  }
};

// The workspace is as large as a query and a plan say: a byte less is refused, and no more is
// touched, as the guards around it show above.
TEST_F(LayerCall, WorkspaceIsExact) {
  for (const LayerCase& row : {small(), small_packed(), small_cross()}) {
    BuiltLayer built(row, {.seed = test_seed()});
    ASSERT_EQ(built.run(Api::kPlan), QKV_SUCCESS) << qkv_last_error();
    qkv_layer_desc d = built.desc();
    qkv_query_result answer{};
    answer.struct_size = sizeof answer;
    ASSERT_EQ(qkv_layer_query(&d, &answer), QKV_SUCCESS) << qkv_last_error();
    ASSERT_EQ(answer.supported, 1) << answer.reasons;
    EXPECT_EQ(std::string(answer.kernel),
              place().device() == QKV_DEVICE_CPU ? "cpu_layer" : "layer");
    qkv_plan* plan = nullptr;
    ASSERT_EQ(qkv_layer_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
    size_t bytes = 0;
    ASSERT_EQ(qkv_plan_workspace_size(plan, &bytes), QKV_SUCCESS);
    EXPECT_EQ(answer.workspace_size, bytes);
    // At least Q, K, V and O.
    const Case& c = row.attention;
    EXPECT_GE(bytes, static_cast<size_t>(4 * c.batch * c.s_q * c.heads_q * c.d_qk));
    void* const memory = place().allocate(bytes);
    d.workspace = memory;
    d.workspace_size = bytes - 1;
    EXPECT_EQ(qkv_layer_plan_run(plan, &d, nullptr), QKV_RESOURCE_WORKSPACE);
    d.workspace_size = bytes;
    EXPECT_EQ(qkv_layer_plan_run(plan, &d, nullptr), QKV_SUCCESS) << qkv_last_error();
    qkv_plan_destroy(plan);
    d.workspace = nullptr;
    d.workspace_size = 0;
    EXPECT_EQ(qkv_layer(&d, nullptr), QKV_RESOURCE_WORKSPACE);
    built.run(Api::kOneShot);  // downloads: nothing is queued any more
    place().release(memory);
  }
}

TEST_F(LayerCall, PlanPrintsItsSteps) {
  BuiltLayer built(small(), {.seed = 1});
  const qkv_layer_desc d = built.desc();
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_layer_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
  char buffer[8192];
  ASSERT_EQ(qkv_plan_print(plan, buffer, sizeof buffer, nullptr), QKV_SUCCESS);
  qkv_plan_destroy(plan);
  const std::string text = buffer;
  size_t at = 0;
  for (const char* line :
       {"self-attention from width 40, to width 24", "step q\n  kernel ", "step k\n  kernel ",
        "step v\n  kernel ", "step attention\n  kernel ", "step y\n  kernel "}) {
    at = text.find(line, at);
    EXPECT_NE(at, std::string::npos) << line << " is not in\n" << text;
  }
}

TEST_F(LayerCall, PlansAreOfTheirOwnKind) {
  BuiltLayer built(small(), {.seed = 1}), other(small_cross(), {.seed = 1});
  const qkv_layer_desc d = built.desc(), of_other = other.desc();
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_layer_plan_create(&d, &plan), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(qkv_layer_plan_run(plan, &of_other, nullptr), QKV_INVALID_PLAN);
  const BuiltProblem attention(small().attention, {.seed = 1});
  const qkv_attention_desc middle = attention.desc();
  EXPECT_EQ(qkv_plan_run(plan, &middle, nullptr), QKV_INVALID_PLAN) << qkv_last_error();
  qkv_plan_destroy(plan);
  ASSERT_EQ(qkv_plan_create(&middle, &plan), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(qkv_layer_plan_run(plan, &d, nullptr), QKV_INVALID_PLAN) << qkv_last_error();
  qkv_plan_destroy(plan);
}

TEST_F(LayerCall, RefusesWithAReason) {
  struct Row {
    qkv_status status;
    const char* says;
    LayerCase (*base)();
    std::function<void(qkv_layer_desc&, qkv_attention_desc&)> edit;
  };
  using D = qkv_layer_desc;
  using A = qkv_attention_desc;
  const std::vector<Row> rows = {
      {QKV_INVALID_STRUCT_SIZE, "call qkv_layer_desc_init first", small,
       [](D& d, A&) { d.struct_size = 8; }},
      {QKV_INVALID_ENUM, "device is 7", small, [](D& d, A&) { d.device = 7; }},
      {QKV_INVALID_ENUM, "flags is 6", small, [](D& d, A&) { d.flags = 6; }},
      {QKV_INVALID_VALUE, "threads is -1", small, [](D& d, A&) { d.threads = -1; }},
      {QKV_INVALID_VALUE, "reserved0 is 3, not the mark that qkv_layer_desc_init leaves", small,
       [](D& d, A&) { d.reserved0 = 3; }},
      {QKV_INVALID_VALUE, "heads_q is 0; at least 1", small, [](D& d, A&) { d.heads_q = 0; }},
      {QKV_INVALID_VALUE, "heads_kv is -1; it must divide heads_q, 2", small,
       [](D& d, A&) { d.heads_kv = -1; }},
      {QKV_INVALID_VALUE, "heads_kv is 3; it must divide heads_q, 2, or be 0", small,
       [](D& d, A&) { d.heads_kv = 3; }},
      {QKV_INVALID_NULL, "x_q is absent", small, [](D& d, A&) { d.x_q = {}; }},
      {QKV_INVALID_NULL, "w_q is absent", small, [](D& d, A&) { d.w_q = {}; }},
      {QKV_INVALID_NULL, "w_k is absent", small, [](D& d, A&) { d.w_k = {}; }},
      {QKV_INVALID_NULL, "w_v is absent", small, [](D& d, A&) { d.w_v = {}; }},
      {QKV_INVALID_NULL, "y is absent", small, [](D& d, A&) { d.y = {}; }},
      {QKV_INVALID_NULL, "w_k.data is null", small, [](D& d, A&) { d.w_k.data = nullptr; }},
      {QKV_INVALID_NULL, "y.data is null", small, [](D& d, A&) { d.y.data = nullptr; }},
      {QKV_INVALID_TYPE, "x_q.type is i32; allowed: f32, f16, bf16", small,
       [](D& d, A&) { d.x_q.type = QKV_TYPE_I32; }},
      {QKV_INVALID_TYPE, "w_v.type is f16; allowed: f32", small,
       [](D& d, A&) { d.w_v.type = QKV_TYPE_F16; }},
      {QKV_INVALID_TYPE, "x_kv.type is bf16; allowed: f32", small_cross,
       [](D& d, A&) { d.x_kv.type = QKV_TYPE_BF16; }},
      {QKV_INVALID_TYPE, "bias_o.type is f16; allowed: f32", small,
       [](D& d, A&) { d.bias_o.type = QKV_TYPE_F16; }},
      {QKV_INVALID_SHAPE, "x_kv.shape[0] (batch) is 1; it must be 2", small_cross,
       [](D& d, A&) { d.x_kv.shape[0] = 1; }},
      {QKV_INVALID_SHAPE, "x_q.shape[1] (heads) is 2; it must be 1", small,
       [](D& d, A&) { d.x_q.shape[1] = 2, d.x_q.stride[1] = 1; }},
      {QKV_INVALID_SHAPE, "w_q.shape[2] (out) is 15; it must be a multiple of heads_q, 2", small,
       [](D& d, A&) { d.w_q.shape[2] = 15; }},
      {QKV_INVALID_SHAPE, "w_v.shape[2] (out) is 0; it must be a multiple of heads_kv, 2", small,
       [](D& d, A&) { d.w_v.shape[2] = 0; }},
      {QKV_INVALID_SHAPE, "w_k.shape[2] (out) is 18; it must be heads x dim of K, 2 x 8", small,
       [](D& d, A&) { d.w_k.shape[2] = 18; }},
      {QKV_INVALID_SHAPE, "w_qkv.shape[2] (out) is 47", small_packed,
       [](D& d, A&) { d.w_qkv.shape[2] = 47; }},
      {QKV_INVALID_SHAPE, "w_k.shape[3] (", small_cross, [](D& d, A&) { d.w_k.shape[3] = 15; }},
      {QKV_INVALID_SHAPE, "w_o.shape[3] (", small, [](D& d, A&) { d.w_o.shape[3] = 15; }},
      {QKV_INVALID_SHAPE, "bias_v.shape[3] (out) is 15; it must be 16", small,
       [](D& d, A&) { d.bias_v.shape[3] = 15; }},
      {QKV_INVALID_SHAPE, "y.shape[2] (seq) is 4; it must be 5", small,
       [](D& d, A&) { d.y.shape[2] = 4; }},
      {QKV_INVALID_SHAPE, "y.shape[1] (heads) is 1; it must be 2", small,
       [](D& d, A&) { d.w_o = {}, d.bias_o = {}; }},
      {QKV_INVALID_STRIDE, "w_o.stride is 2 over out and 3 over in", small,
       [](D& d, A&) { d.w_o.stride[2] = 2, d.w_o.stride[3] = 3; }},
      {QKV_INVALID_STRIDE, "x_q.stride[3] is 2", small, [](D& d, A&) { d.x_q.stride[3] = 2; }},
      {QKV_INVALID_STRIDE, "elements of an output must not overlap", small,
       [](D& d, A&) { d.y.stride[2] = 1; }},
      {QKV_INVALID_COMBINATION, "w_q is set, but so is w_qkv", small_packed,
       [](D& d, A&) { d.w_q = d.w_qkv; }},
      {QKV_INVALID_COMBINATION, "w_k is set, but so is w_qkv", small_packed,
       [](D& d, A&) { d.w_k = d.w_qkv; }},
      {QKV_INVALID_COMBINATION, "w_v is set, but so is w_qkv", small_packed,
       [](D& d, A&) { d.w_v = d.w_qkv; }},
      {QKV_INVALID_COMBINATION, "bias_q is set, but so is w_qkv", small_packed,
       [](D& d, A&) { d.bias_q = d.bias_qkv; }},
      {QKV_INVALID_COMBINATION, "bias_k is set, but so is w_qkv", small_packed,
       [](D& d, A&) { d.bias_k = d.bias_qkv; }},
      {QKV_INVALID_COMBINATION, "bias_v is set, but so is w_qkv", small_packed,
       [](D& d, A&) { d.bias_v = d.bias_qkv; }},
      {QKV_INVALID_COMBINATION, "x_kv is set, but w_qkv is for self-attention", small_packed,
       [](D& d, A&) { d.x_kv = d.x_q; }},
      {QKV_INVALID_COMBINATION, "bias_qkv is set, but w_qkv is absent", small,
       [](D& d, A&) { d.bias_qkv = d.bias_q; }},
      {QKV_INVALID_COMBINATION, "bias_o is set, but w_o is absent", small,
       [](D& d, A&) { d.w_o = {}; }},
      {QKV_INVALID_COMBINATION, "attention.q is set; it must stay as", small,
       [](D& d, A& a) { a.q = d.x_q; }},
      {QKV_INVALID_COMBINATION, "attention.k is set", small, [](D& d, A& a) { a.k = d.x_q; }},
      {QKV_INVALID_COMBINATION, "attention.v is set", small, [](D& d, A& a) { a.v = d.x_q; }},
      {QKV_INVALID_COMBINATION, "attention.o is set", small, [](D& d, A& a) { a.o = d.x_q; }},
      {QKV_INVALID_COMBINATION, "attention.device is set", small,
       [](D&, A& a) { a.device = QKV_DEVICE_CPU; }},
      {QKV_INVALID_COMBINATION, "attention.device_index is set", small,
       [](D&, A& a) { a.device_index = 1; }},
      {QKV_INVALID_COMBINATION, "attention.flags is set", small, [](D&, A& a) { a.flags = 1; }},
      {QKV_INVALID_COMBINATION, "attention.workspace is set", small,
       [](D& d, A& a) { a.workspace = d.y.data; }},
      {QKV_INVALID_COMBINATION, "attention.workspace_size is set", small,
       [](D&, A& a) { a.workspace_size = 1; }},
      {QKV_INVALID_COMBINATION, "attention.threads is set", small, [](D&, A& a) { a.threads = 1; }},
      {QKV_INVALID_STRUCT_SIZE, "attention.struct_size is 8", small,
       [](D&, A& a) { a.struct_size = 8; }},
      {QKV_INVALID_VALUE, "attention.reserved0 is 0", small, [](D&, A& a) { a.reserved0 = 0; }},
      {QKV_INVALID_ENUM, "attention.score is 9", small, [](D&, A& a) { a.score = 9; }},
      {QKV_INVALID_VALUE, "attention.softcap is -1", small, [](D&, A& a) { a.softcap = -1; }},
      {QKV_INVALID_COMBINATION, "attention.additive_weight is absent", small,
       [](D&, A& a) { a.score = QKV_SCORE_ADDITIVE; }},
      {QKV_INVALID_COMBINATION, "attention.index is set; only hard selection", small,
       [](D& d, A& a) {
         a.index = d.y;
         a.index.type = QKV_TYPE_I32;
         a.index.shape[1] = 2, a.index.shape[3] = 1;
         a.index.stride[1] = 8;
       }},
      {QKV_INVALID_SHAPE, "attention.mask.shape[3] (keys) is 40; it must be 5 or 1", small,
       [](D& d, A& a) {
         a.mask = d.x_q;
         a.mask.type = QKV_TYPE_BOOL;
       }},
      {QKV_INVALID_NULL, "attention.lse.data is null", small,
       [](D&, A& a) { a.lse.data = nullptr; }},
      {QKV_INVALID_OVERLAP, "y shares elements with x_q", small,
       [](D& d, A&) { d.y.data = d.x_q.data; }},
      {QKV_INVALID_OVERLAP, "y shares elements with w_o", small,
       [](D& d, A&) { d.y.data = d.w_o.data; }},
      {QKV_INVALID_OVERLAP, "y shares elements with bias_qkv", small_packed,
       [](D& d, A&) { d.y.data = d.bias_qkv.data; }},
      {QKV_INVALID_OVERLAP, "attention.lse shares elements with x_kv", small_cross,
       [](D& d, A& a) { a.lse.data = d.x_kv.data; }},
      {QKV_INVALID_OVERLAP, "y shares elements with attention.lse", small,
       [](D& d, A& a) { a.lse.data = d.y.data; }},
      {QKV_INVALID_OVERLAP, "bytes, shares memory with ", small,
       [](D& d, A&) { d.workspace = d.w_k.data, d.workspace_size = size_t{1} << 30; }},
      {QKV_INVALID_NULL, "workspace is null, but workspace_size is 5", small,
       [](D& d, A&) { d.workspace_size = 5; }},
      {QKV_INVALID_ALIGNMENT, "workspace is not aligned to 256 bytes", small,
       [](D& d, A&) { d.workspace = static_cast<char*>(d.y.data) + 4, d.workspace_size = 1; }},
      {QKV_INVALID_SIZE, "Q, [1048576, 2, 281474976710656, 8], which lies in the workspace", small,
       [](D& d, A&) { d.x_q.shape[0] = 1 << 20, d.x_q.shape[2] = int64_t{1} << 48; }},
  };
  for (const Row& row : rows) {
    BuiltLayer built(row.base(), {.seed = 1});
    qkv_layer_desc desc = built.desc();
    qkv_attention_desc attention = *desc.attention;
    desc.attention = &attention;
    row.edit(desc, attention);
    EXPECT_EQ(qkv_layer(&desc, nullptr), row.status) << row.says << ": " << qkv_last_error();
    EXPECT_NE(std::string(qkv_last_error()).find(row.says), std::string::npos)
        << row.says << "\n is not in \n"
        << qkv_last_error();
  }
  EXPECT_EQ(qkv_layer(nullptr, nullptr), QKV_INVALID_NULL);
  EXPECT_EQ(qkv_layer_desc_init(nullptr, 8), QKV_INVALID_NULL);
  EXPECT_EQ(qkv_layer_query(nullptr, nullptr), QKV_INVALID_NULL);
}

// What only a run can see is refused under the layer's names too.
TEST_F(LayerCall, LengthsAreCheckedWhereTheyCanBe) {
  if (place().device() != QKV_DEVICE_CPU)
    GTEST_SKIP() << "lengths in device memory are not read; runs on the CPU (contract_test)";
  LayerCase row = small_cross();
  row.attention.lengths = {7, 7};
  BuiltLayer built(row, {.seed = 1});
  qkv_layer_desc d = built.desc();
  qkv_attention_desc attention = *d.attention;
  int32_t lengths[] = {7, 8};
  attention.kv_lengths.data = lengths;
  d.attention = &attention;
  d.flags = QKV_FLAG_ALLOW_ALLOCATION;
  EXPECT_EQ(qkv_layer(&d, nullptr), QKV_INVALID_VALUE);
  EXPECT_EQ(std::string(qkv_last_error()), "attention.kv_lengths[1] is 8; k has 7 keys");
}

// Attention's defaults, and a descriptor of 0.1.0, which ends before `threads`.
TEST_F(LayerCall, AttentionMayBeAbsentOrOld) {
  LayerCase row = small();
  row.attention.lse = false;
  BuiltLayer built(row, {.seed = test_seed()});
  ASSERT_EQ(built.run(Api::kOneShot), QKV_SUCCESS) << qkv_last_error();
  const std::vector<std::byte> bits = built.output_bits();
  qkv_attention_desc old;
  ASSERT_EQ(qkv_attention_desc_init(&old, offsetof(qkv_attention_desc, threads)), QKV_SUCCESS);
  for (const qkv_attention_desc* attention : {static_cast<const qkv_attention_desc*>(nullptr),
                                              static_cast<const qkv_attention_desc*>(&old)}) {
    BuiltLayer again(row, {.seed = test_seed(), .poison = 0x11});
    ASSERT_EQ(again.run_with(attention), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(again.output_bits(), bits);
  }
}

}  // namespace
}  // namespace qkv::test
