// The entry points of layers.
#include "host/core/calls.h"
#include "host/core/entry.h"
#include "host/ops/layer/op.h"

using namespace qkv::host;

namespace {

using LayerCalls = Calls<layer::kOp, layer::Problem, qkv_layer_desc, layer::validate>;

}  // namespace

extern "C" {

qkv_status qkv_layer_desc_init(qkv_layer_desc* desc, size_t struct_size) {
  return guarded([&] { return init_descriptor(layer::kLayerForm, desc, struct_size); });
}

qkv_status qkv_layer_query(const qkv_layer_desc* desc, qkv_query_result* result) {
  return guarded([&] { return LayerCalls::query(desc, result); });
}

qkv_status qkv_layer_plan_create(const qkv_layer_desc* desc, qkv_plan** plan) {
  return guarded([&] { return LayerCalls::plan_create(desc, plan); });
}

qkv_status qkv_layer_plan_run(const qkv_plan* plan, const qkv_layer_desc* desc, void* stream) {
  return guarded([&] { return LayerCalls::plan_run(plan, desc, stream); });
}

qkv_status qkv_layer(const qkv_layer_desc* desc, void* stream) {
  return guarded([&] { return LayerCalls::run(desc, stream); });
}

}  // extern "C"
