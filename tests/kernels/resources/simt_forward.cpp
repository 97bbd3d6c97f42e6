#include "kernels/attention/simt_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/simt_forward", [](KernelResources* kernel) {
#define QKV_SIMT_FORWARD(type, max_dim)                                    \
  kernel->add({argument("Type", Type::k##type, #type), argument(max_dim)}, \
              {.threads = simt_forward_policy(max_dim).threads,            \
               .min_blocks = simt_forward_policy(max_dim).min_blocks});
#include "kernels/attention/simt_forward/instances.inc"
});

}  // namespace qkv::test
