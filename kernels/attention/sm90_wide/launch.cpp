#include "kernels/attention/sm90_wide/launch.h"

#include <cuda_runtime_api.h>

#include "kernels/attention/sm90_wide/args.h"
#include "kernels/attention/sm90_wide/policy.h"
#include "kernels/core/grid.h"

namespace qkv::kernels {

int prepare_sm90_wide(Type type, bool softcap) {
#define QKV_SM90_WIDE(kType, kSoftcap)                 \
  if (type == Type::k##kType && softcap == (kSoftcap)) \
    return prepare_sm90_wide_instance<Type::k##kType, kSoftcap>();
#include "kernels/attention/sm90_wide/instances.inc"
  return cudaErrorInvalidValue;
}

int launch_sm90_wide(Type type, const TensorMaps& templates, const ForwardArgs& args,
                     const Sm90WideTiles& tiles, void* stream) {
  const int64_t clusters = tiles.schedule.blocks();
  if (clusters == 0) return cudaSuccess;
  if (tiles.cluster < 1 || tiles.cluster > kSm90WideMostCluster ||
      clusters * tiles.cluster > kMaxBlocks)
    return cudaErrorInvalidValue;
  Sm90WideArgs kernel_args;
  if (const int error = set_addresses(templates, args, &kernel_args.q, &kernel_args.k,
                                      &kernel_args.v, &kernel_args.o))
    return error;
  const auto panels = [](int32_t dim) { return (dim + kSm90WidePanel - 1) / kSm90WidePanel; };
  kernel_args.forward = args;
  kernel_args.schedule = tiles.schedule;
  kernel_args.partials = tiles.partials;
  kernel_args.cluster = tiles.cluster;
  kernel_args.panels_qk = panels(args.d_qk);
  kernel_args.panels_v = panels(args.d_v);
#define QKV_SM90_WIDE(kType, kSoftcap)                            \
  if (type == Type::k##kType && (args.softcap > 0) == (kSoftcap)) \
    return launch_sm90_wide_instance<Type::k##kType, kSoftcap>(kernel_args, stream);
#include "kernels/attention/sm90_wide/instances.inc"
  return cudaErrorInvalidValue;
}

}  // namespace qkv::kernels
