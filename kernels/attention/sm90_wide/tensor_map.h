// TMA's descriptors of the tensors.
#pragma once

#include <cuda.h>

namespace qkv::kernels {

// Sets the address of a descriptor. Returns a cudaError_t.
int set_sm90_wide_map_address(CUtensorMap* map, void* data);

}  // namespace qkv::kernels
