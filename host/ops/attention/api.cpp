// The entry points of attention.
#include "host/core/calls.h"
#include "host/core/entry.h"
#include "host/ops/attention/op.h"

using namespace qkv::host;

namespace {

using AttentionCalls =
    Calls<attention::kOp, attention::Problem, qkv_attention_desc, attention::validate>;

}  // namespace

extern "C" {

qkv_status qkv_attention_desc_init(qkv_attention_desc* desc, size_t struct_size) {
  return guarded([&] { return init_descriptor(attention::kAttentionForm, desc, struct_size); });
}

qkv_status qkv_query(const qkv_attention_desc* desc, qkv_query_result* result) {
  return guarded([&] { return AttentionCalls::query(desc, result); });
}

qkv_status qkv_plan_create(const qkv_attention_desc* desc, qkv_plan** plan) {
  return guarded([&] { return AttentionCalls::plan_create(desc, plan); });
}

qkv_status qkv_plan_run(const qkv_plan* plan, const qkv_attention_desc* desc, void* stream) {
  return guarded([&] { return AttentionCalls::plan_run(plan, desc, stream); });
}

qkv_status qkv_attention(const qkv_attention_desc* desc, void* stream) {
  return guarded([&] { return AttentionCalls::run(desc, stream); });
}

}  // extern "C"
