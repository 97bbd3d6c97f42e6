// How many blocks a grid has and may have.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace qkv::kernels {

inline constexpr int64_t kMaxBlocks = 0x7fffffff;  // of a grid's x axis

// Blocks of a grid with `per_tile` of them for each tile of query rows; kMaxBlocks + 1 if they do
// not fit.
constexpr int64_t grid_blocks(int32_t tile_q, int64_t per_tile, int32_t batch, int32_t heads_q,
                              int32_t s_q) {
  int64_t blocks = (int64_t{s_q} + tile_q - 1) / tile_q;
  for (const int64_t factor : {int64_t{batch}, int64_t{heads_q}, per_tile}) {
    blocks *= factor;
    if (blocks > kMaxBlocks) return kMaxBlocks + 1;
  }
  return blocks;
}

}  // namespace qkv::kernels
