#pragma once
#include "kernels/attention/simt_general/policy.h"
namespace qkv::kernels {
inline constexpr int32_t kMaxTopK = kSimtGeneralMaxTopK;
}
