// The unfused CPU baseline against brute force in fp64: what the benchmarks compare with must be
// right.
#include "bench/baselines/cpu_unfused.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "bench/baselines/row_softmax.h"
#include "tests/support/elements.h"

namespace qkv::test {
namespace {

using bench::CpuUnfused;
using bench::Unfused;

struct Case {
  const char* name;
  int64_t batch, heads_q, heads_kv, s_q, s_kv, d_qk, d_v;
  bool causal;
  int64_t best = 0;
  bool additive = false;
};

constexpr Case kCases[] = {
    {"one_key", 1, 1, 1, 1, 1, 1, 1, false},
    {"one_query", 1, 2, 2, 1, 300, 64, 64, false},
    {"square", 1, 2, 2, 128, 128, 64, 64, false},
    {"square_causal", 1, 2, 2, 128, 128, 64, 64, true},
    {"primes", 2, 3, 3, 127, 211, 37, 53, false},
    {"primes_causal", 2, 3, 3, 127, 211, 37, 53, true},
    {"more_queries_than_keys_causal", 1, 1, 1, 50, 17, 16, 24, true},  // 33 rows see no key
    {"grouped_heads", 2, 6, 2, 40, 72, 32, 48, true},
    {"one_head_of_keys", 1, 5, 1, 33, 65, 80, 16, false},
    {"rows_shared_out", 1, 1, 1, 513, 100, 8, 8, true},
    {"no_keys", 1, 2, 2, 5, 0, 8, 8, false},
    {"no_queries", 1, 2, 2, 0, 5, 8, 8, false},
    {"no_batch", 0, 2, 2, 5, 5, 8, 8, false},
    {"best", 1, 4, 2, 33, 211, 16, 24, false, 1},
    {"best_ten_causal", 2, 2, 1, 50, 61, 16, 24, true, 10},  // of less than ten, too
    {"additive", 2, 4, 2, 19, 47, 37, 24, false, 0, true},
    {"additive_causal_best_three", 1, 2, 2, 40, 40, 32, 8, true, 3, true},
};

struct Memory {
  explicit Memory(size_t bytes)
      : data(std::aligned_alloc(64, (bytes / 64 + 1) * 64), std::free), size(bytes) {
    std::memset(data.get(), 0xff, size);  // NaN in every floating-point type
  }
  std::unique_ptr<void, void (*)(void*)> data;
  size_t size;
};

struct Tensor {
  Tensor(qkv_type element, int64_t count)
      : type(element), n(count), memory(static_cast<size_t>(n * host::type_size(type))) {}

  void* at(int64_t i) const {
    return static_cast<char*>(memory.data.get()) + i * host::type_size(type);
  }
  double operator[](int64_t i) const { return load(type, at(i)); }
  void fill(std::mt19937& random) const {
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < n; ++i) store(type, at(i), normal(random));
  }

  qkv_type type;
  int64_t n;
  Memory memory;
};

double unit_roundoff(qkv_type type) {
  return type == QKV_TYPE_F32 ? 0x1p-24 : type == QKV_TYPE_F16 ? 0x1p-11 : 0x1p-8;
}

using Param = std::tuple<Case, qkv_type, int>;  // and threads

std::string name(const testing::TestParamInfo<Param>& info) {
  const auto& [c, type, threads] = info.param;
  const char* type_name = type == QKV_TYPE_F32 ? "f32" : type == QKV_TYPE_F16 ? "f16" : "bf16";
  return std::string(c.name) + "_" + type_name + "_threads" + std::to_string(threads);
}

class CpuUnfusedTest : public testing::TestWithParam<Param> {};

// One row of the output and how far fp32 arithmetic may be off it: each score by its d_qk rounded
// products, the weights and their sums by s_kv of them, the output by its own rounding.
struct Row {
  std::vector<double> o, bound;
};

Row exact_row(const Unfused& p, const Tensor& q, const Tensor& k, const Tensor& v, int64_t head,
              int64_t i) {
  const int64_t head_kv = head / (p.heads_q / p.heads_kv), keys = p.visible(i);
  std::vector<double> s(static_cast<size_t>(keys));
  double m = -kInf, magnitude = 0, l = 0;
  for (int64_t j = 0; j < keys; ++j) {
    double sum = 0, absolute = 0;
    for (int64_t d = 0; d < p.d_qk; ++d) {
      const double a = q[(head * p.s_q + i) * p.d_qk + d];
      const double b = k[(head_kv * p.s_kv + j) * p.d_qk + d];
      const float* w = p.additive_weight;
      const double x =
          w == nullptr ? a * b
                       : static_cast<double>(w[head % p.heads_q * p.d_qk + d]) * std::tanh(a + b);
      sum += x;
      absolute += std::abs(x);
    }
    s[static_cast<size_t>(j)] = p.scale * sum;
    m = std::max(m, p.scale * sum);
    magnitude = std::max(magnitude, p.scale * absolute);
  }
  if (p.best > 0 && p.best < keys) {
    std::vector<double> ordered = s;
    std::nth_element(ordered.begin(), ordered.begin() + p.best - 1, ordered.end(),
                     std::greater<double>());
    const double least = ordered[static_cast<size_t>(p.best - 1)];
    for (double& x : s) x = x >= least ? x : -kInf;
  }
  for (double& x : s) l += x = std::exp(x - m);

  const double relative =
      0x1p-24 * (2 * static_cast<double>(p.d_qk + 3) * magnitude + static_cast<double>(keys + 16));
  Row row;
  for (int64_t d = 0; d < p.d_v; ++d) {
    double sum = 0, absolute = 0;
    for (int64_t j = 0; j < keys; ++j) {
      const double x = s[static_cast<size_t>(j)] / l * v[(head_kv * p.s_kv + j) * p.d_v + d];
      sum += x;
      absolute += std::abs(x);
    }
    row.o.push_back(sum);
    row.bound.push_back(relative * absolute + unit_roundoff(p.type) * std::abs(sum) + 0x1p-25);
  }
  return row;
}

TEST_P(CpuUnfusedTest, EqualsBruteForce) {
  const auto& [c, type, threads] = GetParam();
  Unfused p{type,   c.batch, c.heads_q, c.heads_kv, c.s_q, c.s_kv,
            c.d_qk, c.d_v,   0.25f,     c.causal,   c.best};
  std::mt19937 random(1);
  const Tensor w(QKV_TYPE_F32, c.heads_q * c.d_qk);
  w.fill(random);
  if (c.additive) p.additive_weight = static_cast<const float*>(w.at(0));
  const Tensor q(p.type, p.batch * p.heads_q * p.s_q * p.d_qk);
  const Tensor k(p.type, p.batch * p.heads_kv * p.s_kv * p.d_qk);
  const Tensor v(p.type, p.batch * p.heads_kv * p.s_kv * p.d_v);
  const Tensor o(p.type, p.batch * p.heads_q * p.s_q * p.d_v);
  for (const Tensor* tensor : {&q, &k, &v}) tensor->fill(random);

  const CpuUnfused baseline(p, threads);
  const Memory workspace(baseline.workspace_bytes());
  baseline.run(q.at(0), k.at(0), v.at(0), o.at(0), workspace.data.get());

  for (int64_t head = 0; head < p.batch * p.heads_q; ++head) {
    for (int64_t i = 0; i < p.s_q; ++i) {
      const Row want = exact_row(p, q, k, v, head, i);
      for (int64_t d = 0; d < p.d_v; ++d) {
        const auto n = static_cast<size_t>(d);
        ASSERT_NEAR(o[(head * p.s_q + i) * p.d_v + d], want.o[n], want.bound[n])
            << "head " << head << " row " << i << " column " << d;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Baselines, CpuUnfusedTest,
                         testing::Combine(testing::ValuesIn(kCases),
                                          testing::Values(QKV_TYPE_F32, QKV_TYPE_F16,
                                                          QKV_TYPE_BF16),
                                          testing::Values(1, 2, 3)),
                         name);

TEST(RowSoftmax, HiddenKeysGetZeroWhateverTheyHeld) {
  alignas(64) float s[32];
  for (float& x : s) x = std::nanf("");
  s[0] = s[1] = s[2] = 7;
  EXPECT_EQ(bench::row_softmax(s, 3, 20), 3);
  for (int j = 0; j < 20; ++j) EXPECT_EQ(s[j], j < 3 ? 1 : 0) << j;
}

TEST(RowSoftmax, NoScoreAboveMinusInfinityGivesZeros) {
  alignas(64) float s[16];
  for (float& x : s) x = -INFINITY;
  EXPECT_EQ(bench::row_softmax(s, 9, 16), 0);
  for (const float x : s) EXPECT_EQ(x, 0);
  for (float& x : s) x = 1;
  EXPECT_EQ(bench::row_softmax(s, 0, 16), 0);
  for (const float x : s) EXPECT_EQ(x, 0);
}

}  // namespace
}  // namespace qkv::test
