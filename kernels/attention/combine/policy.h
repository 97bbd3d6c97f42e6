// combine's sizes, for the host's plan and the kernel.
#pragma once

#include <cstdint>

namespace qkv::kernels {

inline constexpr int32_t kCombineThreads = 128;
inline constexpr int32_t kMaxSplits = 1024;  // their LSE must fit the kernel's shared memory

}  // namespace qkv::kernels
