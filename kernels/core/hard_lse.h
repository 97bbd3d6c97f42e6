// LSE of hard selection's best score, for kernels on tensor cores and the host.
#pragma once

#include "kernels/host_device.h"

namespace qkv::kernels {

// Scores are compared as they are summed up where the scale changes no order: what makes LSE of the
// best one. `rules`: softcap, mask, bias or ALiBi come on top.
QKV_HOST_DEVICE constexpr float hard_lse_factor(bool rules, float scale) {
  return !rules && scale > 0 ? scale : 1;
}

}  // namespace qkv::kernels
