// Which of the compiled instruction sets runs. Highway's own choice is of the whole process: other
// users of its library, of whatever release, share and change it (hwy::DisableTargets), and so
// would change qkv's results. The choice is therefore qkv's, Highway serves as headers alone, and
// nothing of its library is linked.
//
// Included after <hwy/highway.h>; HWY_EXPORT and HWY_DYNAMIC_DISPATCH do as Highway's, by this
// choice.
#pragma once

#include <cstdint>

#include "host/core/cpu/targets.h"
// After it, as any Highway header.
#include <hwy/targets.h>

namespace qkv::cpu {

// Bits of the compiled sets that this processor has.
int64_t supported_targets();

// The choice: the best one, unless a test says otherwise by Update().
hwy::ChosenTarget& chosen_target();

}  // namespace qkv::cpu

#if (HWY_TARGETS & (HWY_TARGETS - 1)) != 0  // else there is nothing to choose
#undef HWY_EXPORT
#define HWY_EXPORT(name)                                                                        \
  static decltype(&HWY_STATIC_DISPATCH(name)) const HWY_DISPATCH_TABLE(                         \
      name)[HWY_MAX_DYNAMIC_TARGETS + 2] = {nullptr, /* Highway's own: nothing is chosen yet */ \
                                            HWY_CHOOSE_TARGET_LIST(name),                       \
                                            HWY_CHOOSE_FALLBACK(name)}
#undef HWY_DYNAMIC_DISPATCH
#define HWY_DYNAMIC_DISPATCH(name) \
  (*(HWY_DISPATCH_TABLE(name)[::qkv::cpu::chosen_target().GetIndex()]))
#endif
