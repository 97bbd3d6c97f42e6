// Attention as an op: its kernels in order of preference, and how its problems print and compare.
#pragma once

#include <string>

#include "host/core/op.h"
#include "host/ops/attention/problem.h"

namespace qkv::host::attention {

extern const Op kOp;

// Whether the problem's softcap is one that kernels/core/warpgroup_scores.cuh has the short formula
// for: its factor 2 log2(e) scale / softcap must be finite, since a score of 0 is multiplied by it.
bool has_fast_softcap(const Problem& p);

extern const Kernel kCpuForward;   // host memory: all of the contract
extern const Kernel kSm90Forward;  // Hopper: 16-bit types, dot, soft; no attention weights
extern const Kernel kSm80Forward;  // tensor cores of sm_80 and later: 16-bit types, dot, soft
extern const Kernel kSm80Tf32x3;   // tensor cores of sm_80 and sm_90: fp32, dot, soft
extern const Kernel kSm90Hard;     // Hopper: 16-bit types, dot, hard, many queries; no rules
extern const Kernel kSm80Hard;     // sm_80 and later: 16-bit types, dot, hard; no attention weights
extern const Kernel kSm80Tf32x3Hard;  // sm_80 and sm_90: fp32, dot, hard; no attention weights
extern const Kernel kSm80TopK;        // the same: 16-bit types, dot, top-k; no attention weights
extern const Kernel kSimtAdditive;    // plain CUDA cores: additive, soft; no attention weights
extern const Kernel kSm80Additive;    // sm_80 and later: 16-bit types, additive, soft; no weights
extern const Kernel kSm90Wide;        // Hopper: as kSm90Forward, head dims above 256 up to 512
extern const Kernel kSimtForward;     // plain CUDA cores: dot, soft, causal, window, lengths
extern const Kernel kSimtGeneral;     // plain CUDA cores: all of the contract

// The problem in one word: attention_bench --problem WORD runs it. Data, and the lengths' values,
// are the benchmark's own.
std::string repro(const Problem& problem);

}  // namespace qkv::host::attention
