#include "kernels/attention/sm80_top_k/policy.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/top_k_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

// Of lists of 10 keys. By registers three blocks of 128 rows fit, by shared memory two.
static const KernelResources kResources("attention/sm80_top_k", [](KernelResources* kernel) {
#define QKV_SM80_TOP_K(type, max_dim, rules)                                                 \
  kernel->add(                                                                               \
      {argument("Type", Type::k##type, #type), argument(max_dim), argument(rules, "rules")}, \
      {.threads = kSm80TopKThreads,                                                          \
       .min_blocks = sm80_top_k_policy(max_dim, rules).min_blocks,                           \
       .dynamic_smem = sm80_top_k_smem_bytes(sm80_top_k_policy(max_dim, rules), 10),         \
       .smem_blocks = (rules) || (max_dim) > 128 ? 0 : 2,                                    \
       .oldest = 80});
#include "kernels/attention/sm80_top_k/instances.inc"
});

}  // namespace qkv::test
