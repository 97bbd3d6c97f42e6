#include "host/core/cpu/dispatch.h"

namespace qkv::cpu {

int64_t supported_targets() {
  int64_t targets = HWY_STATIC_TARGET;  // what the compiler takes for granted
#if HWY_ARCH_X86_64
  // As Highway defines its sets; the compiler's function asks the operating system too.
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) {
    targets |= HWY_AVX2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd"))
      targets |= HWY_AVX3;
  }
#endif
  return targets & HWY_TARGETS;
}

hwy::ChosenTarget& chosen_target() {
  static struct Best : hwy::ChosenTarget {
    Best() { Update(supported_targets()); }
  } chosen;
  return chosen;
}

}  // namespace qkv::cpu
