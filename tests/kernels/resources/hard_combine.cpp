#include "kernels/attention/hard_combine/policy.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/hard_combine", [](KernelResources* kernel) {
#define QKV_HARD_COMBINE() kernel->add({}, {.threads = kHardCombineThreads, .oldest = 80});
#include "kernels/attention/hard_combine/instances.inc"
});

}  // namespace qkv::test
