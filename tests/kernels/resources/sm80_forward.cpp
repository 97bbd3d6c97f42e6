#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/sm80_forward", [](KernelResources* kernel) {
  const auto add = [=](const Argument& type, int max_dim, const Argument& variant, Sm80Variant of) {
    const auto policy = sm80_forward_policy(max_dim, of);
    kernel->add({type, argument(max_dim), variant},
                {.threads = kSm80ForwardThreads,
                 .min_blocks = policy.min_blocks,
                 .dynamic_smem = static_cast<int64_t>(sm80_forward_smem_bytes(policy)),
                 .oldest = 80});
  };
#define QKV_SM80_FORWARD(type, max_dim, variant)       \
  add(argument("Type", Type::k##type, #type), max_dim, \
      argument("Sm80Variant", Sm80Variant::k##variant, #variant), Sm80Variant::k##variant);
#include "kernels/attention/sm80_forward/instances.inc"
});

}  // namespace qkv::test
