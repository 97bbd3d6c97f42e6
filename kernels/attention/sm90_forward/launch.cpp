#include "kernels/attention/sm90_forward/launch.h"

#include <cuda_runtime_api.h>

#include <cstring>

#include "kernels/attention/sm90_forward/args.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/attention/sm90_forward/tensor_map.h"

namespace qkv::kernels {

int prepare_sm90_forward(Type type, bool softcap) {
#define QKV_SM90_FORWARD(kType, kSoftcap)              \
  if (type == Type::k##kType && softcap == (kSoftcap)) \
    return prepare_sm90_forward_instance<Type::k##kType, kSoftcap>();
#include "kernels/attention/sm90_forward/instances.inc"
  return cudaErrorInvalidValue;
}

int launch_sm90_forward(Type type, const Sm90Maps& templates, const ForwardArgs& args,
                        const Sm90Tiles& tiles, void* stream) {
  const int64_t all_tiles = tiles.schedule.blocks();
  if (all_tiles == 0) return cudaSuccess;
  if (all_tiles > kSm90MaxTiles || tiles.blocks < 1) return cudaErrorInvalidValue;
  Sm90ForwardArgs all;
  const struct {
    CUtensorMap* map;
    void* data;
  } maps[] = {
      {&all.q, args.q.data}, {&all.k, args.k.data}, {&all.v, args.v.data}, {&all.o, args.o.data}};
  for (int i = 0; i < 4; ++i) {
    std::memcpy(maps[i].map, templates.bytes[i], sizeof(CUtensorMap));
    if (const int error = set_tensor_map_address(maps[i].map, maps[i].data)) return error;
  }
  all.forward = args;
  all.schedule = tiles.schedule;
  all.partials = tiles.partials;
  all.tiles = static_cast<int32_t>(all_tiles);
  all.next_tile = tiles.next_tile;
  if (all.next_tile != nullptr) {
    const cudaError_t error =
        cudaMemsetAsync(all.next_tile, 0, sizeof(int32_t), static_cast<cudaStream_t>(stream));
    if (error != cudaSuccess) return cudaGetLastError();
  }
#define QKV_SM90_FORWARD(kType, kSoftcap)                         \
  if (type == Type::k##kType && (args.softcap > 0) == (kSoftcap)) \
    return launch_sm90_forward_instance<Type::k##kType, kSoftcap>(all, tiles.blocks, stream);
#include "kernels/attention/sm90_forward/instances.inc"
  return cudaErrorInvalidValue;
}

}  // namespace qkv::kernels
