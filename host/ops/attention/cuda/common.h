// What the files of this folder, one for each kernel, share.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "host/core/op.h"
#include "host/ops/attention/problem.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/top_k_args.h"

namespace qkv::host::attention {

// The plan of a kernel that works in tiles of queries by keys.
struct TilePlan : KernelPlan {
  int32_t tile_q = 0, tile_kv = 0;
  int32_t threads = 0;     // of a block
  int64_t blocks = 0;      // of the grid
  int32_t smem_bytes = 0;  // of a block

  std::string text() const override;
};

// A set of tensors, one bit each.
constexpr uint32_t tensor_set(std::initializer_list<TensorId> ids) {
  uint32_t set = 0;
  for (const TensorId id : ids) set |= 1u << id;
  return set;
}

// What a kernel computes beside plain soft attention. What is not listed here, also what later
// versions add, it declines.
struct Takes {
  bool additive = false, hard = false, top_k = false, softcap = false;
  uint32_t tensors = 0;  // the optional ones
};

std::string decline_options(const Problem& p, const Takes& takes);

// What no grid takes; `per_tile` blocks serve a tile of query rows.
std::string decline_grid(const Problem& p, int32_t tile_q, int64_t per_tile);

// The same, devices older than sm_75, and what a kernel with splits is to compute.
std::string decline_simt(const Problem& p, const DeviceInfo& device, int32_t tile_q,
                         int64_t per_tile);

// Dims that are no multiples of `multiple`, or above `most`.
std::string decline_dims(const Problem& p, int64_t multiple, int64_t most);

// The same of kernels that copy whole rows of V: `most` is of d_qk alone.
std::string decline_selected_dims(const Problem& p, int64_t multiple, int64_t most);

// Why 16 bytes at a time cannot be moved between the tensor and shared memory; empty: they can.
std::string decline_alignment(const char* name, const View& view);
// Of q, k, v and o.
std::string decline_alignment(const Problem& p);

// Why TMA cannot describe q, k, v and o; empty: it can.
std::string decline_maps(const Problem& p);

// Whether scores are changed one by one: softcap, mask, bias or ALiBi.
bool has_rules(const Problem& p);

// The wider one of d_qk and d_v.
int32_t widest(const Problem& p);

void plan_grid(const Problem& p, int32_t tile_q, int32_t tile_kv, int64_t per_tile, TilePlan* plan);

kernels::Type kernel_type(const Problem& p);
kernels::ForwardArgs forward_args(const Problem& p);
kernels::TopKArgs top_k_args(const Problem& p);

}  // namespace qkv::host::attention
