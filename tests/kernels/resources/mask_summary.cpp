#include "kernels/attention/mask_summary/policy.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/mask_summary", [](KernelResources* kernel) {
#define QKV_MASK_SUMMARY() \
  kernel->add({}, {.threads = kMaskSummaryThreads, .oldest = 90, .newest = 90});
#include "kernels/attention/mask_summary/instances.inc"
});

}  // namespace qkv::test
