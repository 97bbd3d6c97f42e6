#include "host/core/calls.h"

#include "host/core/descriptor.h"
#include "host/core/entry.h"
#include "host/core/plan_cache.h"

namespace qkv::host {
namespace {

// Of each release that changed the struct.
constexpr size_t kQueryResultSizes[] = {sizeof(qkv_query_result)};

}  // namespace

Status check_query_result(const qkv_query_result* result) {
  QKV_REQUIRE(result != nullptr, QKV_INVALID_NULL, "the result is null");
  return check_result_size("result", kQueryResultSizes, result->struct_size);
}

Status answer_query(const Op& op, const Status& validated, const AnyProblem& problem,
                    const CudaRuntime& cuda, qkv_query_result* result) {
  Status status = validated;
  if (!status.ok() && qkv_status_class(status.code()) == QKV_INVALID_ARGUMENT) return status;

  qkv_query_result answer{};
  Plan made;
  SharedPlan known;
  const DeviceInfo* device = nullptr;
  if (status.ok()) status = find_device(problem, cuda, &device);
  if (status.ok()) known = known_plan(op, problem, *device);
  if (status.ok() && known == nullptr) status = make_plan(op, problem, *device, &made);
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

Status create_plan(const Op& op, const AnyProblem& problem, const CudaRuntime& cuda,
                   std::unique_ptr<qkv_plan>* plan) {
  const DeviceInfo* device = nullptr;
  QKV_RETURN_IF_ERROR(find_device(problem, cuda, &device));
  return new_plan(op, problem, plan_key(op, problem, *device), *device, cuda, plan);
}

Status run_made_plan(const Op& op, const qkv_plan& plan, const AnyProblem& problem,
                     const CudaRuntime& cuda, void* stream) {
  QKV_REQUIRE(plan.op == &op, QKV_INVALID_PLAN, "the plan is of ", plan.op->name, ", the call of ",
              op.name);
  const PlanKey call = plan_key(op, problem, plan.device);
  QKV_REQUIRE(plan.key.serves(call), QKV_INVALID_PLAN,
              plan.key.same_problem(call)
                  ? "a tensor's address is less aligned than the plan was made for"
                  : "the descriptor's shapes, strides, types, options or device differ from the "
                    "plan's; make a plan for it");
  return run_plan(op, plan.plan, problem, cuda, stream);
}

}  // namespace qkv::host
