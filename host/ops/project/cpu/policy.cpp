#include "host/ops/project/cpu/policy.h"

#include <algorithm>

#include "host/core/cpu/product.h"
#include "host/core/cpu/targets.h"
#include "host/core/cpu/threads.h"

namespace qkv::cpu::project {
namespace {

// A block's sums, and a piece of each factor as fp32, lie in 1.25 MiB.
constexpr int64_t kMostRows = 256, kMostColumns = 256, kMostDepth = 512;
constexpr int64_t kLeastSide = 64;    // what few tasks may split down to
constexpr int64_t kEnoughTasks = 16;  // of any shape: results must not depend on the thread count

// Pieces of nearly equal size, so that the last one wastes little.
Cut even_cut(int64_t whole, int64_t most) {
  const int64_t count = Cut::of(whole, most).count;
  const int64_t even = Cut::of(whole, count).count;
  return Cut::of(whole, even <= 16 ? even : std::min(most, round_up(even, 16)));
}

// In multiply-adds of a product. Few rows pay for reading the weight instead.
double work(const Problem& p) {
  constexpr double kRead = 16;  // of an element of the weight, once for each block of rows
  const double rows = static_cast<double>(p.batch) * static_cast<double>(p.rows);
  const double passes = std::max(rows / kMostRows, 1.0);
  return static_cast<double>(p.in) * static_cast<double>(p.out()) * (rows + passes * kRead);
}

}  // namespace

int64_t x_pitch(const Problem& p) { return p.rows == 1 ? p.x.stride[0] : p.x.stride[2]; }

int64_t weight_pitch(const Problem& p) { return p.weight.stride[p.weight_by_out() ? 2 : 3]; }

Policy select_policy(const Problem& p, int32_t threads) {
  Policy policy;
  if (p.empty()) return policy;
  int64_t rows = kMostRows, columns = kMostColumns;
  const int64_t all_rows = p.batch * p.rows;
  const auto few = [&] {
    return Cut::of(all_rows, rows).count * Cut::of(p.out(), columns).count < kEnoughTasks;
  };
  while (few() && columns > kLeastSide) columns /= 2;
  while (few() && rows > kLeastSide) rows /= 2;
  policy.rows = even_cut(all_rows, rows);
  policy.columns = even_cut(p.out(), columns);
  policy.depth = even_cut(p.in, kMostDepth);

  const bool one_pitch = p.batch == 1 || p.rows == 1 || p.x.stride[0] == p.rows * p.x.stride[2];
  policy.x_as_it_is = one_pitch && (all_rows == 1 || x_pitch(p) >= p.in);
  const int64_t width = p.weight_by_out() ? p.in : p.out();
  const bool one_line = (p.weight_by_out() ? p.out() : p.in) == 1;
  policy.weight_as_it_is = one_line || weight_pitch(p) >= width;
  policy.threads = static_cast<int32_t>(
      std::clamp<int64_t>(useful_threads(work(p), threads), 1, policy.tasks()));
  policy.workspace_bytes = static_cast<size_t>(policy.threads) * carve(nullptr, p, policy).bytes;
  return policy;
}

Scratch carve(std::byte* base, const Problem& p, const Policy& policy) {
  size_t used = 0;
  const auto take = [&](bool wanted, int64_t count, size_t size) -> std::byte* {
    if (!wanted) return nullptr;
    std::byte* at = base == nullptr ? nullptr : base + used;
    used += (static_cast<size_t>(count) * size + 255) / 256 * 256;
    return at;
  };
  const int64_t m = policy.rows.piece, n = policy.columns.piece, k = policy.depth.piece;
  // Without the machine's own product operands of 16 bits are widened to fp32: the size is the same
  // for all machines.
  const bool f32 = p.type == QKV_TYPE_F32;
  Scratch out{};
  out.sums = reinterpret_cast<float*>(take(true, m * n, sizeof(float)));
  out.x = take(!f32 || !policy.x_as_it_is, m * k, sizeof(float));
  out.weight = take(!f32 || !policy.weight_as_it_is, n * k, sizeof(float));
  out.bias = reinterpret_cast<float*>(take(p.bias.present(), n, sizeof(float)));
  out.product = take(true, static_cast<int64_t>(product_scratch_bytes(m, n, k)), 1);
  out.bytes = used;
  return out;
}

}  // namespace qkv::cpu::project
