#include "kernels/attention/sm90_wide/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm90_wide", [](KernelResources* kernel) {
#define QKV_SM90_WIDE(type, softcap)                                                  \
  kernel->add({argument("Type", Type::k##type, #type), argument(softcap, "softcap")}, \
              {.threads = kSm90WideThreads,                                           \
               .dynamic_smem = kSm90WideSmemBytes,                                    \
               .oldest = 90,                                                          \
               .newest = 90});
#include "kernels/attention/sm90_wide/instances.inc"
});

}  // namespace qkv::test
