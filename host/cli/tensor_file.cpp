#include "tensor_file.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "errors.h"
#include "host/core/numeric.h"
#include "host/io/npy.h"
#include "host/io/safetensors.h"

namespace qkv::cli {
namespace {

using io::DType;

constexpr std::string_view kNpy = ".npy";
constexpr std::string_view kSafetensors = ".safetensors";

io::Array read_safetensors(const std::string& path, const std::string& name) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  if (name.empty()) {
    std::string names;
    for (size_t i = 0; i < file.size() && i < 20; ++i) {
      names += (i == 0 ? "" : ", ") + io::quoted(file.name(i));
    }
    throw BadInput(fmt::format("{} names no tensor; write {}:NAME, NAME is one of {}{}", path, path,
                               names, file.size() > 20 ? ", ..." : ""));
  }
  const io::View view = file.tensor(name);
  return {view.type, view.shape, {view.bytes.begin(), view.bytes.end()}};
}

io::Array read_file(const std::string& argument) {
  if (argument.ends_with(kNpy)) return io::load_npy(argument);
  if (argument.ends_with(kSafetensors)) return read_safetensors(argument, "");
  const size_t colon = argument.rfind(std::string(kSafetensors) + ":");
  if (colon != std::string::npos) {
    const size_t end = colon + kSafetensors.size();
    return read_safetensors(argument.substr(0, end), argument.substr(end + 1));
  }
  throw BadInput(
      fmt::format("is {}; allowed: FILE.npy or FILE.safetensors:NAME", io::quoted(argument)));
}

template <class T>
T load(const io::View& view, int64_t index) {
  T value;
  std::memcpy(&value, view.bytes.data() + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

template <class T>
void store(io::Array* array, int64_t index, T value) {
  std::memcpy(array->bytes.data() + static_cast<size_t>(index) * sizeof(T), &value, sizeof(T));
}

int64_t count(const io::View& view) {
  return static_cast<int64_t>(view.bytes.size()) / io::dtype_info(view.type).size;
}

io::Array empty_like(const io::Array& array, DType type) {
  const size_t size = static_cast<size_t>(count(array.view()) * io::dtype_info(type).size);
  return {type, array.shape, std::vector<std::byte>(size)};
}

[[noreturn]] void refuse_type(const std::string& option, DType type, std::string_view allowed) {
  throw BadInput(
      fmt::format("{} holds {}; allowed: {}", option, io::dtype_info(type).name, allowed));
}

}  // namespace

io::Array read_tensor(const std::string& option, const std::string& argument) {
  try {
    return read_file(argument);
  } catch (const BadInput& error) {
    throw BadInput(option + " " + error.what());
  } catch (const io::FormatError& error) {
    throw BadInput(option + ": " + error.what());
  }
}

qkv_type qkv_type_of(DType type) {
  switch (type) {
    case DType::f32:
      return QKV_TYPE_F32;
    case DType::f16:
      return QKV_TYPE_F16;
    case DType::bf16:
      return QKV_TYPE_BF16;
    case DType::i32:
      return QKV_TYPE_I32;
    case DType::i64:
      return QKV_TYPE_I64;
    case DType::boolean:
      return QKV_TYPE_BOOL;
    default:
      return QKV_TYPE_NONE;
  }
}

DType dtype_of(qkv_type type) {
  switch (type) {
    case QKV_TYPE_F16:
      return DType::f16;
    case QKV_TYPE_BF16:
      return DType::bf16;
    case QKV_TYPE_I32:
      return DType::i32;
    case QKV_TYPE_I64:
      return DType::i64;
    case QKV_TYPE_BOOL:
      return DType::boolean;
    default:
      return DType::f32;
  }
}

double element(const io::View& view, int64_t index) {
  switch (view.type) {
    case DType::f64:
      return load<double>(view, index);
    case DType::f32:
      return load<float>(view, index);
    case DType::f16:
      return host::to_float(load<host::Half>(view, index));
    case DType::bf16:
      return host::to_float(load<host::Bfloat>(view, index));
    case DType::i8:
      return load<int8_t>(view, index);
    case DType::i16:
      return load<int16_t>(view, index);
    case DType::i32:
      return load<int32_t>(view, index);
    case DType::i64:
      return static_cast<double>(load<int64_t>(view, index));
    case DType::u16:
      return load<uint16_t>(view, index);
    case DType::u32:
      return load<uint32_t>(view, index);
    case DType::u64:
      return static_cast<double>(load<uint64_t>(view, index));
    case DType::u8:
    case DType::boolean:
      return load<uint8_t>(view, index);
    default:
      return std::numeric_limits<double>::quiet_NaN();
  }
}

io::Array as_float(const std::string& option, io::Array array, qkv_type type) {
  const DType from = array.type, to = dtype_of(type);
  if (from == to) return array;
  if (from != DType::f64 && from != DType::f32 && from != DType::f16 && from != DType::bf16) {
    refuse_type(option, from, "f32, f16, bf16 and f64 (which is converted)");
  }
  io::Array out = empty_like(array, to);
  const io::View view = array.view();
  for (int64_t i = 0; i < count(view); ++i) {
    const auto x = static_cast<float>(element(view, i));
    if (to == DType::f16) {
      store(&out, i, host::from_float<host::Half>(x));
    } else if (to == DType::bf16) {
      store(&out, i, host::from_float<host::Bfloat>(x));
    } else {
      store(&out, i, x);
    }
  }
  return out;
}

io::Array as_int32(const std::string& option, const io::Array& array) {
  switch (array.type) {
    case DType::f16:
    case DType::bf16:
    case DType::f32:
    case DType::f64:
    case DType::boolean:
    case DType::f8_e4m3:
    case DType::f8_e5m2:
      refuse_type(option, array.type, "i32 and the other integer types");
    default:
      break;
  }
  io::Array out = empty_like(array, DType::i32);
  const io::View view = array.view();
  for (int64_t i = 0; i < count(view); ++i) {
    const double x = element(view, i);
    if (x < std::numeric_limits<int32_t>::min() || x > std::numeric_limits<int32_t>::max()) {
      throw BadInput(fmt::format("{}[{}] is {:.0f}; it must fit 32 bits", option, i, x));
    }
    store(&out, i, static_cast<int32_t>(x));
  }
  return out;
}

io::Array as_bool(const std::string& option, io::Array array) {
  if (array.type != DType::boolean && array.type != DType::u8 && array.type != DType::i8) {
    refuse_type(option, array.type, "bool, u8, i8 (true: the key is visible)");
  }
  array.type = DType::boolean;
  return array;
}

}  // namespace qkv::cli
