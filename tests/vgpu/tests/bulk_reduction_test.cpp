// Reductions by bulk copies, PTX ISA 9.0 sections 9.7.9.25.4.3 and 9.7.9.25.5.4, against host
// arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/bulk_kernel.h"
#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

// Reductions: 64 elements of shared memory into global memory, with and without a tensor map.
struct Reduction {
  const char *op, *type;
  u32 map_type;  // kNoMap: only without one
  std::function<u64(u64 old, u64 v)> expected;
};
constexpr u32 kNoMap = ~0u;

std::vector<Reduction> reductions() {
  const auto add = [](u64 a, u64 b) { return a + b; };
  const auto add_f32 = [](u64 a, u64 b) { return raw(f32(a) + f32(b)); };
  return {
      {"add", "u32", 2, add},
      {"add", "s32", 3, add},
      {"add", "u64", 4, add},
      {"inc", "u32", 2, [](u64 a, u64 b) { return a >= b ? 0 : a + 1; }},
      {"dec", "u32", 2, [](u64 a, u64 b) { return a == 0 || a > b ? b : a - 1; }},
      {"min", "u32", 2, [](u64 a, u64 b) { return std::min(a, b); }},
      {"max", "u32", 2, [](u64 a, u64 b) { return std::max(a, b); }},
      {"min", "s32", 3, [](u64 a, u64 b) { return raw(std::min(s32(a), s32(b))); }},
      {"max", "s32", 3, [](u64 a, u64 b) { return raw(std::max(s32(a), s32(b))); }},
      {"min", "u64", 4, [](u64 a, u64 b) { return std::min(a, b); }},
      {"max", "s64", 5, [](u64 a, u64 b) { return static_cast<u64>(std::max(s64(a), s64(b))); }},
      {"and", "b32", 2, [](u64 a, u64 b) { return a & b; }},
      {"or", "b32", 2, [](u64 a, u64 b) { return a | b; }},
      {"xor", "b32", 2, [](u64 a, u64 b) { return a ^ b; }},
      {"and", "b64", 4, [](u64 a, u64 b) { return a & b; }},
      {"add", "f32", 7, add_f32},
      {"add", "f64", kNoMap, [](u64 a, u64 b) { return raw(f64(a) + f64(b)); }},
      {"add", "noftz.f16", 6,
       [](u64 a, u64 b) { return nearest_half(half_value(a) + half_value(b)); }},
      {"add", "noftz.bf16", 9,
       [](u64 a, u64 b) { return nearest_bf16(bf16_value(a) + bf16_value(b)); }},
      {"min", "f16", 6, [](u64 a, u64 b) { return half_value(a) < half_value(b) ? a : b; }},
      {"max", "bf16", 9, [](u64 a, u64 b) { return bf16_value(a) > bf16_value(b) ? a : b; }},
  };
}

// The rows, with a tensor map and without.
std::vector<std::tuple<Reduction, bool>> reduction_rows() {
  std::vector<std::tuple<Reduction, bool>> out;
  for (const Reduction& r : reductions()) {
    out.emplace_back(r, false);
    if (r.map_type != kNoMap) out.emplace_back(r, true);
  }
  return out;
}

class BulkReduction : public testing::TestWithParam<std::tuple<Reduction, bool>> {};

TEST_P(BulkReduction, MatchesHostArithmetic) {
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90; runs on the virtual GPU";
  const auto& [r, mapped] = GetParam();
  const std::string type = r.type;
  const u32 size = type.ends_with("64") ? 8 : type.ends_with("16") ? 2 : 4;
  constexpr u32 kCount = 64;
  Random random(17);
  std::vector<u8> in(kCount * size), out(in.size()), expected(in.size());
  for (u32 i = 0; i < kCount; ++i) {
    u64 a = random.next(), b = random.next();
    if (type == "f32")
      a = raw(1.5f * static_cast<float>(i)), b = raw(0.25f - static_cast<float>(i));
    if (type == "f64") a = raw(1.5 * i), b = raw(0.1 - i);
    if (type.ends_with("bf16")) {
      a = nearest_bf16(1.5 * i - 20), b = nearest_bf16(3.0 - i);
    } else if (type.ends_with("f16")) {
      a = nearest_half(1.5 * i - 20), b = nearest_half(3.0 - i);
    } else if (size == 4) {
      a &= 0xffffffff, b &= 0xffffffff;
    }
    const u64 e = r.expected(a, b);
    std::memcpy(&out[i * size], &a, size);
    std::memcpy(&in[i * size], &b, size);
    std::memcpy(&expected[i * size], &e, size);
  }
  Tensor t;
  t.type = mapped ? r.map_type : 2;
  t.dims = {kCount};
  t.box = {kCount};
  t.steps = {1};
  const std::string reduce =
      mapped ? "cp.reduce.async.bulk.tensor.1d.global.shared::cta." + std::string(r.op) +
                   ".tile.bulk_group [%rd14, {0}], [%r31];"
             : "cp.reduce.async.bulk.global.shared::cta.bulk_group." + std::string(r.op) + "." +
                   type + " [%o], [%r31], " + std::to_string(in.size()) + ";";
  LaunchSpec spec;
  spec.block = 128;
  ASSERT_EQ(device().run(bulk_kernel(in_to_shared(static_cast<u32>(in.size())) +
                                     "fence.proxy.async;\n bar.sync 0;\n" +
                                     by_thread_0(reduce + "\n cp.async.bulk.commit_group;\n"
                                                          " cp.async.bulk.wait_group 0;")),
                         "k", spec, {{&out}, {&in}, {nullptr, 0, false, &t}}),
            "");
  EXPECT_EQ(out, expected);
}

INSTANTIATE_TEST_SUITE_P(Ptx, BulkReduction, testing::ValuesIn(reduction_rows()),
                         [](const auto& info) {
                           std::string name = std::string(std::get<0>(info.param).op) + "_" +
                                              std::get<0>(info.param).type +
                                              (std::get<1>(info.param) ? "_tensor" : "");
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace vgpu::test
