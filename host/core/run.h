// Runs a plan on a problem's addresses: workspace, device, launch.
#pragma once

#include "host/core/plan.h"

namespace qkv::host {

Status run_plan(const Op& op, const Plan& plan, const AnyProblem& problem, const CudaRuntime& cuda,
                void* stream);

// A whole call: plan from the cache, run.
Status run(const Op& op, const AnyProblem& problem, const CudaRuntime& cuda, void* stream);

}  // namespace qkv::host
