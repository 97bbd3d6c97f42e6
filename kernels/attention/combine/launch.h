// combine: makes O and LSE of the partial results that the splits of a forward kernel left in the
// workspace.
#pragma once

#include <cstdint>

#include "kernels/attention/combine/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/scheduler.h"

namespace qkv::kernels {

// Queues the kernel on `stream` (a cudaStream_t) of the current device, behind the splits. O has
// the type `type`; d_v is a multiple of 4, O aligned to four elements. `early`: it may begin while
// the last splits end and wait for them itself, from compute capability 9.0 on. Allocates and
// synchronises nothing. Returns the launch's cudaError_t; 1 (cudaErrorInvalidValue) for more rows
// or splits than it serves.
int launch_combine(Type type, const ForwardArgs& args, int32_t splits, const Partials& partials,
                   bool early, void* stream);

// Loads the kernel onto the current device. Returns a cudaError_t.
int prepare_combine(Type type);

// Bytes of workspace for the splits of `rows` rows, rounded up to 256; d_v is even.
constexpr int64_t partials_bytes(int64_t splits, int64_t rows, int64_t d_v) {
  return (splits * rows * (d_v * 4 + int64_t{sizeof(SplitLse)}) + 255) / 256 * 256;
}

// Where they are in it.
inline Partials partials_in(void* workspace, int64_t splits, int64_t rows, int64_t d_v) {
  auto* o = static_cast<float*>(workspace);
  return {o, reinterpret_cast<SplitLse*>(o + splits * rows * d_v)};
}

}  // namespace qkv::kernels
