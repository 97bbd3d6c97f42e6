#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm90_forward", [](KernelResources* kernel) {
#define QKV_SM90_FORWARD(type, softcap)                                       \
  kernel->add(                                                                \
      {argument("Type", Type::k##type, #type), argument(softcap, "softcap")}, \
      {.threads = kSm90Threads, .dynamic_smem = kSm90SmemBytes, .oldest = 90, .newest = 90});
#include "kernels/attention/sm90_forward/instances.inc"
});

}  // namespace qkv::test
