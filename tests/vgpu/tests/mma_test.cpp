// Products of mma by the layouts of its fragments. PTX ISA 9.0 sections 9.7.14.5.1 to 9.7.14.5.14.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/device.h"
#include "tests/forms.h"
#include "tests/mma_layouts.h"

namespace vgpu::test {
namespace {

class Mma : public testing::TestWithParam<Layout> {};

std::string registers(const char* name, int count) {
  std::string out = "{";
  for (int i = 0; i < count; ++i) out += (i == 0 ? "%" : ", %") + (name + std::to_string(i));
  return out + "}";
}

TEST_P(Mma, MultipliesByTheLayoutOfTheIsa) {
  const Layout& s = GetParam();
  if (device().capability() < s.needs)
    GTEST_SKIP() << "needs sm_" << s.needs << "; runs on the virtual GPU";
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
  // Small integers have the same sums both ways.
  for (const MmaSums mma : {MmaSums::kExact, MmaSums::kTruncate}) {
    LaunchSpec spec;
    spec.mma = mma;
    ASSERT_EQ(device().run(text, "k", spec, {{&in}, {&out}}), "") << text;
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
}

INSTANTIATE_TEST_SUITE_P(Ptx, Mma, testing::ValuesIn(mma_layouts()), [](const auto& info) {
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

}  // namespace
}  // namespace vgpu::test
