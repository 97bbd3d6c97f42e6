// The matrices of the CPU backend: dense tiles, tile products, and the policy that sizes them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "host/core/cpu/convert.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/scratch.h"
#include "host/ops/attention/cpu/tile_products.h"
#include "host/ops/attention/cpu/tiles.h"
#include "tests/support/guarded.h"

namespace qkv::cpu {
namespace {

using test::Guarded;
using test::normal;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST(DenseTile, IsTheUsersMemoryOrAZeroFilledCopy) {
  std::vector<float> data(6 * 8);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<float>(i);
  host::View x;
  x.data = data.data();
  x.type = QKV_TYPE_F32;
  x.shape = {1, 1, 6, 8};
  x.stride = {0, 0, 8, 1};
  std::vector<float> memory(16 * 16, kNaN);
  float* scratch = memory.data();
  EXPECT_EQ(dense_tile(x, 0, 0, 2, 4, 4, 8, false, scratch), data.data() + 16);
  EXPECT_EQ(dense_tile(x, 0, 0, 2, 4, 5, 16, false, scratch), scratch);
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t d = 0; d < 16; ++d) {
      EXPECT_EQ(scratch[i * 16 + d],
                i < 4 && d < 8 ? data[static_cast<size_t>(16 + i * 8 + d)] : 0);
    }
  }
  x.shape[3] = 5;  // rows with gaps
  EXPECT_EQ(dense_tile(x, 0, 0, 0, 6, 6, 5, false, scratch), scratch);
  EXPECT_EQ(scratch[5], 8.0f);
}

struct ProductCase {
  const char* name;
  bool bf16;
  int64_t tile_q, tile_kv, d_qk, d_v;
};
class Products : public testing::TestWithParam<ProductCase> {};

TEST_P(Products, MultiplyAndStayInside) {
  const ProductCase& c = GetParam();
  if (c.bf16 && !has_bf16_products()) GTEST_SKIP() << "no bf16 products on this machine";
  std::shared_ptr<const TileProducts> products;
  const ProductShape shape{c.bf16, true, true, c.tile_q, c.tile_kv, c.d_qk, c.d_v};
  const host::Status status = TileProducts::create(shape, &products);
  ASSERT_TRUE(status.ok()) << status.reason();
  auto lane = products->borrow();
  for (int64_t keys = c.tile_kv; keys == c.tile_kv || keys >= kTailKeys; keys /= 2) {
    const size_t element = c.bf16 ? 2 : 4;
    const auto operand = [&](int64_t n, std::vector<float>* values, uint64_t seed) {
      const std::vector<float> x = normal(n, seed);
      auto memory = std::make_unique<Guarded>(static_cast<size_t>(n) * element);
      const qkv_type type = c.bf16 ? QKV_TYPE_BF16 : QKV_TYPE_F32;
      from_float(x.data(), n, memory->data, type, 1);
      values->resize(static_cast<size_t>(n));
      to_float(memory->data, type, 1, n, values->data());
      return memory;
    };
    std::vector<float> q, k, p, v;
    const auto mq = operand(c.tile_q * c.d_qk, &q, 1), mk = operand(keys * c.d_qk, &k, 2);
    const auto mp = operand(c.tile_q * keys, &p, 3), mv = operand(keys * c.d_v, &v, 4);
    const size_t scratch_bytes = std::max(product_scratch_bytes(c.tile_q, keys, c.d_qk),
                                          product_scratch_bytes(c.tile_q, c.d_v, keys));
    const Guarded s(static_cast<size_t>(c.tile_q * keys) * 4),
        o(static_cast<size_t>(c.tile_q * c.d_v) * 4), scratch((scratch_bytes + 255) / 256 * 256);
    auto* s_out = reinterpret_cast<float*>(s.data);
    auto* o_out = reinterpret_cast<float*>(o.data);
    std::fill_n(o_out, c.tile_q * c.d_v, 0.5f);
    ASSERT_TRUE(products->scores(*lane, keys, mq->data, mk->data, s_out, scratch.data));
    ASSERT_TRUE(products->values(*lane, keys, mp->data, mv->data, o_out, scratch.data));
    const auto at = [](const std::vector<float>& x, int64_t i) {
      return static_cast<double>(x[static_cast<size_t>(i)]);
    };
    for (int64_t i = 0; i < c.tile_q; ++i) {
      for (int64_t j = 0; j < keys; ++j) {
        double want = 0;
        for (int64_t d = 0; d < c.d_qk; ++d) want += at(q, i * c.d_qk + d) * at(k, j * c.d_qk + d);
        ASSERT_NEAR(s_out[i * keys + j], want, 1e-4) << i << "," << j;
      }
      for (int64_t d = 0; d < c.d_v; ++d) {
        double want = 0.5;
        for (int64_t j = 0; j < keys; ++j) want += at(p, i * keys + j) * at(v, j * c.d_v + d);
        ASSERT_NEAR(o_out[i * c.d_v + d], want, 1e-4) << i << "," << d;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tiles, Products,
                         testing::Values(ProductCase{"fp32_whole", false, 128, 256, 128, 128},
                                         ProductCase{"fp32_one_query", false, 1, 256, 64, 64},
                                         ProductCase{"fp32_odd", false, 13, 64, 33, 7},
                                         ProductCase{"fp32_dim_1", false, 3, 64, 1, 1},
                                         ProductCase{"fp32_small_tile", false, 8, 16, 70, 1},
                                         ProductCase{"bf16_whole", true, 128, 256, 128, 128},
                                         ProductCase{"bf16_one_query", true, 1, 256, 64, 64},
                                         ProductCase{"bf16_odd", true, 13, 64, 33, 7},
                                         ProductCase{"bf16_dim_1", true, 3, 64, 1, 1}),
                         [](const auto& row) { return std::string(row.param.name); });

// Which processors multiply bf16 as it is; the others widen it.
TEST(Bf16Products, PayByProcessor) {
  EXPECT_FALSE(bf16_products_pay(dnnl_cpu_isa_avx2, false));
  EXPECT_FALSE(bf16_products_pay(dnnl_cpu_isa_avx512_core_vnni, true));
  EXPECT_TRUE(bf16_products_pay(dnnl_cpu_isa_avx512_core_bf16, false)) << "AMD, from Zen 4 on";
  EXPECT_FALSE(bf16_products_pay(dnnl_cpu_isa_avx512_core_bf16, true)) << "Intel without AMX";
  EXPECT_TRUE(bf16_products_pay(dnnl_cpu_isa_avx512_core_amx, true));
  EXPECT_TRUE(bf16_products_pay(dnnl_cpu_isa_avx512_core_amx, false));
}

TEST(Policy, IsPureAndSmall) {
  std::mt19937_64 random(5);
  const auto pick = [&](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  for (int n = 0; n < 2000; ++n) {
    host::attention::Problem p;
    p.type = static_cast<qkv_type>(1 + pick(3));
    p.score = static_cast<qkv_score>(pick(2));
    p.selection = static_cast<qkv_selection>(pick(2));
    p.batch = pick(4);
    p.heads_kv = 1 + pick(4);
    p.heads_q = p.heads_kv * (1 + pick(4));
    p.s_q = pick(3) == 0 ? pick(10) : pick(100000);
    p.s_kv = pick(3) == 0 ? pick(10) : pick(100000);
    p.d_qk = 1 + pick(pick(2) == 0 ? 300 : 3000);
    p.d_v = 1 + pick(300);
    const bool interleaved =
        pick(2) == 0;  // [batch, seq, heads, dim], else [batch, heads, seq, dim]
    const auto view = [&](int64_t dim) {
      host::View x;
      x.type = p.type;
      x.shape = {p.batch, p.heads_kv, p.s_kv, dim};
      const int64_t head = interleaved ? dim : p.s_kv * dim;
      x.stride = {p.heads_kv * p.s_kv * dim, head, interleaved ? p.heads_kv * dim : dim, 1};
      return x;
    };
    p.k = view(p.d_qk), p.v = view(p.d_v);
    const Policy one = select_policy(p, 1), again = select_policy(p, 1), many = select_policy(p, 7);
    if (p.empty()) {
      EXPECT_EQ(one.workspace_bytes, 0u);
      EXPECT_EQ(one.tasks, 0);
      continue;
    }
    EXPECT_EQ(one.workspace_bytes, again.workspace_bytes);
    EXPECT_EQ(one.tile_q, many.tile_q);  // so that results do not depend on the threads
    EXPECT_EQ(one.tile_kv, many.tile_kv);
    EXPECT_EQ(one.parts, many.parts);
    EXPECT_EQ(one.heads, many.heads);
    EXPECT_EQ(many.workspace_bytes - one.workspace_bytes,
              static_cast<size_t>(many.threads - 1) * one.thread_bytes);
    const int64_t group = p.heads_q / p.heads_kv;
    if (one.heads > group) {  // several groups, where memory has their keys side by side
      EXPECT_TRUE(interleaved && one.few_rows);
      EXPECT_EQ(p.heads_q % one.heads, 0);
      EXPECT_EQ(one.heads % group, 0);
    } else {
      EXPECT_EQ(group % one.heads, 0);
    }
    EXPECT_EQ(one.tiles, p.batch * p.heads_q / one.heads * ((p.s_q + one.tile_q - 1) / one.tile_q));
    EXPECT_EQ(one.tasks, one.tiles * one.parts);
    if (one.heads > 1) {
      EXPECT_EQ(one.tile_q, one.heads * p.s_q);
    }
    EXPECT_LE(many.threads, many.tasks);
    EXPECT_EQ(one.tile_kv % kLanes, 0);
    EXPECT_LE(one.workspace_bytes, size_t{8} << 20);
  }
}

}  // namespace
}  // namespace qkv::cpu
