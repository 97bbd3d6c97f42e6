#include "host/core/tensor_check.h"

#include <algorithm>

namespace qkv::host {
namespace {

constexpr int64_t kMaxExtent = int64_t{1} << 48;
constexpr const char* kAxis[3] = {"batch", "heads", "seq"};

std::string shape_text(const int64_t* shape) {
  return text("[", shape[0], ", ", shape[1], ", ", shape[2], ", ", shape[3], "]");
}

int64_t element_count(const Shape& shape) {
  for (int64_t extent : shape) {
    if (extent == 0) return 0;
  }
  int64_t count = 1;
  for (int64_t extent : shape) {
    if (__builtin_mul_overflow(count, extent, &count)) return INT64_MAX;
  }
  return count;
}

// Extents against what the problem wants; an extent of 1 stands for a whole axis where broadcasting
// is allowed.
Status check_shape(const Spec& spec, const qkv_tensor& tensor) {
  for (size_t axis = 0; axis < 4; ++axis) {
    const int64_t want = spec.shape[axis];
    const bool broadcasts = (spec.broadcast >> axis & 1) != 0;
    QKV_REQUIRE(tensor.shape[axis] == want || (broadcasts && tensor.shape[axis] == 1),
                QKV_INVALID_SHAPE, spec.name, ".shape[", axis, "] (",
                axis == 3 ? spec.last_axis : kAxis[axis], ") is ", tensor.shape[axis],
                "; it must be ", want, broadcasts ? " or 1" : "");
  }
  return {};
}

bool is_empty(const qkv_tensor& tensor) {
  const int64_t* n = tensor.shape;
  return n[0] == 0 || n[1] == 0 || n[2] == 0 || n[3] == 0;
}

// Strides of axes longer than 1, and the bytes they span. Of a tensor without elements they say
// nothing: NumPy has zeros there.
Status check_strides(const char* name, const qkv_tensor& tensor, Innermost innermost) {
  if (is_empty(tensor)) return {};
  int64_t last = 0;  // element offset of the last element
  for (int axis = 0; axis < 4; ++axis) {
    if (tensor.shape[axis] <= 1) continue;
    const int64_t stride = tensor.stride[axis];
    QKV_REQUIRE(stride >= 0, QKV_INVALID_STRIDE, name, ".stride[", axis, "] is ", stride,
                "; negative strides are not allowed");
    QKV_REQUIRE(axis != 3 || innermost == Innermost::kAny || stride == 1, QKV_INVALID_STRIDE, name,
                ".stride[3] is ", stride, "; the innermost stride must be 1");
    int64_t span = 0;
    QKV_REQUIRE(!__builtin_mul_overflow(tensor.shape[axis] - 1, stride, &span) &&
                    !__builtin_add_overflow(last, span, &last),
                QKV_INVALID_SIZE, name, ".stride[", axis, "] is ", stride, " over ",
                tensor.shape[axis], " elements; the tensor spans more than 2^63 elements");
  }
  int64_t bytes = 0;
  QKV_REQUIRE(!__builtin_add_overflow(last, int64_t{1}, &bytes) &&
                  !__builtin_mul_overflow(bytes, type_size(tensor.type), &bytes),
              QKV_INVALID_SIZE, name, " spans more than 2^63 bytes");
  return {};
}

// Writing two elements to one address would make the result depend on the order of the writes.
Status check_no_overlap(const char* name, const View& view) {
  if (element_count(view.shape) == 0) return {};
  std::array<int, 4> axes{0, 1, 2, 3};
  // The innermost stride must be 1: where another one is 1 too, the refusal names that.
  std::sort(axes.begin(), axes.end(), [&](int a, int b) {
    if (view.stride[a] != view.stride[b]) return view.stride[a] < view.stride[b];
    return a != b && (a == 3 || (b != 3 && a < b));
  });
  int64_t reach = 0;  // offset of the last element over the axes seen so far
  for (int axis : axes) {
    if (view.shape[axis] <= 1) continue;
    QKV_REQUIRE(view.stride[axis] > reach, QKV_INVALID_STRIDE, name, ".stride[", axis, "] is ",
                view.stride[axis], "; elements of an output must not overlap, at least ", reach + 1,
                " is needed");
    reach += (view.shape[axis] - 1) * view.stride[axis];
  }
  return {};
}

Status check_address(const char* name, const qkv_tensor& tensor, const View& view, Need need) {
  if (element_count(view.shape) == 0) return {};
  QKV_REQUIRE(tensor.data != nullptr || need == Need::kShapes, QKV_INVALID_NULL, name,
              ".data is null; it must point to ", type_name(tensor.type), " ",
              shape_text(tensor.shape));
  const auto address = reinterpret_cast<uintptr_t>(tensor.data);
  QKV_REQUIRE(address % static_cast<uintptr_t>(type_size(tensor.type)) == 0, QKV_INVALID_ALIGNMENT,
              name, ".data is not aligned to its element size of ", type_size(tensor.type),
              " bytes");
  return {};
}

std::string device_text(Memory memory, int32_t device) {
  switch (memory) {
    case Memory::kDevice:
      return text("memory of cuda:", device);
    case Memory::kManaged:
      return "managed memory";
    case Memory::kPinned:
      return "pinned host memory";
    default:
      return "host memory";
  }
}

// For the CPU where there is no device: tensors may still lie on one, put there by another CUDA
// runtime in the process that can use what qkv cannot.
Status check_not_on_device(const CudaRuntime& cuda, std::span<const Named> tensors) {
  if (cuda.no_device().empty()) return {};
  for (const auto& [name, view] : tensors) {
    if (view.data == nullptr || element_count(view.shape) == 0) continue;
    PointerInfo info;
    if (!cuda.pointer_info(view.data, &info).ok()) continue;  // the CPU needs no answer
    QKV_REQUIRE(info.memory != Memory::kDevice, QKV_DEVICE_ERROR_NONE, name,
                " is in device memory, but ", no_device_text(cuda));
  }
  return {};
}

// AUTO: all pointers must lie on one device, and none may be usable from both sides.
Status infer_device(const CudaRuntime& cuda, std::span<const Named> tensors, Placement* p) {
  *p = {};
  int32_t count = 0;
  QKV_RETURN_IF_ERROR(cuda.device_count(&count));
  if (count == 0) return check_not_on_device(cuda, tensors);
  const char* first = nullptr;
  for (const auto& [name, view] : tensors) {
    if (view.data == nullptr || element_count(view.shape) == 0) continue;
    PointerInfo info;
    QKV_RETURN_IF_ERROR(cuda.pointer_info(view.data, &info));
    QKV_REQUIRE(info.memory == Memory::kHost || info.memory == Memory::kDevice, QKV_INVALID_DEVICE,
                name, " is in ", device_text(info.memory, info.device),
                ", usable from CPU and GPU alike; set device explicitly instead of auto");
    const qkv_device device = info.memory == Memory::kHost ? QKV_DEVICE_CPU : QKV_DEVICE_CUDA;
    const int32_t index = device == QKV_DEVICE_CPU ? 0 : info.device;
    if (first == nullptr) {
      first = name;
      p->device = device;
      p->index = index;
    }
    QKV_REQUIRE(device == p->device && index == p->index, QKV_INVALID_DEVICE, name, " is in ",
                device_text(info.memory, info.device), ", but ", first, " is in ",
                p->device == QKV_DEVICE_CPU ? std::string("host memory")
                                            : text("memory of cuda:", p->index),
                "; all tensors must be on one device");
  }
  return {};
}

}  // namespace

std::string no_device_text(const CudaRuntime& cuda) {
  const std::string why = cuda.no_device();
  return "this process has no CUDA device" + (why.empty() ? "" : ": " + why);
}

const char* type_name(qkv_type type) {
  switch (type) {
    case QKV_TYPE_NONE:
      return "none";
    case QKV_TYPE_F32:
      return "f32";
    case QKV_TYPE_F16:
      return "f16";
    case QKV_TYPE_BF16:
      return "bf16";
    case QKV_TYPE_F8_E4M3:
      return "f8_e4m3";
    case QKV_TYPE_F8_E5M2:
      return "f8_e5m2";
    case QKV_TYPE_I32:
      return "i32";
    case QKV_TYPE_I64:
      return "i64";
    case QKV_TYPE_BOOL:
      return "bool";
    default:
      return "unknown";
  }
}

namespace {

// "1 (f32), 2 (f16), ..."
std::string known_types() {
  std::string out;
  for (qkv_type type = QKV_TYPE_F32; type <= QKV_TYPE_BOOL; ++type)
    out += text(out.empty() ? "" : ", ", type, " (", type_name(type), ")");
  return out;
}

}  // namespace

// An absent tensor has type NONE and nothing else set.
Status check_presence(const char* name, const qkv_tensor& tensor, bool required) {
  if (tensor.type != QKV_TYPE_NONE) {
    QKV_REQUIRE(tensor.reserved == 0, QKV_INVALID_VALUE, name, ".reserved is ", tensor.reserved,
                "; it must be 0");
    return {};
  }
  QKV_REQUIRE(tensor.data == nullptr, QKV_INVALID_TYPE, name,
              ".type is none although its data pointer is set");
  QKV_REQUIRE(!required, QKV_INVALID_NULL, name, " is absent (type none); it is required");
  return {};
}

Status check_type(const char* name, qkv_type type, const Types& allowed) {
  QKV_REQUIRE(type >= QKV_TYPE_F32 && type <= QKV_TYPE_BOOL, QKV_INVALID_ENUM, name, ".type is ",
              type, "; no such type, known: ", known_types());
  QKV_REQUIRE(allowed.has(type), QKV_INVALID_TYPE, name, ".type is ", type_name(type),
              "; allowed: ", allowed.allowed);
  return {};
}

Status check_extents(const char* name, const qkv_tensor& tensor) {
  for (int axis = 0; axis < 4; ++axis) {
    QKV_REQUIRE(tensor.shape[axis] >= 0, QKV_INVALID_SIZE, name, ".shape[", axis, "] is ",
                tensor.shape[axis], "; it must not be negative");
    QKV_REQUIRE(tensor.shape[axis] <= kMaxExtent, QKV_INVALID_SIZE, name, ".shape[", axis, "] is ",
                tensor.shape[axis], "; at most 2^48 is allowed");
  }
  return {};
}

Status check_tensor(const Spec& spec, const qkv_tensor& tensor, Need need, View* view) {
  QKV_RETURN_IF_ERROR(check_type(spec.name, tensor.type, spec.types));
  QKV_RETURN_IF_ERROR(check_extents(spec.name, tensor));
  QKV_RETURN_IF_ERROR(check_shape(spec, tensor));
  QKV_RETURN_IF_ERROR(check_strides(spec.name, tensor, spec.innermost));
  view->data = tensor.data;
  view->type = tensor.type;
  view->shape = spec.shape;
  const bool empty = is_empty(tensor);
  for (int axis = 0; axis < 4; ++axis) {
    view->stride[axis] = empty || tensor.shape[axis] <= 1 ? 0 : tensor.stride[axis];
  }
  if (spec.use == Use::kOutput) QKV_RETURN_IF_ERROR(check_no_overlap(spec.name, *view));
  return check_address(spec.name, tensor, *view, need);
}

Status check_optional(const Spec& spec, const qkv_tensor& tensor, Need need, View* view) {
  QKV_RETURN_IF_ERROR(check_presence(spec.name, tensor, false));
  return tensor.type == QKV_TYPE_NONE ? Status() : check_tensor(spec, tensor, need, view);
}

Status check_enum(const char* name, int32_t value, int32_t last) {
  QKV_REQUIRE(value >= 0 && value <= last, QKV_INVALID_ENUM, name, " is ", value,
              "; allowed: 0 to ", last);
  return {};
}

Status check_device(qkv_device device, int32_t index, std::span<const Named> tensors,
                    const CudaRuntime& cuda, Placement* p) {
  QKV_RETURN_IF_ERROR(check_enum("device", device, QKV_DEVICE_CUDA));
  if (device == QKV_DEVICE_AUTO) return infer_device(cuda, tensors, p);
  *p = {device, device == QKV_DEVICE_CUDA ? index : 0};
  int32_t count = 0;
  const Status counted = cuda.device_count(&count);
  if (device == QKV_DEVICE_CUDA) {
    QKV_RETURN_IF_ERROR(counted);
    QKV_REQUIRE(count > 0, QKV_DEVICE_ERROR_NONE, "device is cuda, but ", no_device_text(cuda));
    QKV_REQUIRE(index >= 0 && index < count, QKV_DEVICE_ERROR_NONE, "device_index is ", index,
                "; this process has ", count, " CUDA devices");
  }
  return check_placed(tensors, cuda, *p);
}

Status check_placed(std::span<const Named> tensors, const CudaRuntime& cuda, const Placement& p) {
  int32_t count = 0;
  (void)cuda.device_count(&count);  // the CPU needs no answer, and device cuda has had one
  if (count == 0) return check_not_on_device(cuda, tensors);
  for (const auto& [name, view] : tensors) {
    if (view.data == nullptr || element_count(view.shape) == 0) continue;
    PointerInfo info;
    const Status known = cuda.pointer_info(view.data, &info);
    if (p.device == QKV_DEVICE_CPU) {
      if (!known.ok()) return {};  // the CPU needs no CUDA; the caller's word stands
      QKV_REQUIRE(info.memory != Memory::kDevice, QKV_INVALID_DEVICE, name, " is in ",
                  device_text(info.memory, info.device), "; device cpu needs host memory");
    } else {
      QKV_RETURN_IF_ERROR(known);
      QKV_REQUIRE(info.memory != Memory::kHost, QKV_INVALID_DEVICE, name,
                  " is in host memory; device cuda:", p.index, " needs device memory");
      QKV_REQUIRE(info.memory != Memory::kDevice || info.device == p.index, QKV_INVALID_DEVICE,
                  name, " is in ", device_text(info.memory, info.device),
                  "; device is cuda:", p.index);
    }
  }
  return {};
}

}  // namespace qkv::host
