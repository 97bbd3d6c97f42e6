// DLPack in and out: tensors of NumPy, PyTorch, JAX, CuPy, TVM, ... as qkv tensors and back,
// without a copy. Header-only, over qkv.hpp; needs neither Python nor dlpack.h.
//
//   qkv::dlpack::Borrowed q = qkv::dlpack::from_dlpack(managed_q);      // [batch, heads, seq, dim]
//   qkv::dlpack::Borrowed o = qkv::dlpack::from_dlpack(managed_o, "bhsd",
//   qkv::dlpack::Use::kOutput); qkv::attention({.q = q.tensor(), ..., .o = o.tensor(), .device =
//   q.device(),
//                   .device_index = q.device_index()});
//   // leaving the scope returns the memory: each producer's deleter has been called, once
//
//   auto managed = qkv::dlpack::to_dlpack(tensor, qkv::Device::kCpu, 0, std::move(buffer));
//   give_away(managed.release());  // `buffer` lives until the consumer calls the deleter
//
// Axes are named by letters in the order in which the DLPack tensor has them: b batch, h heads,
// s seq, d dim. "bhsd" is the default, "bshd" what transformers call [batch, seq, heads, dim],
// "bhs" fits LSE and index, "b" key lengths, "h" ALiBi slopes, "hd" the additive weight. Axes that
// are not named have extent 1.
//
// The structs below have the layout that DLPack 1.1 specifies; a program that includes dlpack.h
// passes its own by reinterpret_cast.
#ifndef QKV_DLPACK_HPP_
#define QKV_DLPACK_HPP_

#include "qkv/qkv.hpp"  // says so where C++ is too old for it
#if __cplusplus >= 201703L

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace qkv::dlpack {

inline constexpr uint32_t kMajorVersion = 1;  // another one has another layout
inline constexpr uint32_t kMinorVersion = 1;  // a higher one has more types and devices

/// Bits of ManagedTensorVersioned.flags.
inline constexpr uint64_t kReadOnly = 1;
inline constexpr uint64_t kCopied = 2;  ///< the producer made a copy: nobody else has the memory

/// DataType.code.
enum TypeCode : uint8_t {
  kInt = 0,
  kUInt = 1,
  kFloat = 2,
  kOpaque = 3,
  kBfloat = 4,
  kComplex = 5,
  kBool = 6,
  kFloat8E3M4 = 7,
  kFloat8E4M3 = 8,
  kFloat8E4M3B11Fnuz = 9,
  kFloat8E4M3Fn = 10,
  kFloat8E4M3Fnuz = 11,
  kFloat8E5M2 = 12,
  kFloat8E5M2Fnuz = 13,
  kFloat8E8M0Fnu = 14,
  kFloat6E2M3Fn = 15,
  kFloat6E3M2Fn = 16,
  kFloat4E2M1Fn = 17
};

/// DlDevice.type, as far as qkv computes there.
enum DeviceType : int32_t {
  kDeviceCpu = 1,
  kDeviceCuda = 2,
  kDeviceCudaHost = 3,     ///< pinned host memory
  kDeviceCudaManaged = 13  ///< cudaMallocManaged
};

struct DataType {
  uint8_t code;  ///< TypeCode
  uint8_t bits;
  uint16_t lanes;  ///< 1, but for vector types
};

struct DlDevice {
  int32_t type;  ///< DeviceType
  int32_t id;
};

struct DlTensor {
  void* data;
  DlDevice device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;      ///< in elements; null: compact, the last axis innermost
  uint64_t byte_offset;  ///< from data to the first element
};

/// What producers before DLPack 1.0 hand out; in Python a capsule named "dltensor".
struct ManagedTensor {
  DlTensor tensor;
  void* context;
  void (*deleter)(ManagedTensor* self);
};

struct Version {
  uint32_t major, minor;
};

/// What they hand out today; in Python a capsule named "dltensor_versioned".
struct ManagedTensorVersioned {
  Version version;
  void* context;
  void (*deleter)(ManagedTensorVersioned* self);
  uint64_t flags;
  DlTensor tensor;
};

static_assert(sizeof(void*) != 8 ||
              (sizeof(DataType) == 4 && sizeof(DlTensor) == 48 && sizeof(ManagedTensor) == 64 &&
               sizeof(ManagedTensorVersioned) == 80 && offsetof(DlTensor, dtype) == 20 &&
               offsetof(ManagedTensorVersioned, tensor) == 32));

/// Calls a managed tensor's deleter, if it has one.
struct Delete {
  template <class Managed>
  void operator()(Managed* managed) const {
    if (managed->deleter != nullptr) managed->deleter(managed);
  }
};

/// A managed tensor that this side owns. Managed: ManagedTensorVersioned or ManagedTensor.
template <class Managed = ManagedTensorVersioned>
using Owned = std::unique_ptr<Managed, Delete>;

/// What a borrowed tensor is for.
enum class Use { kInput, kOutput };

/// The name that a user knows a type by: "float32", "bfloat16", "float8_e4m3fn".
inline std::string name_of(DataType type) {
  static constexpr const char* kSmall[] = {
      "float8_e3m4",     "float8_e4m3",   "float8_e4m3b11fnuz", "float8_e4m3fn",
      "float8_e4m3fnuz", "float8_e5m2",   "float8_e5m2fnuz",    "float8_e8m0fnu",
      "float6_e2m3fn",   "float6_e3m2fn", "float4_e2m1fn"};
  static constexpr const char* kPlain[] = {"int", "uint", "float", "opaque", "bfloat", "complex"};
  std::string name;
  if (type.code <= kComplex) {
    name = kPlain[type.code] + std::to_string(type.bits);
  } else if (type.code == kBool) {
    name = "bool";
  } else if (type.code <= kFloat4E2M1Fn) {
    name = kSmall[type.code - kFloat8E3M4];
  } else {
    name = "type code " + std::to_string(type.code) + " of " + std::to_string(type.bits) + " bits";
  }
  return type.lanes == 1 ? name : name + " x " + std::to_string(type.lanes) + " lanes";
}

namespace detail {

[[noreturn]] inline void refuse(qkv_status status, const std::string& reason) {
  throw Error(status, "DLPack tensor: " + reason);
}

inline bool is(DataType type, uint8_t code, uint8_t bits) {
  return type.code == code && type.bits == bits;
}

inline qkv_type type_from(DataType type) {
  if (type.lanes != 1) {
    refuse(QKV_INVALID_TYPE, "dtype is " + name_of(type) + "; one lane is allowed");
  }
  if (is(type, kFloat, 32)) return QKV_TYPE_F32;
  if (is(type, kFloat, 16)) return QKV_TYPE_F16;
  if (is(type, kBfloat, 16)) return QKV_TYPE_BF16;
  if (is(type, kInt, 32)) return QKV_TYPE_I32;
  if (is(type, kInt, 64)) return QKV_TYPE_I64;
  if (is(type, kBool, 8) || is(type, kUInt, 8)) return QKV_TYPE_BOOL;
  if (type.code >= kFloat8E3M4 && type.code <= kFloat4E2M1Fn) {
    refuse(QKV_UNSUPPORTED_RESERVED,
           "dtype is " + name_of(type) + "; qkv does not compute with 8 bits or fewer yet");
  }
  refuse(QKV_INVALID_TYPE, "dtype is " + name_of(type) +
                               "; allowed: float32, float16, bfloat16, int32, int64, bool, uint8");
}

inline DataType type_to(qkv_type type) {
  switch (type) {
    case QKV_TYPE_F32:
      return {kFloat, 32, 1};
    case QKV_TYPE_F16:
      return {kFloat, 16, 1};
    case QKV_TYPE_BF16:
      return {kBfloat, 16, 1};
    case QKV_TYPE_F8_E4M3:
      return {kFloat8E4M3Fn, 8, 1};
    case QKV_TYPE_F8_E5M2:
      return {kFloat8E5M2, 8, 1};
    case QKV_TYPE_I32:
      return {kInt, 32, 1};
    case QKV_TYPE_I64:
      return {kInt, 64, 1};
    case QKV_TYPE_BOOL:
      return {kBool, 8, 1};
    default:
      refuse(QKV_INVALID_TYPE, "qkv type " + std::to_string(type) + " has no DLPack type");
  }
}

/// The place of each named axis in [batch, heads, seq, dim].
inline std::array<int, 4> places_of(std::string_view axes) {
  std::array<int, 4> places{};
  int seen = 0;
  for (size_t n = 0; n < axes.size(); ++n) {
    const size_t place = std::string_view("bhsd").find(axes[n]);
    if (place == std::string_view::npos || (seen >> place & 1) != 0) {
      refuse(QKV_INVALID_VALUE, "axes are \"" + std::string(axes) +
                                    "\"; letters of \"bhsd\" are allowed, each at most once");
    }
    seen |= 1 << place;
    places[n] = static_cast<int>(place);
  }
  return places;
}

/// Refuses a tensor that is not empty and whose bytes, from the lowest to the highest, do not fit
/// into int64.
inline void check_span(const DlTensor& t, const int64_t* strides) {
  int64_t span = t.dtype.bits / 8;
  bool fits = true;
  for (int axis = 0; axis < t.ndim; ++axis) {
    int64_t reach = 0;
    fits = fits && strides[axis] != INT64_MIN &&
           !__builtin_mul_overflow(t.shape[axis] - 1,
                                   strides[axis] < 0 ? -strides[axis] : strides[axis], &reach) &&
           !__builtin_mul_overflow(reach, t.dtype.bits / 8, &reach) &&
           !__builtin_add_overflow(span, reach, &span);
  }
  if (!fits) refuse(QKV_INVALID_SIZE, "shape and strides span more than 2^63 bytes");
}

inline Tensor view(const DlTensor& t, std::string_view axes) {
  const std::array<int, 4> places = places_of(axes);
  Tensor out{};
  out.type = type_from(t.dtype);
  if (t.ndim < 0 || static_cast<size_t>(t.ndim) != axes.size()) {
    refuse(QKV_INVALID_SHAPE, "ndim is " + std::to_string(t.ndim) + "; axes \"" +
                                  std::string(axes) + "\" need " + std::to_string(axes.size()));
  }
  if (t.ndim > 0 && t.shape == nullptr) refuse(QKV_INVALID_NULL, "shape is null");
  for (int axis = 0; axis < t.ndim; ++axis) {
    if (t.shape[axis] < 0) {
      refuse(QKV_INVALID_SIZE, "shape[" + std::to_string(axis) + "] is " +
                                   std::to_string(t.shape[axis]) + "; it must not be negative");
    }
  }
  const bool empty = std::count(t.shape, t.shape + t.ndim, 0) > 0;
  int64_t strides[4] = {};
  int64_t compact = 1;
  for (int axis = t.ndim - 1; axis >= 0; --axis) {
    strides[axis] = t.strides != nullptr ? t.strides[axis] : compact;
    if (t.strides == nullptr && !empty &&
        __builtin_mul_overflow(compact, t.shape[axis], &compact)) {
      refuse(QKV_INVALID_SIZE, "shape has more than 2^63 elements");
    }
  }
  if (!empty) check_span(t, strides);
  for (int axis = 0; axis < 4; ++axis) out.shape[axis] = out.stride[axis] = 1;
  for (int axis = 0; axis < t.ndim; ++axis) {
    out.shape[places[static_cast<size_t>(axis)]] = t.shape[axis];
    out.stride[places[static_cast<size_t>(axis)]] = strides[axis];
  }
  // Without elements the address may be null, with any offset.
  if (t.data != nullptr) {
    uintptr_t address = 0;
    if (__builtin_add_overflow(reinterpret_cast<uintptr_t>(t.data), t.byte_offset, &address)) {
      refuse(QKV_INVALID_SIZE, "byte_offset is " + std::to_string(t.byte_offset) +
                                   "; it leads past the end of the address space");
    }
    out.data = reinterpret_cast<void*>(address);
  }
  return out;
}

inline Device device_from(DlDevice device) {
  switch (device.type) {
    case kDeviceCpu:
    case kDeviceCudaHost:
      return Device::kCpu;
    case kDeviceCuda:
    case kDeviceCudaManaged:
      return Device::kCuda;
    default:
      refuse(QKV_INVALID_DEVICE, "device type is " + std::to_string(device.type) +
                                     "; allowed: 1 (CPU), 2 (CUDA), 3 (CUDA pinned host memory), "
                                     "13 (CUDA managed memory)");
  }
}

}  // namespace detail

class Borrowed;

/// Takes a managed tensor over, always: where this throws, the deleter has been called.
///
/// Refused: null (QKV_INVALID_NULL), another major version (QKV_UNSUPPORTED), types that qkv has
/// not (QKV_INVALID_TYPE) or does not compute with yet (QKV_UNSUPPORTED_RESERVED), devices other
/// than CPU and CUDA (QKV_INVALID_DEVICE), an ndim that is not the number of axes
/// (QKV_INVALID_SHAPE), sizes beyond int64 (QKV_INVALID_SIZE), a read-only tensor as output
/// (QKV_INVALID_VALUE). Strides are judged by the call that uses the tensor.
template <class Managed>
Borrowed from_dlpack(Owned<Managed> managed, std::string_view axes = "bhsd", Use use = Use::kInput);

/// A qkv tensor over memory of another library, which has it back when this is destroyed.
class Borrowed {
 public:
  /// Valid as long as this object.
  const Tensor& tensor() const noexcept { return tensor_; }
  /// Where it lies, for Attention::device; pinned memory as kCpu, managed memory as kCuda.
  Device device() const noexcept { return device_; }
  /// For Attention::device_index.
  int32_t device_index() const noexcept { return device_index_; }
  bool read_only() const noexcept { return (flags_ & kReadOnly) != 0; }
  /// The producer made a copy: what is written to it, nobody else sees.
  bool copied() const noexcept { return (flags_ & kCopied) != 0; }

 private:
  template <class Managed>
  friend Borrowed from_dlpack(Owned<Managed> managed, std::string_view axes, Use use);

  template <class Managed>
  Borrowed(Owned<Managed> managed, std::string_view axes, uint64_t flags)
      : tensor_(detail::view(managed->tensor, axes)),
        device_(detail::device_from(managed->tensor.device)),
        device_index_(device_ == Device::kCuda ? managed->tensor.device.id : 0),
        flags_(flags),
        memory_(managed.release(), [](void* it) { Delete()(static_cast<Managed*>(it)); }) {}

  Tensor tensor_;
  Device device_;
  int32_t device_index_;
  uint64_t flags_;
  std::unique_ptr<void, void (*)(void*)> memory_;
};

template <class Managed>
Borrowed from_dlpack(Owned<Managed> managed, std::string_view axes, Use use) {
  if (managed == nullptr) detail::refuse(QKV_INVALID_NULL, "it is null");
  uint64_t flags = 0;
  if constexpr (std::is_same_v<Managed, ManagedTensorVersioned>) {
    if (managed->version.major != kMajorVersion) {
      detail::refuse(QKV_UNSUPPORTED, "version is " + std::to_string(managed->version.major) + "." +
                                          std::to_string(managed->version.minor) +
                                          "; this library reads 1.x");
    }
    flags = managed->flags;
  }
  if (use == Use::kOutput && (flags & kReadOnly) != 0) {
    detail::refuse(QKV_INVALID_VALUE, "it is read-only; an output must be writable");
  }
  return Borrowed(std::move(managed), axes, flags);
}

/// The same from the plain pointer that a producer hands out.
template <class Managed>
Borrowed from_dlpack(Managed* managed, std::string_view axes = "bhsd", Use use = Use::kInput) {
  return from_dlpack(Owned<Managed>(managed), axes, use);
}

/// Lends a tensor to another library, with its axes in the order of `axes`; those not named must
/// have extent 1. `owner`, any movable object, keeps the memory alive and is destroyed when the
/// consumer calls the deleter: release() the result to hand it over.
///
///   Owned<> managed = to_dlpack(tensor, Device::kCuda, 0, std::move(buffer));
///   auto old = to_dlpack<ManagedTensor>(...);  // for consumers before DLPack 1.0
///
/// `device` is kCpu or kCuda; where this throws, `owner` is gone. `flags`: kReadOnly, kCopied; the
/// old struct cannot say either.
template <class Managed = ManagedTensorVersioned, class Owner>
Owned<Managed> to_dlpack(const Tensor& tensor, Device device, int32_t device_index, Owner owner,
                         std::string_view axes = "bhsd", uint64_t flags = 0) {
  constexpr bool kVersioned = std::is_same_v<Managed, ManagedTensorVersioned>;
  const std::array<int, 4> places = detail::places_of(axes);
  const DataType type = detail::type_to(tensor.type);
  if (device != Device::kCpu && device != Device::kCuda) {
    detail::refuse(QKV_INVALID_DEVICE, "the device must be kCpu or kCuda");
  }
  if (!kVersioned && flags != 0) {
    detail::refuse(QKV_INVALID_VALUE,
                   "flags are " + std::to_string(flags) + "; a tensor without version has none");
  }
  for (int axis = 0; axis < 4; ++axis) {
    if (tensor.shape[axis] != 1 && axes.find("bhsd"[axis]) == std::string_view::npos) {
      detail::refuse(QKV_INVALID_SHAPE, "shape[" + std::to_string(axis) + "] is " +
                                            std::to_string(tensor.shape[axis]) + "; axes \"" +
                                            std::string(axes) + "\" leave it out");
    }
  }
  struct Lent {
    Managed managed{};
    int64_t shape[4]{}, strides[4]{};
    Owner owner;
    explicit Lent(Owner&& o) : owner(std::move(o)) {}
  };
  auto lent = std::make_unique<Lent>(std::move(owner));
  for (size_t n = 0; n < axes.size(); ++n) {
    lent->shape[n] = tensor.shape[places[n]];
    lent->strides[n] = tensor.stride[places[n]];
  }
  const bool empty = std::count(tensor.shape, tensor.shape + 4, 0) > 0;
  lent->managed.tensor = {empty ? nullptr : tensor.data,
                          {device == Device::kCpu ? kDeviceCpu : kDeviceCuda,
                           device == Device::kCpu ? 0 : device_index},
                          static_cast<int32_t>(axes.size()),
                          type,
                          lent->shape,
                          lent->strides,
                          0};
  if constexpr (kVersioned) {
    lent->managed.version = {kMajorVersion, kMinorVersion};
    lent->managed.flags = flags;
  }
  lent->managed.context = lent.get();
  lent->managed.deleter = [](Managed* self) { delete static_cast<Lent*>(self->context); };
  return Owned<Managed>(&lent.release()->managed);
}

}  // namespace qkv::dlpack

#endif  // C++17
#endif  // QKV_DLPACK_HPP_
