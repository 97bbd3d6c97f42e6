// The table that talks to the CUDA runtime; in a build without CUDA, one that has no devices.
#pragma once

#include "host/core/device.h"

namespace qkv::host {

const CudaRuntime& real_cuda_runtime();

}  // namespace qkv::host
