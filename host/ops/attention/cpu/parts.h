// What is left of a tile of queries when a part of its keys has been seen, until all parts have:
// then they are merged, in the order of the keys.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/scratch.h"
#include "host/ops/attention/problem.h"

namespace qkv::cpu {

// The bytes of one part of one tile; all of them stand behind the threads' memory, tile by tile.
size_t part_bytes(const host::attention::Problem& p, int64_t tile_q);

// The tile's state, from a thread's scratch to a part and back: m and l and O, or the best score
// and its key.
void keep_part(const host::attention::Problem& p, int64_t tile_q, int64_t rows,
               const Scratch& scratch, std::byte* part);

// The same of a part without keys.
void keep_empty_part(const host::attention::Problem& p, int64_t tile_q, int64_t rows,
                     std::byte* part);

// The state after all keys, in `scratch`.
void merge_parts(const host::attention::Problem& p, int64_t tile_q, int64_t rows,
                 const std::byte* parts, int64_t count, const Scratch& scratch);

}  // namespace qkv::cpu
