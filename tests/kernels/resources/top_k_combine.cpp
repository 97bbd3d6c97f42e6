#include "kernels/attention/top_k_combine/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/top_k_combine", [](KernelResources* kernel) {
#define QKV_TOP_K_COMBINE(type)                         \
  kernel->add({argument("Type", Type::k##type, #type)}, \
              {.threads = kTopKCombineThreads, .oldest = 80});
#include "kernels/attention/top_k_combine/instances.inc"
});

}  // namespace qkv::test
