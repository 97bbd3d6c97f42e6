// What the CUDA kernels of every op are told alike: tensors and element types.
#pragma once

#include "host/core/view.h"
#include "kernels/core/forward_args.h"

namespace qkv::host {

static_assert(static_cast<int>(kernels::Type::kF32) == QKV_TYPE_F32);
static_assert(static_cast<int>(kernels::Type::kF16) == QKV_TYPE_F16);
static_assert(static_cast<int>(kernels::Type::kBF16) == QKV_TYPE_BF16);

// For the types above; others have no kernels.
inline kernels::Type kernel_type(qkv_type type) { return static_cast<kernels::Type>(type); }

inline kernels::Tensor kernel_tensor(const View& view) {
  return {view.data, view.stride[0], view.stride[1], view.stride[2]};
}

}  // namespace qkv::host
