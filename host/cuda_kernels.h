// The CUDA kernels as the registry lists them: what each declines, and how it is planned, prepared
// and launched.
#pragma once

#include "host/plan.h"

namespace qkv::host {

extern const Kernel kSimtForward;  // plain CUDA cores: dot, soft, causal, window, lengths
extern const Kernel kSimtGeneral;  // plain CUDA cores: all of the contract

}  // namespace qkv::host
