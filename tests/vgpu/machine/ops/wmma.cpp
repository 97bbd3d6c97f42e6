// wmma: loads, stores and products of opaque fragments. PTX ISA 9.0 section 9.7.14.4.
//
// The ISA leaves the distribution of elements over lanes open. Here lane l holds elements
// l * n ... l * n + n - 1 of the row-major matrix, modulo its size (fragments of 16-bit A and B
// hold every element twice on devices, and so they do here).
#include <cmath>
#include <vector>

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
constexpr std::pair<std::string_view, Shape> kShapes[] = {
    {"m16n16k16", {16, 16, 16}}, {"m32n8k16", {32, 8, 16}}, {"m8n32k16", {8, 32, 16}},
    {"m16n16k8", {16, 16, 8}},   {"m8n8k4", {8, 8, 4}},     {"m8n8k32", {8, 8, 32}},
    {"m8n8k128", {8, 8, 128}},
};

int bits_of(Type t) {
  switch (t) {
    case Type::kU4:
    case Type::kS4:
      return 4;
    case Type::kB1:
      return 1;
    case Type::kTf32:
      return 32;
    default:
      return 8 * ptx::type_bytes(t);
  }
}

// Elements of a fragment as raw codes; `elements` per lane, `size` in the whole matrix.
struct Fragment {
  const Operand* regs;
  int count;
  int width;     // bits per element
  int elements;  // per lane
  int size;
};
Fragment fragment(const Operand* regs, int count, Type t, int size) {
  const int width = bits_of(t);
  return {regs, count, width, count * std::max(32, width) / width, size};
}
u64 get(Warp& w, const Fragment& f, int lane, int i) {
  const int per = std::max(1, 32 / f.width);
  const u64 raw = w.value(f.regs[i / per], lane);
  return f.width >= 32 ? raw : (raw >> (i % per * f.width)) & ((u64{1} << f.width) - 1);
}
void put(Warp& w, const Fragment& f, int lane, int i, u64 v, bool undefined) {
  const int per = std::max(1, 32 / f.width);
  const Operand& reg = f.regs[i / per];
  if (f.width >= 32) {
    w.set_value(reg, lane, v);
    w.set_undef(reg, lane, undefined ? 0xff : 0);
    return;
  }
  const int shift = i % per * f.width;
  const u64 mask = ((u64{1} << f.width) - 1) << shift;
  w.set_value(reg, lane, (w.value(reg, lane) & ~mask) | (v << shift & mask));
  u32 bytes = shift == 0 ? 0 : w.undef_of(reg, lane);
  if (undefined) bytes |= static_cast<u32>(((u64{1} << ((f.width + 7) / 8)) - 1) << (shift / 8));
  w.set_undef(reg, lane, bytes & 0xf);
}

double number(Type t, u64 raw) {
  switch (t) {
    case Type::kF16:
      return half_to_float(static_cast<u16>(raw));
    case Type::kBf16:
      return bf16_to_float(static_cast<u16>(raw));
    case Type::kTf32:
      return bits<float>(static_cast<u32>(raw) & 0xffffe000u);
    case Type::kF32:
      return bits<float>(static_cast<u32>(raw));
    case Type::kF64:
      return bits<double>(raw);
    case Type::kS8:
      return static_cast<i8>(raw);
    case Type::kU8:
      return static_cast<u8>(raw);
    case Type::kS4:
      return static_cast<i32>(static_cast<u32>(raw) << 28) >> 28;
    case Type::kS32:
      return static_cast<i32>(raw);
    default:
      return static_cast<double>(raw);
  }
}
u64 code(Type t, double v, bool sat) {
  switch (t) {
    case Type::kF16:
      return encode(kF16, v, Rounding::kNearestEven, sat);
    case Type::kF32:
      return bits<u32>(canonical(static_cast<float>(v)));
    case Type::kF64:
      return bits<u64>(v);
    default: {
      if (sat) v = std::fmin(std::fmax(v, -2147483648.0), 2147483647.0);
      return static_cast<u32>(static_cast<i64>(v));
    }
  }
}

// Instr: sub = 0 a, 1 b, 2 c/d; flag = column major; target = shape index; b = stride.
void rows_columns(const Instr& in, int& rows, int& columns) {
  const Shape& s = kShapes[in.target].second;
  rows = in.sub == 1 ? s.k : s.m;
  columns = in.sub == 0 ? s.k : s.n;
}

void exec_transfer(Warp& w, const Instr& in, u32 m) {
  const bool store = in.cls == InstrClass::kStore || in.relu;
  int rows, columns;
  rows_columns(in, rows, columns);
  const Fragment f =
      fragment(&w.operand(in.pool), static_cast<int>(in.pool_count), in.type, rows * columns);
  u64 base[kLanes];
  gather_addresses(w, in, m, base);
  Allocation* cache = nullptr;
  const bool sub_byte = f.width < 8;
  const u32 bytes = sub_byte ? 4 : static_cast<u32>(f.width / 8);
  const int step = sub_byte ? 32 / f.width : 1;  // elements per access
  for_each_lane(m, [&](int l) {
    const i64 stride = static_cast<i32>(w.value(in.b, l));
    for (int i = 0; i < f.elements; i += step) {
      const int index = (l * f.elements + i) % f.size;
      int row = index / columns, column = index % columns;
      if (sub_byte && in.sub == 1) {  // B is column major: elements run down a column
        row = index % rows;
        column = index / rows;
      }
      const i64 at = in.flag ? column * stride + row : row * stride + column;
      const u64 address = base[l] + static_cast<u64>(at * f.width / 8);
      const Target t = locate(w, in, l, address, bytes, store, cache);
      if (t.kind == Target::Kind::kShared)
        check_race(w, in, l, t.shared_offset, bytes, store, false);
      if (t.allocation != nullptr)
        check_global(w, in, l, *t.allocation, t.bit_offset, bytes, store);
      if (store) {
        const u64 v = get(w, f, l, i);
        const bool undefined = w.undef_of(f.regs[i * f.width / std::max(32, f.width)], l) != 0;
        if (undefined && t.kind == Target::Kind::kGlobal)
          w.report(FindingKind::kUndefinedStore, in, l,
                   "undefined data is stored to global memory");
        std::memcpy(t.data, &v, bytes);
        mark(t, bytes, undefined && t.kind != Target::Kind::kGlobal ? 0xff : 0);
        continue;
      }
      u64 v = 0;
      std::memcpy(&v, t.data, bytes);
      const bool undefined = undefined_mask(t, bytes) != 0;
      for (int e = 0; e < step; ++e) put(w, f, l, i + e, v >> (e * f.width), undefined);
    }
  });
}

// One element of D as a device's tensor cores add: a row of A, a column of B (rows are s.n apart)
// and an element of C.
float element_as_device(const TensorSum& how, Type type, bool half, const Shape& s, const double* a,
                        const double* b, double c) {
  float x[16], y[16];
  double a_values[16], a_powers[16], values[16], powers[16], b_values[16][4] = {},
                                                             b_powers[16][4] = {};
  const auto k = static_cast<size_t>(s.k);
  for (size_t i = 0; i < k; ++i) {
    x[i] = static_cast<float>(a[i]);
    y[i] = static_cast<float>(b[i * static_cast<size_t>(s.n)]);
  }
  tensor_elements(type, x, k, a_values, a_powers);
  tensor_elements(type, y, k, values, powers);
  for (size_t i = 0; i < k; ++i) {
    b_values[i][0] = values[i];
    b_powers[i][0] = powers[i];
  }
  float sums[4] = {static_cast<float>(c), 0, 0, 0};
  add_products(how, {a_values, a_powers, b_values[0], b_powers[0], 4, static_cast<u32>(s.k)}, half,
               sums, sums);
  return sums[0];
}

void exec_wmma(Warp& w, const Instr& in, u32) {
  const Shape& s = kShapes[in.target].second;
  const int nd = static_cast<int>(in.imm & 0xff), na = static_cast<int>((in.imm >> 8) & 0xff),
            nb = static_cast<int>((in.imm >> 16) & 0xff),
            nc = static_cast<int>((in.imm >> 24) & 0xff);
  const Operand* p = &w.operand(in.pool);
  const Type ta = in.type, tb = in.type2, td = static_cast<Type>(in.vec),
             tc = static_cast<Type>(in.access_bytes);
  const Fragment d = fragment(p, nd, td, s.m * s.n), a = fragment(p + nd, na, ta, s.m * s.k),
                 b = fragment(p + nd + na, nb, tb, s.k * s.n),
                 c = fragment(p + nd + na + nb, nc, tc, s.m * s.n);
  std::vector<double> ma(static_cast<size_t>(a.size)), mb(static_cast<size_t>(b.size)),
      mc(static_cast<size_t>(c.size));
  const bool sub_byte = a.width < 8;
  u32 undefined = 0;
  const auto load = [&](const Fragment& f, Type t, std::vector<double>& out, bool down) {
    for (int l = 0; l < kLanes; ++l) {
      for (int i = 0; i < f.elements; ++i) {
        const int index = (l * f.elements + i) % f.size;
        const int at = down ? index % s.k * s.n + index / s.k : index;
        out[static_cast<size_t>(at)] = number(t, get(w, f, l, i));
      }
      for (int r = 0; r < f.count; ++r) undefined |= w.undef_of(f.regs[r], l);
    }
  };
  load(a, ta, ma, false);
  load(b, tb, mb, sub_byte);
  load(c, tc, mc, false);
  const Machine& machine = w.cta().launch.machine;
  const bool as_device = machine.mma == MmaSums::kTruncate &&
                         (ta == Type::kF16 || ta == Type::kBf16 || ta == Type::kTf32);
  for (int l = 0; l < kLanes; ++l) {
    for (int i = 0; i < d.elements; ++i) {
      const int index = (l * d.elements + i) % d.size;
      const int row = index / s.n, column = index % s.n;
      if (as_device) {
        const float sum =
            element_as_device(tensor_sum(machine.device.capability(), ta), ta, td == Type::kF16, s,
                              &ma[static_cast<size_t>(row * s.k)], &mb[static_cast<size_t>(column)],
                              mc[static_cast<size_t>(index)]);
        put(w, d, l, i, code(td, sum, in.sat), undefined != 0);
        continue;
      }
      double sum = 0;
      for (int k = 0; k < s.k; ++k) {
        const double x = ma[static_cast<size_t>(row * s.k + k)];
        const double y = mb[static_cast<size_t>(k * s.n + column)];
        if (ta == Type::kB1) {
          const bool bit = in.bool_op == BoolOp::kXor ? x != y : x != 0 && y != 0;
          sum += bit ? 1 : 0;
        } else {
          sum += x * y;
        }
      }
      put(w, d, l, i, code(td, sum + mc[static_cast<size_t>(index)], in.sat), undefined != 0);
    }
  }
}

u32 take_shape(Decoder& dec, Modifiers& mods) {
  for (u32 i = 0; i < std::size(kShapes); ++i)
    if (mods.take(kShapes[i].first)) return i;
  dec.fail("this wmma shape is not supported");
}

void decode_transfer(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in,
                     bool store) {
  in.cls = store ? InstrClass::kStore : InstrClass::kLoad;
  const int what = mods.take_one({"a", "b", "c", "d"});
  in.sub = static_cast<u8>(what == 3 ? 2 : what);
  in.flag = mods.take_one({"row", "col"}) == 1;
  in.target = take_shape(dec, mods);
  in.relu = store;
  switch (mods.take_one({"shared", "shared::cta", "global"})) {
    case 0:
    case 1:
      in.space = ptx::Space::kShared;
      break;
    case 2:
      in.space = ptx::Space::kGlobal;
      break;
    default:
      break;
  }
  in.type = mods.take_type();
  in.access_bytes = static_cast<u8>(std::max(1, bits_of(in.type) / 8));
  const size_t address = store ? 0 : 1, data = store ? 1 : 0;
  dec.address(st.operands.at(address), in);
  const int width = in.type == Type::kF64 ? 8 : 4;
  if (store) {
    dec.pool_sources(st.operands.at(data), width == 8 ? Type::kF64 : Type::kB32, in);
  } else {
    dec.pool_dests(st.operands.at(data), in, width);
  }
  int rows, columns;
  rows_columns(in, rows, columns);
  in.b = st.operands.size() > 2 ? dec.source(st.operands[2], Type::kB32)
                                : dec.literal(static_cast<u64>(in.flag ? rows : columns), 4);
  lower_granule(dec, in);
  in.fn = exec_transfer;
}

void decode_wmma(Decoder& dec, const ptx::Statement& st, Modifiers& mods, Instr& in) {
  in.flow = Flow::kAligned;
  const int kind = mods.take_one({"load", "store", "mma"});
  mods.take("sync");
  mods.take("aligned");
  if (kind < 2) {
    decode_transfer(dec, st, mods, in, kind == 1);
    return;
  }
  in.cls = InstrClass::kMatrix;
  in.bool_op = mods.take("xor") ? BoolOp::kXor : mods.take("and") ? BoolOp::kAnd : BoolOp::kNone;
  mods.take("popc");
  mods.take_one({"row", "col"});
  mods.take_one({"row", "col"});
  in.target = take_shape(dec, mods);
  take_rounding(mods);
  Type types[4] = {};
  int n = 0;
  for (Type t = mods.take_type(); t != Type::kNone && n < 4; t = mods.take_type()) types[n++] = t;
  in.sat = mods.take("satfinite");
  if (n == 2) {  // .dtype.ctype of f16 products
    in.type = in.type2 = Type::kF16;
    types[3] = types[1];
  } else {
    in.type = types[1];
    in.type2 = types[2];
  }
  in.vec = static_cast<u8>(types[0]);
  in.access_bytes = static_cast<u8>(types[3]);
  const Shape& s = kShapes[in.target].second;
  in.flops = static_cast<u32>(2 * s.m * s.n * s.k);
  require_operands(dec, st, 4);
  const bool f64 = in.type == Type::kF64;
  dec.pool_dests(st.operands[0], in, f64 ? 8 : 4);
  in.imm = in.pool_count;
  for (size_t i = 1; i < 4; ++i) {
    const u32 before = in.pool_count;
    dec.pool_sources(st.operands[i], f64 ? Type::kF64 : Type::kB32, in);
    in.imm |= static_cast<i64>(in.pool_count - before) << (8 * i);
  }
  in.fn = exec_wmma;
}

}  // namespace

void register_wmma(OpcodeMap& t) { t["wmma"] = decode_wmma; }

}  // namespace vgpu::ops
