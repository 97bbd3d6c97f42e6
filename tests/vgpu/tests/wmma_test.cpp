// wmma.load, wmma.mma and wmma.store together: matrices in memory in, their product out. Which lane
// holds what in between is the device's own affair. PTX ISA 9.0 section 9.7.14.4.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

enum class Element { f16, bf16, tf32, f32, f64, s8, u8, s4, u4, b1, s32 };
constexpr const char* kElementNames[] = {"f16", "bf16", "tf32", "f32", "f64", "s8",
                                         "u8",  "s4",   "u4",   "b1",  "s32"};
const char* name(Element e) { return kElementNames[static_cast<int>(e)]; }

int bits_of(Element e) {
  switch (e) {
    case Element::f16:
    case Element::bf16:
      return 16;
    case Element::s8:
    case Element::u8:
      return 8;
    case Element::s4:
    case Element::u4:
      return 4;
    case Element::b1:
      return 1;
    case Element::f64:
      return 64;
    default:
      return 32;
  }
}
bool is_signed(Element e) { return e == Element::s8 || e == Element::s4; }
u64 encode(Element e, double v) {
  switch (e) {
    case Element::f16:
      return nearest_half(v);
    case Element::bf16:
      return nearest_bf16(v);
    case Element::tf32:
    case Element::f32:
      return raw(static_cast<float>(v));
    case Element::f64:
      return raw(v);
    default:
      return static_cast<u64>(static_cast<i64>(v)) & ((u64{1} << bits_of(e)) - 1);
  }
}

struct Config {
  int m, n, k;
  Element ab, c, d;
  int a_regs, b_regs, c_regs, d_regs;
  bool a_row = true, b_row = false, c_row = true, d_row = true;
  bool shared = false, generic = false, strided = true;
  std::string op;     // .xor.popc after wmma.mma
  std::string after;  // .satfinite, .rn
  int needs = 75;
  bool extreme = false;  // C near the largest integer

  std::string shape() const {
    return ".m" + std::to_string(m) + "n" + std::to_string(n) + "k" + std::to_string(k);
  }
  std::string mma() const {
    std::string out = "wmma.mma" + op + ".sync.aligned" + layout(a_row) + layout(b_row) + shape();
    // f16 products name D and C only.
    if (ab == Element::f16) return out + "." + name(d) + "." + name(c) + after;
    if (!after.empty() && ab == Element::f64) out += after;
    out += std::string(".") + name(d) + "." + name(ab) + "." + name(ab) + "." + name(c);
    return ab == Element::f64 ? out : out + after;
  }
  static std::string layout(bool row) { return row ? ".row" : ".col"; }
};

std::vector<Config> configs() {
  std::vector<Config> out;
  const auto layouts = [&](Config c) {
    for (const bool a : {true, false})
      for (const bool b : {true, false}) {
        c.a_row = a;
        c.b_row = b;
        c.c_row = a == b;
        c.d_row = a;
        out.push_back(c);
      }
    // The other spaces, and matrices without gaps, in one layout.
    for (const auto& [shared, generic] :
         {std::pair{true, false}, std::pair{false, true}, std::pair{true, true}}) {
      c.shared = shared;
      c.generic = generic;
      c.strided = !generic;
      for (const bool row : {false, true}) {
        c.a_row = c.b_row = c.c_row = c.d_row = row;
        out.push_back(c);
      }
    }
  };
  struct Shape {
    int m, n;
  };
  for (const Shape s : {Shape{16, 16}, Shape{32, 8}, Shape{8, 32}}) {
    for (const Element d : {Element::f16, Element::f32})
      for (const Element c : {Element::f16, Element::f32})
        layouts({.m = s.m,
                 .n = s.n,
                 .k = 16,
                 .ab = Element::f16,
                 .c = c,
                 .d = d,
                 .a_regs = 8,
                 .b_regs = 8,
                 .c_regs = c == Element::f16 ? 4 : 8,
                 .d_regs = d == Element::f16 ? 4 : 8,
                 .op = "",
                 .after = ""});
    layouts({.m = s.m,
             .n = s.n,
             .k = 16,
             .ab = Element::bf16,
             .c = Element::f32,
             .d = Element::f32,
             .a_regs = s.m / 4,
             .b_regs = s.n / 4,
             .c_regs = 8,
             .d_regs = 8,
             .op = "",
             .after = "",
             .needs = 80});
    for (const Element e : {Element::s8, Element::u8}) {
      Config c{.m = s.m,
               .n = s.n,
               .k = 16,
               .ab = e,
               .c = Element::s32,
               .d = Element::s32,
               .a_regs = s.m / 8,
               .b_regs = s.n / 8,
               .c_regs = 8,
               .d_regs = 8,
               .op = "",
               .after = ""};
      layouts(c);
      c.extreme = true;
      out.push_back(c);
      c.after = ".satfinite";
      out.push_back(c);
    }
  }
  layouts({.m = 16,
           .n = 16,
           .k = 8,
           .ab = Element::tf32,
           .c = Element::f32,
           .d = Element::f32,
           .a_regs = 4,
           .b_regs = 4,
           .c_regs = 8,
           .d_regs = 8,
           .op = "",
           .after = "",
           .needs = 80});
  for (const char* rounding : {"", ".rn"})
    layouts({.m = 8,
             .n = 8,
             .k = 4,
             .ab = Element::f64,
             .c = Element::f64,
             .d = Element::f64,
             .a_regs = 1,
             .b_regs = 1,
             .c_regs = 2,
             .d_regs = 2,
             .op = "",
             .after = rounding,
             .needs = 80});
  const auto narrow = [&](Config c) {  // A in rows, B in columns only
    out.push_back(c);
    c.d_row = false;
    c.c_row = false;
    c.shared = true;
    out.push_back(c);
    c.shared = false;
    c.generic = true;
    c.strided = false;
    out.push_back(c);
  };
  for (const Element e : {Element::s4, Element::u4})
    for (const char* after : {"", ".satfinite"})
      narrow({.m = 8,
              .n = 8,
              .k = 32,
              .ab = e,
              .c = Element::s32,
              .d = Element::s32,
              .a_regs = 1,
              .b_regs = 1,
              .c_regs = 2,
              .d_regs = 2,
              .op = "",
              .after = after,
              .extreme = *after != '\0'});
  for (const char* op : {".xor.popc", ".and.popc"})
    narrow({.m = 8,
            .n = 8,
            .k = 128,
            .ab = Element::b1,
            .c = Element::s32,
            .d = Element::s32,
            .a_regs = 1,
            .b_regs = 1,
            .c_regs = 2,
            .d_regs = 2,
            .op = op,
            .after = "",
            .needs = *(op + 1) == 'x' ? 75 : 80});
  return out;
}

// A matrix in memory: `lines` rows or columns of `length` elements, each after `stride` elements.
struct Matrix {
  Element e;
  int rows, columns;
  bool by_row;
  int stride;

  Matrix(Element element, int r, int c, bool row, bool strided)
      : e(element), rows(r), columns(c), by_row(row), stride(row ? c : r) {
    if (strided) stride += std::max(128, bits_of(e)) / bits_of(e);
  }
  size_t bytes() const {
    const int lines = by_row ? rows : columns;
    return static_cast<size_t>((lines * stride * bits_of(e) / 8 + 127) / 128 * 128);
  }
  size_t index(int r, int c) const {
    return static_cast<size_t>(by_row ? r * stride + c : c * stride + r);
  }
  void put(u8* memory, int r, int c, u64 v) const {
    const size_t bits = static_cast<size_t>(bits_of(e)), at = index(r, c) * bits;
    if (bits >= 8) {
      std::memcpy(memory + at / 8, &v, bits / 8);
    } else {
      const u64 mask = ((u64{1} << bits) - 1) << (at % 8);
      memory[at / 8] = static_cast<u8>((memory[at / 8] & ~mask) | (v << (at % 8) & mask));
    }
  }
  u64 get(const u8* memory, int r, int c) const {
    u64 v = 0;
    const size_t bits = static_cast<size_t>(bits_of(e));
    std::memcpy(&v, memory + index(r, c) * bits / 8, bits / 8);
    return v;
  }
};

std::string registers(const char* prefix, int count) {
  std::string out = "{";
  for (int i = 0; i < count; ++i) out += (i == 0 ? "%" : ", %") + (prefix + std::to_string(i));
  return out + "}";
}

class Wmma : public testing::TestWithParam<Config> {};

TEST_P(Wmma, MultipliesMatricesInMemory) {
  const Config& s = GetParam();
  if (device().capability() < s.needs) GTEST_SKIP() << "needs sm_" << s.needs;
  // f16 and s8 loads name no rows or columns of registers: by the ISA's table.
  const Matrix a(s.ab, s.m, s.k, s.a_row, s.strided), b(s.ab, s.k, s.n, s.b_row, s.strided),
      c(s.c, s.m, s.n, s.c_row, s.strided), d(s.d, s.m, s.n, s.d_row, s.strided);
  const size_t at_b = a.bytes(), at_c = at_b + b.bytes(), at_d = at_c + c.bytes(),
               total = at_d + d.bytes();
  const std::string space = s.generic ? "" : s.shared ? ".shared" : ".global";
  const auto reg_type = [](Element e) {
    return e == Element::f64 ? "f64" : e == Element::f32 ? "f32" : "b32";
  };
  std::string text = ".version 8.4\n.target sm_" + std::to_string(s.needs) +
                     "\n.address_size 64\n.visible .entry k(.param .u64 in, .param .u64 out)\n{\n"
                     "  .shared .align 128 .b8 s[" +
                     std::to_string(total) +
                     "];\n  .reg .b64 %rd<8>;\n  .reg .b32 %r<8>;\n  .reg .pred %p;\n  .reg ." +
                     reg_type(s.ab) + " %a<8>, %b<8>;\n  .reg ." + reg_type(s.c) +
                     " %c<8>;\n  .reg ." + reg_type(s.d) +
                     " %d<8>;\n  ld.param.u64 %rd1, [in];\n  ld.param.u64 %rd2, [out];\n"
                     "  mov.u32 %r1, %tid.x;\n  shl.b32 %r1, %r1, 2;\n";
  const auto copy = [&](const char* label, const char* load, const char* store) {
    text += std::string("  mov.u32 %r2, %r1;\n") + label + ":\n  cvt.u64.u32 %rd3, %r2;\n" +
            "  add.u64 %rd4, %rd1, %rd3;\n  add.u64 %rd5, %rd2, %rd3;\n  mov.u32 %r3, s;\n"
            "  add.u32 %r3, %r3, %r2;\n  " +
            load + "\n  " + store + "\n  add.u32 %r2, %r2, 128;\n  setp.lt.u32 %p, %r2, " +
            std::to_string(total) + ";\n  @%p bra " + label + ";\n  bar.sync 0;\n";
  };
  std::string place = "%rd6";
  if (s.shared) {
    copy("IN", "ld.global.b32 %r4, [%rd4];", "st.shared.b32 [%r3], %r4;");
    text += "  mov.u32 %r5, s;\n  cvt.u64.u32 %rd6, %r5;\n";
    if (s.generic) text += "  cvta.shared.u64 %rd6, %rd6;\n";
    if (!s.generic) place = "%r5";
  } else {
    text += "  mov.u64 %rd6, %rd1;\n";
    if (s.generic) text += "  cvta.global.u64 %rd6, %rd6;\n";
  }
  const auto tail = [&](const Matrix& x) {
    return s.strided ? ", " + std::to_string(x.stride) + ";\n" : std::string(";\n");
  };
  const auto load = [&](const char* what, const Matrix& x, int count, size_t offset) {
    text += std::string("  wmma.load.") + what + ".sync.aligned" + Config::layout(x.by_row) +
            s.shape() + space + "." + name(x.e) + " " + registers(what, count) + ", [" + place +
            "+" + std::to_string(offset) + "]" + tail(x);
  };
  load("a", a, s.a_regs, 0);
  load("b", b, s.b_regs, at_b);
  load("c", c, s.c_regs, at_c);
  text += "  " + s.mma() + " " + registers("d", s.d_regs) + ", " + registers("a", s.a_regs) + ", " +
          registers("b", s.b_regs) + ", " + registers("c", s.c_regs) + ";\n";
  if (!s.shared)
    text += std::string("  mov.u64 %rd6, %rd2;\n") +
            (s.generic ? "  cvta.global.u64 %rd6, %rd6;\n" : "");
  text += "  wmma.store.d.sync.aligned" + Config::layout(d.by_row) + s.shape() + space + "." +
          name(s.d) + " [" + place + "+" + std::to_string(at_d) + "], " + registers("d", s.d_regs) +
          tail(d);
  if (s.shared) {
    text += "  bar.sync 0;\n";
    copy("OUT", "ld.shared.b32 %r4, [%r3];", "st.global.b32 [%rd5], %r4;");
  }
  text += "  ret;\n}\n";

  // Small integers: every sum is exact.
  Random random(17);
  const bool one_bit = s.ab == Element::b1;
  const bool floating = bits_of(s.ab) >= 16;
  const auto number = [&]() -> double {
    if (one_bit) return static_cast<double>(random.next() >> 9 & 1);
    const double v = static_cast<double>(random.next() % 8);
    return floating || is_signed(s.ab) ? v - 4 : v;
  };
  std::vector<double> va(static_cast<size_t>(s.m * s.k)), vb(static_cast<size_t>(s.k * s.n)),
      vc(static_cast<size_t>(s.m * s.n));
  for (double& v : va) v = number();
  for (double& v : vb) v = number();
  for (double& v : vc) {
    v = static_cast<double>(random.next() % 17) - 8;
    if (s.extreme)
      v = (random.next() & 1) != 0 ? 2147483647 - std::abs(v) : -2147483648 + std::abs(v);
  }
  std::vector<u8> in(total, 0x33), out(total, 0x33);
  const auto fill = [&](const Matrix& x, size_t at, const std::vector<double>& v) {
    for (int r = 0; r < x.rows; ++r)
      for (int k = 0; k < x.columns; ++k)
        x.put(&in[at], r, k, encode(x.e, v[static_cast<size_t>(r * x.columns + k)]));
  };
  fill(a, 0, va);
  fill(b, at_b, vb);
  fill(c, at_c, vc);
  std::vector<u8> want = in;
  for (int r = 0; r < s.m; ++r) {
    for (int col = 0; col < s.n; ++col) {
      double sum = vc[static_cast<size_t>(r * s.n + col)];
      for (int k = 0; k < s.k; ++k) {
        const double x = va[static_cast<size_t>(r * s.k + k)],
                     y = vb[static_cast<size_t>(k * s.n + col)];
        sum += s.op == ".xor.popc" ? (x != y ? 1 : 0) : x * y;
      }
      if (s.after == ".satfinite" && s.d == Element::s32)
        sum = std::clamp(sum, -2147483648.0, 2147483647.0);
      d.put(&want[at_d], r, col, encode(s.d, sum));
    }
  }
  for (const MmaSums mma : {MmaSums::kExact, MmaSums::kTruncate}) {
    LaunchSpec spec;
    spec.mma = mma;
    std::fill(out.begin(), out.end(), u8{0x33});
    ASSERT_EQ(device().run(text, "k", spec, {{&in}, {&out}}), "") << text;
    for (int r = 0; r < s.m; ++r)
      for (int col = 0; col < s.n; ++col)
        ASSERT_EQ(d.get(&out[at_d], r, col), d.get(&want[at_d], r, col))
            << "row " << r << " column " << col << "\n"
            << text;
    // What lies between the rows is as it was.
    for (size_t i = at_d; i < total; ++i) ASSERT_EQ(out[i], want[i]) << "byte " << i - at_d;
  }
}

std::vector<Config> all_configs() { return configs(); }

INSTANTIATE_TEST_SUITE_P(Ptx, Wmma, testing::ValuesIn(all_configs()), [](const auto& info) {
  std::string out = info.param.mma() + (info.param.shared ? "_shared" : "") +
                    (info.param.generic ? "_generic" : "") + "_" + std::to_string(info.index);
  std::replace(out.begin(), out.end(), '.', '_');
  return out;
});

}  // namespace
}  // namespace vgpu::test
