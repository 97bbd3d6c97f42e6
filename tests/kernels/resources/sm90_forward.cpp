#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm90_forward", [](KernelResources* kernel) {
  const auto add = [&](const Argument& type, int d_qk, int d_v, Sm90Variant variant,
                       const Argument& label) {
    const Sm90Shape& shape = *sm90_shape(d_qk, d_v, variant);
    kernel->add({type, argument(d_qk), argument(d_v), label}, {.threads = shape.threads(),
                                                               .dynamic_smem = shape.smem_bytes(),
                                                               .oldest = 90,
                                                               .newest = 90});
  };
#define QKV_SM90_FORWARD(type, d_qk, d_v, variant)                                \
  add(argument("Type", Type::k##type, #type), d_qk, d_v, Sm90Variant::k##variant, \
      argument("Sm90Variant", Sm90Variant::k##variant, #variant));
#include "kernels/attention/sm90_forward/instances.inc"
});

}  // namespace qkv::test
