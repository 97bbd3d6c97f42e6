#include "host/io/array.h"

#include <algorithm>
#include <array>

namespace qkv::io {
namespace {

constexpr std::array<DTypeInfo, 15> kTypes = {{
    {DType::f16, "f16", "f2", "F16", 2},
    {DType::bf16, "bf16", "", "BF16", 2},
    {DType::f32, "f32", "f4", "F32", 4},
    {DType::f64, "f64", "f8", "F64", 8},
    {DType::i8, "i8", "i1", "I8", 1},
    {DType::i16, "i16", "i2", "I16", 2},
    {DType::i32, "i32", "i4", "I32", 4},
    {DType::i64, "i64", "i8", "I64", 8},
    {DType::u8, "u8", "u1", "U8", 1},
    {DType::u16, "u16", "u2", "U16", 2},
    {DType::u32, "u32", "u4", "U32", 4},
    {DType::u64, "u64", "u8", "U64", 8},
    {DType::boolean, "bool", "b1", "BOOL", 1},
    {DType::f8_e4m3, "f8_e4m3", "", "F8_E4M3", 1},
    {DType::f8_e5m2, "f8_e5m2", "", "F8_E5M2", 1},
}};

constexpr bool rows_follow_the_enumeration() {
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (static_cast<std::size_t>(kTypes[i].type) != i) return false;
  }
  return true;
}
static_assert(rows_follow_the_enumeration());

}  // namespace

std::span<const DTypeInfo> dtype_table() { return kTypes; }

const DTypeInfo& dtype_info(DType type) { return kTypes.at(static_cast<std::size_t>(type)); }

std::optional<std::int64_t> byte_count(std::span<const std::int64_t> shape, DType type) {
  std::int64_t product = dtype_info(type).size;
  bool empty = false;
  for (const std::int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    empty |= dim == 0;
    if (__builtin_mul_overflow(product, std::max<std::int64_t>(dim, 1), &product)) {
      return std::nullopt;
    }
  }
  return empty ? 0 : product;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (const std::int64_t dim : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(dim);
  }
  return text + "]";
}

std::string quoted(std::string_view text) {
  constexpr std::size_t kShown = 80;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    } else {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out + (text.size() > kShown ? "...\"" : "\"");
}

void fail(std::string_view source, std::string_view reason) {
  throw FormatError(std::string(source) + ": " + std::string(reason));
}

void View::check_readable_as(DType wanted, std::size_t alignment) const {
  if (type != wanted) {
    fail("tensor", "its type is " + std::string(dtype_info(type).name) + "; read as " +
                       std::string(dtype_info(wanted).name));
  }
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment != 0) {
    fail("tensor", "its address is not a multiple of " + std::to_string(alignment) +
                       "; copy the bytes first");
  }
}

void check_complete(const View& view, std::string_view source) {
  if (view.shape.size() > kMaxRank) {
    fail(source, "shape has " + std::to_string(view.shape.size()) + " dimensions; at most " +
                     std::to_string(kMaxRank) + " are allowed");
  }
  const std::optional<std::int64_t> bytes = byte_count(view.shape, view.type);
  const std::string what =
      "shape " + shape_text(view.shape) + " of " + std::string(dtype_info(view.type).name);
  if (!bytes) {
    fail(source, what + ": dimensions must be >= 0 and the product must fit 63 bits");
  }
  if (static_cast<std::uint64_t>(*bytes) != view.bytes.size()) {
    fail(source, "payload is " + std::to_string(view.bytes.size()) + " bytes; " + what + " needs " +
                     std::to_string(*bytes));
  }
}

}  // namespace qkv::io
