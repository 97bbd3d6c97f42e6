// A kernel that ends in a device fault: after it every CUDA call of the process fails.
#pragma once

#include <cuda_runtime_api.h>

namespace qkv::test {

void launch_trap(cudaStream_t stream);

}  // namespace qkv::test
