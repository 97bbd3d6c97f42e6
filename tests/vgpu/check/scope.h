#pragma once

#include "common/types.h"

namespace vgpu {

// How far an access or a fence reaches: 0 for weak accesses. System scope counts as gpu scope.
enum Scope : u8 { kWeak, kCtaScope, kClusterScope, kGpuScope };

}  // namespace vgpu
