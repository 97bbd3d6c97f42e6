// The entry points of merge.
#include "host/core/entry.h"
#include "host/core/run.h"
#include "host/ops/merge/op.h"

namespace qkv::host::merge {
namespace {

Status run_problem(const qkv_merge_desc* desc, void* stream) {
  const CudaRuntime& cuda = cuda_runtime();
  Problem problem;
  QKV_RETURN_IF_ERROR(validate(desc, cuda, &problem));
  return run(kOp, problem, cuda, stream);
}

}  // namespace
}  // namespace qkv::host::merge

using namespace qkv::host;

extern "C" {

qkv_status qkv_merge_desc_init(qkv_merge_desc* desc, size_t struct_size) {
  return guarded([&] { return init_descriptor(merge::kMergeForm, desc, struct_size); });
}

qkv_status qkv_merge(const qkv_merge_desc* desc, void* stream) {
  return guarded([&] { return merge::run_problem(desc, stream); });
}

}  // extern "C"
