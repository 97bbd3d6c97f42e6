#pragma once

#include "host/ops/attention/splits.h"
#include "kernels/attention/sm80_forward/policy.h"

namespace qkv::host::attention {

struct Sm80Plan : SplitPlan {
  kernels::Sm80Variant variant = kernels::Sm80Variant::kTall;
};

}  // namespace qkv::host::attention
