// Bulk copies against the definition of their layouts: element by element, from the coordinates of
// the box to a byte of shared memory. PTX ISA 9.0 sections 5.5 (tensors) and 9.7.9.25.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "async/tensor_map.h"
#include "tests/bulk_kernel.h"
#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

constexpr u32 kElementBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
struct Box {
  const char* name;
  u32 type;
  std::vector<u64> dims;
  std::vector<u32> box, steps;
  std::vector<i32> at;
  u32 swizzle = 0, fill = 0;
};

Tensor tensor_of(const Box& b, size_t argument) {
  Tensor t;
  t.argument = argument;
  t.type = b.type;
  t.swizzle = b.swizzle;
  t.fill = b.fill;
  t.dims = b.dims;
  u64 stride = align_up(b.dims[0] * kElementBytes[b.type], 16);
  for (size_t d = 1; d < b.dims.size(); ++d) {
    t.strides.push_back(stride);
    stride = align_up(stride * b.dims[d], 16);
  }
  t.box = b.box;
  t.steps = b.steps;
  return t;
}
u64 tensor_bytes(const Tensor& t) {
  u64 bytes = kElementBytes[t.type] * t.dims[0];
  for (size_t d = 1; d < t.dims.size(); ++d) bytes += t.strides[d - 1] * (t.dims[d] - 1);
  return align_up(bytes, 16);
}

// The tables of PTX ISA 9.0 section 5.5.6: which 16-byte piece of a row of 128 bytes a piece goes
// to, by the row's number.
u32 swizzled(u32 byte, u32 swizzle) {
  const u32 row = byte / 128, piece = byte % 128 / 16;
  constexpr u32 kPieces[] = {1, 2, 4, 8};
  const u32 within = kPieces[swizzle];
  const u32 moved = piece / within * within + ((piece % within) ^ (row % within));
  return row * 128 + moved * 16 + byte % 16;
}

// Calls f(byte in the tensor or -1, byte in shared memory) for the first byte of every element.
template <class F>
u32 for_each_element(const Box& b, const Tensor& t, F&& f) {
  const size_t rank = b.dims.size();
  std::vector<u32> index(rank, 0);
  const u32 size = kElementBytes[b.type];
  u32 number = 0;
  for (bool more = true; more; ++number) {
    i64 at = 0;
    bool inside = true;
    for (size_t d = 0; d < rank; ++d) {
      const u32 step = d == 0 ? 1 : b.steps[d];
      const i64 x = b.at[d] + i64{index[d]} * step;
      inside = inside && x >= 0 && x < static_cast<i64>(b.dims[d]);
      at += x * static_cast<i64>(d == 0 ? size : t.strides[d - 1]);
    }
    f(inside ? at : -1, swizzled(number * size, b.swizzle));
    more = false;
    for (size_t d = 0; d < rank && !more; ++d) {
      const u32 step = d == 0 ? 1 : b.steps[d];
      more = ++index[d] < (b.box[d] + step - 1) / step;
      if (!more) index[d] = 0;
    }
  }
  return number * size;
}

std::string coordinates(const Box& b) {
  std::string out = "{";
  for (size_t d = 0; d < b.at.size(); ++d) out += (d == 0 ? "" : ", ") + std::to_string(b.at[d]);
  return out + "}";
}
std::string dimension(const Box& b) { return std::to_string(b.dims.size()) + "d"; }

std::vector<Box> boxes() {
  std::vector<Box> out = {
      {"one_dimension", 2, {100}, {64}, {1}, {8}},
      {"one_dimension_past_the_end", 2, {100}, {64}, {1}, {80}},
      {"one_dimension_before_the_start", 2, {100}, {64}, {1}, {-8}},
      {"all_outside", 2, {100}, {64}, {1}, {200}},
      {"three_dimensions", 1, {40, 6, 5}, {16, 3, 2}, {1, 1, 1}, {3, 2, 4}},
      {"four_dimensions", 9, {64, 5, 4, 3}, {64, 4, 1, 2}, {1, 1, 1, 1}, {0, 3, 1, 2}, 3},
      {"five_dimensions",
       6,
       {32, 4, 3, 3, 2},
       {32, 3, 2, 2, 2},
       {1, 1, 1, 1, 1},
       {0, 1, -1, 2, 1},
       2},
      {"element_strides", 2, {32, 20, 9}, {8, 9, 6}, {1, 2, 3}, {4, 3, 1}},
      {"element_stride_of_the_innermost_is_ignored", 2, {32, 20}, {8, 8}, {4, 8}, {4, 3}},
      {"nan_fill", 7, {20, 6}, {32, 8}, {1, 1}, {-4, -1}, 3, 1},
      {"nan_fill_of_halves", 6, {24, 6}, {32, 8}, {1, 1}, {-3, -1}, 2, 1},
      {"zero_fill", 9, {50, 70}, {64, 64}, {1, 1}, {-7, 20}, 3},
      {"narrow_box_of_a_wide_swizzle", 1, {64, 40}, {32, 24}, {1, 1}, {8, 3}, 3},
      {"largest_box", 0, {300, 300}, {64, 256}, {1, 1}, {128, 30}, 2},
  };
  static const char* const kNames[13][4] = {
      {"u8_0", "u8_32", "u8_64", "u8_128"},         {"u16_0", "u16_32", "u16_64", "u16_128"},
      {"u32_0", "u32_32", "u32_64", "u32_128"},     {"s32_0", "s32_32", "s32_64", "s32_128"},
      {"u64_0", "u64_32", "u64_64", "u64_128"},     {"s64_0", "s64_32", "s64_64", "s64_128"},
      {"f16_0", "f16_32", "f16_64", "f16_128"},     {"f32_0", "f32_32", "f32_64", "f32_128"},
      {"f64_0", "f64_32", "f64_64", "f64_128"},     {"bf16_0", "bf16_32", "bf16_64", "bf16_128"},
      {"ftz_0", "ftz_32", "ftz_64", "ftz_128"},     {"tf32_0", "tf32_32", "tf32_64", "tf32_128"},
      {"tftz_0", "tftz_32", "tftz_64", "tftz_128"},
  };
  for (u32 type = 0; type < 13; ++type) {
    for (u32 swizzle = 0; swizzle < 4; ++swizzle) {
      const u32 inner = (swizzle == 0 ? 48 : 16u << swizzle) / kElementBytes[type];
      out.push_back(
          {kNames[type][swizzle], type, {200, 40}, {inner, 20}, {1, 1}, {16, 25}, swizzle});
    }
  }
  return out;
}

bool flushes(u32 type) { return type == 10 || type == 12; }
bool tf32(u32 type) { return type == 11 || type == 12; }
// Boxes whose copies end in an error of an H100, or lie otherwise in its shared memory (README.md).
bool isa_only(const Box& b, bool store) {
  const u32 inner = b.box[0] * kElementBytes[b.type];
  return b.at[0] * static_cast<i32>(kElementBytes[b.type]) % 16 != 0 ||
         (b.swizzle != 0 && inner < 16u << b.swizzle) ||
         (store && *std::min_element(b.at.begin(), b.at.end()) < 0);
}

class BulkTensorLoad : public testing::TestWithParam<Box> {};
class BulkTensorStore : public testing::TestWithParam<Box> {};

TEST_P(BulkTensorLoad, MatchesTheLayout) {
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90; runs on the virtual GPU";
  const Box& b = GetParam();
  if (on_real_gpu() && isa_only(b, false))
    GTEST_SKIP() << "an H100 faults or differs here; runs on the virtual GPU";
  const Tensor t = tensor_of(b, 1);
  std::vector<u8> in(tensor_bytes(t));
  Random random(in.size());
  for (u8& v : in) v = static_cast<u8>(random.next());
  const u32 size = kElementBytes[b.type];
  std::vector<u8> expected(32768, 0);
  std::vector<bool> nan(expected.size(), false);
  const u32 bytes = for_each_element(b, t, [&](i64 from, u32 to) {
    if (from >= 0) {
      std::copy_n(&in[static_cast<size_t>(from)], size, &expected[to]);
    }
    nan[to] = from < 0 && b.fill == 1;
  });
  const u32 span = static_cast<u32>(align_up(bytes, 128));
  const std::string text = bulk_kernel(
      all_words(span, "st.shared.u32 [%r2], 0;\n", "Z") +
      "fence.proxy.async.shared::cta;\n bar.sync 0;\n" +
      by_thread_0("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r29], " + std::to_string(bytes) +
                  ";\n cp.async.bulk.tensor." + dimension(b) +
                  ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%r31], [%rd14, " +
                  coordinates(b) + "], [%r29];") +
      kWait + shared_to_out(bytes));
  for (const Asynchrony a : kAsynchronies) {
    std::vector<u8> out(32768, 0);
    LaunchSpec spec;
    spec.block = 128;
    spec.asynchrony = a;
    ASSERT_EQ(device().run(text, "k", spec, {{&out}, {&in}, {nullptr, 0, false, &t}}), "");
    for (u32 i = 0; i < bytes; i += size) {
      if (nan[i]) {
        // Which NaN is not written anywhere.
        const u32 top = out[i + size - 1] << 8 | out[i + size - 2];
        const u32 exponent = size == 2 ? 0x7c00 : 0x7f80;
        EXPECT_EQ(top & exponent, exponent) << "byte " << i;
        continue;
      }
      if (tf32(b.type)) {  // a neighbour of the number that has no more bits: rounding is open
        u32 got, f32;
        std::memcpy(&got, &out[i], 4);
        std::memcpy(&f32, &expected[i], 4);
        const u32 down = f32 & 0xffffe000;
        ASSERT_TRUE(got == down || (f32 != down && got == down + 0x2000))
            << "byte " << i << ": " << got << " of " << f32;
        continue;
      }
      ASSERT_TRUE(std::equal(&out[i], &out[i] + size, &expected[i])) << "byte " << i;
    }
  }
}

TEST_P(BulkTensorStore, MatchesTheLayout) {
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90; runs on the virtual GPU";
  const Box& b = GetParam();
  if (on_real_gpu() && isa_only(b, true))
    GTEST_SKIP() << "an H100 faults or differs here; runs on the virtual GPU";
  const Tensor t = tensor_of(b, 0);
  std::vector<u8> in(32768);
  Random random(in.size());
  for (u8& v : in) v = static_cast<u8>(random.next());
  std::vector<u8> expected(tensor_bytes(t), 0x5a);
  const u32 size = kElementBytes[b.type];
  const u32 bytes = for_each_element(b, t, [&](i64 to, u32 from) {
    if (to >= 0) std::copy_n(&in[from], size, &expected[static_cast<size_t>(to)]);
  });
  const u32 span = static_cast<u32>(align_up(bytes, 128));
  const std::string text =
      bulk_kernel(in_to_shared(span) + "fence.proxy.async.shared::cta;\n bar.sync 0;\n" +
                  by_thread_0("cp.async.bulk.tensor." + dimension(b) +
                              ".global.shared::cta.tile.bulk_group [%rd14, " + coordinates(b) +
                              "], [%r31];\n cp.async.bulk.commit_group;\n"
                              " cp.async.bulk.wait_group.read 0;"));
  for (const Asynchrony a : kAsynchronies) {
    std::vector<u8> out(expected.size(), 0x5a);
    LaunchSpec spec;
    spec.block = 128;
    spec.asynchrony = a;
    ASSERT_EQ(device().run(text, "k", spec, {{&out}, {&in}, {nullptr, 0, false, &t}}), "");
    EXPECT_EQ(out, expected);
  }
}

std::string box_name(const testing::TestParamInfo<Box>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Ptx, BulkTensorLoad, testing::ValuesIn(boxes()), box_name);
// What a store does with subnormals is not written anywhere.
std::vector<Box> boxes_to_store() {
  std::vector<Box> out = boxes();
  std::erase_if(out, [](const Box& b) { return flushes(b.type); });
  return out;
}
INSTANTIATE_TEST_SUITE_P(Ptx, BulkTensorStore, testing::ValuesIn(boxes_to_store()), box_name);

// Copies without a tensor map: there and back.
TEST(Bulk, PlainCopies) {
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90; runs on the virtual GPU";
  std::vector<u8> in(4096);
  std::iota(in.begin(), in.end(), u8{3});
  Tensor t;
  t.argument = 1;
  t.type = 2;
  t.dims = {64};
  t.box = {64};
  t.steps = {1};
  for (const u32 bytes : {16u, 272u, 4096u}) {
    const std::string n = std::to_string(bytes);
    const std::string text = bulk_kernel(
        by_thread_0("cp.async.bulk.prefetch.L2.global [%i], " + n +
                    ";\n cp.async.bulk.prefetch.tensor.1d.L2.global.tile [%rd14, {0}];\n"
                    " prefetch.tensormap [%rd14];\n createpolicy.fractional.L2::evict_first.b64 "
                    "%rd5, 1.0;\n"
                    " mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 %rd4, [%r29], " +
                    n +
                    ";\n cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                    ".L2::cache_hint [%r31], [%i], " +
                    n + ", [%r29], %rd5;") +
        kWait +
        by_thread_0("cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint [%o], [%r31], " +
                        n + ", %rd5;\n cp.async.bulk.commit_group;\n cp.async.bulk.wait_group 0;",
                    "U"));
    for (const Asynchrony a : kAsynchronies) {
      std::vector<u8> out(4096, 0);
      LaunchSpec spec;
      spec.block = 128;
      spec.asynchrony = a;
      ASSERT_EQ(device().run(text, "k", spec, {{&out}, {&in}, {nullptr, 0, false, &t}}), "");
      EXPECT_TRUE(std::equal(in.begin(), in.begin() + bytes, out.begin()));
      EXPECT_TRUE(std::all_of(out.begin() + bytes, out.end(), [](u8 v) { return v == 0; }));
    }
  }
}

// A map in shared memory gets every field replaced, is copied to global memory and used.
TEST(Bulk, ReplacedTensorMap) {
  if (device().capability() < 90) GTEST_SKIP() << "needs sm_90; runs on the virtual GPU";
  std::vector<u8> in(8192), out(8192, 0);
  Random random(5);
  for (u8& v : in) v = static_cast<u8>(random.next());
  Tensor t;  // one dimension of bytes
  t.argument = 1;
  t.dims = {4096};
  t.box = {64};
  t.steps = {1};
  const Box b = {"replaced", 9, {24, 30}, {32, 16}, {1, 2}, {-2, 3}, 2, 0};
  Tensor wanted = tensor_of(b, 1);
  std::vector<u8> expected(4096, 0);
  const u32 bytes = for_each_element(b, wanted, [&](i64 from, u32 to) {
    if (from >= 0) std::copy_n(&in[1024 + static_cast<size_t>(from)], 2, &expected[to]);
  });
  const auto replace = [](const std::string& field, const std::string& type,
                          const std::string& value) {
    return "tensormap.replace.tile." + field + ".shared::cta.b1024." + type + " [%r31]" + ", " +
           value + ";\n";
  };
  const std::string text = bulk_kernel(
      // The map goes to the output's second half.
      "mov.u64 %rd2, %rd14;\n mul.wide.u32 %rd3, %t, 4;\n add.u64 %rd2, %rd2, %rd3;\n"
      "setp.lt.u32 %p3, %t, 32;\n @!%p3 bra X;\n ld.u32 %r5, [%rd2];\n mul.lo.u32 %r6, %t, 4;\n"
      "add.u32 %r6, %r6, %r31;\n st.shared.u32 [%r6], %r5;\n bar.warp.sync 0xffffffff;\n"
      "add.u64 %rd5, %i, 1024;\n mov.u64 %rd6, 48;\n mov.u32 %r7, 24;\n mov.u32 %r8, 30;\n"
      "mov.u32 %r9, 32;\n mov.u32 %r10, 16;\n mov.u32 %r11, 2;\n mov.u32 %r12, 1;\n @!%p0 bra "
      "Y;\n" +
      replace("global_address", "b64", "%rd5") + replace("rank", "b32", "%r12") +
      replace("box_dim", "b32", "0, %r9") + replace("box_dim", "b32", "1, %r10") +
      replace("global_dim", "b32", "0, %r7") + replace("global_dim", "b32", "1, %r8") +
      replace("global_stride", "b64", "0, %rd6") + replace("element_stride", "b32", "1, %r11") +
      replace("elemtype", "b32", "10") + replace("interleave_layout", "b32", "0") +
      replace("swizzle_mode", "b32", "2") + replace("fill_mode", "b32", "0") +
      "Y: bar.warp.sync 0xffffffff;\n add.u64 %rd7, %o, 4096;\n"
      "tensormap.cp_fenceproxy.global.shared::cta.tensormap::generic.release.gpu.sync.aligned "
      "[%rd7], [%r31], 128;\n fence.proxy.tensormap::generic.acquire.gpu [%rd7], 128;\n"
      "fence.proxy.async.shared::cta;\nX: bar.sync 0;\n add.u64 %rd7, %o, 4096;\n" +
      by_thread_0("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r29], " + std::to_string(bytes) +
                  ";\n cp.async.bulk.tensor.2d.shared::cluster.global.tile"
                  ".mbarrier::complete_tx::bytes [%r31], [%rd7, {-2, 3}], [%r29];") +
      kWait + shared_to_out(bytes));
  LaunchSpec spec;
  spec.block = 128;
  ASSERT_EQ(device().run(text, "k", spec, {{&out}, {&in}, {nullptr, 0, false, &t}}), "");
  EXPECT_TRUE(std::equal(out.begin(), out.begin() + bytes, expected.begin()));
}

// What cuTensorMapEncodeTiled refuses.
TEST(TensorMaps, Arguments) {
  const u64 dims[] = {64, 64}, strides[] = {128};
  const u32 box[] = {32, 32}, steps[] = {1, 1};
  const TensorMap::Request good = {1, 2, 4096, dims, strides, box, steps, 0, 0, 0, 0};
  TensorMap map;
  EXPECT_EQ(TensorMap::encode(good, map), "");
  const auto refused = [&](auto change, const std::string& needle) {
    TensorMap::Request r = good;
    change(r);
    const std::string problem = TensorMap::encode(r, map);
    EXPECT_NE(problem.find(needle), std::string::npos) << needle << ": " << problem;
  };
  using R = TensorMap::Request;
  const u64 zero[] = {64, 0}, huge[] = {64, (u64{1} << 32) + 1};
  const u64 odd[] = {136}, far[] = {u64{1} << 40};
  const u32 wide[] = {64, 257}, none[] = {0, 1}, thin[] = {4, 1}, long_step[] = {1, 9};
  refused([](R& r) { r.type = 16; }, "data type");
  refused([](R& r) { r.rank = 0; }, "rank 0");
  refused([](R& r) { r.rank = 6; }, "rank 6");
  refused([](R& r) { r.address = 4104; }, "multiple of 16");
  refused([&](R& r) { r.dims = zero; }, "size 0 of dimension 1");
  refused([&](R& r) { r.dims = huge; }, "size 4294967297");
  refused([&](R& r) { r.strides = odd; }, "stride 136");
  refused([&](R& r) { r.strides = far; }, "2^40");
  refused([&](R& r) { r.box = wide; }, "box 257");
  refused([&](R& r) { r.box = none; }, "box 0");
  refused([&](R& r) { r.box = thin; }, "inner 8 bytes");
  refused([&](R& r) { r.steps = long_step; }, "element stride 9");
  refused([](R& r) { r.interleave = 1; }, "3 dimensions");
  refused([](R& r) { r.swizzle = 1; }, "more than the swizzle's 32");
  refused([](R& r) { r.swizzle = 7; }, "no swizzle 7");
  refused([](R& r) { r.promotion = 4; }, "promotion");
  refused([](R& r) { r.fill = 1; }, "floating-point");
}

}  // namespace
}  // namespace vgpu::test
