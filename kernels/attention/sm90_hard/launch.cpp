#include "kernels/attention/sm90_hard/launch.h"

#include <cuda_runtime_api.h>

#include "kernels/attention/sm90_hard/args.h"
#include "kernels/attention/sm90_hard/policy.h"

namespace qkv::kernels {

int prepare_sm90_hard(Type type, int32_t d_qk) {
  const Sm90HardShape* shape = sm90_hard_shape(d_qk);
  if (shape == nullptr) return cudaErrorInvalidValue;
#define QKV_SM90_HARD(kType, kDim)                    \
  if (type == Type::k##kType && shape->dim == (kDim)) \
    return prepare_sm90_hard_instance<Type::k##kType, kDim>();
#include "kernels/attention/sm90_hard/instances.inc"
  return cudaErrorInvalidValue;
}

int launch_sm90_hard(Type type, const TensorMaps& templates, const ForwardArgs& args,
                     const Sm90HardTiles& tiles, void* stream) {
  const int64_t all_tiles = tiles.schedule.blocks();
  if (all_tiles == 0) return cudaSuccess;
  const Sm90HardShape* shape = sm90_hard_shape(args.d_qk);
  if (all_tiles > kSm90HardMaxTiles || tiles.blocks < 1 || shape == nullptr ||
      tiles.schedule.tile_q != kSm90HardTileQ || tiles.schedule.tile_kv != kSm90HardTileKv)
    return cudaErrorInvalidValue;
  Sm90HardArgs kernel_args;
  CUtensorMap unused_v, unused_o;
  if (const int error =
          set_addresses(templates, args, &kernel_args.q, &kernel_args.k, &unused_v, &unused_o))
    return error;
  kernel_args.forward = args;
  kernel_args.schedule = tiles.schedule;
  kernel_args.tiles = static_cast<int32_t>(all_tiles);
  kernel_args.of_splits = tiles.of_splits;
#define QKV_SM90_HARD(kType, kDim)                    \
  if (type == Type::k##kType && shape->dim == (kDim)) \
    return launch_sm90_hard_instance<Type::k##kType, kDim>(kernel_args, tiles.blocks, stream);
#include "kernels/attention/sm90_hard/instances.inc"
  return cudaErrorInvalidValue;
}

}  // namespace qkv::kernels
