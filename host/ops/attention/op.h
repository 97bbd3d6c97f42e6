// The CUDA kernels as the registry lists them: what each declines, and how it is planned, prepared
// and launched.
#pragma once

#include <string>

#include "host/core/plan.h"
#include "host/ops/merge/op.h"

namespace qkv::host {

extern const Kernel kSm90Forward;  // Hopper: 16-bit types, dot, soft; no mask, bias or ALiBi
extern const Kernel kSm80Forward;  // tensor cores of sm_80 and later: 16-bit types, dot, soft
extern const Kernel kSm80Tf32x3;   // tensor cores of sm_80 and sm_90: fp32, dot, soft
extern const Kernel kSimtForward;  // plain CUDA cores: dot, soft, causal, window, lengths
extern const Kernel kSimtGeneral;  // plain CUDA cores: all of the contract

// Why merge cannot run on a CUDA device; empty: it can.
std::string decline_merge(const Merge& merge);
// Queues it; returns a cudaError_t. Only in builds with CUDA.
int launch_merge(const Merge& merge, void* stream);

}  // namespace qkv::host
