// A causal multi-head layer with grouped heads and one packed weight, planned once and run with
// memory of the caller's; and the same as a call for each step, bit for bit.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <qkv/qkv.hpp>
#include <vector>

int main() {
  const int64_t batch = 2, seq = 12, width = 64, heads = 4, heads_kv = 2, dim = 16;
  const int64_t packed = (heads + 2 * heads_kv) * dim;
  const auto numbers = [](int64_t count, float size) {
    std::vector<float> out(static_cast<size_t>(count));
    for (size_t n = 0; n < out.size(); ++n)
      out[n] = size * std::sin(static_cast<float>(n * n % 997));
    return out;
  };
  std::vector<float> x = numbers(batch * seq * width, 1), w_qkv = numbers(packed * width, 0.2F);
  std::vector<float> bias = numbers(packed, 0.5F), w_o = numbers(width * heads * dim, 0.2F);
  std::vector<float> y(x.size()), same(x.size());

  qkv::Layer layer;
  layer.heads_q = heads;
  layer.heads_kv = heads_kv;
  layer.x_q = qkv::states(x.data(), batch, seq, width);
  layer.w_qkv = qkv::out_in(w_qkv.data(), packed, width);
  layer.bias_qkv = qkv::per_out(bias.data(), packed);
  layer.w_o = qkv::out_in(w_o.data(), width, heads * dim);
  layer.y = qkv::states(y.data(), batch, seq, width);
  layer.attention.causal = true;
  const qkv::Plan plan(layer);  // for as many runs as one likes
  const size_t bytes = (plan.workspace_size() + 255) / 256 * 256;
  const std::unique_ptr<void, void (*)(void*)> workspace(std::aligned_alloc(256, bytes), std::free);
  plan.run(layer, workspace.get(), bytes);

  // Step by step: one product gives Q, K and V, which attention reads where they are.
  std::vector<float> qkv(batch * seq * packed), o(batch * seq * heads * dim);
  const qkv::Tensor both = qkv::bshd(qkv.data(), batch, seq, heads + 2 * heads_kv, dim);
  qkv::project({.x = layer.x_q, .weight = layer.w_qkv, .bias = layer.bias_qkv, .y = both});
  const auto views = qkv::packed_qkv(qkv.data(), batch, seq, heads, heads_kv, dim);
  const qkv::Tensor out = qkv::bshd(o.data(), batch, seq, heads, dim);
  qkv::attention({.q = views.q, .k = views.k, .v = views.v, .o = out, .causal = true});
  qkv::project({.x = qkv::states(o.data(), batch, seq, heads * dim),
                .weight = layer.w_o,
                .y = qkv::states(same.data(), batch, seq, width)});
  std::printf("%zu bytes of workspace; y[0] = %.4f; step by step: %s\n", plan.workspace_size(),
              y[0], y == same ? "the same bits" : "DIFFERENT");
  return y == same ? 0 : 1;
}
