// Runs a plan on a problem's addresses: workspace, device, launch.
#pragma once

#include "host/core/plan.h"

namespace qkv::host {

Status run_plan(const Plan& plan, const Problem& problem, const CudaRuntime& cuda, void* stream);

}  // namespace qkv::host
