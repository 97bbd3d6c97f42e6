#include "kernels/attention/sm80_tf32x3/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm80_tf32x3", [](KernelResources* kernel) {
#define QKV_SM80_TF32X3(max_dim, rules)                                         \
  kernel->add({argument(max_dim), argument(rules, "rules")},                    \
              {.threads = kSm80Tf32x3Threads,                                   \
               .min_blocks = sm80_tf32x3_policy(max_dim, rules).min_blocks,     \
               .dynamic_smem = static_cast<int64_t>(                            \
                   sm80_tf32x3_smem_bytes(sm80_tf32x3_policy(max_dim, rules))), \
               .oldest = 80,                                                    \
               .newest = 99});
#include "kernels/attention/sm80_tf32x3/instances.inc"
});

}  // namespace qkv::test
