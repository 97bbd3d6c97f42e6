// qkv.hpp: factories, exceptions, plans; and the ten-line first program.
#include "qkv/qkv.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <memory>
#include <type_traits>

namespace qkv::test {
namespace {

std::array<int64_t, 4> shape(const Tensor& t) {
  return {t.shape[0], t.shape[1], t.shape[2], t.shape[3]};
}
std::array<int64_t, 4> stride(const Tensor& t) {
  return {t.stride[0], t.stride[1], t.stride[2], t.stride[3]};
}
using Four = std::array<int64_t, 4>;

TEST(Hpp, FirstProgram) {
  const int64_t batch = 1, s_q = 2, s_kv = 3, heads = 2, dim = 4;
  std::vector<float> q(16, 0.0f), k(24, 1.0f), v(24), o(16);
  for (size_t n = 0; n < v.size(); ++n) v[n] = static_cast<float>(n / 8);  // the key's number
  qkv::attention({.q = qkv::bshd(q.data(), batch, s_q, heads, dim),
                  .k = qkv::bshd(k.data(), batch, s_kv, heads, dim),
                  .v = qkv::bshd(v.data(), batch, s_kv, heads, dim),
                  .o = qkv::bshd(o.data(), batch, s_q, heads, dim),
                  .causal = true});
  for (size_t n = 0; n < 16; ++n) EXPECT_FLOAT_EQ(o[n], n < 8 ? 0.5f : 1.0f);
}

TEST(Hpp, Factories) {
  float data[4096];
  const Tensor bshd = qkv::bshd(data, 2, 3, 5, 7);
  EXPECT_EQ(shape(bshd), (Four{2, 5, 3, 7}));
  EXPECT_EQ(stride(bshd), (Four{105, 7, 35, 1}));
  EXPECT_EQ(bshd.type, QKV_TYPE_F32);
  EXPECT_EQ(bshd.data, data);
  const Tensor bhsd = qkv::bhsd(data, 2, 3, 5, 7);
  EXPECT_EQ(shape(bhsd), (Four{2, 3, 5, 7}));
  EXPECT_EQ(stride(bhsd), (Four{105, 35, 7, 1}));
  const PackedQkv packed = qkv::packed_qkv(data, 2, 3, 4, 2, 8);
  EXPECT_EQ(stride(packed.q), (Four{192, 8, 64, 1}));
  EXPECT_EQ(stride(packed.v), (Four{192, 8, 64, 1}));
  EXPECT_EQ(shape(packed.k), (Four{2, 2, 3, 8}));
  EXPECT_EQ(packed.k.data, data + 32);
  EXPECT_EQ(packed.v.data, data + 48);
  int32_t lengths[2] = {};
  EXPECT_EQ(shape(qkv::per_batch(lengths, 2)), (Four{2, 1, 1, 1}));
  EXPECT_EQ(qkv::per_batch(lengths, 2).type, QKV_TYPE_I32);
  EXPECT_EQ(stride(qkv::strided(data, {1, 2, 3, 4}, {0, 9, 8, 1})), (Four{0, 9, 8, 1}));
}

// [2, 3] hidden states, a weight of either order, two heads of two.
TEST(Hpp, Projects) {
  const float x[6] = {1, 2, 3, 4, 5, 6}, bias[4] = {10, 20, 30, 40};
  const float weight[12] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1};
  float other[12], y[8];
  for (size_t out = 0; out < 4; ++out)
    for (size_t in = 0; in < 3; ++in) other[in * 4 + out] = weight[out * 3 + in];
  const Tensor orders[] = {qkv::out_in(weight, 4, 3), qkv::in_out(other, 3, 4)};
  for (const Tensor& w : orders) {
    const qkv::Projection call{.x = qkv::bhsd(x, 1, 1, 2, 3),
                               .weight = w,
                               .bias = qkv::per_out(bias, 4),
                               .y = qkv::bshd(y, 1, 2, 2, 2)};
    qkv::project(call);
    const float want[8] = {11, 22, 33, 46, 14, 25, 36, 55};
    for (size_t n = 0; n < 8; ++n) EXPECT_EQ(y[n], want[n]) << n;
    EXPECT_TRUE(qkv::query(call).supported);
    EXPECT_EQ(qkv::query(call).kernel, "cpu_project");
    const qkv::Plan plan(call);
    EXPECT_NE(plan.text().find("cpu_project"), std::string::npos);
    EXPECT_THROW(plan.run(call, nullptr, 0), Error);  // it needs a workspace
  }
  EXPECT_THROW(qkv::project({}), Error);
}

TEST(Hpp, TypesOfElements) {
  EXPECT_EQ(type_of<float>, QKV_TYPE_F32);
  EXPECT_EQ(type_of<f16>, QKV_TYPE_F16);
  EXPECT_EQ(type_of<bf16>, QKV_TYPE_BF16);
  EXPECT_EQ(type_of<::__half>, QKV_TYPE_F16);
  EXPECT_EQ(type_of<::__nv_bfloat16>, QKV_TYPE_BF16);
  EXPECT_EQ(type_of<int32_t>, QKV_TYPE_I32);
  EXPECT_EQ(type_of<int64_t>, QKV_TYPE_I64);
  EXPECT_EQ(type_of<bool>, QKV_TYPE_BOOL);
  EXPECT_EQ(type_of<uint8_t>, QKV_TYPE_BOOL);
  EXPECT_EQ(type_of<double>, QKV_TYPE_NONE);
  const float constant[4] = {};
  EXPECT_EQ(qkv::bhsd(constant, 1, 1, 1, 4).type, QKV_TYPE_F32);
}

// Every field arrives in the descriptor.
TEST(Hpp, DescriptorHasAllFields) {
  float x[64] = {};
  uint8_t visible[1] = {1};
  int32_t length[1] = {1}, best[1] = {7};
  const Tensor one = qkv::bhsd(x, 1, 1, 1, 1);
  Attention a{
      .q = qkv::bhsd(x + 1, 1, 1, 1, 1), .k = one, .v = one, .o = qkv::bhsd(x + 7, 1, 1, 1, 1)};
  const qkv_attention_desc plain = a.desc();
  EXPECT_EQ(plain.scale_set, 0);
  EXPECT_EQ(plain.window_left, -1);
  EXPECT_EQ(plain.window_right, -1);
  EXPECT_EQ(plain.weights_mode, QKV_WEIGHTS_PROBABILITIES);
  EXPECT_EQ(plain.device, QKV_DEVICE_AUTO);
  EXPECT_EQ(plain.flags, 0u);
  EXPECT_EQ(plain.threads, 0);
  EXPECT_EQ(plain.top_k, 0);
  EXPECT_EQ(plain.top_scores.type, QKV_TYPE_NONE);
  a.lse = qkv::bhsd(x + 2, 1, 1, 1, 1);
  a.index = qkv::bhsd(best, 1, 1, 1, 1);
  a.weights = qkv::bhsd(x + 3, 1, 1, 1, 1);
  a.weights_mode = WeightsMode::kMasked;
  a.score = Score::kAdditive;
  a.selection = Selection::kHard;
  a.scale = 0.0f;
  a.softcap = 4;
  a.causal = true;
  a.alignment = Alignment::kExplicit;
  a.offset = -5;
  a.window_left = 6;
  a.window_right = 7;
  a.mask = qkv::bhsd(visible, 1, 1, 1, 1);
  a.bias = qkv::bhsd(x + 4, 1, 1, 1, 1);
  a.alibi_slopes = qkv::bhsd(x + 5, 1, 1, 1, 1);
  a.additive_weight = qkv::bhsd(x + 6, 1, 1, 1, 1);
  a.kv_lengths = qkv::per_batch(length, 1);
  a.device = Device::kCpu;
  a.device_index = 3;
  a.threads = 2;
  const qkv_attention_desc d = a.desc();
  EXPECT_EQ(d.struct_size, sizeof d);
  EXPECT_EQ(d.q.data, x + 1);
  EXPECT_EQ(d.lse.data, x + 2);
  EXPECT_EQ(d.index.data, best);
  EXPECT_EQ(d.weights.data, x + 3);
  EXPECT_EQ(d.weights_mode, QKV_WEIGHTS_MASKED);
  EXPECT_EQ(d.score, QKV_SCORE_ADDITIVE);
  EXPECT_EQ(d.selection, QKV_SELECT_HARD);
  EXPECT_EQ(d.scale_set, 1);
  EXPECT_EQ(d.scale, 0);
  EXPECT_EQ(d.softcap, 4);
  EXPECT_EQ(d.causal, 1);
  EXPECT_EQ(d.alignment, QKV_ALIGN_EXPLICIT);
  EXPECT_EQ(d.offset, -5);
  EXPECT_EQ(d.window_left, 6);
  EXPECT_EQ(d.window_right, 7);
  EXPECT_EQ(d.mask.data, visible);
  EXPECT_EQ(d.bias.data, x + 4);
  EXPECT_EQ(d.alibi_slopes.data, x + 5);
  EXPECT_EQ(d.additive_weight.data, x + 6);
  EXPECT_EQ(d.kv_lengths.data, length);
  EXPECT_EQ(d.device, QKV_DEVICE_CPU);
  EXPECT_EQ(d.device_index, 3);
  EXPECT_EQ(d.threads, 2);
  a.device = Device::kAuto;
  qkv::attention(a);  // and it runs: the key is hidden
  EXPECT_EQ(best[0], -1);
  a.selection = Selection::kTopK;
  a.top_k = 1;
  a.top_scores = qkv::bhsd(x + 8, 1, 1, 1, 1);
  EXPECT_EQ(a.desc().selection, QKV_SELECT_TOP_K);
  EXPECT_EQ(a.desc().top_k, 1);
  EXPECT_EQ(a.desc().top_scores.data, x + 8);
  best[0] = 7;
  qkv::attention(a);
  EXPECT_EQ(best[0], -1);
  EXPECT_EQ(x[8], -std::numeric_limits<float>::infinity());
}

TEST(Hpp, ErrorsAreExceptions) {
  float x[8] = {};
  const Attention wrong{.q = qkv::bhsd(x, 1, 1, 1, 2),
                        .k = qkv::bhsd(x, 1, 1, 1, 3),
                        .v = qkv::bhsd(x, 1, 1, 1, 2),
                        .o = qkv::bhsd(x, 1, 1, 1, 2)};
  try {
    qkv::attention(wrong);
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), QKV_INVALID_SHAPE);
    EXPECT_EQ(error.status_class(), QKV_INVALID_ARGUMENT);
    EXPECT_STREQ(error.what(), "QKV_INVALID_SHAPE: k.shape[3] (dim) is 3; it must be 2");
  }
  EXPECT_THROW(Plan{wrong}, Error);
  EXPECT_THROW(query(wrong), Error);
}

TEST(Hpp, PlanRunsWithTheCallersWorkspace) {
  float q[2] = {}, k[4] = {}, v[2] = {3, 5}, o[1] = {};
  const Attention a{.q = qkv::bhsd(q, 1, 1, 1, 2),
                    .k = qkv::bhsd(k, 1, 1, 2, 2),
                    .v = qkv::bhsd(v, 1, 1, 2, 1),
                    .o = qkv::bhsd(o, 1, 1, 1, 1)};
  const Plan plan(a);
  const size_t bytes = plan.workspace_size();
  EXPECT_EQ(query(a).workspace_size, bytes);
  EXPECT_TRUE(query(a).supported);
  EXPECT_EQ(query(a).kernel, "cpu_forward");
  EXPECT_NE(plan.text().find("cpu_forward"), std::string::npos);
  EXPECT_EQ(plan.text().find('\0'), std::string::npos);
  const std::unique_ptr<void, void (*)(void*)> workspace(
      std::aligned_alloc(256, (bytes + 255) / 256 * 256), std::free);
  plan.run(a, workspace.get(), bytes);
  EXPECT_EQ(o[0], 4);
  EXPECT_THROW(plan.run(a, nullptr, 0), Error);
}

TEST(Hpp, LayerHasAllFields) {
  float data[16] = {};
  const auto row = [&](int64_t n) { return bshd(data + n, 1, 1, 1, 1); };
  Layer layer;
  layer.heads_q = 4;
  layer.heads_kv = 2;
  layer.device = Device::kCpu;
  layer.device_index = 3;
  layer.threads = 5;
  Tensor Layer::*const fields[] = {&Layer::x_q,   &Layer::x_kv,     &Layer::w_q,    &Layer::w_k,
                                   &Layer::w_v,   &Layer::bias_q,   &Layer::bias_k, &Layer::bias_v,
                                   &Layer::w_qkv, &Layer::bias_qkv, &Layer::w_o,    &Layer::bias_o,
                                   &Layer::y};
  qkv_tensor qkv_layer_desc::*const of_desc[] = {
      &qkv_layer_desc::x_q,      &qkv_layer_desc::x_kv,   &qkv_layer_desc::w_q,
      &qkv_layer_desc::w_k,      &qkv_layer_desc::w_v,    &qkv_layer_desc::bias_q,
      &qkv_layer_desc::bias_k,   &qkv_layer_desc::bias_v, &qkv_layer_desc::w_qkv,
      &qkv_layer_desc::bias_qkv, &qkv_layer_desc::w_o,    &qkv_layer_desc::bias_o,
      &qkv_layer_desc::y};
  for (size_t n = 0; n < std::size(fields); ++n) layer.*fields[n] = row(static_cast<int64_t>(n));
  layer.attention.softcap = 7;
  qkv_attention_desc middle;
  const qkv_layer_desc d = layer.desc(&middle);
  for (size_t n = 0; n < std::size(fields); ++n) EXPECT_EQ((d.*of_desc[n]).data, data + n);
  EXPECT_EQ(d.heads_q, 4);
  EXPECT_EQ(d.heads_kv, 2);
  EXPECT_EQ(d.device, QKV_DEVICE_CPU);
  EXPECT_EQ(d.device_index, 3);
  EXPECT_EQ(d.threads, 5);
  EXPECT_EQ(d.attention, &middle);
  EXPECT_EQ(middle.softcap, 7);
}

// One head of width 1: y = w_o w_v (the mean of x), since all scores are 0.
TEST(Hpp, LayerRuns) {
  float x[2] = {1, 5}, zero[1] = {0}, three[1] = {3}, two[1] = {2}, y[2] = {};
  Layer layer;
  layer.heads_q = 1;
  layer.x_q = states(x, 1, 2, 1);
  layer.w_q = layer.w_k = states(zero, 1, 1, 1);
  layer.w_v = states(three, 1, 1, 1);
  layer.w_o = states(two, 1, 1, 1);
  layer.y = states(y, 1, 2, 1);
  qkv::layer(layer);
  EXPECT_EQ(y[0], 18);
  EXPECT_EQ(y[1], 18);
  const Plan plan(layer);
  EXPECT_EQ(query(layer).workspace_size, plan.workspace_size());
  EXPECT_EQ(query(layer).kernel, "cpu_layer");
  const size_t bytes = (plan.workspace_size() + 255) / 256 * 256;
  const std::unique_ptr<void, void (*)(void*)> workspace(std::aligned_alloc(256, bytes), std::free);
  y[1] = 0;
  plan.run(layer, workspace.get(), bytes);
  EXPECT_EQ(y[1], 18);
  layer.attention.threads = 2;
  EXPECT_THROW(qkv::layer(layer), Error);
}

TEST(Hpp, PlansMoveAndDoNotCopy) {
  static_assert(std::is_move_constructible_v<Plan> && std::is_move_assignable_v<Plan>);
  static_assert(!std::is_copy_constructible_v<Plan>);
}

}  // namespace
}  // namespace qkv::test
