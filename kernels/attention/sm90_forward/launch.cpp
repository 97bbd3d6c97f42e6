#include "kernels/attention/sm90_forward/launch.h"

#include <cuda_runtime_api.h>

#include <cstring>

#include "kernels/attention/sm90_forward/args.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/attention/sm90_forward/tensor_map.h"

namespace qkv::kernels {

int prepare_sm90_forward(Type type, int32_t d_qk, int32_t d_v, bool softcap) {
  const Sm90Shape* shape = sm90_shape(d_qk, d_v);
  if (shape == nullptr) return cudaErrorInvalidValue;
#define QKV_SM90_FORWARD(kType, kDimQk, kDimV, kSoftcap)                            \
  if (type == Type::k##kType && shape->d_qk == (kDimQk) && shape->d_v == (kDimV) && \
      softcap == (kSoftcap))                                                        \
    return prepare_sm90_forward_instance<Type::k##kType, kDimQk, kDimV, kSoftcap>();
#include "kernels/attention/sm90_forward/instances.inc"
  return cudaErrorInvalidValue;
}

int launch_sm90_forward(Type type, const Sm90Maps& templates, const ForwardArgs& args,
                        const Sm90Tiles& tiles, void* stream) {
  const int64_t all_tiles = tiles.schedule.blocks();
  if (all_tiles == 0) return cudaSuccess;
  const Sm90Shape* shape = sm90_shape(args.d_qk, args.d_v);
  if (all_tiles > kSm90MaxTiles || tiles.blocks < 1 || shape == nullptr)
    return cudaErrorInvalidValue;
  Sm90ForwardArgs kernel_args;
  const struct {
    CUtensorMap* map;
    void* data;
  } maps[] = {{&kernel_args.q, args.q.data},
              {&kernel_args.k, args.k.data},
              {&kernel_args.v, args.v.data},
              {&kernel_args.o, args.o.data}};
  for (int i = 0; i < 4; ++i) {
    std::memcpy(maps[i].map, templates.bytes[i], sizeof(CUtensorMap));
    if (const int error = set_tensor_map_address(maps[i].map, maps[i].data)) return error;
  }
  kernel_args.forward = args;
  kernel_args.schedule = tiles.schedule;
  kernel_args.partials = tiles.partials;
  kernel_args.tiles = static_cast<int32_t>(all_tiles);
  kernel_args.next_tile = tiles.next_tile;
  if (kernel_args.next_tile != nullptr) {
    const cudaError_t error = cudaMemsetAsync(kernel_args.next_tile, 0, sizeof(int32_t),
                                              static_cast<cudaStream_t>(stream));
    if (error != cudaSuccess) return cudaGetLastError();
  }
#define QKV_SM90_FORWARD(kType, kDimQk, kDimV, kSoftcap)                            \
  if (type == Type::k##kType && shape->d_qk == (kDimQk) && shape->d_v == (kDimV) && \
      (args.softcap > 0) == (kSoftcap))                                             \
    return launch_sm90_forward_instance<Type::k##kType, kDimQk, kDimV, kSoftcap>(   \
        kernel_args, tiles.blocks, stream);
#include "kernels/attention/sm90_forward/instances.inc"
  return cudaErrorInvalidValue;
}

}  // namespace qkv::kernels
