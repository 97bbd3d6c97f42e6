// mask_summary's sizes, for the host's plan and the kernel; and where a summary pays.
#pragma once

#include <cstdint>

namespace qkv::kernels {

inline constexpr int32_t kMaskSummaryThreads = 128;  // a warp for each byte
inline constexpr int32_t kMaskSummaryTileKv = 128;   // keys of a block, at most

// A summary is made where the mask is read for it in a quarter of the pairs of rows and keys at
// most that the tiles have room for: with a broadcast mask, or with tiles of few rows. On an H100
// that is at most 2.5 KiB for a block of 80 keys of 128 rows, 180 cycles of a multiprocessor's
// share of device memory; the block takes 1300 and more.
inline constexpr int64_t kMaskSummaryShare = 4;

// And where a multiprocessor has so many blocks of keys to compute, of all its tiles, that another
// launch is short beside them.
inline constexpr int64_t kMaskSummaryBlocks = 32;

}  // namespace qkv::kernels
