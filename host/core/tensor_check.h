// Tensors as callers pass them, checked one by one and together; the refusals name tensor, field,
// what it holds and what is allowed. Allocates nothing unless it refuses.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "host/core/device.h"
#include "host/core/status.h"
#include "host/core/view.h"

namespace qkv::host {

using Shape = std::array<int64_t, 4>;

// The types a tensor may have, as text for the refusal and as a set for the check.
struct Types {
  const char* allowed;
  std::array<qkv_type, 2> types;

  bool has(qkv_type type) const { return type == types[0] || type == types[1]; }
};

// kAddresses: the data pointers must be usable. kShapes: null pointers are allowed and count as
// aligned.
enum class Need { kAddresses, kShapes };
enum class Use { kInput, kOutput };
enum class Innermost { kOne, kAny };  // the innermost stride

struct Spec {
  const char* name;
  Shape shape;
  Types types;
  Use use;
  Innermost innermost;
  int broadcast;                  // bit of an axis: an extent of 1 serves the whole axis
  const char* last_axis = "dim";  // what axis 3 is called
};

// An absent tensor has type NONE and nothing else set.
Status check_presence(const char* name, const qkv_tensor& tensor, bool required);
Status check_type(const char* name, qkv_type type, const Types& allowed);
Status check_extents(const char* name, const qkv_tensor& tensor);
// A tensor that is there, against the whole of its spec.
Status check_tensor(const Spec& spec, const qkv_tensor& tensor, Need need, View* view);
Status check_optional(const Spec& spec, const qkv_tensor& tensor, Need need, View* view);

Status check_enum(const char* name, int32_t value, int32_t last);

struct Named {
  const char* name;
  const View& view;
};

// What computes: a device that all tensors lie on.
struct Placement {
  qkv_device device = QKV_DEVICE_CPU;  // never AUTO
  int32_t index = 0;
};

Status check_device(qkv_device device, int32_t index, std::span<const Named> tensors,
                    const CudaRuntime& cuda, Placement* placement);

// Whether the placement's device can use the memory, as far as CUDA knows.
Status check_placed(std::span<const Named> tensors, const CudaRuntime& cuda,
                    const Placement& placement);

// "this process has no CUDA device", and why.
std::string no_device_text(const CudaRuntime& cuda);

}  // namespace qkv::host
