// Tensors as files hold them: an element type, a shape and the bytes in C order (last axis
// fastest).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace qkv::io {

// A file that cannot be read or written. The message names the file, the field, what it holds and
// what is allowed.
class FormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A boolean is one byte; any value but 0 is true, and readers do not normalise it.
enum class DType : std::uint8_t {
  f16,
  bf16,
  f32,
  f64,
  i8,
  i16,
  i32,
  i64,
  u8,
  u16,
  u32,
  u64,
  boolean,
  f8_e4m3,
  f8_e5m2
};

struct DTypeInfo {
  DType type;
  std::string_view name;         // in messages: "f32"
  std::string_view npy;          // kind and size as numpy writes them: "f4"; empty: numpy has none
  std::string_view safetensors;  // "F32"
  std::int64_t size;             // bytes of one element
};

// One row for each DType, in the order of the enumeration.
std::span<const DTypeInfo> dtype_table();
const DTypeInfo& dtype_info(DType type);

template <class T>
inline constexpr std::optional<DType> kDTypeOf = std::nullopt;
template <>
inline constexpr std::optional<DType> kDTypeOf<float> = DType::f32;
template <>
inline constexpr std::optional<DType> kDTypeOf<double> = DType::f64;
template <>
inline constexpr std::optional<DType> kDTypeOf<std::int32_t> = DType::i32;
template <>
inline constexpr std::optional<DType> kDTypeOf<std::int64_t> = DType::i64;
template <>
inline constexpr std::optional<DType> kDTypeOf<std::uint8_t> = DType::u8;

inline constexpr std::size_t kMaxRank = 64;  // numpy's own limit

// Bytes of a C-order tensor; nothing where a dimension is negative or a product exceeds int64.
// A dimension of 0 counts as 1 in the overflow check, so that strides cannot overflow either.
std::optional<std::int64_t> byte_count(std::span<const std::int64_t> shape, DType type);

// "[1, 12, 9, 32]"
std::string shape_text(std::span<const std::int64_t> shape);

// Text from a file, made safe to print: in double quotes, which are escaped inside, unprintable
// bytes as \xNN, cut at 80 bytes.
std::string quoted(std::string_view text);

[[noreturn]] void fail(std::string_view source, std::string_view reason);

// A tensor in memory that someone else owns. The address may be unaligned for the type, since
// safetensors files do not promise alignment.
struct View {
  DType type = DType::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  // The elements, where T is the stored type and the address is aligned for it; else FormatError.
  template <class T>
  std::span<const T> as() const {
    static_assert(kDTypeOf<T>.has_value(), "no element type of a file is this C++ type");
    check_readable_as(*kDTypeOf<T>, alignof(T));
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

 private:
  void check_readable_as(DType wanted, std::size_t alignment) const;
};

// A tensor that owns its bytes; bytes.size() == *byte_count(shape, type).
struct Array {
  DType type = DType::f32;
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;

  View view() const { return {type, shape, bytes}; }
  bool operator==(const Array&) const = default;
};

// Fails unless the shape is valid and the bytes are exactly as many as shape and type need.
void check_complete(const View& view, std::string_view source);

}  // namespace qkv::io
