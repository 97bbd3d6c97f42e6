#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm90_forward", [](KernelResources* kernel) {
#define QKV_SM90_FORWARD(type, d_qk, d_v, softcap)                                    \
  kernel->add({argument("Type", Type::k##type, #type), argument(d_qk), argument(d_v), \
               argument(softcap, "softcap")},                                         \
              {.threads = sm90_shape(d_qk, d_v)->threads(),                           \
               .dynamic_smem = sm90_shape(d_qk, d_v)->smem_bytes(),                   \
               .oldest = 90,                                                          \
               .newest = 90});
#include "kernels/attention/sm90_forward/instances.inc"
});

}  // namespace qkv::test
