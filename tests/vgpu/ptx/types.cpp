#include <array>

#include "ptx/ast.h"

namespace vgpu::ptx {
namespace {

struct TypeRow {
  std::string_view name;
  Type type;
  u8 bytes;
  bool is_float, is_signed;
};

constexpr std::array kTypes = {
    TypeRow{"pred", Type::kPred, 0, false, false},
    TypeRow{"b8", Type::kB8, 1, false, false},
    TypeRow{"b16", Type::kB16, 2, false, false},
    TypeRow{"b32", Type::kB32, 4, false, false},
    TypeRow{"b64", Type::kB64, 8, false, false},
    TypeRow{"b128", Type::kB128, 16, false, false},
    TypeRow{"u8", Type::kU8, 1, false, false},
    TypeRow{"u16", Type::kU16, 2, false, false},
    TypeRow{"u32", Type::kU32, 4, false, false},
    TypeRow{"u64", Type::kU64, 8, false, false},
    TypeRow{"s8", Type::kS8, 1, false, true},
    TypeRow{"s16", Type::kS16, 2, false, true},
    TypeRow{"s32", Type::kS32, 4, false, true},
    TypeRow{"s64", Type::kS64, 8, false, true},
    TypeRow{"f16", Type::kF16, 2, true, true},
    TypeRow{"f16x2", Type::kF16x2, 4, true, true},
    TypeRow{"bf16", Type::kBf16, 2, true, true},
    TypeRow{"bf16x2", Type::kBf16x2, 4, true, true},
    TypeRow{"tf32", Type::kTf32, 4, true, true},
    TypeRow{"f32", Type::kF32, 4, true, true},
    TypeRow{"f64", Type::kF64, 8, true, true},
    TypeRow{"f32x2", Type::kF32x2, 8, true, true},
    TypeRow{"u16x2", Type::kU16x2, 4, false, false},
    TypeRow{"s16x2", Type::kS16x2, 4, false, true},
    TypeRow{"e4m3", Type::kE4m3, 1, true, true},
    TypeRow{"e5m2", Type::kE5m2, 1, true, true},
    TypeRow{"e4m3x2", Type::kE4m3x2, 2, true, true},
    TypeRow{"e5m2x2", Type::kE5m2x2, 2, true, true},
    TypeRow{"e4m3x4", Type::kE4m3x4, 4, true, true},
    TypeRow{"e5m2x4", Type::kE5m2x4, 4, true, true},
    TypeRow{"e2m3x2", Type::kE2m3x2, 2, true, true},
    TypeRow{"e3m2x2", Type::kE3m2x2, 2, true, true},
    TypeRow{"e2m1x2", Type::kE2m1x2, 1, true, true},
    TypeRow{"ue8m0x2", Type::kUe8m0x2, 2, true, false},
    TypeRow{"u4", Type::kU4, 4, false, false},
    TypeRow{"s4", Type::kS4, 4, false, true},
    TypeRow{"b1", Type::kB1, 4, false, false},
};

const TypeRow* row(Type type) {
  for (const TypeRow& r : kTypes)
    if (r.type == type) return &r;
  return nullptr;
}

}  // namespace

Type type_from_name(std::string_view name) {
  for (const TypeRow& r : kTypes)
    if (r.name == name) return r.type;
  return Type::kNone;
}
std::string_view type_name(Type type) { return row(type) != nullptr ? row(type)->name : "none"; }
int type_bytes(Type type) { return row(type) != nullptr ? row(type)->bytes : 0; }
bool type_is_float(Type type) { return row(type) != nullptr && row(type)->is_float; }
bool type_is_signed(Type type) { return row(type) != nullptr && row(type)->is_signed; }

const Function* Module::find_function(const std::string& name) const {
  const auto alias = aliases.find(name);
  const auto it = function_index.find(alias == aliases.end() ? name : alias->second);
  return it == function_index.end() ? nullptr : &functions[it->second];
}

u32 Module::function_number(const std::string& name) const {
  const Function* f = find_function(name);
  return f == nullptr ? 0 : static_cast<u32>(f - functions.data()) + 1;
}

}  // namespace vgpu::ptx
