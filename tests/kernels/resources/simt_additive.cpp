#include "kernels/attention/simt_additive/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/simt_additive", [](KernelResources* kernel) {
#define QKV_SIMT_ADDITIVE(type)                         \
  kernel->add({argument("Type", Type::k##type, #type)}, \
              {.threads = kSimtAdditiveThreads, .min_blocks = kSimtAdditiveMinBlocks});
#include "kernels/attention/simt_additive/instances.inc"
});

}  // namespace qkv::test
