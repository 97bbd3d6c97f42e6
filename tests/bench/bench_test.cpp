// What the benchmark program replays: lines of problems, their tensors, the check before timing.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "bench/check.h"
#include "bench/presets.h"
#include "bench/spec.h"
#include "bench/tensors.h"
#include "bench/unfused_problem.h"
#include "host/ops/attention/op.h"

namespace qkv::test {
namespace {

using bench::Reference;
using bench::Spec;
using bench::Tensors;

// In canonical order, every field at least once, its extremes too.
constexpr const char* kLines[] = {
    "fwd:cpu:bf16:d128:full:b1:hq8:hkv8:sq2048:skv2048",
    "fwd:cpu:f32:d64:dv32:causal:b2:hq6:hkv3:sq7:skv9",
    "fwd:cpu:f16:d1:full:b1:hq1:hkv1:sq1:skv1:lse",
    "fwd:cpu:f16:d8:causal:b3:hq4:hkv2:sq5:skv7:additive:scale=-0.5:softcap=30:top-left:left=4",
    "fwd:cpu:bf16:d40:dv24:full:b2:hq6:hkv3:sq7:skv9:additive:hard:scale=-0.5:softcap=30:offset=-3:"
    "left=4:right=2:mask=qk:bias32=1:alibi:lengths:lse:index64:weights32=2:split=64:threads=3:"
    "v=648.24.80",
    "fwd:cpu:f32:d8:full:b2:hq4:hkv2:sq5:skv7:hard:index32:weights=3:split=9223372036854775807",
    "fwd:cpu:f32:d8:full:b2:hq4:hkv2:sq5:skv7:top-k=128:index32:weights=3:top-scores",
    "fwd:cpu:f32:d8:full:b2:hq4:hkv2:sq5:skv7:scale=0:offset=0:left=0:right=1:mask=bhqk:bias=1",
    "fwd:cpu:f16:d8:full:b2:hq4:hkv2:sq5:skv7:scale=1.17549435e-38:softcap=7.88860905e-31:mask=1:"
    "bias=bhk",
    "fwd:cpu:f16:d8:full:b2:hq4:hkv2:sq5:skv7:scale=0.333333343:offset=1152921504606846976:"
    "left=1152921504606846976:weights=0",
    "fwd:cpu:f16:d8:full:b2:hq4:hkv2:sq5:skv7:offset=-1152921504606846976:weights32=1",
    "fwd:cpu:f32:d8:causal:b1:hq2:hkv1:sq3:skv5:lse:q=0.24.8:o=0.24.8",
    "fwd:cpu:bf16:d16:full:b2:hq4:hkv4:sq20:skv30:q=3840.16.192:k=0.0.0:v=0.16.64:o=1280.320.16",
};

TEST(BenchLine, RoundTrips) {
  for (const std::string line : kLines) EXPECT_EQ(bench::line(bench::parse(line)), line);
  std::string on_cuda = kLines[4];
  on_cuda.replace(4, 3, "cuda");
  EXPECT_EQ(bench::line(bench::parse(on_cuda)), on_cuda);
}

// The library's own word for the problem that a line replays.
TEST(BenchLine, IsWhatTheLibraryPrints) {
  for (const std::string line : kLines) {
    const qkv_attention_desc replayed = bench::describe(bench::parse(line), QKV_DEVICE_CPU, {});
    EXPECT_EQ(host::attention::repro(bench::make_problem(replayed)), line);
  }
}

TEST(BenchLine, ComesInCanonicalForm) {
  const auto expect = [](const char* given, const std::string& canonical) {
    EXPECT_EQ(bench::line(bench::parse(given)), "fwd:" + canonical) << given;
  };
  expect("fwd", "cpu:bf16:d128:full:b1:hq8:hkv8:sq2048:skv2048");
  // In any order; what speaks of one tensor wins over what speaks of both.
  expect("fwd:skv9:dv32:hkv2:lse:s4:d64:h4:f32:causal:softcap=2",
         "cpu:f32:d64:dv32:causal:b1:hq4:hkv2:sq4:skv9:softcap=2:lse");
  expect("fwd:none:scale=0.50:softcap=3e1",
         "cpu:bf16:d128:full:b1:hq8:hkv8:sq2048:skv2048:"
         "scale=0.5:softcap=30");
  expect("fwd:f32:bias32=q:weights32=3",
         "cpu:f32:d128:full:b1:hq8:hkv8:sq2048:skv2048:bias=q:weights=3");
  // Strides that are contiguous [batch, seq, heads, dim], an axis of extent 1 aside.
  expect("fwd:b1:h2:s4:d8:q=77.8.16:k=0.8.16", "cpu:bf16:d8:full:b1:hq2:hkv2:sq4:skv4");
}

TEST(BenchLine, RefusalsNameTheField) {
  const auto expect = [](const std::string& line, const std::string& field,
                         const std::string& reason) {
    try {
      bench::parse(line);
      ADD_FAILURE() << line << " is taken";
    } catch (const std::invalid_argument& e) {
      const std::string text = e.what();
      EXPECT_NE(text.find("'" + field + "'"), std::string::npos) << line << ": " << text;
      EXPECT_NE(text.find(reason), std::string::npos) << line << ": " << text;
    }
  };
  expect("bwd:cpu", "bwd", "must start with fwd");
  expect("fwd:cpu:gpu", "gpu", "not known; allowed are cpu, cuda, f32");
  expect("fwd::f32", "", "not known");
  expect("fwd:f64", "f64", "not known");
  expect("fwd:b0", "b0", "holds 0: there is nothing to time");
  expect("fwd:sq0", "sq0", "nothing to time");
  expect("fwd:skv0", "skv0", "nothing to time");
  expect("fwd:d", "d", "holds ''; allowed is a whole number from 1 to 2^31");
  expect("fwd:d-4", "d-4", "holds '-4'");
  expect("fwd:sq2147483649", "sq2147483649", "from 1 to 2^31");
  expect("fwd:s4x", "s4x", "holds '4x'");
  expect("fwd:scale=", "scale=", "a finite number");
  expect("fwd:scale=inf", "scale=inf", "a finite number");
  expect("fwd:scale=nan", "scale=nan", "a finite number");
  expect("fwd:softcap=0", "softcap=0", "holds '0'; allowed is a finite number above 0");
  expect("fwd:left=-1", "left=-1", "from 0 to 2^60");
  expect("fwd:offset=1152921504606846977", "offset=1152921504606846977", "from -2^60 to 2^60");
  expect("fwd:mask=kq", "mask=kq", "axes out of b, h, q, k in this order");
  expect("fwd:mask=", "mask=", "axes out of");
  expect("fwd:bias=qq", "bias=qq", "axes out of");
  expect("fwd:bias32=1k", "bias32=1k", "axes out of");
  expect("fwd:weights=4", "weights=4", "a mode from 0 to 3");
  expect("fwd:threads=0", "threads=0", "from 1 to 2^31 - 1");
  expect("fwd:q=1.2", "q=1.2", "three whole numbers");
  expect("fwd:q=1.2.3.4", "q=1.2.3.4", "three whole numbers");
  expect("fwd:o=1.-2.3", "o=1.-2.3", "three whole numbers");
  expect("fwd:k=1.2.", "k=1.2.", "three whole numbers");
  expect("fwd:top-left:offset=1", "offset=1", "stands beside 'top-left'");
  expect("fwd:bias=1:bias32=1", "bias32=1", "stands beside 'bias=1'");
  expect("fwd:d8:d8", "d8", "stands beside 'd8'");
  expect("fwd:index32", "index32", "needs field 'hard' or 'top-k'");
  expect("fwd:top-scores:hard", "top-scores", "needs field 'top-k'");
  expect("fwd:top-k=129", "top-k=129", "from 1 to 128");
  expect("fwd:hard:top-k=2", "top-k=2", "stands beside 'hard'");
  EXPECT_THROW(bench::parse("fwd:hq6:hkv4"), std::invalid_argument);
}

// Every preset is a problem that the library plans, and is documented; lengths can be others.
TEST(BenchPreset, IsAProblem) {
  std::ifstream file(QKV_BENCH_README);
  const std::string readme(std::istreambuf_iterator<char>(file), {});
  ASSERT_FALSE(readme.empty());
  for (const bench::Preset& one : bench::presets()) {
    const auto specs = bench::preset_problems(one.name, "cpu", "f32", {});
    EXPECT_EQ(specs.size(), one.sizes.size()) << one.name;
    for (const Spec& spec : specs) {
      EXPECT_TRUE(bench::is_bhsd(spec)) << one.name;
      EXPECT_NO_THROW(bench::make_problem(bench::describe(spec, QKV_DEVICE_CPU, {}))) << one.name;
    }
    EXPECT_NE(readme.find("| `" + std::string(one.name) + "` | "), std::string::npos) << one.name;
  }
  const auto other = bench::preset_problems("mistral-7b", "cuda", "bf16", {128, 64});
  ASSERT_EQ(other.size(), 2u);
  EXPECT_EQ(bench::name(other[0]), "forward/cuda/bf16/d128/causal/b1_hq32_hkv8_s128/left=4095");
  EXPECT_EQ(bench::name(bench::preset_problems("decode-8", "cpu", "f16", {256})[0]),
            "forward/cpu/f16/d128/full/b8_hq32_hkv8_sq1_skv256");
  EXPECT_THROW(bench::preset_problems("llama", "cpu", "f32", {}), std::invalid_argument);
}

TEST(BenchName, AppendsTheOptions) {
  Spec plain = bench::parse("fwd:cpu:bf16:d128:causal:b1:hq8:hkv8:sq2048:skv2048");
  EXPECT_EQ(bench::name(plain), "forward/cpu/bf16/d128/causal/b1_h8_s2048/bshd");
  bench::set_bhsd(&plain);
  EXPECT_EQ(bench::name(plain), "forward/cpu/bf16/d128/causal/b1_h8_s2048");
  EXPECT_EQ(bench::name(bench::parse("fwd:f32:d8:b1:h2:s3:softcap=30:lse:q=0.24.8")),
            "forward/cpu/f32/d8/full/b1_h2_s3/q=0.24.8_softcap=30_lse");
}

TEST(BenchWork, CountsVisiblePairs) {
  for (const std::string options :
       {"full", "causal", "top-left:right=0", "offset=-3:left=2:right=1", "left=0",
        "lengths:causal", "lengths:left=3", "lengths:top-left:right=4",
        "offset=1152921504606846976:left=3",
        "left=1152921504606846976:right=1152921504606846976"}) {
    const Spec spec = bench::parse("fwd:f32:d4:dv2:b3:hq4:hkv2:sq9:skv14:" + options);
    const host::attention::Problem p =
        bench::make_problem(bench::describe(spec, QKV_DEVICE_CPU, {}));
    double pairs = 0;
    for (int64_t b = 0; b < p.batch; ++b)
      for (int64_t i = 0; i < p.s_q; ++i)
        for (int64_t j = 0; j < p.s_kv; ++j) {
          const host::attention::KeyRange seen =
              host::attention::visible_keys(p, i, bench::kv_length(spec, b));
          pairs += j >= seen.begin && j < seen.end ? 4 : 0;  // heads
        }
    EXPECT_EQ(bench::visible_pairs(spec), pairs) << options;
    EXPECT_EQ(bench::flops(spec), 2 * pairs * 6) << options;
  }
  EXPECT_EQ(bench::flops(bench::parse("fwd:hard:d4:dv2:b1:h1:s3")), 2 * 9 * 4);
  EXPECT_EQ(bench::compulsory_bytes(
                bench::parse("fwd:f16:d4:b2:h2:sq3:skv5:mask=qk:lse:weights32=3:lengths:k=0.0.4")),
            2 * (2 * 2 * 3 * 4 * 2 + 5 * 4 + 2 * 2 * 5 * 4) + 3 * 5 + 4 * 12 + 4 * 60 + 4 * 2);
  EXPECT_EQ(bench::kv_length(bench::parse("fwd:b3:s9:lengths"), 0), 5);
  EXPECT_EQ(bench::kv_length(bench::parse("fwd:b3:s9:lengths"), 1), 7);
  EXPECT_EQ(bench::kv_length(bench::parse("fwd:b3:s9:lengths"), 2), 9);
}

TEST(BenchUnfused, DeclinesWhatItCannotDo) {
  for (const char* can :
       {"fwd:full", "fwd:causal:scale=2", "fwd:causal:top-left", "fwd:causal:sq3:skv5:offset=2",
        "fwd:sq3:skv5:top-left", "fwd:additive", "fwd:hard", "fwd:top-k=3", "fwd:cuda:hard"})
    EXPECT_EQ(bench::unfused_declines(bench::parse(can)), "") << can;
  const Spec shifted = bench::parse("fwd:causal:sq3:skv5:top-left:lse");
  EXPECT_EQ(bench::unfused_declines(shifted),
            "cannot do a causal mask that is not bottom-right, lse");
  for (const char* option : {"cuda:additive", "cuda:top-k=3", "softcap=1", "left=1", "right=1",
                             "mask=1", "bias=1", "alibi", "lengths", "lse", "weights=3"})
    EXPECT_NE(bench::unfused_declines(bench::parse(std::string("fwd:") + option)), "") << option;
}

TEST(BenchUnfused, ProductAloneDeclinesNoSelection) {
  for (const char* can : {"fwd:hard", "fwd:cuda:hard", "fwd:top-k=3", "fwd:cuda:top-k=3"})
    EXPECT_EQ(bench::product_declines(bench::parse(can)), "") << can;
  for (const char* cannot : {"fwd:hard:additive", "fwd:hard:softcap=1", "fwd:cuda:top-k=3:left=1"})
    EXPECT_NE(bench::product_declines(bench::parse(cannot)), "") << cannot;
}

TEST(BenchTensors, PackedAndBack) {
  const Tensors tensors(bench::parse("fwd:f32:d4:dv3:b2:h2:sq3:skv5:o=40.3.8"));
  const host::View& o = tensors.problem().o;
  EXPECT_EQ(tensors[bench::kO].bytes(), (40 + 3 + 16 + 3) * sizeof(float));
  const bench::Buffer elements(2 * 2 * 3 * 3 * sizeof(float));
  auto* const data = static_cast<float*>(elements.data());
  for (int n = 0; n < 36; ++n) data[n] = static_cast<float>(n);
  bench::unpack(elements.data(), o);
  EXPECT_EQ(*o.at<float>(1, 0, 2, 1), 18 + 6 + 1);
  EXPECT_TRUE(std::isnan(static_cast<float*>(tensors[bench::kO].data())[6])) << "a gap is written";
  EXPECT_EQ(std::memcmp(bench::packed(o).data(), elements.data(), elements.bytes()), 0);
}

// The check takes what the library computes and finds one wrong or unwritten element of any output.
TEST(BenchCheck, TakesTheRightAndFindsTheWrong) {
  for (const std::string line : {
           "fwd:f32:d16:causal:b2:hq4:hkv2:sq9:skv14:softcap=9:left=8:mask=qk:bias=hqk:alibi:"
           "lengths:lse:weights=3:o=1024.16.80",
           "fwd:bf16:d16:full:b2:hq4:hkv2:sq9:skv14:additive:top-left:bias32=1:lse:weights32=0",
           "fwd:f16:d16:full:b2:hq4:hkv2:sq9:skv14:hard:lengths:lse:index64:weights=3",
           "fwd:f32:d16:full:b2:hq4:hkv2:sq9:skv14:additive:hard:lse:index32:weights=2",
           "fwd:f16:d16:full:b2:hq4:hkv2:sq9:skv14:top-k=3:lengths:lse:index64:weights=3:top-"
           "scores",
           "fwd:f32:d16:full:b2:hq4:hkv2:sq9:skv14:additive:top-k=20:lse:index32:weights=2",
       }) {
    const Tensors tensors(bench::parse(line));
    const Reference reference(tensors.problem());
    EXPECT_NE(reference.check(), "") << line << ": nothing is written yet";
    bench::run(tensors.desc());
    ASSERT_EQ(reference.check(), "") << line;
    for (const bench::Part part : bench::kOutputs) {
      const bench::Buffer& buffer = tensors[part];
      if (buffer.bytes() == 0) continue;
      // The first element of all is in a row that the check samples.
      auto* const bytes = static_cast<unsigned char*>(buffer.data());
      const size_t top =
          static_cast<size_t>(host::type_size(bench::tensor(tensors.spec(), part).type)) - 1;
      const unsigned char right = bytes[top], low = bytes[0];
      if (part == bench::kIndex) {
        bytes[0] = static_cast<unsigned char>((low + 1) % 14);
      } else {
        bytes[top] = right ^ 0x03;  // of the exponent
      }
      EXPECT_NE(reference.check(), "") << line << ": output " << part;
      bytes[top] = right, bytes[0] = low;
      ASSERT_EQ(reference.check(), "") << line;

      std::string before(buffer.bytes(), '\0');
      std::memcpy(before.data(), bytes, before.size());
      const size_t last = buffer.bytes() - top - 1;
      std::memset(bytes + last, bench::poison_byte(part), top + 1);
      EXPECT_NE(reference.check(), "") << line << ": output " << part << " unwritten";
      std::memcpy(bytes, before.data(), before.size());
    }
  }
}

}  // namespace
}  // namespace qkv::test
