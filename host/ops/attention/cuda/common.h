// What the files of this folder, one for each kernel, share.
#pragma once

#include <cstdint>
#include <string>

#include "host/core/plan.h"
#include "host/ops/attention/wave_model.h"
#include "kernels/core/forward_args.h"

namespace qkv::host {

// What no grid takes; `per_tile` blocks serve a tile of query rows.
std::string decline_grid(const Problem& p, int32_t tile_q, int64_t per_tile);

// The same, and devices older than sm_75.
std::string decline_simt(const Problem& p, const DeviceInfo& device, int32_t tile_q,
                         int64_t per_tile);

// Why 16 bytes at a time cannot be moved between the tensor and shared memory; empty: they can.
std::string decline_alignment(const char* name, const View& view);

// Splits of the size that the problem asks for; 1 if it asks for none.
int64_t fixed_splits(const Problem& p, int32_t tile_kv);

// What is wrong with that number of splits, whose partial rows combine has to take.
std::string decline_splits(const Problem& p, int32_t tile_kv);

// Cuts the keys as the problem asks for, else as the wave model likes it best.
Prediction choose_splits(const Problem& p, const DeviceInfo& device, const Candidate& candidate,
                         kernels::TileSchedule* schedule);

// Sets of rows whose K and V together fill at most half of the L2 cache.
int32_t sets_of_section(const Problem& p, const DeviceInfo& device,
                        const kernels::TileSchedule& schedule);

void plan_grid(const Problem& p, int32_t tile_q, int32_t tile_kv, int64_t per_tile, Plan* plan);

kernels::Tensor kernel_tensor(const View& view);
kernels::Type kernel_type(const Problem& p);
kernels::ForwardArgs forward_args(const Problem& p);

// For builds without CUDA, which still plan for any device: that is how plans are tested
// everywhere.
Status prepare_absent(const Problem& p, const CudaRuntime& cuda, Plan* plan);
int launch_absent(const Problem& p, const Plan& plan, void* workspace, void* stream,
                  Status* status);

}  // namespace qkv::host
