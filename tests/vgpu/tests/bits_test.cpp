// Logic, shifts and selections, PTX ISA 9.0 sections 9.7.1 and 9.7.8, against host arithmetic.
#include <algorithm>

#include "tests/forms.h"

namespace vgpu::test {
namespace {

// One bit at a time, as the ISA's pseudocode does.
u64 bit_field(u64 a, u64 start, u64 length, int width, bool is_signed) {
  start &= 0xff;
  length &= 0xff;
  const u64 msb = static_cast<u64>(width) - 1;
  u64 sign = 0;
  if (is_signed && length != 0) sign = a >> std::min(start + length - 1, msb) & 1;
  u64 d = 0;
  for (u64 i = 0; i <= msb; ++i)
    d |= (i < length && start + i <= msb ? a >> (start + i) & 1 : sign) << i;
  return d;
}
u64 insert_field(u64 a, u64 b, u64 start, u64 length, int width) {
  start &= 0xff;
  length &= 0xff;
  u64 f = b;
  for (u64 i = 0; i < length && start + i < static_cast<u64>(width); ++i) {
    f &= ~(u64{1} << (start + i));
    f |= (a >> i & 1) << (start + i);
  }
  return f;
}
u64 permute_default(const u64* v) {
  u8 pool[8];
  for (int i = 0; i < 8; ++i) pool[i] = static_cast<u8>((i < 4 ? v[0] : v[1]) >> (8 * (i % 4)));
  u64 d = 0;
  for (int i = 0; i < 4; ++i) {
    const u64 c = v[2] >> (4 * i) & 15;
    const u8 byte = pool[c & 7];
    d |= u64{(c & 8) != 0 ? static_cast<u8>((byte & 128) != 0 ? 255 : 0) : byte} << (8 * i);
  }
  return d;
}

const std::vector<Form> kBitForms = {
    {"and.b16", T::b16, {T::b16, T::b16}, [](const u64* v) { return v[0] & v[1]; }},
    {"or.b32", T::b32, {T::b32, T::b32}, [](const u64* v) { return v[0] | v[1]; }},
    {"xor.b64", T::b64, {T::b64, T::b64}, [](const u64* v) { return v[0] ^ v[1]; }},
    {"and.pred", T::pred, {T::pred, T::pred}, [](const u64* v) { return v[0] & v[1]; }},
    {"xor.pred", T::pred, {T::pred, T::pred}, [](const u64* v) { return v[0] ^ v[1]; }},
    {"or.pred", T::pred, {T::pred, T::pred}, [](const u64* v) { return v[0] | v[1]; }},
    {"not.pred", T::pred, {T::pred}, [](const u64* v) { return v[0] ^ 1; }},
    {"not.b32", T::b32, {T::b32}, [](const u64* v) { return ~v[0]; }},
    {"not.b64", T::b64, {T::b64}, [](const u64* v) { return ~v[0]; }},
    {"cnot.b32", T::b32, {T::b32}, [](const u64* v) { return u64{v[0] == 0}; }},
    {"shl.b32",
     T::b32,
     {T::b32, T::u32},
     [](const u64* v) { return v[1] > 31 ? 0 : v[0] << v[1]; }},
    {"shl.b64",
     T::b64,
     {T::b64, T::u32},
     [](const u64* v) { return v[1] > 63 ? 0 : v[0] << v[1]; }},
    {"shl.b16",
     T::b16,
     {T::b16, T::u32},
     [](const u64* v) { return v[1] > 15 ? 0 : v[0] << v[1]; }},
    {"shr.u32",
     T::u32,
     {T::u32, T::u32},
     [](const u64* v) { return v[1] > 31 ? 0 : v[0] >> v[1]; }},
    {"shr.s32",
     T::s32,
     {T::s32, T::u32},
     [](const u64* v) { return wide(i64{s32(v[0])} >> std::min<u64>(v[1], 32)); }},
    {"shr.s64",
     T::s64,
     {T::s64, T::u32},
     [](const u64* v) { return wide(s64(v[0]) >> std::min<u64>(v[1], 63)); }},
    {"shr.s16",
     T::s16,
     {T::s16, T::u32},
     [](const u64* v) { return wide(i64{s16(v[0])} >> std::min<u64>(v[1], 16)); }},
    {"shf.l.wrap.b32",
     T::b32,
     {T::b32, T::b32, T::u32},
     [](const u64* v) { return ((v[1] << 32 | v[0]) << (v[2] & 31)) >> 32; }},
    {"shf.r.wrap.b32",
     T::b32,
     {T::b32, T::b32, T::u32},
     [](const u64* v) { return (v[1] << 32 | v[0]) >> (v[2] & 31); }},
    {"shf.l.clamp.b32",
     T::b32,
     {T::b32, T::b32, T::u32},
     [](const u64* v) { return ((v[1] << 32 | v[0]) << std::min<u64>(v[2], 32)) >> 32; }},
    {"shf.r.clamp.b32",
     T::b32,
     {T::b32, T::b32, T::u32},
     [](const u64* v) { return (v[1] << 32 | v[0]) >> std::min<u64>(v[2], 32); }},
    {"lop3.b32 $0, $1, $2, $3, 0x96;",
     T::b32,
     {T::b32, T::b32, T::b32},
     [](const u64* v) { return v[0] ^ v[1] ^ v[2]; }},
    {"lop3.b32 $0, $1, $2, $3, 0xca;",
     T::b32,
     {T::b32, T::b32, T::b32},
     [](const u64* v) { return (v[0] & v[1]) | (~v[0] & v[2]); }},
    {"bfe.u32",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) { return bit_field(v[0], v[1], v[2], 32, false); }},
    {"bfe.s32",
     T::s32,
     {T::s32, T::u32, T::u32},
     [](const u64* v) { return bit_field(v[0], v[1], v[2], 32, true); }},
    // The ISA allows positions and lengths of 0 to 255; beyond, an H100 has its own ways.
    {"{ .reg .b32 a, b; and.b32 a, $2, 255; and.b32 b, $3, 255; bfe.u64 $0, $1, a, b; }",
     T::u64,
     {T::u64, T::u32, T::u32},
     [](const u64* v) { return bit_field(v[0], v[1], v[2], 64, false); }},
    {"{ .reg .b32 a, b; and.b32 a, $2, 255; and.b32 b, $3, 255; bfe.s64 $0, $1, a, b; }",
     T::s64,
     {T::s64, T::u32, T::u32},
     [](const u64* v) { return bit_field(v[0], v[1], v[2], 64, true); }},
    {"bfi.b32 $0, $1, $2, $3, 5;",
     T::b32,
     {T::b32, T::b32, T::u32},
     [](const u64* v) { return insert_field(v[0], v[1], v[2], 5, 32); }},
    {"{ .reg .b32 b; and.b32 b, $3, 255; bfi.b64 $0, $1, $2, 7, b; }",
     T::b64,
     {T::b64, T::b64, T::u32},
     [](const u64* v) { return insert_field(v[0], v[1], 7, v[2], 64); }},
    {"prmt.b32", T::b32, {T::b32, T::b32, T::b32}, permute_default},
    {"prmt.b32.f4e",
     T::b32,
     {T::b32, T::b32, T::b32},
     [](const u64* v) { return (v[1] << 32 | v[0]) >> (8 * (v[2] & 3)); }},
    {"prmt.b32.rc16",
     T::b32,
     {T::b32, T::b32, T::b32},
     [](const u64* v) { return (v[0] >> (16 * (v[2] & 1)) & 0xffff) * 0x10001; }},
    {"popc.b32", T::u32, {T::b32}, [](const u64* v) { return u64(__builtin_popcountll(v[0])); }},
    {"popc.b64", T::u32, {T::b64}, [](const u64* v) { return u64(__builtin_popcountll(v[0])); }},
    {"clz.b32",
     T::u32,
     {T::b32},
     [](const u64* v) { return v[0] == 0 ? 32 : u64(__builtin_clz(u32_(v[0]))); }},
    {"clz.b64",
     T::u32,
     {T::b64},
     [](const u64* v) { return v[0] == 0 ? 64 : u64(__builtin_clzll(v[0])); }},
    {"brev.b32",
     T::b32,
     {T::b32},
     [](const u64* v) {
       u64 d = 0;
       for (int i = 0; i < 32; ++i) d |= (v[0] >> i & 1) << (31 - i);
       return d;
     }},
    {"bfind.u32",
     T::u32,
     {T::u32},
     [](const u64* v) {
       for (int i = 31; i >= 0; --i)
         if ((v[0] >> i & 1) != 0) return u64(i);
       return u64{0xffffffff};
     }},
    {"bfind.s64",
     T::u32,
     {T::s64},
     [](const u64* v) {
       const u64 x = s64(v[0]) < 0 ? ~v[0] : v[0];
       for (int i = 63; i >= 0; --i)
         if ((x >> i & 1) != 0) return u64(i);
       return u64{0xffffffff};
     }},
    {"bfind.shiftamt.u32",
     T::u32,
     {T::u32},
     [](const u64* v) {
       for (int i = 31; i >= 0; --i)
         if ((v[0] >> i & 1) != 0) return u64(31 - i);
       return u64{0xffffffff};
     }},
    {"bmsk.clamp.b32",
     T::b32,
     {T::b32, T::b32},
     [](const u64* v) {
       u64 d = 0;
       for (u64 i = 0; i < 32; ++i)
         if (i >= v[0] && i - v[0] < v[1]) d |= u64{1} << i;
       return d;
     },
     0,
     0,
     75},
    {"szext.clamp.s32",
     T::s32,
     {T::s32, T::u32},
     [](const u64* v) {
       if (v[1] == 0) return u64{0};
       if (v[1] >= 32) return v[0];
       return wide(i64(v[0] << (64 - v[1])) >> (64 - v[1]));
     },
     0,
     0,
     75},
    {"{ .reg .b16 l, h; mov.b32 {l, h}, $1; mov.b32 $0, {h, l}; }",
     T::b32,
     {T::b32},
     [](const u64* v) { return v[0] >> 16 | v[0] << 16; }},
    {"{ .reg .b32 l, h; mov.b64 {l, h}, $1; mov.b64 $0, {h, l}; }",
     T::b64,
     {T::b64},
     [](const u64* v) { return v[0] >> 32 | v[0] << 32; }},
    {"selp.b32",
     T::b32,
     {T::b32, T::b32, T::pred},
     [](const u64* v) { return v[2] ? v[0] : v[1]; }},
    {"selp.b64",
     T::b64,
     {T::b64, T::b64, T::pred},
     [](const u64* v) { return v[2] ? v[0] : v[1]; }},
    {"slct.u32.s32",
     T::u32,
     {T::u32, T::u32, T::s32},
     [](const u64* v) { return s32(v[2]) >= 0 ? v[0] : v[1]; }},
    {"setp.lt.s32",
     T::pred,
     {T::s32, T::s32},
     [](const u64* v) { return u64{s32(v[0]) < s32(v[1])}; }},
    {"setp.ls.u32", T::pred, {T::u32, T::u32}, [](const u64* v) { return u64{v[0] <= v[1]}; }},
    {"setp.hi.u64", T::pred, {T::u64, T::u64}, [](const u64* v) { return u64{v[0] > v[1]}; }},
    {"setp.ge.s64",
     T::pred,
     {T::s64, T::s64},
     [](const u64* v) { return u64{s64(v[0]) >= s64(v[1])}; }},
    {"setp.ne.b16", T::pred, {T::b16, T::b16}, [](const u64* v) { return u64{v[0] != v[1]}; }},
    {"setp.gt.and.s32",
     T::pred,
     {T::s32, T::s32, T::pred},
     [](const u64* v) { return u64{s32(v[0]) > s32(v[1])} & v[2]; }},
    {"setp.eq.xor.u32 $0, $1, $2, !$3;",
     T::pred,
     {T::u32, T::u32, T::pred},
     [](const u64* v) { return u64{v[0] == v[1]} ^ v[2] ^ 1; }},
    {"{ .reg .pred q; setp.le.s32 q|$0, $1, $2; }",
     T::pred,
     {T::s32, T::s32},
     [](const u64* v) { return u64{s32(v[0]) > s32(v[1])}; }},
    {"set.lt.u32.s32",
     T::u32,
     {T::s32, T::s32},
     [](const u64* v) { return s32(v[0]) < s32(v[1]) ? u64{0xffffffff} : 0; }},
    {"vadd4.u32.u32.u32.sat",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) {
       u64 d = 0;
       for (int i = 0; i < 32; i += 8)
         d |= std::min<u64>(255, (v[0] >> i & 255) + (v[1] >> i & 255)) << i;
       return d;
     }},
    {"vabsdiff4.u32.u32.u32.add",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) {
       u64 d = v[2];
       for (int i = 0; i < 32; i += 8)
         d += static_cast<u64>(std::llabs(i64(v[0] >> i & 255) - i64(v[1] >> i & 255)));
       return d;
     }},
    {"vadd.s32.s32.s32.sat $0, $1, $2;",
     T::s32,
     {T::s32, T::s32},
     [](const u64* v) { return clamp32(i64{s32(v[0])} + s32(v[1])); }},
    {"vmax.s32.s32.s32.add $0, $1, $2, $3;",
     T::s32,
     {T::s32, T::s32, T::s32},
     [](const u64* v) { return raw(std::max(s32(v[0]), s32(v[1]))) + v[2]; }},
};
VGPU_FORMS(Bits, kBitForms);

}  // namespace
}  // namespace vgpu::test
