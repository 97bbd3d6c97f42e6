// Merging parts of one attention problem: the checked form of qkv_merge_desc, and what computes it.
#pragma once

#include <array>
#include <cstdint>

#include "host/core/device.h"
#include "host/core/status.h"
#include "host/core/view.h"

namespace qkv::host {

struct Merge {
  qkv_device device = QKV_DEVICE_CPU;  // never AUTO
  int32_t device_index = 0;

  int32_t parts = 0;
  int64_t batch = 0, heads = 0, seq = 0, dim = 0;
  std::array<View, QKV_MERGE_MAX_PARTS> o_parts;    // of one type
  std::array<View, QKV_MERGE_MAX_PARTS> lse_parts;  // f32
  View o;
  View lse;  // f32; may be absent
};

Status run_merge(const qkv_merge_desc* desc, const CudaRuntime& cuda, void* stream);

}  // namespace qkv::host
