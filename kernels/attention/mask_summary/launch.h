// mask_summary: which blocks of keys a boolean mask leaves to each tile of a forward kernel.
#pragma once

#include <cstdint>

#include "kernels/attention/mask_summary/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask_summary.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

// Queues the kernel on `stream` (a cudaStream_t) of the current device; `summary` is
// mask_summary_of(args, schedule) with its memory. It also sets *counter to 0, unless that is null.
// Allocates and synchronises nothing. Returns the launch's cudaError_t; 1 (cudaErrorInvalidValue)
// for more bytes than a grid has warps, for none, and for longer blocks than kMaskSummaryTileKv.
int launch_mask_summary(const ForwardArgs& args, const TileSchedule& schedule,
                        const MaskSummary& summary, int32_t* counter, void* stream);

// Loads the kernel onto the current device. Returns a cudaError_t.
int prepare_mask_summary();

}  // namespace qkv::kernels
