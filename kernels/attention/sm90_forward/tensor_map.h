// TMA's maps of tensors, made by the driver without touching a device.
#pragma once

#include <cuda.h>

namespace qkv::kernels {

// cuTensorMapReplaceAddress; returns a cudaError_t.
int set_tensor_map_address(CUtensorMap* map, void* data);

}  // namespace qkv::kernels
