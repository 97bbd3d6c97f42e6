// Sums of tensor cores, bit for bit, against an independent computation in whole numbers: every
// addend as a multiple of the last bit that is kept. With VGPU_TRUTH=gpu the random products are an
// H100's or an A100's own.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "machine/tensor_sum.h"
#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

using ptx::Type;

struct Format {
  Type type;
  const char* name;
  int fraction, smallest, largest;  // bits of the fraction, exponents of normal numbers
  u32 k;                            // of one instruction
};
constexpr Format kHalves{Type::kF16, "f16", 10, -14, 15, 16};
constexpr Format kBrains{Type::kBf16, "bf16", 7, -126, 127, 16};
constexpr Format kTf32s{Type::kTf32, "tf32", 10, -126, 127, 8};
constexpr Format kE4m3s{Type::kE4m3, "e4m3", 3, -6, 8, 32};

// What the model says, by its own table.
struct Model {
  u32 group;
  int kept, fraction;
};
Model model_of(int capability, const Format& f) {
  const bool tf32 = f.type == Type::kTf32;
  if (f.type == Type::kE4m3) return capability == 90 ? Model{32, 13, 13} : Model{16, 13, 23};
  return capability == 90 ? Model{tf32 ? 8u : 16u, 25, 23} : Model{tf32 ? 4u : 8u, 24, 23};
}

// v = whole * 2^exponent, with an exponent no smaller than the type's.
struct Parts {
  i64 whole = 0;
  int exponent = 0, top = -1000;  // top: what counts for the alignment
};
Parts parts_of(float v, int fraction, int smallest) {
  if (v == 0) return {};
  const int top = std::max(std::ilogb(v), smallest);
  const int exponent = top - fraction;
  return {std::llround(std::ldexp(double{v}, -exponent)), exponent, top};
}
i128 shifted(i128 whole, int by) {  // toward zero
  if (whole == 0) return 0;
  if (by >= 0) return whole << by;
  if (by < -100) return 0;
  return whole < 0 ? -(-whole >> -by) : whole >> -by;
}
float cut(i128 sum, int exponent, int fraction) {
  if (sum == 0) return 0;
  const bool negative = sum < 0;
  i128 size = negative ? -sum : sum;
  int width = 0;
  while (size >> width != 0) ++width;
  const int drop = std::max(width - 1 - fraction, -126 - fraction - exponent);
  if (drop > 0) size = (size >> drop) << drop;
  const double value = std::ldexp(static_cast<double>(size), exponent);
  const float f =
      value >= 0x1p128 ? std::numeric_limits<float>::infinity() : static_cast<float>(value);
  return negative ? -f : f;
}
float expected(const Model& m, const Format& f, const std::vector<float>& a,
               const std::vector<float>& b, float c) {
  float sum = c;
  for (size_t first = 0; first < a.size(); first += m.group) {
    std::vector<Parts> addends = {parts_of(sum, 23, -126)};
    for (size_t i = first; i < first + m.group && i < a.size(); ++i) {
      const Parts x = parts_of(a[i], f.fraction, f.smallest),
                  y = parts_of(b[i], f.fraction, f.smallest);
      if (x.whole != 0 && y.whole != 0)
        addends.push_back({x.whole * y.whole, x.exponent + y.exponent, x.top + y.top});
    }
    int top = -133;
    for (const Parts& p : addends) top = std::max(top, p.top);
    const int last = top - m.kept;
    i128 total = 0;
    for (const Parts& p : addends) total += shifted(p.whole, p.exponent - last);
    sum = cut(total, last, m.fraction);
  }
  return sum;
}

float machine_sum(int capability, const Format& f, const std::vector<float>& a,
                  const std::vector<float>& b, float c) {
  const size_t k = a.size();
  std::vector<double> av(k), ap(k), values(k), powers(k), bv(4 * k, 0), bp(4 * k, 0);
  tensor_elements(f.type, a.data(), k, av.data(), ap.data());
  tensor_elements(f.type, b.data(), k, values.data(), powers.data());
  for (size_t i = 0; i < k; ++i) {
    bv[4 * i + 2] = values[i];
    bp[4 * i + 2] = powers[i];
  }
  float sums[4] = {1, 2, c, 4};
  add_products(tensor_sum(capability, f.type),
               {av.data(), ap.data(), bv.data(), bp.data(), 4, static_cast<u32>(k)}, false, sums,
               sums);
  if (std::all_of(a.begin(), a.end(), [](float v) { return std::isfinite(v); })) {
    EXPECT_EQ(sums[0], 1.0f);
    EXPECT_EQ(sums[1], 2.0f);
    EXPECT_EQ(sums[3], 4.0f);
  }
  return sums[2];
}

float number(Random& random, const Format& f, int spread) {
  if (random.below(9) == 0) return 0;
  const int e = static_cast<int>(random.below(static_cast<u32>(2 * spread + 1))) - spread;
  const double one = 1.0 + random.below(1u << f.fraction) * std::ldexp(1.0, -f.fraction);
  const double v = std::ldexp(one, std::clamp(e, f.smallest, f.largest - 1));
  return static_cast<float>(random.below(2) == 0 ? v : -v);
}
struct Sum {
  std::vector<float> a, b;
  float c = 0;
};
Sum random_sum(Random& random, const Format& f) {
  Sum s;
  const int spread = 1 + static_cast<int>(random.below(12));
  for (u32 i = 0; i < f.k; ++i) {
    s.a.push_back(number(random, f, spread));
    s.b.push_back(number(random, f, spread));
  }
  const int e = static_cast<int>(random.below(static_cast<u32>(4 * spread + 1))) - 2 * spread;
  s.c = static_cast<float>(std::ldexp(1.0 + random.below(1u << 23) * 0x1p-23, e));
  if (random.below(2) == 0) s.c = -s.c;
  if (random.below(7) == 0) s.c = 0;
  return s;
}

TEST(TensorSum, IsTheModelOfTheDevice) {
  Random random(2021);
  for (const int capability : {80, 89, 90}) {
    for (const Format& f : {kHalves, kBrains, kTf32s, kE4m3s}) {
      if (capability == 80 && f.type == Type::kE4m3) continue;
      int differs_from_nearest = 0;
      for (int i = 0; i < 4096; ++i) {
        const Sum s = random_sum(random, f);
        const float want = expected(model_of(capability, f), f, s.a, s.b, s.c);
        ASSERT_EQ(raw(machine_sum(capability, f, s.a, s.b, s.c)), raw(want))
            << f.name << ", sm_" << capability << ", sum " << i;
        double exact = s.c;
        for (u32 j = 0; j < f.k; ++j) exact += double{s.a[j]} * s.b[j];
        differs_from_nearest += want != static_cast<float>(exact);
      }
      EXPECT_GT(differs_from_nearest, 1000) << f.name << ", sm_" << capability;
    }
  }
}

// What an H100 answered, and the sums that were made to ask.
float h100(const Format& f, std::vector<std::array<double, 2>> products, float c) {
  std::vector<float> a(f.k, 0), b(f.k, 0);
  for (size_t i = 0; i < products.size(); ++i) {
    a[i] = static_cast<float>(products[i][0]);
    b[i] = static_cast<float>(products[i][1]);
  }
  return machine_sum(90, f, a, b, c);
}

// Beside addends of 2^E that cancel, 2^(E - k) comes back up to this k.
TEST(TensorSum, KeepsTheBitsOfAnH100) {
  for (const Format& f : {kHalves, kBrains, kTf32s, kE4m3s}) {
    const bool fp8 = f.type == Type::kE4m3;
    const int e = fp8 ? 13 : 20, deepest = fp8 ? 25 : 40;
    const auto product = [&](double sign, int exponent) -> std::array<double, 2> {
      const int half = exponent / 2;
      return {std::ldexp(sign, exponent - half), std::ldexp(1.0, half)};
    };
    const auto kept = [&](bool onto_c, double one) {
      int last = -1;
      for (int k = 0; k <= deepest; ++k) {
        const double tiny = std::ldexp(1.0, e - k);
        auto first = product(-1, e), second = product(1, e);
        for (auto* p : {&first, &second})
          for (double& x : *p) x *= one;
        std::vector<std::array<double, 2>> products = {first, product(1, e - k)};
        if (!onto_c) products.push_back(second);
        const float c = onto_c ? static_cast<float>(std::ldexp(one * one, e)) : 0.0f;
        if (h100(f, products, c) == static_cast<float>(tiny)) last = k;
      }
      return last;
    };
    EXPECT_EQ(kept(true, 1), fp8 ? 13 : 25) << f.name;
    EXPECT_EQ(kept(false, 1), fp8 ? 13 : 25) << f.name;
    // 1.5 times 1.5 is 2.25, of exponent 1; as products these count with exponent 0.
    EXPECT_EQ(kept(true, 1.5), fp8 ? 12 : 24) << f.name;
    EXPECT_EQ(kept(false, 1.5), fp8 ? 13 : 25) << f.name;
  }
}

// Onto C of 1, 1 + ulp and their negatives: 1/4, 1/2 and 3/4 of an ulp, first added, then
// subtracted. Changes of the bits; below a power of two an ulp is half.
TEST(TensorSum, RoundsAsAnH100) {
  constexpr int kChanges[4][2][3] = {{{0, 0, 0}, {-1, -1, -2}},
                                     {{0, 0, 0}, {-1, -1, -1}},
                                     {{-1, -1, -2}, {0, 0, 0}},
                                     {{-1, -1, -1}, {0, 0, 0}}};
  for (const Format& f : {kHalves, kBrains, kTf32s}) {
    for (u32 i = 0; i < 4; ++i) {
      for (u32 sign = 0; sign < 2; ++sign) {
        for (u32 quarters = 1; quarters <= 3; ++quarters) {
          const float c =
              bits<float>(static_cast<u32>(raw(0x1p20f)) + i % 2) * (i < 2 ? 1.0f : -1.0f);
          const double ulp = sign == 0 ? 0.125 : -0.125;
          std::vector<std::array<double, 2>> products(2, {0.0, 0.0});
          if ((quarters & 1) != 0) products[0] = {ulp, 0.25};
          if ((quarters & 2) != 0) products[1] = {ulp, 0.5};
          const i64 change = static_cast<i64>(raw(h100(f, products, c))) - static_cast<i64>(raw(c));
          EXPECT_EQ(change, kChanges[i][sign][quarters - 1])
              << f.name << " " << i << " " << sign << " " << quarters;
        }
      }
    }
  }
}

TEST(TensorSum, HasTheEdgesOfAnH100) {
  constexpr float kMax = std::numeric_limits<float>::max();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  for (const Format& f : {kBrains, kTf32s}) {
    EXPECT_EQ(raw(h100(f, {{0, 0}}, f32(0x12345))), 0x12345u);
    EXPECT_EQ(raw(h100(f, {{1, 0x1p-126}}, f32(0x12345))), 0x812345u);
    EXPECT_EQ(raw(h100(f, {{0x1p-70, 0x1p-70}}, 0)), 0x200u);
    EXPECT_EQ(raw(h100(f, {{0x1p-75, 0x1p-75}, {0x1p-75, 0x1p-75}}, 0)), 1u);
    EXPECT_EQ(h100(f, {{0x1p64, 0x1p63}, {-0x1p64, 0x1p63}}, kMax), kMax);
    EXPECT_EQ(raw(h100(f, {{0x1p64, 0x1p63}}, kMax)), 0x7f800000u);
    EXPECT_EQ(raw(h100(f, {{0x1p64, 0x1p64}, {-0x1p64, 0x1p64}}, 0)), 0u);
  }
  EXPECT_EQ(raw(h100(kBrains, {{0x1p-133, 1}}, 0)), 0x10000u);
  EXPECT_EQ(raw(h100(kHalves, {{0x1p-24, 1}}, 0)), raw(0x1p-24f));
  EXPECT_EQ(raw(h100(kE4m3s, {{0x1p-9, 1}}, 0)), raw(0x1p-9f));
  EXPECT_EQ(raw(h100(kE4m3s, {{0, 0}}, f32(0x12345))), 0x12000u);
  for (const Format& f : {kHalves, kBrains, kTf32s, kE4m3s}) {
    EXPECT_EQ(raw(h100(f, {{0, 0}}, -0.0f)), 0u);
    EXPECT_EQ(raw(h100(f, {{-1, 0}}, -0.0f)), 0u);
    EXPECT_EQ(raw(h100(f, {{1, 1}}, -1)), 0u);
    if (f.type == Type::kE4m3) continue;
    EXPECT_EQ(raw(h100(f, {{kInf, 1}}, 0)), 0x7f800000u);
    EXPECT_EQ(raw(h100(f, {{kInf, 1}}, -std::numeric_limits<float>::infinity())), 0x7fffffffu);
    EXPECT_EQ(raw(h100(f, {{kInf, 0}}, 0)), 0x7fffffffu);
    EXPECT_EQ(raw(h100(f, {{1, 1}}, f32(0xffc12345))), 0x7fffffffu);
  }
}

// Sums of wgmma.m64n8k32 of e4m3 that the model had one bit too many for as long as its results had
// 23 bits of fraction.
TEST(TensorSum, CutsTheResultOfFp8) {
  EXPECT_EQ(
      raw(h100(kE4m3s, {{0x1.ep-1, 0x1.6p-1},   {-0x1.cp-3, 0x1p-5},    {0x1.cp+2, -0x1.ap-3},
                        {-0x1.6p+0, 0x1.4p+2},  {0x1.8p+4, -0x1.8p-1},  {-0x1.cp+3, 0x1.8p+4},
                        {0x1.ap-4, -0x1.cp+4},  {0x1.cp+1, 0x1p+3},     {0x1p-3, 0x1.6p-1},
                        {-0x1p+1, 0x1.4p+3},    {-0x1.ep-3, -0x1.ep-1}, {-0x1.4p+1, -0x1.4p+1},
                        {-0x1.8p+5, -0x1.4p-3}, {0x1.4p-5, -0x1.ap+1},  {0x1.6p+5, -0x1p+0},
                        {-0x1p-2, 0x1.8p+4},    {-0x1.6p+5, 0x1.2p+5},  {0x1p+1, -0x1.cp+0},
                        {-0x1.6p-1, 0x1.4p+1},  {-0x1p+2, -0x1.6p-5},   {0x1.ep+1, 0x1.ap-1},
                        {-0x1.ep-3, -0x1.ap+2}, {0x1.2p-4, 0x1.2p+3},   {-0x1.4p-2, 0x1.cp-5},
                        {0x1.8p-1, -0x1.ep-2},  {-0x1.2p+5, -0x1.2p-4}, {0x1.4p+5, 0x1.ap+1},
                        {0x1.ep-3, 0x1.8p+3},   {-0x1.2p+1, 0x1.cp+3},  {0x1.6p-4, -0x1.ap-1},
                        {-0x1.8p-1, 0x1p-1},    {0x1.cp+5, -0x1.ep+3}},
               -0x1.36126ep-7f)),
      0xc5299400u);
  EXPECT_EQ(
      raw(h100(kE4m3s, {{-0x1.4p+5, -0x1.6p-1}, {-0x1p+5, 0x1.2p+3},    {-0x1.ap-3, -0x1.ep-5},
                        {-0x1.cp-5, 0x1p+2},    {-0x1.ep+0, 0x1.ap-2},  {0x1.6p+1, 0x1.6p+1},
                        {-0x1.4p-6, 0x1p-1},    {-0x1.ep-2, -0x1.6p+5}, {-0x1.6p+6, -0x1.6p-3},
                        {0x1.ep-1, 0x1.cp+1},   {0x1.8p-5, 0x1.cp+5},   {0x1.ep-4, -0x1.2p+6},
                        {0x1.cp-6, 0x1.cp+3},   {-0x1.ep-1, -0x1p-2},   {-0x1.4p+3, 0x1.4p-3},
                        {0x1.6p+0, 0x1.ap-3},   {-0x1.cp+4, 0x1.2p+3},  {-0x1.ap-4, -0x1.2p+1},
                        {0x1.8p+0, -0x1.2p-2},  {0x1.cp-3, 0x1.6p-5},   {0x1.cp-4, 0x1.ap+4},
                        {0x1.ep-4, -0x1p+5},    {0x1.8p+3, 0x1.ep-1},   {-0x1.4p-3, -0x1.cp-3},
                        {0x1.2p-2, 0x1.ap-3},   {-0x1.ep+4, -0x1.8p-2}, {-0x1p+6, 0x1.cp+4},
                        {0x1.6p-6, 0x1.ep+4},   {-0x1.8p-2, -0x1.6p+3}, {0x1.ap-1, 0x1.8p-2},
                        {0x1p-6, 0x1p+2},       {-0x1.4p+2, 0x1.6p-2}},
               0x1.6e60aap+3f)),
      0xc50b5400u);
}

// One mma of random numbers: the model, through the instruction.
void check_mma(const Format& f, int capability) {
  const bool tf32 = f.type == Type::kTf32;
  const std::string shape = tf32 ? "m16n8k8" : "m16n8k16";
  std::string text =
      ".version 8.4\n.target sm_80\n.address_size 64\n"
      ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .reg .b64 %i, %o, %x;\n"
      " .reg .b32 %t, %a<4>, %b<2>;\n .reg .f32 %c<4>;\n ld.param.u64 %i, [in];\n"
      " ld.param.u64 %o, [out];\n mov.u32 %t, %tid.x;\n mul.wide.u32 %x, %t, 64;\n"
      " add.u64 %i, %i, %x;\n add.u64 %o, %o, %x;\n";
  const auto each = [&](const char* op, const char* name, int count, int at, bool store) {
    for (int i = 0; i < count; ++i) {
      const std::string place = "[%" + std::string(store ? "o" : "i") + "+" +
                                std::to_string(at + 4 * i) + "]",
                        reg = "%" + (name + std::to_string(i));
      text +=
          " " + std::string(op) + " " + (store ? place + ", " + reg : reg + ", " + place) + ";\n";
    }
  };
  each("ld.global.b32", "a", 4, 0, false);
  each("ld.global.b32", "b", 2, 16, false);
  each("ld.global.f32", "c", 4, 24, false);
  text += " mma.sync.aligned." + shape + ".row.col.f32." + f.name + "." + f.name +
          ".f32 {%c0, %c1, %c2, %c3}, {%a0, %a1, %a2, %a3}, {%b0, %b1}, {%c0, %c1, %c2, %c3};\n";
  each("st.global.f32", "c", 4, 0, true);
  text += " ret;\n}\n";
  Random random(static_cast<u64>(capability) * 64 + f.k);
  const Model model = model_of(capability, f);
  for (int turn = 0; turn < 4; ++turn) {
    std::vector<Sum> rows(16), columns(8);
    for (Sum& s : rows) s = random_sum(random, f);
    for (Sum& s : columns) s = random_sum(random, f);
    std::vector<u8> in(32 * 64), out(32 * 64);
    const auto put = [&](u32 lane, u32 at, u32 word) {
      std::memcpy(&in[lane * 64 + at], &word, 4);
    };
    const auto code = [&](const std::vector<float>& v, u32 t, u32 half) {
      if (tf32) return static_cast<u32>(raw(v[t + 4 * half]));
      const float low = v[2 * t + 8 * half], high = v[2 * t + 1 + 8 * half];
      return f.type == Type::kF16 ? static_cast<u32>(nearest_half(low) | nearest_half(high) << 16)
                                  : static_cast<u32>(nearest_bf16(low) | nearest_bf16(high) << 16);
    };
    const auto c_of = [&](u32 row, u32 column) {
      return rows[row].c * (column % 3 == 0 ? 1.0f : 0.5f) + 0.0f;
    };
    for (u32 lane = 0; lane < 32; ++lane) {
      const u32 g = lane / 4, t = lane % 4;
      for (u32 r = 0; r < 4; ++r) put(lane, 4 * r, code(rows[g + 8 * (r % 2)].a, t, r / 2));
      for (u32 r = 0; r < 2; ++r) put(lane, 16 + 4 * r, code(columns[g].b, t, r));
      for (u32 n = 0; n < 4; ++n)
        put(lane, 24 + 4 * n, static_cast<u32>(raw(c_of(g + 8 * (n / 2), 2 * t + n % 2))));
    }
    LaunchSpec spec;
    spec.mma = MmaSums::kTruncate;
    if (capability == device().capability()) {
      ASSERT_EQ(device().run(text, "k", spec, {{&in}, {&out}}), "");
    } else {
      ASSERT_EQ(observe(text, "k", spec, {{&in}, {&out}}, "a100").error, "");
    }
    for (u32 lane = 0; lane < 32; ++lane) {
      for (u32 n = 0; n < 4; ++n) {
        const u32 row = lane / 4 + 8 * (n / 2), column = 2 * (lane % 4) + n % 2;
        u32 got;
        std::memcpy(&got, &out[lane * 64 + 4 * n], 4);
        ASSERT_EQ(got, raw(expected(model, f, rows[row].a, columns[column].b, c_of(row, column))))
            << f.name << ", sm_" << capability << ", row " << row << ", column " << column;
      }
    }
  }
}
TEST(TensorSum, IsThatOfMmaOnAnH100) {
  if (device().capability() != 90) GTEST_SKIP() << "sums of sm_90; runs on the virtual GPU";
  for (const Format& f : {kHalves, kBrains, kTf32s}) check_mma(f, 90);
}
TEST(TensorSum, IsThatOfMmaOnAnA100) {
  if (on_real_gpu() && device().capability() != 80)
    GTEST_SKIP() << "sums of sm_80; runs on the virtual GPU";
  for (const Format& f : {kHalves, kBrains, kTf32s}) check_mma(f, 80);
}

}  // namespace
}  // namespace vgpu::test
