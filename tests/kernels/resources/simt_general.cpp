#include "kernels/attention/simt_general/policy.h"
#include "kernels/core/forward_args.h"
#include "tests/kernels/resources.h"

namespace qkv::test {

using namespace kernels;

static const KernelResources kResources("attention/simt_general", [](KernelResources* kernel) {
#define QKV_SIMT_GENERAL(type, score, selection)                                                   \
  kernel->add({argument("Type", Type::k##type, #type), argument("Score", Score::k##score, #score), \
               argument("Selection", Selection::k##selection, #selection)},                        \
              {.threads = kSimtGeneralThreads,                                                     \
               .min_blocks = kSimtGeneralMinBlocks,                                                \
               .dynamic_smem = simt_general_list_bytes(Selection::k##selection, kMaxTopK)});
#include "kernels/attention/simt_general/instances.inc"
});

}  // namespace qkv::test
