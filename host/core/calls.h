// What the entry points of an op with plans do: query, plan, run a plan, run. One text for all ops.
#pragma once

#include <memory>

#include "host/core/device.h"
#include "host/core/op.h"
#include "host/core/plan.h"
#include "host/core/run.h"
#include "host/core/status.h"
#include "host/core/tensor_check.h"

namespace qkv::host {

// The parts that know no op's own types.
Status check_query_result(const qkv_query_result* result);
// `validated` is what the descriptor's check said; of bad arguments it is the answer itself.
Status answer_query(const Op& op, const Status& validated, const AnyProblem& problem,
                    const CudaRuntime& cuda, qkv_query_result* result);
Status create_plan(const Op& op, const AnyProblem& problem, const CudaRuntime& cuda,
                   std::unique_ptr<qkv_plan>* plan);
Status run_made_plan(const Op& op, const qkv_plan& plan, const AnyProblem& problem,
                     const CudaRuntime& cuda, void* stream);

// The calls of an op whose descriptors, of type Desc, kValidate turns into its Problems.
template <const Op& kOp, class Problem, class Desc,
          Status (*kValidate)(const Desc*, Need, const CudaRuntime&, Problem*)>
struct Calls {
  static Status query(const Desc* desc, qkv_query_result* result) {
    QKV_RETURN_IF_ERROR(check_query_result(result));
    const CudaRuntime& cuda = cuda_runtime();
    Problem problem;
    const Status validated = kValidate(desc, Need::kShapes, cuda, &problem);
    return answer_query(kOp, validated, problem, cuda, result);
  }

  static Status plan_create(const Desc* desc, qkv_plan** plan) {
    QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the place for the plan is null");
    *plan = nullptr;
    const CudaRuntime& cuda = cuda_runtime();
    Problem problem;
    QKV_RETURN_IF_ERROR(kValidate(desc, Need::kShapes, cuda, &problem));
    std::unique_ptr<qkv_plan> made;
    QKV_RETURN_IF_ERROR(create_plan(kOp, problem, cuda, &made));
    made->problem = std::make_shared<Problem>(problem);
    *plan = made.release();
    return {};
  }

  static Status plan_run(const qkv_plan* plan, const Desc* desc, void* stream) {
    QKV_REQUIRE(plan != nullptr, QKV_INVALID_NULL, "the plan is null");
    const CudaRuntime& cuda = cuda_runtime();
    Problem problem;
    QKV_RETURN_IF_ERROR(kValidate(desc, Need::kAddresses, cuda, &problem));
    return run_made_plan(kOp, *plan, problem, cuda, stream);
  }

  static Status run(const Desc* desc, void* stream) {
    const CudaRuntime& cuda = cuda_runtime();
    Problem problem;
    QKV_RETURN_IF_ERROR(kValidate(desc, Need::kAddresses, cuda, &problem));
    return host::run(kOp, problem, cuda, stream);
  }
};

}  // namespace qkv::host
