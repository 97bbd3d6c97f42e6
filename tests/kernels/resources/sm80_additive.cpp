#include "kernels/attention/sm80_additive/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm80_additive", [](KernelResources* kernel) {
#define QKV_SM80_ADDITIVE(type, max_dim, rules)                                                  \
  kernel->add(                                                                                   \
      {argument("Type", Type::k##type, #type), argument(max_dim), argument(rules, "rules")},     \
      {.threads = kSm80AdditiveThreads,                                                          \
       .min_blocks = sm80_additive_policy(max_dim, rules).min_blocks,                            \
       .dynamic_smem =                                                                           \
           static_cast<int64_t>(sm80_additive_smem_bytes(sm80_additive_policy(max_dim, rules))), \
       .oldest = 80});
#include "kernels/attention/sm80_additive/instances.inc"
});

}  // namespace qkv::test
