// The table that talks to the CUDA runtime; in a build without CUDA, one that has no devices.
#pragma once

#include "host/core/device.h"

namespace qkv::host {

const CudaRuntime& real_cuda_runtime();

// The release of CUDA whose runtime is linked, as "13.0"; null in a build without CUDA.
const char* cuda_release();

}  // namespace qkv::host
