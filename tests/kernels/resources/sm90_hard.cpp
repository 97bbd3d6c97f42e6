#include "kernels/attention/sm90_hard/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm90_hard", [](KernelResources* kernel) {
#define QKV_SM90_HARD(type, dim)                                       \
  kernel->add({argument("Type", Type::k##type, #type), argument(dim)}, \
              {.threads = kSm90HardThreads,                            \
               .dynamic_smem = sm90_hard_shape(dim)->smem_bytes(),     \
               .oldest = 90,                                           \
               .newest = 90});
#include "kernels/attention/sm90_hard/instances.inc"
});

}  // namespace qkv::test
