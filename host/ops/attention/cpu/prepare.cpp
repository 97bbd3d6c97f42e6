// Tile products are made once for each shape of tiles and kept: problems of other sizes, as every
// step of a growing sequence is, find them again.
#include <list>
#include <memory>
#include <mutex>

#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/tile_products.h"

namespace qkv::cpu {
namespace {

class ProductCache {
 public:
  host::Status get(const ProductShape& shape, std::shared_ptr<const TileProducts>* products) {
    const std::lock_guard lock(mutex_);
    for (auto it = recent_.begin(); it != recent_.end(); ++it) {
      if ((*it)->shape() != shape) continue;
      recent_.splice(recent_.begin(), recent_, it);
      *products = recent_.front();
      return {};
    }
    QKV_RETURN_IF_ERROR(TileProducts::create(shape, products));
    try {
      recent_.push_front(*products);
      if (recent_.size() > kCapacity) recent_.pop_back();
    } catch (const std::bad_alloc&) {
      // Not kept, but usable.
    }
    return {};
  }

 private:
  static constexpr size_t kCapacity = 64;
  std::mutex mutex_;
  std::list<std::shared_ptr<const TileProducts>> recent_;  // latest use first
};

ProductCache& cache() {
  static ProductCache instance;
  return instance;
}

}  // namespace

host::Status prepare(const host::attention::Problem& p, const Policy& policy,
                     std::shared_ptr<const TileProducts>* products) {
  ProductShape shape;
  if (policy.tasks > 0 && p.s_kv > 0) {
    shape.scores = p.score == QKV_SCORE_DOT && !policy.few_rows;
    shape.values = p.selection == QKV_SELECT_SOFT && !policy.few_rows;
    shape.bf16 = p.type == QKV_TYPE_BF16 && shape.scores && has_bf16_products();
    if (shape.scores || shape.values) {
      shape.tile_q = policy.tile_q;
      shape.tile_kv = policy.tile_kv;
    }
    shape.d_qk = shape.scores ? p.d_qk : 0;
    shape.d_v = shape.values ? p.d_v : 0;
  }
  QKV_RETURN_IF_ERROR(cache().get(shape, products));
  return (*products)->reserve(policy.threads);
}

}  // namespace qkv::cpu
