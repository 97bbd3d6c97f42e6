#include "tests/mma_layouts.h"

#include <cmath>

#include "tests/forms.h"

namespace vgpu::test {
namespace {

int g(int lane) { return lane >> 2; }
int t(int lane) { return lane & 3; }

Place c_place(int lane, int i) { return {g(lane) + (i >= 2 ? 8 : 0), t(lane) * 2 + (i & 1)}; }

}  // namespace

std::vector<Layout> mma_layouts() {
  const auto half = [](u64 v) { return half_value(v); };
  const auto brain = [](u64 v) { return bf16_value(v); };
  const auto single = [](u64 v) { return double{f32(v)}; };
  const auto to_half = [](double v) { return nearest_half(v); };
  const auto to_brain = [](double v) { return nearest_bf16(v); };
  const auto to_single = [](double v) { return raw(static_cast<float>(v)); };
  const auto signed8 = [](u64 v) { return static_cast<double>(static_cast<i8>(v)); };
  const auto unsigned8 = [](u64 v) { return static_cast<double>(v & 255); };
  const auto to_byte = [](double v) { return static_cast<u64>(static_cast<i64>(v)) & 255; };
  const auto to_nibble = [](double v) { return static_cast<u64>(static_cast<i64>(v)) & 15; };
  const auto to_bit = [](double v) { return static_cast<u64>(v) & 1; };
  const auto identity = [](u64 v) { return f64(v); };
  const auto to_double = [](double v) { return raw(v); };

  const auto a_k16 = [](int l, int i) {
    return Place{i < 2 || (i >= 4 && i < 6) ? g(l) : g(l) + 8,
                 t(l) * 2 + (i & 1) + (i >= 4 ? 8 : 0)};
  };
  const auto b_k16 = [](int l, int i) {
    return Place{t(l) * 2 + (i & 1) + (i >= 2 ? 8 : 0), g(l)};
  };
  const auto a_k8 = [](int l, int i) { return Place{i < 2 ? g(l) : g(l) + 8, t(l) * 2 + (i & 1)}; };
  const auto b_k8 = [](int l, int i) { return Place{t(l) * 2 + i, g(l)}; };
  const auto a_tf4 = [](int l, int i) { return Place{i == 0 ? g(l) : g(l) + 8, t(l)}; };
  const auto b_tf4 = [](int l, int) { return Place{t(l), g(l)}; };
  const auto a_tf8 = [](int l, int i) {
    return Place{i == 0 || i == 2 ? g(l) : g(l) + 8, i < 2 ? t(l) : t(l) + 4};
  };
  const auto b_tf8 = [](int l, int i) { return Place{i == 0 ? t(l) : t(l) + 4, g(l)}; };
  const auto a_b16 = [](int l, int i) {
    return Place{i < 4 ? g(l) : g(l) + 8, t(l) * 4 + (i & 3)};
  };
  const auto b_b16 = [](int l, int i) { return Place{t(l) * 4 + i, g(l)}; };
  const auto a_b32 = [](int l, int i) {
    return Place{i < 4 || (i >= 8 && i < 12) ? g(l) : g(l) + 8,
                 t(l) * 4 + (i & 3) + (i >= 8 ? 16 : 0)};
  };
  const auto b_b32 = [](int l, int i) {
    return Place{t(l) * 4 + (i & 3) + (i >= 4 ? 16 : 0), g(l)};
  };
  // 4-bit elements, 8 to a register.
  const auto a_n64 = [](int l, int i) {
    return Place{i < 8 || (i >= 16 && i < 24) ? g(l) : g(l) + 8,
                 t(l) * 8 + (i & 7) + (i >= 16 ? 32 : 0)};
  };
  const auto b_n64 = [](int l, int i) {
    return Place{t(l) * 8 + (i & 7) + (i >= 8 ? 32 : 0), g(l)};
  };
  const auto a_n8 = [](int l, int i) { return Place{g(l), t(l) * 8 + i}; };
  // Bits, 32 to a register.
  const auto a_b256 = [](int l, int i) {
    return Place{i < 32 || (i >= 64 && i < 96) ? g(l) : g(l) + 8,
                 t(l) * 32 + (i & 31) + (i >= 64 ? 128 : 0)};
  };
  const auto b_b256 = [](int l, int i) {
    return Place{t(l) * 32 + (i & 31) + (i >= 32 ? 128 : 0), g(l)};
  };
  const auto a_b8 = [](int l, int i) { return Place{g(l), t(l) * 32 + i}; };
  const auto a_m8 = [](int l, int i) { return Place{g(l), t(l) * 4 + i}; };

  const auto fp8 = [](u64 v) {
    const int e = static_cast<int>(v >> 3 & 15), f = static_cast<int>(v & 7);
    const double s = (v & 128) != 0 ? -1 : 1;
    return s * (e == 0 ? std::ldexp(f, -9) : std::ldexp(8 + f, e - 10));
  };
  const auto to_e5m2 = [](double v) {  // -4 ... 4 are exact
    const u64 sign = v < 0 ? 128 : 0;
    v = std::fabs(v);
    if (v == 0) return sign;
    const int e = std::ilogb(v);
    return sign | static_cast<u64>(e + 15) << 2 | static_cast<u64>(std::ldexp(v, 2 - e) - 4);
  };
  const auto to_fp8 = [](double v) {  // small integers are exact: 0 ... 15
    const u64 sign = v < 0 ? 128 : 0;
    v = std::fabs(v);
    if (v == 0) return sign;
    const int e = std::ilogb(v);
    return sign | static_cast<u64>(e + 7) << 3 | static_cast<u64>(std::ldexp(v, 3 - e) - 8);
  };
  std::vector<Layout> rows = {
      {"m16n8k16", ".f32.f16.f16.f32", 16, 8, 16, 8, 4, 4, 16, 32, a_k16, b_k16, c_place, half,
       to_half, 80},
      {"m16n8k16", ".f16.f16.f16.f16", 16, 8, 16, 8, 4, 4, 16, 16, a_k16, b_k16, c_place, half,
       to_half, 80},
      {"m16n8k16", ".f32.bf16.bf16.f32", 16, 8, 16, 8, 4, 4, 16, 32, a_k16, b_k16, c_place, brain,
       to_brain, 80},
      {"m16n8k8", ".f32.f16.f16.f32", 16, 8, 8, 4, 2, 4, 16, 32, a_k8, b_k8, c_place, half, to_half,
       75},
      {"m16n8k8", ".f16.f16.f16.f16", 16, 8, 8, 4, 2, 4, 16, 16, a_k8, b_k8, c_place, half, to_half,
       75},
      {"m16n8k8", ".f32.bf16.bf16.f32", 16, 8, 8, 4, 2, 4, 16, 32, a_k8, b_k8, c_place, brain,
       to_brain, 80},
      {"m16n8k4", ".f32.tf32.tf32.f32", 16, 8, 4, 2, 1, 4, 32, 32, a_tf4, b_tf4, c_place, single,
       to_single, 80},
      {"m16n8k8", ".f32.tf32.tf32.f32", 16, 8, 8, 4, 2, 4, 32, 32, a_tf8, b_tf8, c_place, single,
       to_single, 80},
      {"m8n8k16", ".s32.s8.s8.s32", 8, 8, 16, 4, 4, 2, 8, 0, a_m8, b_b16, c_place, signed8, to_byte,
       75},
      {"m16n8k16", ".s32.u8.u8.s32", 16, 8, 16, 8, 4, 4, 8, 0, a_b16, b_b16, c_place, unsigned8,
       to_byte, 80},
      {"m16n8k32", ".s32.s8.s8.s32", 16, 8, 32, 16, 8, 4, 8, 0, a_b32, b_b32, c_place, signed8,
       to_byte, 80},
      {"m16n8k32", ".f32.e4m3.e4m3.f32", 16, 8, 32, 16, 8, 4, 8, 32, a_b32, b_b32, c_place, fp8,
       to_fp8, 89},
      {"m8n8k4", ".f64.f64.f64.f64", 8, 8, 4, 1, 1, 2, 64, 64,
       [](int l, int) {
         return Place{l >> 2, l & 3};
       },
       [](int l, int) {
         return Place{l & 3, l >> 2};
       },
       c_place, identity, to_double, 80},
      {"m16n8k4", ".f64.f64.f64.f64", 16, 8, 4, 2, 1, 4, 64, 64,
       [](int l, int i) {
         return Place{g(l) + 8 * i, t(l)};
       },
       [](int l, int) {
         return Place{t(l), g(l)};
       },
       c_place, identity, to_double, 90},
      {"m16n8k8", ".f64.f64.f64.f64", 16, 8, 8, 4, 2, 4, 64, 64,
       [](int l, int i) {
         return Place{g(l) + 8 * (i % 2), t(l) + 4 * (i / 2)};
       },
       [](int l, int i) {
         return Place{t(l) + 4 * i, g(l)};
       },
       c_place, identity, to_double, 90},
      {"m16n8k16", ".f64.f64.f64.f64", 16, 8, 16, 8, 4, 4, 64, 64,
       [](int l, int i) {
         return Place{g(l) + 8 * (i % 2), t(l) + 4 * (i / 2)};
       },
       [](int l, int i) {
         return Place{t(l) + 4 * i, g(l)};
       },
       c_place, identity, to_double, 90},
  };
  // Integers of every pair of types, with and without saturation; bits.
  const auto add = [&](Layout row, const char* before_types, const char* after_types) {
    row.before_types = before_types;
    row.after_types = after_types;
    rows.push_back(row);
  };
  for (const char* s : {"", ".satfinite"}) {
    for (const char* types :
         {".s32.s8.s8.s32", ".s32.s8.u8.s32", ".s32.u8.s8.s32", ".s32.u8.u8.s32"}) {
      add({"m8n8k16", types, 8, 8, 16, 4, 4, 2, 8, 0, a_m8, b_b16, c_place, signed8, to_byte, 75},
          s, "");
      add({"m16n8k16", types, 16, 8, 16, 8, 4, 4, 8, 0, a_b16, b_b16, c_place, signed8, to_byte,
           80},
          s, "");
      add({"m16n8k32", types, 16, 8, 32, 16, 8, 4, 8, 0, a_b32, b_b32, c_place, signed8, to_byte,
           80},
          s, "");
    }
    for (const char* types :
         {".s32.s4.s4.s32", ".s32.s4.u4.s32", ".s32.u4.s4.s32", ".s32.u4.u4.s32"}) {
      add({"m8n8k32", types, 8, 8, 32, 8, 8, 2, 4, 0, a_n8, b_n64, c_place, signed8, to_nibble, 75},
          s, "");
      add({"m16n8k32", types, 16, 8, 32, 16, 8, 4, 4, 0, a_n64, b_n64, c_place, signed8, to_nibble,
           80},
          s, "");
      add({"m16n8k64", types, 16, 8, 64, 32, 16, 4, 4, 0, a_n64, b_n64, c_place, signed8, to_nibble,
           80},
          s, "");
    }
  }
  for (const char* op : {".xor.popc", ".and.popc"}) {
    const int needs = op[1] == 'x' ? 75 : 80;
    add({"m8n8k128", ".s32.b1.b1.s32", 8, 8, 128, 32, 32, 2, 1, 0, a_b8, b_b256, c_place, signed8,
         to_bit, needs},
        "", op);
    add({"m16n8k128", ".s32.b1.b1.s32", 16, 8, 128, 64, 32, 4, 1, 0, a_b256, b_b256, c_place,
         signed8, to_bit, 80},
        "", op);
    add({"m16n8k256", ".s32.b1.b1.s32", 16, 8, 256, 128, 64, 4, 1, 0, a_b256, b_b256, c_place,
         signed8, to_bit, 80},
        "", op);
  }
  rows.push_back({"m16n8k32", ".f32.e5m2.e5m2.f32", 16, 8, 32, 16, 8, 4, 8, 32, a_b32, b_b32,
                  c_place, fp8, to_e5m2, 89});
  rows.push_back({"m16n8k32", ".f32.e4m3.e5m2.f32", 16, 8, 32, 16, 8, 4, 8, 32, a_b32, b_b32,
                  c_place, fp8, to_fp8, 89, to_e5m2});
  rows.push_back({"m16n8k32", ".f32.e5m2.e4m3.f32", 16, 8, 32, 16, 8, 4, 8, 32, a_b32, b_b32,
                  c_place, fp8, to_e5m2, 89, to_fp8});
  return rows;
}

}  // namespace vgpu::test
