// TMA's descriptors of tensors, which the driver makes on the host, without a device.
#pragma once

#include <cuda.h>

namespace qkv::kernels {

// cuTensorMapReplaceAddress; returns a cudaError_t.
int set_tensor_map_address(CUtensorMap* map, void* data);

}  // namespace qkv::kernels
