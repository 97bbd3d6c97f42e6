// TMA's descriptors of q, k, v and o, which the driver makes on the host, without a device.
#pragma once

#include <cstdint>

#include "kernels/core/forward_args.h"

namespace qkv::kernels {

// They hold CUtensorMaps, as bytes: hosts need no CUDA header.
struct TensorMaps {
  alignas(128) unsigned char bytes[4][128] = {};
};

// Rows of a tensor that one copy moves, with a panel of its dims: 64, which have 128 bytes.
struct BoxRows {
  int32_t q, kv, o;
};

// Makes the descriptors for the strides and sizes of `args`; addresses are set with each launch.
// `group`: query heads of a KV head that lie in one tile. Returns a cudaError_t.
int make_tensor_maps(Type type, const ForwardArgs& args, const BoxRows& rows, int32_t group,
                     TensorMaps* maps);

// `maps` with the addresses of `args`, into CUtensorMaps. Returns a cudaError_t.
int set_addresses(const TensorMaps& maps, const ForwardArgs& args, void* q, void* k, void* v,
                  void* o);

}  // namespace qkv::kernels
