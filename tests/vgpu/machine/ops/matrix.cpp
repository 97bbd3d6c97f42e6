// Warp-level matrix instructions. PTX ISA 9.0 sections 9.7.14.5 (mma), 9.7.14.5.15 (ldmatrix),
// 9.7.14.5.17 (movmatrix).
//
// All mma fragments follow one rule. With e elements per 32-bit register, g = lane / 4 and
// t = lane % 4, element i of register r holds
//   A: row g + 8 * (r % 2) (8-row shapes: row g), column t * e + i + 4 * e * (r / 2)
//   B: row t * e + i + 4 * e * r, column g
//   C, D: row g + 8 * (n / 2), column t * 2 + n % 2, n counting the lane's elements.
// f64 elements are registers of their own (e = 1). The f16 shape m8n8k4 has its own layout.
#include <algorithm>
#include <array>
#include <cmath>

#include "async/wgmma_tile.h"
#include "machine/access.h"
#include "machine/cta.h"
#include "machine/launch.h"
#include "machine/ops/matrix.h"

namespace vgpu::ops {
namespace {

using ptx::Type;

struct Shape {
  int m, n, k;
};

bool parse_shape(std::string_view word, Shape& shape) {
  int values[3] = {0, 0, 0};
  size_t i = 0;
  for (int axis = 0; axis < 3; ++axis) {
    if (i >= word.size() || word[i] != "mnk"[axis]) return false;
    for (++i; i < word.size() && word[i] >= '0' && word[i] <= '9'; ++i)
      values[axis] = values[axis] * 10 + (word[i] - '0');
  }
  shape = {values[0], values[1], values[2]};
  return i == word.size();
}

constexpr int kMaxK = 256;

// The operands of one mma in the order of the pool: d, a, b, c.
struct Fragments {
  const Operand *d, *a, *b, *c;
  int nd, na, nb, nc;
};
Fragments fragments(Warp& w, const Instr& in) {
  Fragments f;
  f.nd = static_cast<int>(in.imm & 0xff);
  f.na = static_cast<int>((in.imm >> 8) & 0xff);
  f.nb = static_cast<int>((in.imm >> 16) & 0xff);
  f.nc = static_cast<int>((in.imm >> 24) & 0xff);
  f.d = &w.operand(in.pool);
  f.a = f.d + f.nd;
  f.b = f.a + f.na;
  f.c = f.b + f.nb;
  return f;
}
Shape shape_of(const Instr& in) { return {in.sub, in.sub2, static_cast<int>(in.target)}; }

// D depends on a row of A, a column of B and its own element of C.
void shadow_mma(Warp& w, const Fragments& f, const Shape& s) {
  u32 any = 0;
  for (int i = 0; i < f.na; ++i) any |= w.undef(f.a[i]);
  for (int i = 0; i < f.nb; ++i) any |= w.undef(f.b[i]);
  for (int i = 0; i < f.nc; ++i) any |= w.undef(f.c[i]);
  for (int i = 0; i < f.nd; ++i) any |= w.undef(f.d[i]);
  if (any == 0) return;
  u32 rows = 0, columns = 0;
  for (int l = 0; l < kLanes; ++l) {
    const int g = l / 4;
    for (int r = 0; r < f.na; ++r)
      if (w.undef_of(f.a[r], l) != 0) rows |= 1u << (s.m == 8 ? g : g + 8 * (r % 2));
    for (int r = 0; r < f.nb; ++r)
      if (w.undef_of(f.b[r], l) != 0) columns |= 1u << g;
  }
  const int per_register = f.nd == 0 ? 1 : s.m * s.n / kLanes / f.nd;
  for (int l = 0; l < kLanes; ++l) {
    for (int r = 0; r < f.nd; ++r) {
      u32 undefined = r < f.nc ? w.undef_of(f.c[r], l) : 0;
      for (int i = 0; i < per_register; ++i) {
        const int n = r * per_register + i;
        const int row = l / 4 + 8 * (n / 2), column = l % 4 * 2 + n % 2;
        const u32 bytes = per_register == 2 ? 3u << (2 * i) : 0xffu;
        if (((rows >> row) & 1) != 0 || ((columns >> column) & 1) != 0) undefined |= bytes;
      }
      const u32 all = f.d[r].width >= 8 ? 0xff : 0xf;
      w.set_undef(f.d[r], l, undefined & all);
    }
  }
}

int element_bits(Type t) {
  switch (t) {
    case Type::kF16:
    case Type::kBf16:
      return 16;
    case Type::kE4m3:
    case Type::kE5m2:
    case Type::kU8:
    case Type::kS8:
      return 8;
    case Type::kU4:
    case Type::kS4:
      return 4;
    case Type::kB1:
      return 1;
    default:
      return 32;
  }
}

// The elements of a register of the warp, lane by lane.
void elements_f(Type t, const u32* lanes, float* out) {
  const u8* unit = reinterpret_cast<const u8*>(lanes);
  for (u32 i = 0; i < kLanes / 4; ++i)
    unit_to_floats(t, unit + size_t{16} * i, out + size_t{elements_per_unit(t)} * i);
}

// out = A B + C as a device's tensor cores add.
void multiply_as_device(const TensorSum& how, Type ta, Type tb, const Shape& s, bool half,
                        const double (&a)[16][64], const double (&b)[64][8],
                        const float (&c)[16][8], double (&out)[16][8]) {
  alignas(64) double column_values[64][8], column_powers[64][8], row_values[64], row_powers[64];
  float x[64];
  for (int k = 0; k < s.k; ++k) {
    std::copy_n(b[k], 8, x);
    tensor_elements(tb, x, 8, column_values[k], column_powers[k]);
  }
  for (int row = 0; row < s.m; ++row) {
    std::copy_n(a[row], s.k, x);
    tensor_elements(ta, x, static_cast<size_t>(s.k), row_values, row_powers);
    for (int j = 0; j < 8; j += 4) {
      float sums[4];
      add_products(how,
                   {row_values, row_powers, &column_values[0][j], &column_powers[0][j], 8,
                    static_cast<u32>(s.k)},
                   half, &c[row][j], sums);
      std::copy_n(sums, 4, &out[row][j]);
    }
  }
}

// Products are exact in f32 (11-bit significands at most) or f64; sums are kept in double and
// rounded once at the end, or added as the device does.
void exec_mma_float(Warp& w, const Instr& in, u32) {
  const Shape s = shape_of(in);
  const Fragments f = fragments(w, in);
  const int e = 32 / element_bits(in.type);
  alignas(64) double a[16][64];
  alignas(64) double b[64][8];
  float x[4 * kLanes];
  for (int r = 0; r < f.na; ++r) {
    elements_f(in.type, w.lanes<u32>(f.a[r]), x);
    for (int l = 0; l < kLanes; ++l)
      for (int i = 0; i < e; ++i)
        a[s.m == 8 ? l / 4 : l / 4 + 8 * (r % 2)][l % 4 * e + i + 4 * e * (r / 2)] = x[l * e + i];
  }
  for (int r = 0; r < f.nb; ++r) {
    elements_f(in.type2, w.lanes<u32>(f.b[r]), x);
    for (int l = 0; l < kLanes; ++l)
      for (int i = 0; i < e; ++i) b[l % 4 * e + i + 4 * e * r][l / 4] = x[l * e + i];
  }
  const bool half_c = f.nc * kLanes * 2 == s.m * s.n, half_d = f.nd * kLanes * 2 == s.m * s.n;
  const int elements = s.m * s.n / kLanes;
  float c[16][8];
  for (int l = 0; l < kLanes; ++l)
    for (int n = 0; n < elements; ++n)
      c[l / 4 + 8 * (n / 2)][l % 4 * 2 + n % 2] =
          half_c ? half_to_float(static_cast<u16>(w.lanes<u32>(f.c[n / 2])[l] >> (16 * (n % 2))))
                 : bits<float>(w.lanes<u32>(f.c[n])[l]);
  double out[16][8];
  const Machine& machine = w.cta().launch.machine;
  if (machine.mma == MmaSums::kTruncate) {
    multiply_as_device(tensor_sum(machine.device.capability(), in.type), in.type, in.type2, s,
                       half_d, a, b, c, out);
  } else {
    for (int row = 0; row < s.m; ++row) {
      double sum[8] = {};
      for (int k = 0; k < s.k; ++k)
        for (int j = 0; j < 8; ++j) sum[j] += a[row][k] * b[k][j];
      for (int j = 0; j < 8; ++j) out[row][j] = sum[j] + c[row][j];
    }
  }
  u32 d[4][kLanes];
  for (int l = 0; l < kLanes; ++l) {
    for (int n = 0; n < elements; ++n) {
      const double sum = out[l / 4 + 8 * (n / 2)][l % 4 * 2 + n % 2];
      if (half_d) {
        const u32 h = encode(kF16, sum, Rounding::kNearestEven, false);
        d[n / 2][l] = n % 2 == 0 ? h : d[n / 2][l] | h << 16;
      } else {
        d[n][l] = bits<u32>(canonical(static_cast<float>(sum)));
      }
    }
  }
  shadow_mma(w, f, s);
  for (int r = 0; r < f.nd; ++r) std::memcpy(w.lanes<u32>(f.d[r]), d[r], sizeof d[r]);
}

void exec_mma_double(Warp& w, const Instr& in, u32) {
  const Shape s = shape_of(in);
  const Fragments f = fragments(w, in);
  double a[16][16], b[16][8];
  for (int r = 0; r < f.na; ++r)
    for (int l = 0; l < kLanes; ++l)
      a[s.m == 8 ? l / 4 : l / 4 + 8 * (r % 2)][l % 4 + 4 * (s.m == 8 ? r : r / 2)] =
          w.lanes<double>(f.a[r])[l];
  for (int r = 0; r < f.nb; ++r)
    for (int l = 0; l < kLanes; ++l) b[l % 4 + 4 * r][l / 4] = w.lanes<double>(f.b[r])[l];
  double d[4][kLanes];
  for (int l = 0; l < kLanes; ++l) {
    for (int n = 0; n < f.nd; ++n) {
      double sum = w.lanes<double>(f.c[n])[l];
      for (int k = 0; k < s.k; ++k)
        sum = std::fma(a[l / 4 + 8 * (n / 2)][k], b[k][l % 4 * 2 + n % 2], sum);
      d[n][l] = sum;
    }
  }
  shadow_mma(w, f, s);
  for (int r = 0; r < f.nd; ++r) std::memcpy(w.lanes<double>(f.d[r]), d[r], sizeof d[r]);
}

i32 element_i(Type t, u32 raw) {
  switch (t) {
    case Type::kS8:
      return static_cast<i8>(raw);
    case Type::kU8:
      return static_cast<u8>(raw);
    case Type::kS4:
      return static_cast<i32>(raw << 28) >> 28;
    default:
      return static_cast<i32>(raw & (t == Type::kB1 ? 1 : 15));
  }
}
void exec_mma_int(Warp& w, const Instr& in, u32) {
  const Shape s = shape_of(in);
  const Fragments f = fragments(w, in);
  const int width = element_bits(in.type), e = 32 / width;
  static thread_local i32 a[16][kMaxK], b[8][kMaxK];  // b by column
  for (int r = 0; r < f.na; ++r)
    for (int l = 0; l < kLanes; ++l)
      for (int i = 0; i < e; ++i)
        a[s.m == 8 ? l / 4 : l / 4 + 8 * (r % 2)][l % 4 * e + i + 4 * e * (r / 2)] =
            element_i(in.type, w.lanes<u32>(f.a[r])[l] >> (i * width));
  for (int r = 0; r < f.nb; ++r)
    for (int l = 0; l < kLanes; ++l)
      for (int i = 0; i < e; ++i)
        b[l / 4][l % 4 * e + i + 4 * e * r] =
            element_i(in.type2, w.lanes<u32>(f.b[r])[l] >> (i * width));
  u32 d[4][kLanes];
  for (int l = 0; l < kLanes; ++l) {
    for (int n = 0; n < f.nd; ++n) {
      const i32* row = a[l / 4 + 8 * (n / 2)];
      const i32* column = b[l % 4 * 2 + n % 2];
      i64 sum = static_cast<i32>(w.lanes<u32>(f.c[n])[l]);
      for (int k = 0; k < s.k; ++k) {
        sum += in.type != Type::kB1         ? i64{row[k]} * column[k]
               : in.bool_op == BoolOp::kXor ? row[k] ^ column[k]
                                            : row[k] & column[k];
      }
      if (in.sat) sum = sum > 0x7fffffff ? 0x7fffffff : sum < -0x80000000ll ? -0x80000000ll : sum;
      d[n][l] = static_cast<u32>(sum);
    }
  }
  shadow_mma(w, f, s);
  for (int r = 0; r < f.nd; ++r) std::memcpy(w.lanes<u32>(f.d[r]), d[r], sizeof d[r]);
}

// m8n8k4 of f16: four independent products, one per quad pair (lanes 4q..4q+3 and 4q+16..4q+19).
// Made for Volta; its sums are exact whatever the option says.
void exec_mma_m8n8k4(Warp& w, const Instr& in, u32) {
  const Fragments f = fragments(w, in);
  const bool a_row = in.relu, b_col = in.flag;
  const bool float_c = f.nc == 8, float_d = f.nd == 8;
  const auto half = [&](const Operand* p, int l, int i) {
    return double{half_to_float(static_cast<u16>(w.lanes<u32>(p[i / 2])[l] >> (16 * (i % 2))))};
  };
  u32 d[8][kLanes] = {};
  for (int q = 0; q < 4; ++q) {
    double a[8][4], b[4][8];
    for (int i8 = 0; i8 < 8; ++i8) {
      const int l = 4 * q + i8 % 4 + (i8 >= 4 ? 16 : 0);
      for (int i = 0; i < 4; ++i) {
        const int base = 4 * (i8 / 4);
        if (a_row) {
          a[i8][i] = half(f.a, l, i);
        } else {
          a[base + i][i8 % 4] = half(f.a, l, i);
        }
        if (b_col) {
          b[i][i8] = half(f.b, l, i);
        } else {
          b[i8 % 4][base + i] = half(f.b, l, i);
        }
      }
    }
    for (int i8 = 0; i8 < 8; ++i8) {
      const int l = 4 * q + i8 % 4 + (i8 >= 4 ? 16 : 0);
      for (int i = 0; i < 8; ++i) {
        // The layouts of f16 and f32 accumulators differ.
        const auto place = [&](bool wide, int& row, int& column) {
          if (wide) {
            row = (l & 1) + (i & 2) + (l < 16 ? 0 : 4);
            column = (i & 4) + (l & 2) + (i & 1);
          } else {
            row = l % 4 + (l < 16 ? 0 : 4);
            column = i;
          }
        };
        int row, column;
        place(float_d, row, column);
        double sum = 0;
        for (int k = 0; k < 4; ++k) sum += a[row][k] * b[k][column];
        // C in D's layout when both have one type; otherwise found through its own.
        double c = 0;
        for (int j8 = 0; j8 < 8; ++j8) {
          const int lc = 4 * q + j8 % 4 + (j8 >= 4 ? 16 : 0);
          for (int j = 0; j < 8; ++j) {
            const int rc =
                float_c ? (lc & 1) + (j & 2) + (lc < 16 ? 0 : 4) : lc % 4 + (lc < 16 ? 0 : 4);
            const int cc = float_c ? (j & 4) + (lc & 2) + (j & 1) : j;
            if (rc == row && cc == column)
              c = float_c ? double{bits<float>(w.lanes<u32>(f.c[j])[lc])} : half(f.c, lc, j);
          }
        }
        sum += c;
        if (float_d) {
          d[i][l] = bits<u32>(canonical(static_cast<float>(sum)));
        } else {
          d[i / 2][l] |= encode(kF16, sum, Rounding::kNearestEven, false) << (16 * (i % 2));
        }
      }
    }
  }
  u32 any = 0;
  for (u32 i = static_cast<u32>(f.nd); i < in.pool_count; ++i)
    any |= w.undef(w.operand(in.pool + i));
  for (int r = 0; r < f.nd; ++r) {
    std::memcpy(w.lanes<u32>(f.d[r]), d[r], sizeof d[r]);
    w.set_defined(f.d[r], kAllLanes);
    if (any != 0) w.set_undefined(f.d[r], kAllLanes);
  }
}

void decode_mma(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kMatrix;
  in.flow = Flow::kAligned;
  mods.take("sync");
  mods.take("aligned");
  Shape shape{};
  for (std::string_view word = mods.take_any(); !parse_shape(word, shape); word = mods.take_any())
    if (word.empty()) dec.fail("mma without a shape");
  in.relu = mods.take_any() == "row";  // the layouts of A and B follow the shape
  in.flag = mods.take_any() == "col";
  in.sat = mods.take("satfinite");
  if (mods.take("kind::f8f6f4") || mods.has("sp")) dec.fail("this mma kind is not supported");
  mods.take_type();
  in.type = mods.take_type();
  in.type2 = mods.take_type();
  mods.take_type();
  in.bool_op = mods.take("xor") ? BoolOp::kXor : mods.take("and") ? BoolOp::kAnd : BoolOp::kNone;
  mods.take("popc");
  in.sub = static_cast<u8>(shape.m);
  in.sub2 = static_cast<u8>(shape.n);
  in.target = static_cast<u32>(shape.k);
  in.flops = static_cast<u32>(2 * shape.m * shape.n * shape.k);
  require_operands(dec, st, 4);
  const bool f64 = in.type == Type::kF64;
  const auto count = [](const ptx::Operand& op) {
    return op.kind == ptx::Operand::Kind::kVector ? op.elements.size() : size_t{1};
  };
  dec.pool_dests(st.operands[0], in, f64 ? 8 : 4);
  for (int i = 1; i < 4; ++i) dec.pool_sources(st.operands[i], f64 ? Type::kF64 : Type::kB32, in);
  for (size_t i = 0; i < 4; ++i) in.imm |= static_cast<i64>(count(st.operands[i])) << (8 * i);
  const bool half_quads = shape.m == 8 && shape.k == 4 && in.type == Type::kF16;
  if (half_quads) {
    in.flops *= 4;
    in.fn = exec_mma_m8n8k4;
    return;
  }
  const int width = f64 ? 64 : element_bits(in.type);
  const int lanes_elements = f64 ? kLanes : kLanes * 32 / width;
  const size_t na = static_cast<size_t>(shape.m * shape.k / lanes_elements);
  const size_t nb = static_cast<size_t>(shape.n * shape.k / lanes_elements);
  if (shape.n != 8 || shape.k > kMaxK || count(st.operands[1]) != na || count(st.operands[2]) != nb)
    dec.fail("this mma shape is not supported");
  switch (in.type) {
    case Type::kF16:
    case Type::kBf16:
    case Type::kTf32:
    case Type::kE4m3:
    case Type::kE5m2:
      in.fn = exec_mma_float;
      break;
    case Type::kF64:
      in.fn = exec_mma_double;
      break;
    case Type::kU8:
    case Type::kS8:
    case Type::kU4:
    case Type::kS4:
    case Type::kB1:
      in.fn = exec_mma_int;
      break;
    default:
      break;
  }
}

// ldmatrix: lanes 8i..8i+7 give the addresses of the rows of matrix i; lane l gets row l / 4,
// elements 2 * (l % 4) and the next; with .trans, rows and columns change places.
void exec_ldmatrix(Warp& w, const Instr& in, u32 m) {
  u64 address[kLanes];
  const int count = in.vec;
  const u32 rows = count == 4 ? kAllLanes : (1u << (8 * count)) - 1;
  gather_addresses(w, in, m & rows, address);
  u16 data[4][8][8];
  u8 undefined[4][8][8] = {};  // two bits per element
  Allocation* cache = nullptr;
  bool any = false;
  for_each_lane(rows, [&](int l) {
    const Target t = locate(w, in, l, address[l], 16, false, cache);
    if (t.kind != Target::Kind::kShared)
      w.fault(kFaultInvalidAddressSpace, FindingKind::kOutOfBounds, in, l,
              "ldmatrix of memory that is not shared");
    check_race(w, in, l, t.shared_offset, 16, false, false);
    std::memcpy(data[l / 8][l % 8], t.data, 16);
    const u32 u = undefined_mask(t, 16);
    if (u == 0) return;
    any = true;
    for (int i = 0; i < 8; ++i) undefined[l / 8][l % 8][i] = static_cast<u8>((u >> (2 * i)) & 3);
  });
  for (int x = 0; x < count; ++x) {
    const Operand& d = count == 1 ? in.dst : w.operand(in.pool + static_cast<u32>(x));
    u32* out = w.lanes<u32>(d);
    for (int l = 0; l < kLanes; ++l) {
      const int r0 = in.flag ? 2 * (l % 4) : l / 4, c0 = in.flag ? l / 4 : 2 * (l % 4);
      const int r1 = in.flag ? r0 + 1 : r0, c1 = in.flag ? c0 : c0 + 1;
      out[l] = u32{data[x][r0][c0]} | u32{data[x][r1][c1]} << 16;
      if (any)
        w.set_undef(d, l, static_cast<u32>(undefined[x][r0][c0] | undefined[x][r1][c1] << 2));
    }
    if (!any) w.set_defined(d, kAllLanes);
  }
  if (!w.cta().launch.machine.count) return;
  for (int x = 0; x < count; ++x) {  // one pass per matrix when its rows hit different banks
    u64 passes[kLanes];
    for (int l = 0; l < kLanes; ++l) passes[l] = address[x * 8 + l % 8];
    count_shared(w, in, 0xff, passes, 16);
  }
}
void decode_ldmatrix(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kMatrix;
  in.flow = Flow::kAligned;
  mods.take("sync");
  mods.take("aligned");
  if (!mods.take("m8n8")) dec.fail("this ldmatrix shape is not supported");
  const int count = mods.take_one({"x1", "x2", "x4"});
  in.vec = static_cast<u8>(1 << (count < 0 ? 0 : count));
  in.flag = mods.take("trans");
  in.space =
      mods.take_one({"shared", "shared::cta"}) >= 0 ? ptx::Space::kShared : ptx::Space::kGeneric;
  mods.take_type();
  require_operands(dec, st, 2);
  if (in.vec == 1) {
    in.dst = dec.dest(st.operands[0]);
  } else {
    dec.pool_dests(st.operands[0], in, 4);
    if (in.pool_count != in.vec) dec.fail("vector length does not match");
  }
  dec.address(st.operands[1], in);
  in.fn = exec_ldmatrix;
}

// movmatrix: transposes an 8x8 matrix of 16-bit elements across the warp.
void exec_movmatrix(Warp& w, const Instr& in, u32) {
  u16 data[8][8];
  u32 a[kLanes], out[kLanes];
  u8 undefined[8][8] = {};
  const u32 any = w.undef(in.a);
  std::memcpy(a, w.lanes<u32>(in.a), sizeof a);
  for (int l = 0; l < kLanes; ++l) {
    const u32 u = any == 0 ? 0 : w.undef_of(in.a, l);
    for (int i = 0; i < 2; ++i) {
      data[l / 4][l % 4 * 2 + i] = static_cast<u16>(a[l] >> (16 * i));
      undefined[l / 4][l % 4 * 2 + i] = static_cast<u8>((u >> (2 * i)) & 3);
    }
  }
  for (int l = 0; l < kLanes; ++l) {
    const int row = l % 4 * 2, column = l / 4;
    out[l] = u32{data[row][column]} | u32{data[row + 1][column]} << 16;
    w.set_undef(in.dst, l,
                static_cast<u32>(undefined[row][column]) |
                    static_cast<u32>(undefined[row + 1][column]) << 2);
  }
  std::memcpy(w.lanes<u32>(in.dst), out, sizeof out);
}
void decode_movmatrix(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.cls = InstrClass::kMatrix;
  in.flow = Flow::kAligned;
  mods.take("sync");
  mods.take("aligned");
  mods.take("m8n8");
  mods.take("trans");
  mods.take_type();
  decode_operands(dec, st, in, Type::kB32, {Type::kB32});
  in.fn = exec_movmatrix;
}

}  // namespace

void register_matrix(OpcodeMap& t) {
  t["mma"] = decode_mma;
  t["ldmatrix"] = decode_ldmatrix;
  t["movmatrix"] = decode_movmatrix;
  register_wmma(t);
}

}  // namespace vgpu::ops
