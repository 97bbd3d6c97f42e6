#include "kernels/attention/sm90_forward/launch.h"

#include <cuda_runtime_api.h>

#include "kernels/attention/sm90_forward/args.h"
#include "kernels/attention/sm90_forward/policy.h"

namespace qkv::kernels {

namespace {

// Whether neighbouring keys can be loaded as one; `bytes` of a key.
bool in_pairs(const PairTensor& t, int64_t bytes) {
  const auto even = [&](int64_t stride) { return stride * bytes % (2 * bytes) == 0; };
  return t.col == 1 && reinterpret_cast<uintptr_t>(t.data) % (2 * bytes) == 0 && even(t.batch) &&
         even(t.head) && even(t.row);
}

uint32_t rules_of(const ForwardArgs& args) {
  uint32_t rules = 0;
  if (args.softcap > 0) rules |= kSm90Softcap;
  if (args.alibi_slopes.data != nullptr) rules |= kSm90Alibi;
  if (args.bias.data != nullptr)
    rules |= !args.bias_f32 && in_pairs(args.bias, 2) ? kSm90BiasPairs : kSm90BiasOneByOne;
  if (args.mask.data != nullptr)
    rules |= in_pairs(args.mask, 1) ? kSm90MaskPairs : kSm90MaskOneByOne;
  return rules;
}

}  // namespace

int prepare_sm90_forward(Type type, int32_t d_qk, int32_t d_v, Sm90Variant variant) {
  const Sm90Shape* shape = sm90_shape(d_qk, d_v, variant);
  if (shape == nullptr) return cudaErrorInvalidValue;
#define QKV_SM90_FORWARD(kType, kDimQk, kDimV, kVariant)                            \
  if (type == Type::k##kType && shape->d_qk == (kDimQk) && shape->d_v == (kDimV) && \
      variant == Sm90Variant::k##kVariant)                                          \
    return prepare_sm90_forward_instance<Type::k##kType, kDimQk, kDimV, Sm90Variant::k##kVariant>();
#include "kernels/attention/sm90_forward/instances.inc"
  return cudaErrorInvalidValue;
}

int launch_sm90_forward(Type type, const TensorMaps& templates, const ForwardArgs& args,
                        const Sm90Tiles& tiles, void* stream) {
  const int64_t all_tiles = tiles.schedule.blocks();
  if (all_tiles == 0) return cudaSuccess;
  const Sm90Shape* shape = sm90_shape(args.d_qk, args.d_v, tiles.variant);
  if (all_tiles > kSm90MaxTiles || tiles.blocks < 1 || shape == nullptr)
    return cudaErrorInvalidValue;
  Sm90ForwardArgs kernel_args;
  if (const int error = set_addresses(templates, args, &kernel_args.q, &kernel_args.k,
                                      &kernel_args.v, &kernel_args.o))
    return error;
  kernel_args.forward = args;
  kernel_args.schedule = tiles.schedule;
  kernel_args.partials = tiles.partials;
  kernel_args.rules = rules_of(args);
  kernel_args.tiles = static_cast<int32_t>(all_tiles);
  kernel_args.next_tile = tiles.next_tile;
  kernel_args.summary = tiles.summary;
  if (kernel_args.next_tile != nullptr && kernel_args.summary.visible == nullptr) {
    const cudaError_t error = cudaMemsetAsync(kernel_args.next_tile, 0, sizeof(int32_t),
                                              static_cast<cudaStream_t>(stream));
    if (error != cudaSuccess) return cudaGetLastError();
  }
#define QKV_SM90_FORWARD(kType, kDimQk, kDimV, kVariant)                                          \
  if (type == Type::k##kType && shape->d_qk == (kDimQk) && shape->d_v == (kDimV) &&               \
      tiles.variant == Sm90Variant::k##kVariant)                                                  \
    return launch_sm90_forward_instance<Type::k##kType, kDimQk, kDimV, Sm90Variant::k##kVariant>( \
        kernel_args, tiles.blocks, stream);
#include "kernels/attention/sm90_forward/instances.inc"
  return cudaErrorInvalidValue;
}

}  // namespace qkv::kernels
