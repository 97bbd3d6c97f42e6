// The two files of matrix instructions.
#pragma once

#include "machine/ops/ops.h"

namespace vgpu::ops {

void register_wmma(OpcodeMap& t);

}  // namespace vgpu::ops
