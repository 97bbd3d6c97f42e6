// Integer arithmetic, PTX ISA 9.0 sections 9.7.1 and 9.7.2, against host arithmetic.
#include <algorithm>

#include "tests/forms.h"

namespace vgpu::test {
namespace {

u64 halves(const u64* a, u64 (*f)(u64, u64)) {
  return (f(a[0] & 0xffff, a[1] & 0xffff) & 0xffff) |
         (f(a[0] >> 16 & 0xffff, a[1] >> 16 & 0xffff) & 0xffff) << 16;
}
const std::vector<Form> kIntegerForms = {
    {"add.u16", T::u16, {T::u16, T::u16}, [](const u64* v) { return v[0] + v[1]; }},
    {"add.s32", T::s32, {T::s32, T::s32}, [](const u64* v) { return v[0] + v[1]; }},
    {"add.u64", T::u64, {T::u64, T::u64}, [](const u64* v) { return v[0] + v[1]; }},
    {"add.sat.s32",
     T::s32,
     {T::s32, T::s32},
     [](const u64* v) { return clamp32(i64{s32(v[0])} + s32(v[1])); }},
    {"sub.sat.s32",
     T::s32,
     {T::s32, T::s32},
     [](const u64* v) { return clamp32(i64{s32(v[0])} - s32(v[1])); }},
    {"sub.s16", T::s16, {T::s16, T::s16}, [](const u64* v) { return v[0] - v[1]; }},
    {"sub.u32", T::u32, {T::u32, T::u32}, [](const u64* v) { return v[0] - v[1]; }},
    {"sub.s64", T::s64, {T::s64, T::s64}, [](const u64* v) { return v[0] - v[1]; }},
    {"mul.lo.s32", T::s32, {T::s32, T::s32}, [](const u64* v) { return v[0] * v[1]; }},
    {"mul.lo.u16", T::u16, {T::u16, T::u16}, [](const u64* v) { return v[0] * v[1]; }},
    {"mul.lo.u64", T::u64, {T::u64, T::u64}, [](const u64* v) { return v[0] * v[1]; }},
    {"mul.hi.s32",
     T::s32,
     {T::s32, T::s32},
     [](const u64* v) { return wide((i64{s32(v[0])} * s32(v[1])) >> 32); }},
    {"mul.hi.u32", T::u32, {T::u32, T::u32}, [](const u64* v) { return (v[0] * v[1]) >> 32; }},
    {"mul.hi.u64",
     T::u64,
     {T::u64, T::u64},
     [](const u64* v) { return static_cast<u64>((u128{v[0]} * v[1]) >> 64); }},
    {"mul.hi.s64",
     T::s64,
     {T::s64, T::s64},
     [](const u64* v) { return static_cast<u64>((i128{s64(v[0])} * s64(v[1])) >> 64); }},
    {"mul.wide.s16",
     T::s32,
     {T::s16, T::s16},
     [](const u64* v) { return wide(i32{s16(v[0])} * s16(v[1])); }},
    {"mul.wide.u16", T::u32, {T::u16, T::u16}, [](const u64* v) { return v[0] * v[1]; }},
    {"mul.wide.s32",
     T::s64,
     {T::s32, T::s32},
     [](const u64* v) { return wide(i64{s32(v[0])} * s32(v[1])); }},
    {"mul.wide.u32", T::u64, {T::u32, T::u32}, [](const u64* v) { return v[0] * v[1]; }},
    {"mad.lo.s32",
     T::s32,
     {T::s32, T::s32, T::s32},
     [](const u64* v) { return v[0] * v[1] + v[2]; }},
    {"mad.lo.u16",
     T::u16,
     {T::u16, T::u16, T::u16},
     [](const u64* v) { return v[0] * v[1] + v[2]; }},
    {"mad.hi.u32",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) { return ((v[0] * v[1]) >> 32) + v[2]; }},
    {"mad.hi.sat.s32",
     T::s32,
     {T::s32, T::s32, T::s32},
     [](const u64* v) { return clamp32(((i64{s32(v[0])} * s32(v[1])) >> 32) + s32(v[2])); }},
    {"mad.wide.s32",
     T::s64,
     {T::s32, T::s32, T::s64},
     [](const u64* v) { return wide(i64{s32(v[0])} * s32(v[1])) + v[2]; }},
    {"mad.wide.u16",
     T::u32,
     {T::u16, T::u16, T::u32},
     [](const u64* v) { return v[0] * v[1] + v[2]; }},
    {"mul24.lo.s32",
     T::s32,
     {T::s32, T::s32},
     [](const u64* v) { return wide(i64{s32(v[0] << 8) >> 8} * (s32(v[1] << 8) >> 8)); }},
    {"mul24.hi.u32",
     T::u32,
     {T::u32, T::u32},
     [](const u64* v) { return ((v[0] & 0xffffff) * (v[1] & 0xffffff)) >> 16; }},
    {"mad24.lo.u32",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) { return (v[0] & 0xffffff) * (v[1] & 0xffffff) + v[2]; }},
    {"div.s32 $0, $1, $2;",
     T::s32,
     {T::s32, T::s32},
     [](const u64* v) { return v[1] == 0 ? 0xffffffff : wide(i64{s32(v[0])} / s32(v[1])); }},
    {"div.u32",
     T::u32,
     {T::u32, T::u32},
     [](const u64* v) { return v[1] == 0 ? 0xffffffff : v[0] / v[1]; }},
    {"rem.u32",
     T::u32,
     {T::u32, T::u32},
     [](const u64* v) { return v[1] == 0 ? 0xffffffff : v[0] % v[1]; }},
    {"rem.s64",
     T::s64,
     {T::s64, T::s64},
     [](const u64* v) {
       return v[1] == 0 ? ~u64{0} : static_cast<u64>(i128{s64(v[0])} % i128{s64(v[1])});
     }},
    {"div.s64",
     T::s64,
     {T::s64, T::s64},
     [](const u64* v) {
       return v[1] == 0 ? ~u64{0} : static_cast<u64>(i128{s64(v[0])} / i128{s64(v[1])});
     }},
    {"abs.s32", T::s32, {T::s32}, [](const u64* v) { return wide(std::llabs(s32(v[0]))); }},
    {"neg.s64", T::s64, {T::s64}, [](const u64* v) { return 0 - v[0]; }},
    {"neg.s16", T::s16, {T::s16}, [](const u64* v) { return 0 - v[0]; }},
    {"min.s32",
     T::s32,
     {T::s32, T::s32},
     [](const u64* v) { return raw(std::min(s32(v[0]), s32(v[1]))); }},
    {"max.u32", T::u32, {T::u32, T::u32}, [](const u64* v) { return std::max(v[0], v[1]); }},
    {"min.u64", T::u64, {T::u64, T::u64}, [](const u64* v) { return std::min(v[0], v[1]); }},
    {"max.s64",
     T::s64,
     {T::s64, T::s64},
     [](const u64* v) { return wide(std::max(s64(v[0]), s64(v[1]))); }},
    {"max.s16",
     T::s16,
     {T::s16, T::s16},
     [](const u64* v) { return wide(std::max(s16(v[0]), s16(v[1]))); }},
    {"sad.s32",
     T::s32,
     {T::s32, T::s32, T::s32},
     [](const u64* v) { return wide(std::llabs(i64{s32(v[0])} - s32(v[1])) + s64(v[2])); }},
    {"sad.u32",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) { return (v[0] > v[1] ? v[0] - v[1] : v[1] - v[0]) + v[2]; }},
    {"dp4a.s32.s32",
     T::s32,
     {T::b32, T::b32, T::s32},
     [](const u64* v) {
       i64 sum = s32(v[2]);
       for (int i = 0; i < 32; i += 8)
         sum += i64{static_cast<i8>(v[0] >> i)} * static_cast<i8>(v[1] >> i);
       return wide(sum);
     }},
    {"dp4a.u32.s32",
     T::s32,
     {T::b32, T::b32, T::s32},
     [](const u64* v) {
       i64 sum = s32(v[2]);
       for (int i = 0; i < 32; i += 8)
         sum += i64{static_cast<u8>(v[0] >> i)} * static_cast<i8>(v[1] >> i);
       return wide(sum);
     }},
    {"dp2a.hi.s32.u32",
     T::s32,
     {T::b32, T::b32, T::s32},
     [](const u64* v) {
       i64 sum = s32(v[2]);
       for (int i = 0; i < 2; ++i)
         sum += i64{static_cast<i16>(v[0] >> (16 * i))} * static_cast<u8>(v[1] >> (16 + 8 * i));
       return wide(sum);
     }},
    {"{ .reg .u32 t; add.cc.u32 t, $1, $2; addc.u32 $0, $3, 0; }",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) { return v[2] + (v[0] + v[1] > 0xffffffff ? 1 : 0); }},
    {"{ .reg .u32 t; sub.cc.u32 t, $1, $2; subc.u32 $0, $3, 5; }",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) { return v[2] - 5 - (v[0] < v[1] ? 1 : 0); }},
    {"{ .reg .u32 t; mad.lo.cc.u32 t, $1, $2, $3; madc.hi.u32 $0, $1, $2, 7; }",
     T::u32,
     {T::u32, T::u32, T::u32},
     [](const u64* v) {
       const u64 low = v[0] * v[1] & 0xffffffff;
       return (v[0] * v[1] >> 32) + 7 + (low + v[2] > 0xffffffff ? 1 : 0);
     }},
    {"add.u16x2",
     T::b32,
     {T::b32, T::b32},
     [](const u64* v) { return halves(v, [](u64 a, u64 b) { return a + b; }); },
     0,
     0,
     90},
    {"min.s16x2",
     T::b32,
     {T::b32, T::b32},
     [](const u64* v) {
       return halves(v, [](u64 a, u64 b) { return wide(std::min(s16(a), s16(b))); });
     },
     0,
     0,
     90},
};
VGPU_FORMS(Integer, kIntegerForms);

}  // namespace
}  // namespace vgpu::test
