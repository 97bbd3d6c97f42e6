#include "layer_job.h"

#include "host/ops/attention/problem.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {
namespace {

template <class Visit>
void each_tensor(qkv_layer_desc* layer, qkv_attention_desc* attention, Visit&& visit) {
  for (qkv_tensor* tensor : {&layer->x_q, &layer->x_kv, &layer->w_q, &layer->w_k, &layer->w_v,
                             &layer->bias_q, &layer->bias_k, &layer->bias_v, &layer->w_qkv,
                             &layer->bias_qkv, &layer->w_o, &layer->bias_o, &layer->y})
    visit(tensor);
  for (const auto& row : host::attention::kTensors) visit(&(attention->*row.given));
}

}  // namespace

LayerJob::LayerJob(const qkv_layer_desc& desc, const qkv_attention_desc& attention,
                   const DeviceChoice& where)
    : desc_(desc), attention_(attention) {
  desc_.device = where.device;
  desc_.device_index = where.index;
  desc_.attention = &attention_;
}

std::string LayerJob::check_support() {
  qkv_layer_desc question = desc_;
  qkv_attention_desc middle = attention_;
  if (desc_.device != QKV_DEVICE_CPU) {
    each_tensor(&question, &middle, [](qkv_tensor* tensor) { tensor->data = nullptr; });
    question.attention = &middle;
  }
  qkv_query_result answer{};
  answer.struct_size = sizeof answer;
  check(qkv_layer_query(&question, &answer));
  if (answer.supported == 0) throw Error(QKV_UNSUPPORTED_KERNEL, answer.reasons);
  return answer.kernel;
}

void LayerJob::move(const Move& to_copy) { each_tensor(&desc_, &attention_, to_copy); }

size_t LayerJob::prepare() {
  qkv_plan* made = nullptr;
  check(qkv_layer_plan_create(&desc_, &made));
  plan_ = {made, qkv_plan_destroy};
  size_t bytes = 0;
  check(qkv_plan_workspace_size(made, &bytes));
  return bytes;
}

void LayerJob::run(void* workspace, size_t bytes) {
  desc_.workspace = workspace;
  desc_.workspace_size = bytes;
  check(qkv_layer_plan_run(plan_.get(), &desc_, nullptr));
}

}  // namespace qkv::cli
