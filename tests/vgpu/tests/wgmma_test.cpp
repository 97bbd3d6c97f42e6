// wgmma: every type, shape, source of A, major and swizzle against host arithmetic. Tiles are put
// into shared memory by the definition of their layouts, with swizzles as a table of units by row.
// PTX ISA 9.0 sections 9.7.15.5.1 (fragments, layouts, descriptor) and 9.7.15.5.2.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <ostream>

#include "tests/device.h"
#include "tests/forms.h"

namespace vgpu::test {
namespace {

struct Kind {
  const char* name;  // of an element in PTX
  int bits;
};
constexpr Kind kF16{"f16", 16}, kBf16{"bf16", 16}, kTf32{"tf32", 32}, kE4m3{"e4m3", 8},
    kE5m2{"e5m2", 8}, kS8{"s8", 8}, kU8{"u8", 8}, kB1{"b1", 1};

bool is(const Kind& kind, const char* name) { return std::strcmp(kind.name, name) == 0; }

// How a tile lies in shared memory.
struct Tile {
  bool mn_major = false;
  int swizzle = 128;    // bytes; 0: none
  int base_offset = 0;  // the pattern starts this many times 128 bytes off its alignment
  int k_step = 0;       // K-major: the operand starts this many times 32 bytes into the rows
};

struct Row {
  std::string d;  // f32, f16, s32
  Kind a, b;
  int n = 8;
  bool registers = false;  // A
  Tile tile_a, tile_b;
  int scale_a = 1, scale_b = 1;
  bool scale_d = true, saturate = false;
  MmaSums mma = MmaSums::kExact;
  bool large = false;  // C is so large that its sum with the product has to be rounded
};
std::ostream& operator<<(std::ostream& out, const Row& row) {
  return out << row.d << row.a.name << row.b.name << row.n;
}

int k_of(const Row& row) { return 256 / row.a.bits; }

u64 code(const Kind& kind, int v, u64 noise) {
  if (is(kind, "f16")) return nearest_half(v);
  if (is(kind, "bf16")) return nearest_bf16(v);
  if (is(kind, "tf32")) return raw(static_cast<float>(v)) | (noise & 0x1fff);  // ignored bits
  if (kind.bits != 8 || kind.name[0] != 'e') return static_cast<u64>(v) & 255;
  if (v == 0) return 0;
  const int mantissa = is(kind, "e4m3") ? 3 : 2, bias = mantissa == 3 ? 7 : 15;
  const int e = std::ilogb(std::abs(v));
  const int fraction = static_cast<int>(std::ldexp(std::abs(v), mantissa - e)) - (1 << mantissa);
  return static_cast<u64>((v < 0 ? 128 : 0) | (e + bias) << mantissa | fraction);
}
int value(const Kind& kind, Random& random) {
  const int r = static_cast<int>(random.below(256));
  return is(kind, "b1") ? r & 1 : is(kind, "u8") ? r : is(kind, "s8") ? r - 128 : r % 9 - 4;
}

// The unit of 16 bytes, of those in a row of the pattern, that unit u of row r is put in.
int swizzled_unit(int swizzle, int r, int u) {
  constexpr int kRows128[8] = {0, 1, 2, 3, 4, 5, 6, 7}, kRows64[8] = {0, 0, 1, 1, 2, 2, 3, 3},
                kRows32[8] = {0, 0, 0, 0, 1, 1, 1, 1};
  return u ^ (swizzle == 128  ? kRows128[r]
              : swizzle == 64 ? kRows64[r]
              : swizzle == 32 ? kRows32[r]
                              : 0);
}

// A tile of `rows` (of A, or columns of B) by K in its layout.
struct Image {
  std::vector<u8> bytes;
  u64 descriptor = 0;  // start address counted from the image

  Image(const Tile& t, const Kind& kind, int rows, const std::vector<std::vector<int>>& values,
        Random& random) {
    const int wide = t.swizzle == 0 ? 16 : t.swizzle;
    const int pad = t.base_offset * 128;
    const int step = t.swizzle == 0 || t.mn_major ? 0 : t.k_step * 32 % wide;
    int leading = 0, stride = 0, total = 0;
    if (t.mn_major && t.swizzle != 0) {  // patterns of `wide` bytes of rows and 8 of K
      stride = 8 * wide;                 // next 8 of K
      leading = 2 * stride + 1024;       // next `wide` bytes of rows
      total = (rows * 2 + wide - 1) / wide * leading;
    } else if (t.mn_major) {  // blocks of 8 by 8
      leading = 128 + 16;     // next 8 of K
      stride = 2 * leading;   // next 8 rows
      total = rows / 8 * stride;
    } else if (t.swizzle != 0) {
      stride = 8 * wide + 1024;  // next 8 rows
      leading = 16 * 7;          // not used
      total = rows / 8 * stride;
    } else {
      leading = 128;              // next half of K
      stride = 2 * leading + 16;  // next 8 rows
      total = rows / 8 * stride;
    }
    bytes.resize(static_cast<size_t>((pad + total + 1023) / 1024 * 1024));
    for (u8& b : bytes) b = static_cast<u8>(random.next());
    const int k = 256 / kind.bits, per_unit = 128 / kind.bits;
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < k; ++c) {
        int at = pad, inside = 0;
        if (t.mn_major && t.swizzle != 0) {
          at += r * 2 / wide * leading + c / 8 * stride + c % 8 * wide +
                swizzled_unit(t.swizzle, c % 8, r * 2 % wide / 16) * 16;
          inside = r % 8;
        } else if (t.mn_major) {
          at += r / 8 * stride + c / 8 * leading + c % 8 * 16;
          inside = r % 8;
        } else if (t.swizzle != 0) {
          at += r / 8 * stride + r % 8 * wide +
                swizzled_unit(t.swizzle, r % 8, step / 16 + c / per_unit) * 16;
          inside = c % per_unit;
        } else {
          at += r / 8 * stride + r % 8 * 16 + c / per_unit * leading;
          inside = c % per_unit;
        }
        const int v = values[static_cast<size_t>(r)][static_cast<size_t>(c)];
        u8* to = &bytes[static_cast<size_t>(at)];
        if (kind.bits == 1) {
          to[inside / 8] = static_cast<u8>((to[inside / 8] & ~(1 << inside % 8)) | v << inside % 8);
        } else {
          const u64 raw = code(kind, v, random.next());
          std::memcpy(to + inside * kind.bits / 8, &raw, static_cast<size_t>(kind.bits / 8));
        }
      }
    }
    const u64 mode = t.swizzle == 128 ? 1 : t.swizzle == 64 ? 2 : t.swizzle == 32 ? 3 : 0;
    descriptor = static_cast<u64>((pad + step) >> 4) | static_cast<u64>(leading >> 4) << 16 |
                 static_cast<u64>(stride >> 4) << 32 | static_cast<u64>(t.base_offset) << 49 |
                 mode << 62;
  }
};

std::string list(const char* name, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += (i == 0 ? "{%" : ", %") + (name + std::to_string(i));
  return out + "}";
}

std::string opcode(const Row& row) {
  const std::string sat = row.saturate ? ".satfinite" : "";
  return "wgmma.mma_async.sync.aligned.m64n" + std::to_string(row.n) + "k" +
         std::to_string(k_of(row)) + "." + row.d + "." + row.a.name + "." + row.b.name + sat +
         (row.a.bits == 1 ? ".and.popc" : "");
}

// D, A's registers and the image of shared memory come from memory; D goes back.
std::string text(const Row& row, int d_registers, size_t image_bytes) {
  std::string loads, stores;
  for (int i = 0; i < d_registers; ++i) {
    const std::string at = "[%rd2+" + std::to_string(4 * i) + "], ", d = "%d" + std::to_string(i);
    loads += " ld.global.b32 " + d + ", " + at.substr(0, at.size() - 2) + ";\n";
    stores += " st.global.b32 " + at + d + ";\n";
  }
  for (int i = 0; i < 4; ++i)
    loads += " ld.global.b32 %a" + std::to_string(i) + ", [%rd3+" + std::to_string(4 * i) + "];\n";
  std::string scales = ", %p";
  if (row.d != "s32")
    scales += ", " + std::to_string(row.scale_a) + ", " + std::to_string(row.scale_b);
  if (row.a.bits == 16 && !row.registers) scales += row.tile_a.mn_major ? ", 1" : ", 0";
  if (row.a.bits == 16) scales += row.tile_b.mn_major ? ", 1" : ", 0";
  return ".version 8.4\n.target sm_90a\n.address_size 64\n"
         ".extern .shared .align 1024 .b8 s[];\n"
         ".visible .entry form(.param .u64 d, .param .u64 a, .param .u64 image, .param .u64 da,\n"
         "                     .param .u64 db, .param .u64 scale)\n{\n"
         " .reg .b32 %d<" +
         std::to_string(d_registers) +
         ">, %a<4>, %r<8>;\n"
         " .reg .b64 %rd<12>;\n .reg .pred %p, %q;\n"
         " ld.param.u64 %rd2, [d];\n ld.param.u64 %rd3, [a];\n ld.param.u64 %rd4, [image];\n"
         " ld.param.u64 %rd5, [da];\n ld.param.u64 %rd6, [db];\n ld.param.u64 %rd7, [scale];\n"
         " setp.ne.u64 %p, %rd7, 0;\n mov.u32 %r0, %tid.x;\n"
         " mul.wide.u32 %rd8, %r0, " +
         std::to_string(4 * d_registers) +
         ";\n"
         " add.u64 %rd2, %rd2, %rd8;\n mul.wide.u32 %rd8, %r0, 16;\n add.u64 %rd3, %rd3, %rd8;\n"
         " mov.u32 %r1, s;\n shr.u32 %r2, %r1, 4;\n cvt.u64.u32 %rd9, %r2;\n"
         " add.u64 %rd5, %rd5, %rd9;\n add.u64 %rd6, %rd6, %rd9;\n"
         " add.u64 %rd4, %rd4, %rd8;\n mad.lo.u32 %r3, %r0, 16, %r1;\n"
         " add.u32 %r4, %r1, " +
         std::to_string(image_bytes) +
         ";\n"
         "COPY: ld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%rd4];\n"
         " st.shared.v4.b32 [%r3], {%a0, %a1, %a2, %a3};\n"
         " add.u64 %rd4, %rd4, 2048;\n add.u32 %r3, %r3, 2048;\n"
         " setp.lt.u32 %q, %r3, %r4;\n @%q bra COPY;\n" +
         loads + " fence.proxy.async;\n bar.sync 0;\n wgmma.fence.sync.aligned;\n " + opcode(row) +
         " " + list("d", d_registers) + ", " + (row.registers ? list("a", 4) : "%rd5") + ", %rd6" +
         scales + ";\n wgmma.commit_group.sync.aligned;\n wgmma.wait_group.sync.aligned 0;\n" +
         stores + " ret;\n}\n";
}

std::vector<std::vector<int>> random_matrix(const Kind& kind, int rows, int k, Random& random) {
  std::vector<std::vector<int>> m(static_cast<size_t>(rows));
  for (auto& row : m)
    for (int i = 0; i < k; ++i) row.push_back(value(kind, random));
  return m;
}

constexpr i64 kLarge = 0x1001000;

void check(const Row& row) {
  if (device().capability() != 90) GTEST_SKIP() << "needs sm_90a";
  Random random(static_cast<u64>(row.n * 131 + row.a.bits));
  const int k = k_of(row);
  const auto a = random_matrix(row.a, 64, k, random), b = random_matrix(row.b, row.n, k, random);
  Image image(row.tile_a, row.a, 64, a, random);
  const Image image_b(row.tile_b, row.b, row.n, b, random);
  const u64 b_start = image.bytes.size();
  image.bytes.insert(image.bytes.end(), image_b.bytes.begin(), image_b.bytes.end());
  image.bytes.resize((image.bytes.size() + 2047) / 2048 * 2048);

  const bool half = row.d == "f16", integer = row.d == "s32";
  const int elements = row.n / 2, registers = half ? elements / 2 : elements;
  const auto place = [](int thread, int i, int& r, int& c) {  // of D
    const int lane = thread % 32;
    r = thread / 32 * 16 + lane / 4 + (i & 2 ? 8 : 0);
    c = i / 4 * 8 + lane % 4 * 2 + (i & 1);
  };
  std::vector<i64> c(static_cast<size_t>(64 * row.n));
  for (i64& v : c) {
    v = static_cast<i64>(random.below(65)) - 32;
    if (integer && row.saturate) v = (v < 0 ? -0x7fffffffll : 0x7fffffffll) - v;
    if (row.large) v = 2 * v + (v < 0 ? -kLarge : kLarge);
  }
  std::vector<u8> d(static_cast<size_t>(128 * registers * 4)), fragments(128 * 16);
  const auto element = [&](int thread, int i) {
    return &d[static_cast<size_t>(thread * registers * 4 + i * (half ? 2 : 4))];
  };
  for (int t = 0; t < 128; ++t) {
    for (int i = 0; i < elements; ++i) {
      int r, column;
      place(t, i, r, column);
      const i64 v = c[static_cast<size_t>(r * row.n + column)];
      const u64 raw = !row.scale_d ? ~u64{0}  // NaN
                      : half       ? nearest_half(static_cast<double>(v))
                      : integer    ? static_cast<u64>(v)
                                   : test::raw(static_cast<float>(v));
      std::memcpy(element(t, i), &raw, half ? 2 : 4);
    }
    // A's registers: two halves of K, each for rows g and g + 8.
    const int lane = t % 32, per_register = 32 / row.a.bits;
    for (int reg = 0; reg < 4; ++reg) {
      u32 word = 0;
      for (int i = 0; i < per_register; ++i) {
        const int r = t / 32 * 16 + lane / 4 + (reg == 1 || reg == 3 ? 8 : 0);
        const int column = lane % 4 * per_register + i + (reg >= 2 ? k / 2 : 0);
        const int v = a[static_cast<size_t>(r)][static_cast<size_t>(column)];
        word |=
            static_cast<u32>(row.a.bits == 1 ? static_cast<u64>(v) : code(row.a, v, random.next()))
            << (i * row.a.bits);
      }
      std::memcpy(&fragments[static_cast<size_t>(t * 16 + reg * 4)], &word, 4);
    }
  }
  LaunchSpec spec;
  spec.block = 128;
  spec.dynamic_shared = static_cast<u32>(image.bytes.size());
  spec.seed = static_cast<u64>(row.n);
  spec.mma = row.mma;
  const std::string ptx = text(row, registers, image.bytes.size());
  ASSERT_EQ(device().run(ptx, "form", spec,
                         {{&d},
                          {&fragments},
                          {&image.bytes},
                          {nullptr, image.descriptor},
                          {nullptr, image_b.descriptor + (b_start >> 4)},
                          {nullptr, row.scale_d ? u64{1} : 0}}),
            "")
      << ptx;
  int shown = 0;
  for (int t = 0; t < 128 && shown < 5; ++t) {
    for (int i = 0; i < elements && shown < 5; ++i) {
      int r, column;
      place(t, i, r, column);
      i64 want = 0;
      for (int x = 0; x < k; ++x)
        want += i64{a[static_cast<size_t>(r)][static_cast<size_t>(x)]} *
                b[static_cast<size_t>(column)][static_cast<size_t>(x)];
      want *= row.scale_a * row.scale_b;
      if (row.scale_d) want += c[static_cast<size_t>(r * row.n + column)];
      if (row.saturate) want = std::min<i64>(std::max<i64>(want, -0x80000000ll), 0x7fffffff);
      if (row.large && row.mma == MmaSums::kTruncate) {
        // In f32 numbers of this size are even. Of fp8 no bit of a product is kept beside C.
        want = row.a.bits == 8 ? c[static_cast<size_t>(r * row.n + column)] / 2048 * 2048
                               : want / 2 * 2;
      } else if (row.large) {
        want = static_cast<i64>(static_cast<float>(want));
      }
      u32 got = 0;
      std::memcpy(&got, element(t, i), half ? 2 : 4);
      const double number = half      ? half_value(got)
                            : integer ? static_cast<double>(s32(got))
                                      : static_cast<double>(f32(got));
      if (number == static_cast<double>(integer ? static_cast<i32>(want) : want)) continue;
      ++shown;
      ADD_FAILURE() << opcode(row) << ": D[" << r << "][" << column << "] is " << number
                    << ", expected " << want;
    }
  }
}

std::vector<int> columns(const Kind& a) {
  std::vector<int> out;
  const bool integer = is(a, "s8") || is(a, "u8") || is(a, "b1");
  for (int n = 8; n <= 256; n += 8)
    if (!integer || n <= 24 || n % 16 == 0) out.push_back(n);
  return out;
}

// Every type with every number of columns and both sources of A; what else there is takes turns.
std::vector<Row> shapes() {
  struct Types {
    const char* d;
    Kind a, b;
  };
  std::vector<Types> all = {{"f32", kF16, kF16},
                            {"f16", kF16, kF16},
                            {"f32", kBf16, kBf16},
                            {"f32", kTf32, kTf32},
                            {"s32", kB1, kB1}};
  for (const char* d : {"f32", "f16"})
    for (const Kind& a : {kE4m3, kE5m2})
      for (const Kind& b : {kE4m3, kE5m2}) all.push_back({d, a, b});
  for (const Kind& a : {kS8, kU8})
    for (const Kind& b : {kS8, kU8}) all.push_back({"s32", a, b});
  std::vector<Row> rows;
  for (const Types& t : all) {
    constexpr int kSwizzles[4] = {128, 64, 32, 0};
    int turn = 0;
    for (int n : columns(t.a)) {
      for (bool registers : {false, true}) {
        Row row{t.d, t.a, t.b, n, registers, {}, {}};
        row.tile_a.swizzle = kSwizzles[turn % 4];
        row.tile_b.swizzle = kSwizzles[turn / 4 % 4];
        row.tile_a.k_step = turn % 3;
        row.tile_b.k_step = turn % 4;
        if (t.a.bits == 16) {
          row.tile_a.mn_major = !registers && turn % 3 == 1;
          row.tile_b.mn_major = turn % 5 < 2;
        }
        if (row.d != "s32") {
          row.scale_a = turn % 7 == 3 ? -1 : 1;
          row.scale_b = turn % 5 == 4 ? -1 : 1;
        }
        row.scale_d = turn % 6 != 5;
        row.saturate = t.a.bits == 8 && row.d == "s32" && turn % 2 == 1;
        ++turn;
        rows.push_back(row);
      }
    }
  }
  return rows;
}

// Every major with every swizzle, for both operands, at every place of the pattern.
std::vector<Row> layouts() {
  std::vector<Row> rows;
  for (const Kind& kind : {kF16, kBf16})
    for (int majors = 0; majors < 4; ++majors)
      for (int a : {0, 32, 64, 128})
        for (int b : {0, 32, 64, 128}) {
          Row row{"f32", kind, kind, is(kind, "f16") ? 128 : 40, false, {}, {}};
          row.tile_a = {(majors & 1) != 0, a, 0, (a + b) / 32 % 4};
          row.tile_b = {(majors & 2) != 0, b, 0, b / 32 % 4};
          rows.push_back(row);
        }
  for (int offset = 1; offset < 8; ++offset) {
    Row row{"f32", kF16, kF16, 64, false, {false, 128, offset}, {offset % 2 == 0, 128, 8 - offset}};
    rows.push_back(row);
  }
  return rows;
}

class WgmmaShape : public testing::TestWithParam<Row> {};
class WgmmaLayout : public testing::TestWithParam<Row> {};
TEST_P(WgmmaShape, MatchesHostArithmetic) { check(GetParam()); }
TEST_P(WgmmaLayout, MatchesHostArithmetic) { check(GetParam()); }
const auto kName = [](const auto& info) {
  std::ostringstream name;
  name << info.param << "_" << info.index;
  return name.str();
};
// Sums as an H100 makes them: small integers have the same either way; onto large ones they are
// rounded to nearest, or cut.
std::vector<Row> truncated() {
  std::vector<Row> rows;
  for (Row row : shapes()) {
    if (row.d == "s32" || (row.n != 8 && row.n != 24 && row.n != 256)) continue;
    row.mma = MmaSums::kTruncate;
    rows.push_back(row);
    if (row.d != "f32" || row.n == 256) continue;
    row.large = row.scale_d = true;
    rows.push_back(row);
    row.mma = MmaSums::kExact;
    rows.push_back(row);
  }
  return rows;
}
class WgmmaSums : public testing::TestWithParam<Row> {};
TEST_P(WgmmaSums, RoundAsAsked) {
  if (on_real_gpu() && GetParam().mma == MmaSums::kExact) GTEST_SKIP() << "devices cut";
  check(GetParam());
}
INSTANTIATE_TEST_SUITE_P(Ptx, WgmmaSums, testing::ValuesIn(truncated()), kName);
INSTANTIATE_TEST_SUITE_P(Ptx, WgmmaShape, testing::ValuesIn(shapes()), kName);
INSTANTIATE_TEST_SUITE_P(Ptx, WgmmaLayout, testing::ValuesIn(layouts()), kName);

}  // namespace
}  // namespace vgpu::test
