// The tiles that one thread works in, carved out of the caller's workspace.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "host/core/cpu/product.h"
#include "host/core/cpu/targets.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/few_rows.h"
#include "host/ops/attention/cpu/scores.h"
#include "host/ops/attention/cpu/top_k.h"
#include "host/ops/attention/problem.h"

namespace qkv::cpu {

// Keys are taken tile_kv at a time while so many are left, then by halves of it down to this.
inline constexpr int64_t kTailKeys = 64;
inline constexpr int64_t kMaxTileKv = 256;

struct Scratch {
  float* s;        // [tile_q, tile_kv]  scores, then P
  uint16_t* p16;   // [tile_q, tile_kv]  P of bf16 problems
  float* o;        // [tile_q, d_v]      sum of P V; under top-k selection of one row
  float* tile_o;   // [tile_q, d_v]      of a tile of few rows
  void* q;         // [tile_q, d_qk]     operands where the user's memory does not serve as it is
  void* k;         // [tile_kv, d_qk]
  void* v;         // [tile_kv, d_v]     under top-k selection one row
  float* m;        // [tile_q]
  float* l;        // [tile_q]
  int64_t* index;  // [tile_q]          best key under hard selection
  TopK top;        // of tile_q rows    under top-k selection
  float* weights;  // [top_k]           likewise, of one row
  int32_t* begin;  // [tile_q]          visible columns of a tile
  int32_t* end;
  float* bias;         // [tile_kv]      one row
  float* w;            // [d_qk]         additive weight
  std::byte* product;  // oneDNN's own; of additive scores
  size_t bytes;        // of everything
};

// The width of Q and K as operands: what reads whole vectors has it padded.
inline int64_t score_width(const host::attention::Problem& p, bool few_rows) {
  return few_rows || p.score == QKV_SCORE_ADDITIVE ? round_up(p.d_qk, kLanes) : p.d_qk;
}

// Carves a thread's part; `base` is 256-byte aligned, or null to learn the size.
inline Scratch carve(std::byte* base, const host::attention::Problem& p, const Policy& policy) {
  const int64_t tile_q = policy.tile_q, tile_kv = policy.tile_kv;
  const int64_t width = score_width(p, policy.few_rows);
  size_t used = 0;
  const auto take = [&](bool wanted, int64_t count, size_t size) -> std::byte* {
    if (!wanted) return nullptr;
    std::byte* at = base == nullptr ? nullptr : base + used;
    used += (static_cast<size_t>(count) * size + 255) / 256 * 256;
    return at;
  };
  const auto floats = [&](bool wanted, int64_t count) {
    return reinterpret_cast<float*>(take(wanted, count, sizeof(float)));
  };
  const bool soft = p.selection == QKV_SELECT_SOFT, hard = p.selection == QKV_SELECT_HARD;
  const bool top = p.selection == QKV_SELECT_TOP_K;
  const bool additive = p.score == QKV_SCORE_ADDITIVE;
  // Without the machine's own bf16 product, operands are widened to fp32: the size is the same for
  // all machines.
  Scratch out{};
  out.s = floats(true, tile_q * tile_kv);
  out.p16 = reinterpret_cast<uint16_t*>(take(soft && !policy.few_rows && p.type == QKV_TYPE_BF16,
                                             tile_q * tile_kv, sizeof(uint16_t)));
  out.o = floats(soft || top, top ? p.d_v : tile_q * p.d_v);
  out.tile_o = floats(soft && policy.few_rows, tile_q * p.d_v);
  out.q = floats(true, tile_q * width);
  out.k = floats(!policy.few_rows, tile_kv * width);
  out.v = floats(top || (soft && !policy.few_rows), top ? p.d_v : tile_kv * p.d_v);
  out.m = floats(true, tile_q);
  out.l = floats(true, tile_q);
  out.index = reinterpret_cast<int64_t*>(take(hard, tile_q, sizeof(int64_t)));
  out.top.k = p.top_k;
  out.top.kept =
      reinterpret_cast<RankedKey*>(take(top, tile_q * top_room(p.top_k), sizeof(RankedKey)));
  out.top.count = reinterpret_cast<int64_t*>(take(top, tile_q, sizeof(int64_t)));
  out.top.bar = floats(top, tile_q);
  out.weights = floats(top, p.top_k);
  out.begin = reinterpret_cast<int32_t*>(take(true, tile_q, sizeof(int32_t)));
  out.end = reinterpret_cast<int32_t*>(take(true, tile_q, sizeof(int32_t)));
  out.bias = floats(p.bias.present(), tile_kv);
  out.w = floats(additive, width);
  const size_t scores = additive ? additive_scratch_bytes(tile_q, width)
                                 : product_scratch_bytes(tile_q, tile_kv, p.d_qk);
  const size_t values = soft ? product_scratch_bytes(tile_q, p.d_v, tile_kv) : 0;
  out.product = take(!policy.few_rows, static_cast<int64_t>(std::max(scores, values)), 1);
  out.bytes = used;
  return out;
}

}  // namespace qkv::cpu
