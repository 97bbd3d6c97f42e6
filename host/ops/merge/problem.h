// One merge of parts of an attention problem, made from the C descriptor: checked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "host/core/descriptor.h"
#include "host/core/op.h"
#include "host/core/tensor_check.h"
#include "host/core/view.h"

namespace qkv::host::merge {

struct Problem : AnyProblem {
  int32_t parts = 0;
  int64_t batch = 0, heads = 0, seq = 0, dim = 0;
  std::array<View, QKV_MERGE_MAX_PARTS> o_parts;    // [batch, heads, seq, dim], of one type
  std::array<View, QKV_MERGE_MAX_PARTS> lse_parts;  // [batch, heads, seq, 1] f32
  View o;                                           // as o_parts, of a type of its own
  View lse;                                         // as lse_parts; may be absent

  // No output element exists: nothing to run.
  bool empty() const { return batch == 0 || heads == 0 || seq == 0; }
};

// What releases made of qkv_merge_desc.
extern const DescriptorForm kMergeForm;

// Turns the caller's descriptor into a problem or says what is wrong with it. Reads no tensor data.
Status validate(const qkv_merge_desc* given, const CudaRuntime& cuda, Problem* problem);

}  // namespace qkv::host::merge
