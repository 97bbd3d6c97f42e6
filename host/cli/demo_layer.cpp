// The last screen of the demo's part 3: a real model's whole layer in one call.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "demo.h"
#include "errors.h"
#include "layer_job.h"
#include "layer_run.h"
#include "model_data.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {
namespace {

constexpr double kLimit = 1e-5;  // of fp32 from the model's own output

// Weights [out, in] and biases, as one object of the model's holds them.
struct Linear {
  std::vector<float> weight, bias;

  Linear(const io::SafetensorsFile& file, const std::string& name, int64_t width)
      : weight(tensor_as_floats(file, name + ".weight", {width, width})),
        bias(tensor_as_floats(file, name + ".bias", {width})) {}
};

struct Weights {
  int64_t heads, width;
  Linear q, k, v, o;

  Weights(const io::SafetensorsFile& file, int64_t heads_of_it, int64_t width_of_it)
      : heads(heads_of_it),
        width(width_of_it),
        q(file, "q_proj", width),
        k(file, "k_proj", width),
        v(file, "v_proj", width),
        o(file, "o_proj", width) {}
};

// The layer's output for hidden states x, [tokens, width].
std::vector<float> compute(const Weights& w, const std::vector<float>& x, const Place& place) {
  const auto tokens = static_cast<int64_t>(x.size()) / w.width;
  std::vector<float> y(x.size());
  const auto matrix = [&](const Linear& one) {
    return out_in(one.weight.data(), w.width, w.width);
  };
  const auto vector = [&](const Linear& one) { return per_out(one.bias.data(), w.width); };
  const Layer layer{.heads_q = static_cast<int32_t>(w.heads),
                    .x_q = states(x.data(), 1, tokens, w.width),
                    .w_q = matrix(w.q),
                    .w_k = matrix(w.k),
                    .w_v = matrix(w.v),
                    .bias_q = vector(w.q),
                    .bias_k = vector(w.k),
                    .bias_v = vector(w.v),
                    .w_o = matrix(w.o),
                    .bias_o = vector(w.o),
                    .y = states(y.data(), 1, tokens, w.width)};
  qkv_attention_desc middle;
  LayerJob job(layer.desc(&middle), middle, place.device);
  const auto memory = [](const std::vector<float>& from, bool output) {
    return Buffer{std::as_writable_bytes(std::span(const_cast<float*>(from.data()), from.size())),
                  output};
  };
  std::vector<Buffer> buffers{memory(x, false), memory(y, true)};
  for (const Linear* one : {&w.q, &w.k, &w.v, &w.o}) {
    buffers.push_back(memory(one->weight, false));
    buffers.push_back(memory(one->bias, false));
  }
  run(&job, place.device, buffers, 1);
  return y;
}

// Where cuBLASLt is missing the device has attention and no projections.
std::vector<Place> places_with_layers(const Demo& demo, const Weights& w,
                                      const std::vector<float>& x, std::string* why) {
  std::vector<Place> out;
  for (const Place& place : demo.places) try {
      compute(w, x, place);
      out.push_back(place);
    } catch (const Error& error) {
      if (error.status() != QKV_UNSUPPORTED_KERNEL) throw;
      *why = fmt::format("{}: {}", place.name, error.what());
    }
  return out;
}

}  // namespace

void show_layer(const Demo& demo) {
  const auto texts = io::SafetensorsFile::open((demo.data / "minilm.safetensors").string());
  const auto file = io::SafetensorsFile::open((demo.data / "minilm_layer.safetensors").string());
  const LayerData nine = layer_data(texts, "nine");
  const Weights w(file, nine.heads, nine.heads * nine.dim);
  fmt::print("{}", headline(demo.terminal, "The whole layer in one call"));
  fmt::print("{}\n", wrap(fmt::format(
                         "A layer does this in {} heads at once and projects the answers, side by "
                         "side, once more: hidden states go in and come out. qkv_layer takes them "
                         "with the model's own weights:",
                         w.heads)));
  fmt::print(
      "  Q, K, V = x W_q^T + b_q, x W_k^T + b_k, x W_v^T + b_v\n"
      "  y       = attention(Q, K, V) W_o^T + b_o\n\n"
      "Largest difference from what the model itself computed, in fp32:\n\n");

  const auto states_of = [&](const std::string& name, int64_t tokens) {
    return tensor_as_floats(file, name, {1, 1, tokens, w.width});
  };
  std::string why;
  const std::vector<Place> places =
      places_with_layers(demo, w, states_of("nine.x", nine.tokens), &why);
  fmt::print("  {}{:>6}  {:<22}", fit("text", 12), "tokens", "x, and y");
  for (const Place& place : places) fmt::print("{:>10}", place.name);
  fmt::print("\n");
  double worst = 0;
  for (const char* name : {"paragraph", "sentence", "nine"}) {
    const int64_t tokens = layer_data(texts, name).tokens;
    const std::vector<float> x = states_of(fmt::format("{}.x", name), tokens);
    const std::vector<float> y = states_of(fmt::format("{}.y", name), tokens);
    fmt::print("  {}{:>6}  {:<22}", fit(name, 12), tokens, fmt::format("{} x {}", tokens, w.width));
    for (const Place& place : places) {
      const double difference = largest_difference(compute(w, x, place), y);
      fmt::print("{:>10.1e}", difference);
      worst = std::max(worst, difference);
    }
    fmt::print("\n");
  }
  if (!(worst <= kLimit)) {
    throw Failure(
        fmt::format("the layer's output is {:.1e} from the model's own; at most {:.0e} is allowed",
                    worst, kLimit));
  }
  if (!why.empty()) fmt::print("\n{}", wrap(why));
  std::fflush(stdout);
}

}  // namespace qkv::cli
