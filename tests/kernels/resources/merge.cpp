#include "kernels/merge/merge/policy.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("merge/merge", [](KernelResources* kernel) {
#define QKV_MERGE() kernel->add({}, {.threads = kMergeThreads});
#include "kernels/merge/merge/instances.inc"
});

}  // namespace qkv::test
