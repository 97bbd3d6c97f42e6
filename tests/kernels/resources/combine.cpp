#include "kernels/attention/combine/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/combine", [](KernelResources* kernel) {
#define QKV_COMBINE(type) \
  kernel->add({argument("Type", Type::k##type, #type)}, {.threads = kCombineThreads});
#include "kernels/attention/combine/instances.inc"
});

}  // namespace qkv::test
