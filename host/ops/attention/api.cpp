// The entry points of attention.
#include <memory>

#include "host/core/entry.h"
#include "host/core/plan_cache.h"
#include "host/core/run.h"
#include "host/ops/attention/op.h"

namespace qkv::host::attention {
namespace {

// Of each release that changed the struct.
constexpr size_t kQueryResultSizes[] = {sizeof(qkv_query_result)};

Status query(const qkv_attention_desc* desc, qkv_query_result* result) {
  QKV_REQUIRE(result != nullptr, QKV_INVALID_NULL, "the result is null");
  QKV_RETURN_IF_ERROR(check_result_size("result", kQueryResultSizes, result->struct_size));
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  Status status = validate(desc, Need::kShapes, cuda, &problem);
  if (!status.ok() && qkv_status_class(status.code()) == QKV_INVALID_ARGUMENT) return status;

  qkv_query_result answer{};
  Plan made;
  SharedPlan known;
  const DeviceInfo* device = nullptr;
  if (status.ok()) status = find_device(problem, cuda, &device);
  if (status.ok()) known = known_plan(kOp, problem, *device);
  if (status.ok() && known == nullptr) status = make_plan(kOp, problem, *device, &made);
  const Plan& plan = known != nullptr ? known->plan : made;
  if (status.ok()) {
    answer.supported = 1;
    answer.workspace_size = plan.workspace_bytes();
    copy_text(plan.kernel->name, answer.kernel, sizeof answer.kernel);
  }
  copy_text(status.ok() ? plan.declined : status.reason(), answer.reasons, sizeof answer.reasons);
  write_result(answer, result);
  return {};
}

Status create_plan(const qkv_attention_desc* desc, qkv_plan** plan) {
  QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the place for the plan is null");
  *plan = nullptr;
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  QKV_RETURN_IF_ERROR(validate(desc, Need::kShapes, cuda, &problem));
  const DeviceInfo* device = nullptr;
  QKV_RETURN_IF_ERROR(find_device(problem, cuda, &device));
  std::unique_ptr<qkv_plan> made;
  QKV_RETURN_IF_ERROR(
      new_plan(kOp, problem, plan_key(kOp, problem, *device), *device, cuda, &made));
  made->problem = std::make_shared<Problem>(problem);
  *plan = made.release();
  return {};
}

Status run_made_plan(const qkv_plan* plan, const qkv_attention_desc* desc, void* stream) {
  QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the plan is null");
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  QKV_RETURN_IF_ERROR(validate(desc, Need::kAddresses, cuda, &problem));
  const PlanKey call = plan_key(kOp, problem, plan->device);
  QKV_REQUIRE(plan->key.serves(call), QKV_INVALID_PLAN,
              plan->key.same_problem(call)
                  ? "a tensor's address is less aligned than the plan was made for"
                  : "the descriptor's shapes, strides, types, options or device differ from the "
                    "plan's; make a plan for it");
  return run_plan(kOp, plan->plan, problem, cuda, stream);
}

Status run_problem(const qkv_attention_desc* desc, void* stream) {
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  QKV_RETURN_IF_ERROR(validate(desc, Need::kAddresses, cuda, &problem));
  return run(kOp, problem, cuda, stream);
}

}  // namespace
}  // namespace qkv::host::attention

using namespace qkv::host;

extern "C" {

qkv_status qkv_attention_desc_init(qkv_attention_desc* desc, size_t struct_size) {
  return guarded([&] { return init_descriptor(attention::kAttentionForm, desc, struct_size); });
}

qkv_status qkv_query(const qkv_attention_desc* desc, qkv_query_result* result) {
  return guarded([&] { return attention::query(desc, result); });
}

qkv_status qkv_plan_create(const qkv_attention_desc* desc, qkv_plan** plan) {
  return guarded([&] { return attention::create_plan(desc, plan); });
}

qkv_status qkv_plan_run(const qkv_plan* plan, const qkv_attention_desc* desc, void* stream) {
  return guarded([&] { return attention::run_made_plan(plan, desc, stream); });
}

qkv_status qkv_attention(const qkv_attention_desc* desc, void* stream) {
  return guarded([&] { return attention::run_problem(desc, stream); });
}

}  // extern "C"
