#include "host/ops/attention/cpu/tile_products.h"

#include <bit>
#include <new>
#include <utility>

namespace qkv::cpu {
namespace {

size_t width_index(int64_t tile_kv, int64_t keys) {
  return static_cast<size_t>(std::countr_zero(static_cast<uint64_t>(tile_kv / keys)));
}

}  // namespace

struct TileProducts::Code {
  std::array<Product, kTileWidths> scores, values;
};

TileProducts::Lane::Lane(const Code& code) : stream(make_stream()) {
  for (size_t i = 0; i < kTileWidths; ++i) {
    if (code.scores[i]) scores[i] = Operands(code.scores[i]);
    if (code.values[i]) values[i] = Operands(code.values[i]);
  }
}

TileProducts::TileProducts(const ProductShape& shape) : shape_(shape) {
  const OneThread one_thread;
  const auto type = shape.bf16 ? dnnl_bf16 : dnnl_f32;
  auto code = std::make_unique<Code>();
  for (size_t i = 0; i < kTileWidths; ++i) {
    const int64_t keys = shape.tile_kv >> i;
    if (i > 0 && keys < kTailKeys) break;
    const Matrix q{shape.tile_q, shape.d_qk, type}, k_transposed{shape.d_qk, keys, type, true};
    const Matrix p{shape.tile_q, keys, type}, v{keys, shape.d_v, type};
    if (shape.scores) code->scores[i] = Product(q, k_transposed, Into::kOverwrite);
    if (shape.values) code->values[i] = Product(p, v, Into::kAdd);
  }
  code_ = std::move(code);
}

TileProducts::~TileProducts() = default;

host::Status TileProducts::create(const ProductShape& shape,
                                  std::shared_ptr<const TileProducts>* products) try {
  QKV_RETURN_IF_ERROR(require_onednn());
  QKV_REQUIRE(shape.tile_kv <= kMaxTileKv, QKV_INTERNAL, "a tile of ", shape.tile_kv,
              " keys is wider than ", kMaxTileKv);
  products->reset(new TileProducts(shape));
  return {};
} catch (const Refusal& refusal) {
  return as_status(refusal, "a tile product");
} catch (const std::bad_alloc&) {
  return host::Status(QKV_RESOURCE_OUT_OF_MEMORY, "no host memory for the tile products");
}

host::Status TileProducts::reserve(int32_t threads) const try {
  lanes_.reserve(threads, [&] { return std::make_unique<Lane>(*code_); });
  return {};
} catch (const Refusal& refusal) {
  return as_status(refusal, "a stream or memory object");
} catch (const std::bad_alloc&) {
  return host::Status(QKV_RESOURCE_OUT_OF_MEMORY, "no host memory for the tile products");
}

TileProducts::BorrowedLane TileProducts::borrow() const {
  return lanes_.borrow([&] { return std::make_unique<Lane>(*code_); });
}

bool TileProducts::scores(Lane& lane, int64_t keys, const void* q, const void* k, float* s,
                          void* scratch) const {
  const size_t i = width_index(shape_.tile_kv, keys);
  return execute(code_->scores[i], lane.scores[i], lane.stream.get(), q, k, s, scratch);
}

bool TileProducts::values(Lane& lane, int64_t keys, const void* p, const void* v, float* o,
                          void* scratch) const {
  const size_t i = width_index(shape_.tile_kv, keys);
  return execute(code_->values[i], lane.values[i], lane.stream.get(), p, v, o, scratch);
}

}  // namespace qkv::cpu
