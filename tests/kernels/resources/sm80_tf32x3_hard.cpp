#include "kernels/attention/sm80_tf32x3_hard/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm80_tf32x3_hard", [](KernelResources* kernel) {
#define QKV_SM80_TF32X3_HARD(max_dim, rules)                                              \
  kernel->add({argument(max_dim), argument(rules, "rules")},                              \
              {.threads = kSm80Tf32x3HardThreads,                                         \
               .min_blocks = sm80_tf32x3_hard_policy(max_dim, rules).min_blocks,          \
               .dynamic_smem = static_cast<int64_t>(                                      \
                   sm80_tf32x3_hard_smem_bytes(sm80_tf32x3_hard_policy(max_dim, rules))), \
               .oldest = 80,                                                              \
               .newest = 99});
#include "kernels/attention/sm80_tf32x3_hard/instances.inc"
});

}  // namespace qkv::test
