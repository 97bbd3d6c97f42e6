#pragma once

#include <cstdio>
#include <string>

#include "common/types.h"

namespace vgpu {

inline std::string hex(u64 value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace vgpu
