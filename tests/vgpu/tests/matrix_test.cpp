// Fragment layouts of mma, ldmatrix and movmatrix against the formulas of the PTX ISA's figures,
// written here once more and per shape. PTX ISA 9.0 sections 9.7.14.5.1 to 9.7.14.5.17.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

struct Place {
  int row, column;
};

// Row and column of element i of a lane's fragment.
struct Layout {
  const char* name;   // m16n8k16
  const char* types;  // after the layouts: ".f32.f16.f16.f32"
  int m, n, k;
  int a_elements, b_elements, c_elements;
  int bits;  // of an element of A and B
  int c_bits;
  std::function<Place(int lane, int i)> a, b, c;
  std::function<double(u64)> value;
  std::function<u64(double)> code;
  int needs;
  std::function<u64(double)> b_code{};  // where B's type is another
  const char* before_types = "";        // .satfinite
  const char* after_types = "";         // .xor.popc
};

int g(int lane) { return lane >> 2; }
int t(int lane) { return lane & 3; }

Place c_place(int lane, int i) { return {g(lane) + (i >= 2 ? 8 : 0), t(lane) * 2 + (i & 1)}; }

std::vector<Layout> layouts() {
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
  // Integers of every pair of types, with and without saturation.
  for (const char* types : {".s32.s8.s8.s32", ".s32.s8.u8.s32", ".s32.u8.s8.s32", ".s32.u8.u8.s32"})
    for (const char* sat : {"", ".satfinite"}) {
      rows.push_back({"m8n8k16",
                      types,
                      8,
                      8,
                      16,
                      4,
                      4,
                      2,
                      8,
                      0,
                      a_m8,
                      b_b16,
                      c_place,
                      signed8,
                      to_byte,
                      75,
                      {},
                      sat});
      rows.push_back({"m16n8k16",
                      types,
                      16,
                      8,
                      16,
                      8,
                      4,
                      4,
                      8,
                      0,
                      a_b16,
                      b_b16,
                      c_place,
                      signed8,
                      to_byte,
                      80,
                      {},
                      sat});
      rows.push_back({"m16n8k32",
                      types,
                      16,
                      8,
                      32,
                      16,
                      8,
                      4,
                      8,
                      0,
                      a_b32,
                      b_b32,
                      c_place,
                      signed8,
                      to_byte,
                      80,
                      {},
                      sat});
    }
  for (const char* types : {".s32.s4.s4.s32", ".s32.s4.u4.s32", ".s32.u4.s4.s32", ".s32.u4.u4.s32"})
    for (const char* sat : {"", ".satfinite"}) {
      rows.push_back({"m8n8k32",
                      types,
                      8,
                      8,
                      32,
                      8,
                      8,
                      2,
                      4,
                      0,
                      a_n8,
                      b_n64,
                      c_place,
                      signed8,
                      to_nibble,
                      75,
                      {},
                      sat});
      rows.push_back({"m16n8k32",
                      types,
                      16,
                      8,
                      32,
                      16,
                      8,
                      4,
                      4,
                      0,
                      a_n64,
                      b_n64,
                      c_place,
                      signed8,
                      to_nibble,
                      80,
                      {},
                      sat});
      rows.push_back({"m16n8k64",
                      types,
                      16,
                      8,
                      64,
                      32,
                      16,
                      4,
                      4,
                      0,
                      a_n64,
                      b_n64,
                      c_place,
                      signed8,
                      to_nibble,
                      80,
                      {},
                      sat});
    }
  for (const char* op : {".xor.popc", ".and.popc"}) {
    const int needs = op[1] == 'x' ? 75 : 80;
    rows.push_back({"m8n8k128",
                    ".s32.b1.b1.s32",
                    8,
                    8,
                    128,
                    32,
                    32,
                    2,
                    1,
                    0,
                    a_b8,
                    b_b256,
                    c_place,
                    signed8,
                    to_bit,
                    needs,
                    {},
                    "",
                    op});
    rows.push_back({"m16n8k128",
                    ".s32.b1.b1.s32",
                    16,
                    8,
                    128,
                    64,
                    32,
                    4,
                    1,
                    0,
                    a_b256,
                    b_b256,
                    c_place,
                    signed8,
                    to_bit,
                    80,
                    {},
                    "",
                    op});
    rows.push_back({"m16n8k256",
                    ".s32.b1.b1.s32",
                    16,
                    8,
                    256,
                    128,
                    64,
                    4,
                    1,
                    0,
                    a_b256,
                    b_b256,
                    c_place,
                    signed8,
                    to_bit,
                    80,
                    {},
                    "",
                    op});
  }
  rows.push_back({"m16n8k32", ".f32.e5m2.e5m2.f32", 16, 8, 32, 16, 8, 4, 8, 32, a_b32, b_b32,
                  c_place, fp8, to_e5m2, 89});
  rows.push_back({"m16n8k32", ".f32.e4m3.e5m2.f32", 16, 8, 32, 16, 8, 4, 8, 32, a_b32, b_b32,
                  c_place, fp8, to_fp8, 89, to_e5m2});
  rows.push_back({"m16n8k32", ".f32.e5m2.e4m3.f32", 16, 8, 32, 16, 8, 4, 8, 32, a_b32, b_b32,
                  c_place, fp8, to_e5m2, 89, to_fp8});
  return rows;
}

class Mma : public testing::TestWithParam<Layout> {};

std::string registers(const char* name, int count) {
  std::string out = "{";
  for (int i = 0; i < count; ++i) out += (i == 0 ? "%" : ", %") + (name + std::to_string(i));
  return out + "}";
}

TEST_P(Mma, MultipliesByTheLayoutOfTheIsa) {
  const Layout& s = GetParam();
  if (device().capability() < s.needs) GTEST_SKIP() << "needs sm_" << s.needs;
  const bool f64_type = s.bits == 64;
  const int word = f64_type ? 64 : 32;
  const int na = std::max(1, s.a_elements * s.bits / word),
            nb = std::max(1, s.b_elements * s.bits / word);
  const int c_bits = s.c_bits == 0 ? 32 : s.c_bits;
  const int nc = s.c_elements * c_bits / word;
  const std::string type = f64_type ? "b64" : "b32";
  const int bytes = word / 8;
  std::string text = ".version 8.4\n.target sm_" + std::to_string(s.needs) +
                     "\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{\n"
                     " .reg .b64 %rd<4>;\n .reg .b32 %x;\n .reg ." +
                     type +
                     " %a<8>, %b<8>, %c<8>, %d<8>;\n ld.param.u64 %rd0, [in];\n"
                     " ld.param.u64 %rd1, [out];\n mov.u32 %x, %tid.x;\n"
                     " mul.wide.u32 %rd2, %x, 256;\n add.u64 %rd0, %rd0, %rd2;\n"
                     " add.u64 %rd1, %rd1, %rd2;\n";
  const auto loads = [&](const char* name, int count, int at) {
    for (int i = 0; i < count; ++i)
      text += " ld.global." + type + " %" + name + std::to_string(i) + ", [%rd0+" +
              std::to_string(at + i * bytes) + "];\n";
  };
  loads("a", na, 0);
  loads("b", nb, 64);
  loads("c", nc, 128);
  text += std::string(" mma.sync.aligned.") + s.name + ".row.col" + s.before_types + s.types +
          s.after_types + " " + registers("d", nc) + ", " + registers("a", na) + ", " +
          registers("b", nb) + ", " + registers("c", nc) + ";\n";
  for (int i = 0; i < nc; ++i)
    text += " st.global." + type + " [%rd1+" + std::to_string(i * bytes) + "], %d" +
            std::to_string(i) + ";\n";
  text += " ret;\n}\n";

  // Small integers: every sum is exact, whatever the order of addition.
  Random random(7);
  std::vector<double> a(static_cast<size_t>(s.m * s.k)), b(static_cast<size_t>(s.k * s.n)),
      c(static_cast<size_t>(s.m * s.n));
  const std::string types = s.types, op = s.after_types;
  const bool saturates = s.before_types[0] != '\0', unsigned_a = types[5] == 'u',
             unsigned_b = types.find(".u", 6) != std::string::npos;
  const auto number = [&](bool is_unsigned) {
    if (!op.empty()) return static_cast<double>(random.next() >> 5 & 1);
    return static_cast<double>(random.next() % 9) - (is_unsigned ? 0 : 4);
  };
  for (double& v : a) v = number(unsigned_a);
  for (double& v : b) v = number(unsigned_b);
  for (double& v : c) {
    v = static_cast<double>(random.next() % 9) - 4;
    // Integers near both ends: they saturate, or go round.
    if (s.c_bits == 0 && (random.next() & 1) != 0) v = v > 0 ? 2147483647 - v : -2147483648 - v;
  }
  std::vector<u8> in(32 * 256, 0), out(32 * 256, 0);
  const auto put = [&](int lane, int at, int i, int width, u64 code) {
    const int bit = i * width;
    u8* p = &in[static_cast<size_t>(lane * 256 + at + bit / 8)];
    if (width < 8) {
      *p = static_cast<u8>(*p | code << (bit % 8));
    } else {
      std::memcpy(p, &code, static_cast<size_t>(width / 8));
    }
  };
  const auto c_code = [&](double v) {
    return s.c_bits == 0    ? static_cast<u64>(static_cast<i64>(v)) & 0xffffffff
           : s.c_bits == 16 ? nearest_half(v)
           : s.c_bits == 64 ? raw(v)
                            : raw(static_cast<float>(v));
  };
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < s.a_elements; ++i) {
      const Place p = s.a(l, i);
      put(l, 0, i, s.bits, s.code(a[static_cast<size_t>(p.row * s.k + p.column)]));
    }
    for (int i = 0; i < s.b_elements; ++i) {
      const Place p = s.b(l, i);
      put(l, 64, i, s.bits,
          (s.b_code ? s.b_code : s.code)(b[static_cast<size_t>(p.row * s.n + p.column)]));
    }
    for (int i = 0; i < s.c_elements; ++i) {
      const Place p = s.c(l, i);
      put(l, 128, i, c_bits, c_code(c[static_cast<size_t>(p.row * s.n + p.column)]));
    }
  }
  ASSERT_EQ(device().run(text, "k", {}, {{&in}, {&out}}), "") << text;
  for (int l = 0; l < 32; ++l) {
    for (int i = 0; i < s.c_elements; ++i) {
      const Place p = s.c(l, i);
      double want = c[static_cast<size_t>(p.row * s.n + p.column)];
      for (int k = 0; k < s.k; ++k) {
        const double x = a[static_cast<size_t>(p.row * s.k + k)],
                     y = b[static_cast<size_t>(k * s.n + p.column)];
        want += op == ".xor.popc" ? (x != y ? 1 : 0) : x * y;
      }
      if (saturates) want = std::fmin(std::fmax(want, -2147483648.0), 2147483647.0);
      u64 got = 0;
      std::memcpy(&got, &out[static_cast<size_t>(l * 256 + i * c_bits / 8)],
                  static_cast<size_t>(c_bits / 8));
      ASSERT_EQ(got, c_code(want)) << "lane " << l << " element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ptx, Mma, testing::ValuesIn(layouts()), [](const auto& info) {
  std::string name = std::string(info.param.name) + info.param.before_types + info.param.types +
                     info.param.after_types + "_" + std::to_string(info.index);
  for (char& c : name)
    if (c == '.') c = '_';
  return name;
});

// m8n8k4 of f16: four products at once, of lanes 4q ... 4q + 3 and 4q + 16 ... 4q + 19. PTX ISA 9.0
// section 9.7.14.5.1, figures of .row and .col fragments.
struct Quad {
  bool a_row, b_row, c_f32, d_f32;
};
class MmaQuad : public testing::TestWithParam<Quad> {};

TEST_P(MmaQuad, MultipliesByTheLayoutOfTheIsa) {
  const Quad& s = GetParam();
  const auto row_of = [](int l) { return l % 4 + (l >= 16 ? 4 : 0); };
  const auto a_place = [&](int l, int i) {
    return s.a_row ? Place{row_of(l), i} : Place{i % 4 + (l >= 16 ? 4 : 0), l % 4};
  };
  const auto b_place = [&](int l, int i) {
    return s.b_row ? Place{l % 4, i + (l >= 16 ? 4 : 0)} : Place{i, row_of(l)};
  };
  const auto c_place = [&](bool f32_type, int l, int i) {
    if (!f32_type) return Place{row_of(l), i};
    return Place{(l & 1) + (i & 2) + (l >= 16 ? 4 : 0), (i & 4) + (l & 2) + (i & 1)};
  };
  const int nc = s.c_f32 ? 8 : 4, nd = s.d_f32 ? 8 : 4;
  const char* type_c = s.c_f32 ? "f32" : "f16";
  const char* type_d = s.d_f32 ? "f32" : "f16";
  const auto reg = [](bool wide) { return std::string(wide ? "f32" : "b32"); };
  std::string text =
      ".version 8.4\n.target sm_75\n.address_size 64\n"
      ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .reg .b64 %rd<4>;\n"
      " .reg .b32 %x, %a<2>, %b<2>;\n .reg ." +
      reg(s.c_f32) + " %c<8>;\n .reg ." + reg(s.d_f32) +
      " %d<8>;\n ld.param.u64 %rd0, [in];\n ld.param.u64 %rd1, [out];\n mov.u32 %x, %tid.x;\n"
      " mul.wide.u32 %rd2, %x, 64;\n add.u64 %rd0, %rd0, %rd2;\n add.u64 %rd1, %rd1, %rd2;\n"
      " ld.global.v2.b32 {%a0, %a1}, [%rd0];\n ld.global.v2.b32 {%b0, %b1}, [%rd0+8];\n";
  for (int i = 0; i < nc; ++i)
    text += " ld.global." + reg(s.c_f32) + " %c" + std::to_string(i) + ", [%rd0+" +
            std::to_string(16 + 4 * i) + "];\n";
  text += std::string(" mma.sync.aligned.m8n8k4.") + (s.a_row ? "row." : "col.") +
          (s.b_row ? "row." : "col.") + type_d + ".f16.f16." + type_c + " " + registers("d", nd) +
          ", {%a0, %a1}, {%b0, %b1}, " + registers("c", nc) + ";\n";
  for (int i = 0; i < nd; ++i)
    text += " st.global." + reg(s.d_f32) + " [%rd1+" + std::to_string(4 * i) + "], %d" +
            std::to_string(i) + ";\n";
  text += " ret;\n}\n";
  Random random(9);
  double a[4][8][4], b[4][4][8], c[4][8][8];
  const auto number = [&] { return static_cast<double>(random.next() % 17) - 8; };
  for (int q = 0; q < 4; ++q) {
    for (auto& row : a[q])
      for (double& v : row) v = number();
    for (auto& row : b[q])
      for (double& v : row) v = number();
    for (auto& row : c[q])
      for (double& v : row) v = number();
  }
  std::vector<u8> in(32 * 64), out(32 * 64);
  const auto put = [&](int lane, size_t at, u64 v, size_t bytes) {
    std::memcpy(&in[static_cast<size_t>(lane) * 64 + at], &v, bytes);
  };
  for (int l = 0; l < 32; ++l) {
    const int q = l % 16 / 4;
    for (int i = 0; i < 4; ++i) {
      const Place pa = a_place(l, i), pb = b_place(l, i);
      put(l, static_cast<size_t>(2 * i), nearest_half(a[q][pa.row][pa.column]), 2);
      put(l, static_cast<size_t>(8 + 2 * i), nearest_half(b[q][pb.row][pb.column]), 2);
    }
    for (int i = 0; i < 8; ++i) {
      const Place pc = c_place(s.c_f32, l, i);
      const double v = c[q][pc.row][pc.column];
      if (s.c_f32) {
        put(l, static_cast<size_t>(16 + 4 * i), raw(static_cast<float>(v)), 4);
      } else {
        put(l, static_cast<size_t>(16 + 2 * i), nearest_half(v), 2);
      }
    }
  }
  ASSERT_EQ(device().run(text, "k", {}, {{&in}, {&out}}), "") << text;
  for (int l = 0; l < 32; ++l) {
    const int q = l % 16 / 4;
    for (int i = 0; i < 8; ++i) {
      const Place p = c_place(s.d_f32, l, i);
      double want = c[q][p.row][p.column];
      for (int k = 0; k < 4; ++k) want += a[q][p.row][k] * b[q][k][p.column];
      u64 got = 0;
      const size_t bytes = s.d_f32 ? 4 : 2;
      std::memcpy(&got, &out[static_cast<size_t>(l) * 64 + static_cast<size_t>(i) * bytes], bytes);
      ASSERT_EQ(got, s.d_f32 ? raw(static_cast<float>(want)) : nearest_half(want))
          << "lane " << l << " element " << i << "\n"
          << text;
    }
  }
}
std::vector<Quad> quads() {
  std::vector<Quad> out;
  for (int i = 0; i < 16; ++i)
    if ((i & 4) == 0 || (i & 8) != 0)  // C of f32 needs D of f32
      out.push_back({(i & 1) != 0, (i & 2) != 0, (i & 4) != 0, (i & 8) != 0});
  return out;
}
INSTANTIATE_TEST_SUITE_P(Ptx, MmaQuad, testing::ValuesIn(quads()), [](const auto& info) {
  const Quad& s = info.param;
  return std::string(s.a_row ? "row_" : "col_") + (s.b_row ? "row_" : "col_") +
         (s.d_f32 ? "f32_" : "f16_") + (s.c_f32 ? "f32" : "f16");
});

// movmatrix: thread l holds elements 2 * (l % 4) and the next of row l / 4, and gets those of the
// transposed matrix.
TEST(Movmatrix, Transposes) {
  const std::string text =
      ".version 8.4\n.target sm_75\n.address_size 64\n"
      ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .reg .b64 %rd<4>;\n"
      " .reg .b32 %r<4>;\n ld.param.u64 %rd0, [in];\n ld.param.u64 %rd1, [out];\n"
      " mov.u32 %r0, %tid.x;\n mul.wide.u32 %rd2, %r0, 4;\n add.u64 %rd0, %rd0, %rd2;\n"
      " add.u64 %rd1, %rd1, %rd2;\n ld.global.b32 %r1, [%rd0];\n"
      " movmatrix.sync.aligned.m8n8.trans.b16 %r2, %r1;\n st.global.b32 [%rd1], %r2;\n ret;\n}\n";
  std::vector<u8> in(128), out(128);
  for (size_t i = 0; i < 64; ++i) {
    const u16 v = static_cast<u16>(i * 1021 + 5);
    std::memcpy(&in[2 * i], &v, 2);
  }
  ASSERT_EQ(device().run(text, "k", {}, {{&in}, {&out}}), "");
  for (size_t row = 0; row < 8; ++row)
    for (size_t column = 0; column < 8; ++column) {
      u16 got, want;
      std::memcpy(&got, &out[2 * (row * 8 + column)], 2);
      std::memcpy(&want, &in[2 * (column * 8 + row)], 2);
      ASSERT_EQ(got, want) << "row " << row << " column " << column;
    }
}

class Ldmatrix : public testing::TestWithParam<std::pair<int, bool>> {};

// Thread l of the warp gets row l / 4, elements 2 * (l % 4) and the next, of every matrix.
TEST_P(Ldmatrix, DistributesRowsAsTheIsaSays) {
  const auto [count, transposed] = GetParam();
  const std::string x = "x" + std::to_string(count);
  std::string text =
      ".version 8.0\n.target sm_75\n.address_size 64\n"
      ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n .shared .align 16 .b8 s[512];\n"
      " .reg .b64 %rd<8>;\n .reg .b32 %r<16>;\n ld.param.u64 %rd0, [in];\n ld.param.u64 %rd1, "
      "[out];\n"
      " mov.u32 %r0, %tid.x;\n mul.wide.u32 %rd2, %r0, 16;\n add.u64 %rd0, %rd0, %rd2;\n"
      " add.u64 %rd1, %rd1, %rd2;\n ld.global.v4.b32 {%r1, %r2, %r3, %r4}, [%rd0];\n"
      " mov.u32 %r5, s;\n shl.b32 %r6, %r0, 4;\n add.u32 %r5, %r5, %r6;\n"
      " st.shared.v4.b32 [%r5], {%r1, %r2, %r3, %r4};\n bar.sync 0;\n"
      " mov.b32 %r8, 0;\n mov.b32 %r9, 0;\n mov.b32 %r10, 0;\n mov.b32 %r11, 0;\n";
  const char* lists[] = {"", "{%r8}", "{%r8, %r9}", "", "{%r8, %r9, %r10, %r11}"};
  text += " ldmatrix.sync.aligned.m8n8." + x + (transposed ? ".trans" : "") + ".shared.b16 " +
          lists[count] + ", [%r5];\n st.global.v4.b32 [%rd1], {%r8, %r9, %r10, %r11};\n ret;\n}\n";
  std::vector<u8> in(512), out(512);
  for (size_t i = 0; i < 256; ++i) {
    const u16 v = static_cast<u16>(i * 257 + 3);
    std::memcpy(&in[i * 2], &v, 2);
  }
  const auto element = [&](int matrix, int row, int column) {
    u16 v;
    std::memcpy(&v, &in[static_cast<size_t>((matrix * 64 + row * 8 + column) * 2)], 2);
    return v;
  };
  ASSERT_EQ(device().run(text, "k", {}, {{&in}, {&out}}), "");
  for (int l = 0; l < 32; ++l) {
    for (int matrix = 0; matrix < count; ++matrix) {
      for (int e = 0; e < 2; ++e) {
        const int row = l / 4, column = 2 * (l % 4) + e;
        u16 got;
        std::memcpy(&got, &out[static_cast<size_t>(l * 16 + matrix * 4 + e * 2)], 2);
        ASSERT_EQ(got, transposed ? element(matrix, column, row) : element(matrix, row, column))
            << "lane " << l << " matrix " << matrix;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ptx, Ldmatrix,
                         testing::Values(std::pair(1, false), std::pair(1, true),
                                         std::pair(2, false), std::pair(2, true),
                                         std::pair(4, false), std::pair(4, true)));

}  // namespace
}  // namespace vgpu::test
