#include "host/ops/attention/cpu/attention.h"

#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "host/core/cpu/convert.h"
#include "host/core/cpu/onednn.h"
#include "host/ops/attention/cpu/few_rows.h"
#include "host/ops/attention/cpu/masks.h"
#include "host/ops/attention/cpu/parts.h"
#include "host/ops/attention/cpu/scores.h"
#include "host/ops/attention/cpu/scratch.h"
#include "host/ops/attention/cpu/softmax.h"
#include "host/ops/attention/cpu/tile_products.h"
#include "host/ops/attention/cpu/tiles.h"
#include "host/ops/attention/cpu/top_k.h"
#include "host/ops/attention/cpu/weights.h"

namespace qkv::cpu {
namespace {

using host::attention::KeyRange;
using host::attention::Problem;

constexpr float kInf = std::numeric_limits<float>::infinity();

// While it lives, and if so asked, results of this thread that would be subnormal are 0, as fast as
// others.
class FlushSubnormals {
 public:
#ifdef __SSE__
  explicit FlushSubnormals(bool flush) : flush_(flush), before_(flush ? _mm_getcsr() : 0) {
    if (flush_) _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON);
  }
  ~FlushSubnormals() {
    if (flush_) _mm_setcsr(before_);
  }

 private:
  bool flush_;
  unsigned before_;
#else
  explicit FlushSubnormals(bool) {}
#endif
};

// One thread's work. Functions that run products return false if oneDNN failed.
class Worker {
 public:
  Worker(const Problem& p, const Policy& policy, const TileProducts& products,
         TileProducts::Lane& lane, const Scratch& scratch)
      : p_(p),
        policy_(policy),
        tile_q_(policy.tile_q),
        tile_kv_(policy.tile_kv),
        few_rows_(policy.few_rows),
        products_(products),
        lane_(lane),
        scratch_(scratch),
        bf16_(products.shape().bf16),
        width_(score_width(p, policy.few_rows)),
        soft_(p.selection == QKV_SELECT_SOFT),
        top_k_(p.selection == QKV_SELECT_TOP_K),
        wants_scores_(p.weights.present() && p.weights_mode != QKV_WEIGHTS_PROBABILITIES),
        wants_hidden_scores_(p.scores_all_keys()),
        // -inf times a positive scale is -inf: a mask alone can go before it.
        transforms_(p.softcap > 0 || p.bias.present() || p.alibi_slopes.present() ||
                    (p.mask.present() && !(p.scale > 0)) || wants_scores_),
        state_{scratch.m, scratch.l, scratch.o, p.d_v} {}

  // A tile of queries against the keys that it sees.
  bool attend(const QueryTile& q) {
    if (!see(q, visible_keys(p_, q))) return false;
    finish(q);
    return true;
  }

  // The same against a part of these keys; what it finds stays in `state`.
  bool attend_part(const QueryTile& q, int64_t part, std::byte* state) {
    const KeyRange keys = part_of(visible_keys(p_, q), policy_, part);
    if (keys.begin >= keys.end) {
      keep_empty_part(p_, tile_q_, q.rows, state);
      return true;
    }
    if (!see(q, keys)) return false;
    keep_part(p_, tile_q_, q.rows, scratch_, state);
    return true;
  }

  void merge(const QueryTile& q, const std::byte* states) {
    merge_parts(p_, tile_q_, q.rows, states, policy_.parts, scratch_);
    finish(q);
  }

 private:
  bool see(const QueryTile& q, const KeyRange& seen) {
    start(q);
    const KeyRange wanted = wants_hidden_scores_ ? KeyRange{0, q.length} : seen;
    for (int64_t j = first_key(wanted); j < wanted.end;) {
      const KeyTile tile = next_tile(j, wanted.end);
      j += tile.width;
      look_at_mask(q, tile);
      // Such keys have no part in sums, maxima or lists; only the weights output speaks of them.
      if (hides_ == Hides::kEverything && !p_.weights.present()) continue;
      if (!score(q, tile)) return false;
      if (tile.first < seen.end && tile.first + tile.keys > seen.begin && !select(q, tile)) {
        return false;
      }
    }
    // Scores of all keys go on past the length, in tiles of their own.
    if (wants_hidden_scores_ && !score_keys(q, {q.length, p_.s_kv})) return false;
    // O comes last: it may stand in the place of Q, which the weights read once more.
    return !p_.weights.present() || finish_weights(q, wanted);
  }

  // With a fixed split size tiles begin at their multiples and are computed whole: in which order a
  // row is summed up then does not depend on the rows beside it.
  int64_t first_key(const KeyRange& wanted) const {
    return p_.fixed_split_size > 0 ? wanted.begin / tile_kv_ * tile_kv_ : wanted.begin;
  }
  KeyTile next_tile(int64_t first, int64_t end) const {
    if (p_.fixed_split_size > 0) return {first, std::min(end - first, tile_kv_), tile_kv_};
    return key_tile(first, end, tile_kv_);
  }

  void start(const QueryTile& q) {
    gather_queries(q);
    std::fill_n(scratch_.m, tile_q_, -kInf);
    if (soft_) {
      std::fill_n(scratch_.l, tile_q_, 0.0f);
      std::fill_n(scratch_.o, tile_q_ * p_.d_v, 0.0f);
      if (bf16_ && q.rows < tile_q_) {
        std::fill_n(scratch_.p16, tile_q_ * tile_kv_, uint16_t{0});  // the padding rows of P
      }
    } else if (top_k_) {
      scratch_.top.clear(tile_q_);
    } else {
      std::fill_n(scratch_.index, tile_q_, int64_t{-1});
    }
    if (p_.score == QKV_SCORE_ADDITIVE) {
      std::fill_n(scratch_.w, width_, 0.0f);
      to_float(p_.additive_weight.at<float>(0, q.h, 0), QKV_TYPE_F32, p_.additive_weight.stride[3],
               p_.d_qk, scratch_.w);
    }
  }

  // Of one head as they lie, if they serve so; those of several one head after the other.
  void gather_queries(const QueryTile& q) {
    if (q.heads == 1) {
      q_ = dense_tile(p_.q, q.b, q.h, q.first, q.rows, tile_q_, width_, bf16_, scratch_.q);
      return;
    }
    const int64_t bytes = q.queries * width_ * operand_bytes();
    auto* to = static_cast<std::byte*>(scratch_.q);
    for (int64_t n = 0; n < q.heads; ++n, to += bytes) {
      const void* from =
          dense_tile(p_.q, q.b, q.h + n, q.first, q.queries, q.queries, width_, bf16_, to);
      if (from != to) std::memcpy(to, from, static_cast<size_t>(bytes));
    }
    q_ = scratch_.q;
  }

  void look_at_mask(const QueryTile& q, const KeyTile& tile) {
    if (p_.mask.present()) hides_ = mask_hides(p_, q, tile);
  }

  // scratch.s = the scores of a tile that the mask has been looked at for. They still lack the
  // scale, and the columns outside the visible range are still to be hidden, by whoever reads them
  // with score_tile().
  bool score(const QueryTile& q, const KeyTile& tile) {
    if (!multiply_by_keys(q, tile)) return false;
    hide_columns(q, tile);
    if (transforms_) {
      transform(q, tile);
    } else if (hides_ != Hides::kNothing) {
      hide_masked(p_, q, tile, scratch_.s, -kInf);
    }
    return true;
  }

  bool multiply_by_keys(const QueryTile& q, const KeyTile& tile) {
    if (few_rows_) {
      few_scores(static_cast<const float*>(q_), q.rows, width_, rows_of(p_.k, q, tile), scratch_.s,
                 tile.width);
      for (int64_t r = 0; r < q.rows; ++r)
        std::fill(scratch_.s + r * tile.width + tile.keys, scratch_.s + (r + 1) * tile.width, 0.0f);
      return true;
    }
    const void* k =
        dense_tile(p_.k, q.b, q.h_kv, tile.first, tile.keys, tile.width, width_, bf16_, scratch_.k);
    if (p_.score != QKV_SCORE_ADDITIVE)
      return products_.scores(lane_, tile.width, q_, k, scratch_.s, scratch_.product);
    additive_scores(static_cast<const float*>(q_), static_cast<const float*>(k), scratch_.w, q.rows,
                    tile.width, width_, scratch_.s, scratch_.product);
    return true;
  }

  // For the weights output alone: no key of them is seen.
  bool score_keys(const QueryTile& q, const KeyRange& keys) {
    for (int64_t j = keys.begin; j < keys.end;) {
      const KeyTile tile = key_tile(j, keys.end, tile_kv_);
      look_at_mask(q, tile);
      if (!score(q, tile)) return false;
      j += tile.width;
    }
    return true;
  }

  // Which columns of the tile each row sees by length and window. `boundary_` is false where all
  // rows see all columns, as in most tiles: then nothing is masked.
  void hide_columns(const QueryTile& q, const KeyTile& tile) {
    const KeyRange top = host::attention::visible_keys(p_, q.first, q.length);
    const KeyRange bottom = host::attention::visible_keys(p_, q.first + q.queries - 1, q.length);
    boundary_ = tile.first < bottom.begin || tile.first + tile.width > top.end;
    if (!boundary_) return;
    for (int64_t r = 0; r < q.rows; ++r) {
      const KeyRange keys = host::attention::visible_keys(p_, q.query(r), q.length);
      const auto column = [&](int64_t j) {
        return static_cast<int32_t>(std::clamp<int64_t>(j - tile.first, 0, tile.keys));
      };
      scratch_.begin[r] = column(keys.begin);
      scratch_.end[r] = column(keys.end);
    }
  }

  // Scale, softcap, bias, ALiBi and mask, with the weights output in between where it wants one of
  // these stages.
  void transform(const QueryTile& q, const KeyTile& tile) {
    float* s = scratch_.s;
    const int64_t n = q.rows * tile.width;
    scale(s, n, p_.scale);
    if (wants(QKV_WEIGHTS_SCORES)) store_weights(p_, q, tile, s);
    if (p_.softcap > 0) softcap(s, n, p_.softcap);
    if (wants(QKV_WEIGHTS_SOFTCAPPED)) store_weights(p_, q, tile, s);
    if (p_.bias.present()) add_bias_tile(p_, q, tile, s, scratch_.bias);
    if (p_.alibi_slopes.present()) subtract_alibi_tile(p_, q, tile, s);
    if (hides_ != Hides::kNothing) hide_masked(p_, q, tile, s, -kInf);
    if (wants(QKV_WEIGHTS_MASKED)) {
      hide_outside(q, tile);
      store_weights(p_, q, tile, s);
    }
  }

  bool wants(qkv_weights_mode mode) const {
    return p_.weights.present() && p_.weights_mode == mode;
  }

  void hide_outside(const QueryTile& q, const KeyTile& tile) {
    if (!boundary_) return;
    for (int64_t r = 0; r < q.rows; ++r) {
      float* row = scratch_.s + r * tile.width;
      std::fill(row, row + scratch_.begin[r], -kInf);
      std::fill(row + std::max(scratch_.begin[r], scratch_.end[r]), row + tile.width, -kInf);
    }
  }

  ScoreTile score_tile(const QueryTile& q, const KeyTile& tile) const {
    return {scratch_.s,
            bf16_ ? scratch_.p16 : nullptr,
            q.rows,
            tile.width,
            transforms_ ? 1.0f : p_.scale,
            boundary_ ? scratch_.begin : nullptr,
            boundary_ ? scratch_.end : nullptr,
            {},
            {},
            p_.type != QKV_TYPE_F32};
  }

  bool select(const QueryTile& q, const KeyTile& tile) {
    if (top_k_) {
      running_top_k(score_tile(q, tile), tile.first, scratch_.top);
      return true;
    }
    if (!soft_) {
      running_argmax(score_tile(q, tile), tile.first, scratch_.m, scratch_.index);
      return true;
    }
    ScoreTile scores = score_tile(q, tile);
    if (few_rows_) {
      const FlushSubnormals flush(online_softmax(scores, state_));
      const int64_t n = q.rows * p_.d_v;
      std::fill_n(scratch_.tile_o, n, 0.0f);
      few_values(scratch_.s, q.rows, tile.width, rows_of(p_.v, q, tile), scratch_.tile_o);
      for (int64_t i = 0; i < n; ++i) scratch_.o[i] += scratch_.tile_o[i];
      return true;
    }
    const void* v =
        dense_tile(p_.v, q.b, q.h_kv, tile.first, tile.keys, tile.width, p_.d_v, bf16_, scratch_.v);
    scores.values = {v, tile.width * p_.d_v * operand_bytes()};
    scores.keys = next_keys(q, tile);
    const FlushSubnormals flush(online_softmax(scores, state_));
    const void* probabilities = bf16_ ? static_cast<const void*>(scratch_.p16) : scratch_.s;
    return products_.values(lane_, tile.width, probabilities, v, scratch_.o, scratch_.product);
  }

  int64_t operand_bytes() const { return bf16_ ? 2 : 4; }

  // The keys of the next tile where the user's memory has them one after another.
  Ahead next_keys(const QueryTile& q, const KeyTile& tile) const {
    const int64_t first = tile.first + tile.width, last = std::min(first + tile.width, q.length);
    if (first >= last || p_.k.stride[2] != p_.d_qk) return {};
    return {row_of(p_.k, q.b, q.h_kv, first), (last - first) * p_.d_qk * host::type_size(p_.type)};
  }

  // O, LSE and index of the tile's rows.
  void finish(const QueryTile& q) {
    const auto row_bytes = static_cast<size_t>(p_.d_v * host::type_size(p_.type));
    for (int64_t r = 0; r < q.rows; ++r) {
      const int64_t h = q.head(r), i = q.query(r);
      std::byte* o = row_of(p_.o, q.b, h, i);
      if (top_k_) {
        finish_top(q, r, o);
        continue;
      }
      const bool seen = soft_ ? scratch_.l[r] != 0 : scratch_.index[r] >= 0;
      if (!seen) {
        std::memset(o, 0, row_bytes);
      } else if (soft_) {
        divide(scratch_.o + r * p_.d_v, p_.d_v, scratch_.l[r], o, p_.type);
      } else {
        std::memcpy(o, row_of(p_.v, q.b, q.key_head(r), scratch_.index[r]), row_bytes);
      }
      if (p_.lse.present()) *p_.lse.at<float>(q.b, h, i) = lse(r, seen);
      if (p_.index.present()) store_index(q.b, h, i, 0, scratch_.index[r]);
    }
  }

  void store_index(int64_t b, int64_t h, int64_t i, int64_t n, int64_t key) const {
    if (p_.index.type == QKV_TYPE_I32) {
      *p_.index.at<int32_t>(b, h, i, n) = static_cast<int32_t>(key);
    } else {
      *p_.index.at<int64_t>(b, h, i, n) = key;
    }
  }

  // The same of a row of top-k selection: softmax over its keys, whose values are read here alone.
  void finish_top(const QueryTile& q, int64_t r, std::byte* o) {
    const int64_t h = q.head(r), i = q.query(r);
    scratch_.top.rank(r);
    const RankedKey* const keys = scratch_.top.row(r);
    const TopSum sum = weigh(scratch_.top, r, scratch_.weights);
    std::fill_n(scratch_.o, p_.d_v, 0.0f);
    auto* const v = static_cast<float*>(scratch_.v);
    for (int64_t n = 0; n < sum.count; ++n) {
      to_float(row_of(p_.v, q.b, q.key_head(r), keys[n].key), p_.type, 1, p_.d_v, v);
      for (int64_t d = 0; d < p_.d_v; ++d) scratch_.o[d] += scratch_.weights[n] * v[d];
    }
    const bool seen = sum.count > 0;
    divide(scratch_.o, p_.d_v, seen ? sum.l : 1.0f, o, p_.type);
    if (p_.lse.present()) *p_.lse.at<float>(q.b, h, i) = seen ? log_sum(sum.m, sum.l) : -kInf;
    for (int64_t n = 0; n < p_.top_k; ++n) {
      const RankedKey key = n < sum.count ? keys[n] : RankedKey{-kInf, -1};
      if (p_.index.present()) store_index(q.b, h, i, n, key.key);
      if (p_.top_scores.present()) *p_.top_scores.at<float>(q.b, h, i, n) = key.score;
    }
  }

  float lse(int64_t r, bool seen) const {
    if (!seen) return -kInf;
    if (!soft_) return scratch_.m[r];
    return log_sum(scratch_.m[r], scratch_.l[r]);
  }

  static float log_sum(float m, float l) {
    return static_cast<float>(m + std::log(static_cast<double>(l)));
  }

  static std::byte* row_of(const host::View& x, int64_t b, int64_t h, int64_t i) {
    return static_cast<std::byte*>(x.data) + x.offset(b, h, i) * host::type_size(x.type);
  }

  // What the tiles did not store: keys that no tile computed, and the probabilities, which need the
  // final m and l and so the scores a second time.
  bool finish_weights(const QueryTile& q, const KeyRange& wanted) {
    if (top_k_ && wants(QKV_WEIGHTS_PROBABILITIES)) {
      store_top_weights(q);
      return true;
    }
    if (!soft_ && wants(QKV_WEIGHTS_PROBABILITIES)) {
      store_one_hot(p_, q, scratch_.index);
      return true;
    }
    if (wants_hidden_scores_) return true;
    const int64_t begin = std::min(wanted.begin, p_.s_kv);
    const int64_t end = std::max(begin, wanted.end);
    fill_weights(p_, q, 0, begin, hidden_weight(p_));
    fill_weights(p_, q, end, p_.s_kv, hidden_weight(p_));
    if (!wants(QKV_WEIGHTS_PROBABILITIES)) return true;
    for (int64_t j = first_key(wanted); j < wanted.end;) {
      const KeyTile tile = next_tile(j, wanted.end);
      look_at_mask(q, tile);
      if (!score(q, tile)) return false;
      probabilities(score_tile(q, tile), state_);
      if (hides_ != Hides::kNothing)
        hide_masked(p_, q, tile, scratch_.s, 0.0f);  // in rows that are NaN, not 0 yet
      store_weights(p_, q, tile, scratch_.s);
      j += tile.width;
    }
    return true;
  }

  void store_top_weights(const QueryTile& q) {
    fill_weights(p_, q, 0, p_.s_kv, 0.0f);
    for (int64_t r = 0; r < q.rows; ++r) {
      scratch_.top.rank(r);
      const TopSum sum = weigh(scratch_.top, r, scratch_.weights);
      for (int64_t n = 0; n < sum.count; ++n) scratch_.weights[n] /= sum.l;
      store_chosen(p_, q, r, scratch_.top.row(r), scratch_.weights, sum.count);
    }
  }

  const Problem& p_;
  const Policy& policy_;
  const int64_t tile_q_, tile_kv_;
  const bool few_rows_;
  const TileProducts& products_;
  TileProducts::Lane& lane_;
  const Scratch scratch_;
  const bool bf16_;
  const int64_t width_;  // of Q and K as operands
  const bool soft_, top_k_;
  const bool wants_scores_, wants_hidden_scores_;
  const bool transforms_;  // scores get more than a scale before the selection
  const SoftmaxState state_;
  const void* q_ = nullptr;
  bool boundary_ = false;
  Hides hides_ = Hides::kNothing;  // of the tile at hand
};

}  // namespace

host::Status run(const Problem& p, const Policy& policy, const TileProducts& products,
                 void* workspace) {
  if (policy.tasks == 0) return {};
  auto* const memory = static_cast<std::byte*>(workspace);
  std::byte* const parts = memory + static_cast<size_t>(policy.threads) * policy.thread_bytes;
  const size_t bytes = policy.parts > 1 ? part_bytes(p, policy.tile_q) : 0;
  const auto part = [&](int64_t task) { return parts + static_cast<size_t>(task) * bytes; };
  const int32_t threads = std::min(policy.threads, host::cpu_threads(p.threads));
  std::atomic<int64_t> next{0}, next_merge{0};
  std::atomic<size_t> entered{0};  // a program's omp_get_thread_num() need not be OpenMP's
  std::atomic<bool> no_lane{false}, failed{false};
#pragma omp parallel num_threads(threads)
  {
    // A region of one thread does not count as parallel: oneDNN would use all others, and sum up in
    // another order.
    const OneThread one_thread;
    const size_t thread = entered++;
    const auto lane = products.borrow();
    if (!lane) no_lane = true;
    const auto work = [&](std::atomic<int64_t>& number, int64_t end, const auto& task) {
      if (!lane) return;
      Worker worker(p, policy, products, *lane,
                    carve(memory + thread * policy.thread_bytes, p, policy));
      for (int64_t n = number++; n < end && !failed; n = number++) {
        if (!task(worker, n)) failed = true;
      }
    };
    work(next, policy.tasks, [&](Worker& worker, int64_t n) {
      const QueryTile q = query_tile(p, policy, n / policy.parts);
      return policy.parts == 1 ? worker.attend(q)
                               : worker.attend_part(q, n % policy.parts, part(n));
    });
    if (policy.parts > 1) {
#pragma omp barrier
      work(next_merge, policy.tiles, [&](Worker& worker, int64_t n) {
        worker.merge(query_tile(p, policy, n), part(n * policy.parts));
        return true;
      });
    }
  }
  QKV_REQUIRE(!failed, QKV_INTERNAL, "oneDNN failed to run a tile product");
  QKV_REQUIRE(!no_lane || next >= policy.tasks, QKV_RESOURCE_OUT_OF_MEMORY,
              "no host memory for oneDNN's streams");
  return {};
}

}  // namespace qkv::cpu
