// The two products of a tile, S = Q K^T and O += P V, by oneDNN, each for every width of a tile
// of keys. Every operand is a dense row-major matrix.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "host/core/cpu/lanes.h"
#include "host/core/cpu/product.h"
#include "host/core/status.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/scratch.h"
#include "host/ops/attention/problem.h"

namespace qkv::cpu {

// Products are kept by the width of the tile of keys: tile_kv, tile_kv / 2, ... down to kTailKeys.
inline constexpr size_t kTileWidths =
    std::countr_zero(static_cast<uint64_t>(kMaxTileKv / kTailKeys)) + 1;

// What decides the generated code. Problems of many shapes share one.
struct ProductShape {
  bool bf16 = false;    // operands are bf16, else fp32; S and O are fp32 always
  bool scores = false;  // whether Q K^T is needed
  bool values = false;  // whether P V is needed
  int64_t tile_q = 0, tile_kv = 0, d_qk = 0, d_v = 0;

  bool operator==(const ProductShape&) const = default;
};

class TileProducts {
 public:
  // What one thread needs to call oneDNN: a stream, and the operands of every product.
  struct Code;
  struct Lane {
    explicit Lane(const Code& code);

    Owned<dnnl_stream> stream;
    std::array<Operands, kTileWidths> scores, values;
  };
  using BorrowedLane = Lanes<Lane>::Borrowed;

  static host::Status create(const ProductShape& shape,
                             std::shared_ptr<const TileProducts>* products);
  ~TileProducts();
  TileProducts(const TileProducts&) = delete;
  TileProducts& operator=(const TileProducts&) = delete;

  const ProductShape& shape() const { return shape_; }

  // Makes lanes for so many threads ahead of the run.
  host::Status reserve(int32_t threads) const;
  // A free lane, or a new one when more threads run than ever before; null if memory is out.
  BorrowedLane borrow() const;

  // s[tile_q, keys] = q[tile_q, d_qk] k[keys, d_qk]^T, where `keys` is the width of a key_tile().
  // `scratch` has product_scratch_bytes(). False if oneDNN failed.
  bool scores(Lane& lane, int64_t keys, const void* q, const void* k, float* s,
              void* scratch) const;
  // o[tile_q, d_v] += p[tile_q, keys] v[keys, d_v].
  bool values(Lane& lane, int64_t keys, const void* p, const void* v, float* o,
              void* scratch) const;

 private:
  explicit TileProducts(const ProductShape& shape);

  ProductShape shape_;
  std::unique_ptr<const Code> code_;
  Lanes<Lane> lanes_;
};

// Runs the products of all tiles of a problem on the policy's threads, and nothing else: the
// ceiling of `run`. Returns the floating-point operations done; 0 if oneDNN failed. For benchmarks;
// `workspace` as for `run`.
double run_products_alone(const host::attention::Problem& problem, const Policy& policy,
                          const TileProducts& products, void* workspace);

}  // namespace qkv::cpu
