// What attention's kernels put into their plans, for tests that look inside.
#pragma once

#include "host/core/plan.h"
#include "host/ops/attention/cuda/sm80_forward.h"
#include "host/ops/attention/op.h"

namespace qkv::test {

inline host::Status make_plan(const host::attention::Problem& problem,
                              const host::DeviceInfo& device, host::Plan* plan) {
  return host::make_plan(host::attention::kOp, problem, device, plan);
}

inline host::PlanKey plan_key(const host::attention::Problem& problem,
                              const host::DeviceInfo& device) {
  return host::plan_key(host::attention::kOp, problem, device);
}

// Of any CUDA kernel.
inline const host::attention::TilePlan& plan_tiles(const host::Plan& plan) {
  return dynamic_cast<const host::attention::TilePlan&>(*plan.own);
}

// Of a kernel that packs and splits.
inline const host::attention::SplitPlan& plan_cut(const host::Plan& plan) {
  return dynamic_cast<const host::attention::SplitPlan&>(*plan.own);
}

// Of a kernel that does not, one split of heads that lie apart.
inline kernels::TileSchedule plan_schedule(const host::Plan& plan) {
  const auto* cut = dynamic_cast<const host::attention::SplitPlan*>(plan.own.get());
  return cut != nullptr ? cut->schedule : kernels::TileSchedule{};
}

inline kernels::Sm80Variant plan_variant(const host::Plan& plan) {
  return dynamic_cast<const host::attention::Sm80Plan&>(*plan.own).variant;
}

}  // namespace qkv::test
