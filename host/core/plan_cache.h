// Plans of all ops by key: a bounded LRU shared by all threads, with a small front in each thread
// that needs no lock.
#pragma once

#include <cstddef>
#include <memory>

#include "host/core/plan.h"

namespace qkv::host {

using SharedPlan = std::shared_ptr<const qkv_plan>;

// The plan for `problem`, from the cache or made, prepared and cached now.
Status cached_plan(const Op& op, const AnyProblem& problem, const CudaRuntime& cuda,
                   SharedPlan* plan);

// The plan that cached_plan() has made for such a problem, null if none: what a run will take,
// where make_plan() says what it would try first.
SharedPlan known_plan(const Op& op, const AnyProblem& problem, const DeviceInfo& device);

// Makes and prepares a plan without the cache. Kernels that turn out not to run here when they are
// prepared are passed over.
Status new_plan(const Op& op, const AnyProblem& problem, const PlanKey& key,
                const DeviceInfo& device, const CudaRuntime& cuda, std::unique_ptr<qkv_plan>* plan);

// Prepares the plan's kernel on the current device, or the next one that can be. If none can, that
// is a failure of CUDA's, not a problem that qkv does not know, unless the last one says otherwise.
Status prepare_plan(const Op& op, const AnyProblem& problem, const DeviceInfo& device,
                    const CudaRuntime& cuda, Plan* plan);

// The device that a problem runs on.
Status find_device(const AnyProblem& problem, const CudaRuntime& cuda, const DeviceInfo** device);

// For tests: forgets all plans, in this thread's front too.
void clear_plan_cache();

inline constexpr size_t kPlanCacheCapacity = 256;

}  // namespace qkv::host
