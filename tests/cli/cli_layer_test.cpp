// `qkv layer`: hidden states and weights from files; weights are found by the names that PyTorch,
// Hugging Face and BERT give them; bad input is refused with code 2.
#include "tests/cli/cli_test.h"

namespace qkv::cli_test {
namespace {

constexpr int64_t kBatch = 2, kSq = 5, kWidth = 6, kHeads = 3, kDim = 4, kInner = kHeads * kDim;

// y = x W^T + b.
std::vector<float> product(const std::vector<float>& x, const std::vector<float>& w,
                           const std::vector<float>& b, int64_t in) {
  const auto n = static_cast<size_t>(in);
  std::vector<float> y;
  for (size_t row = 0; row < x.size() / n; ++row)
    for (size_t out = 0; out < b.size(); ++out) {
      double sum = static_cast<double>(b[out]);
      for (size_t e = 0; e < n; ++e)
        sum += static_cast<double>(x[row * n + e]) * static_cast<double>(w[out * n + e]);
      y.push_back(static_cast<float>(sum));
    }
  return y;
}

class LayerTest : public testing::Test {
 protected:
  LayerTest() {
    save(file("x.npy"), array({kBatch, kSq, kWidth}, x_));
    for (const char* prefix : {"", "a.0."}) add_pytorch(prefix);
    save_model("torch");
    add_pytorch("");
    save_model("one_torch");
    for (const char* prefix : {"model.layers.0.self_attn.", "model.layers.10.self_attn."})
      add_named(prefix, {"q_proj", "k_proj", "v_proj", "o_proj"});
    save_model("llama");
    add_named("decoder.self_attn.", {"q_proj", "k_proj", "v_proj", "out_proj"});
    save_model("bart");
    add_named("encoder.layer.0.", {"attention.self.query", "attention.self.key",
                                   "attention.self.value", "attention.output.dense"});
    save_model("bert");
    add("q_proj.weight", {kInner, kWidth}, w_[0]);
    save_model("half");
  }

  std::string file(const std::string& name) const { return folder_ / name; }
  std::string model(const std::string& name) const { return file(name + ".safetensors"); }

  void add(const std::string& name, std::vector<int64_t> shape, const std::vector<float>& values) {
    arrays_.push_back({name, array(std::move(shape), values)});
  }
  void add_pytorch(const std::string& prefix) {
    std::vector<float> w, b;
    for (size_t n = 0; n < 3; ++n) {
      w.insert(w.end(), w_[n].begin(), w_[n].end());
      b.insert(b.end(), b_[n].begin(), b_[n].end());
    }
    add(prefix + "in_proj_weight", {3 * kInner, kWidth}, w);
    add(prefix + "in_proj_bias", {3 * kInner}, b);
    add(prefix + "out_proj.weight", {kWidth, kInner}, w_[3]);
    add(prefix + "out_proj.bias", {kWidth}, b_[3]);
  }
  void add_named(const std::string& prefix, const std::vector<std::string>& names) {
    for (size_t n = 0; n < 4; ++n) {
      const int64_t out = n == 3 ? kWidth : kInner, in = n == 3 ? kInner : kWidth;
      add(prefix + names[n] + ".weight", {out, in}, w_[n]);
      add(prefix + names[n] + ".bias", {out}, b_[n]);
    }
  }
  void save_model(const std::string& name) {
    std::vector<io::NamedView> views;
    for (const auto& [tensor, values] : arrays_) views.push_back({tensor, values.view()});
    io::save_safetensors(model(name), views);
    arrays_.clear();
  }

  Outcome layer(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"layer", "--device", "cpu", "--heads", "3"});
    return run_program(arguments);
  }

  // What a layer over x and x_kv gives, in fp64 but for what lies between the steps.
  std::vector<double> want(const std::vector<float>& x_kv, int64_t s_kv, bool causal) const {
    const std::vector<float> q = product(x_, w_[0], b_[0], kWidth),
                             k = product(x_kv, w_[1], b_[1], kWidth),
                             v = product(x_kv, w_[2], b_[2], kWidth);
    std::vector<float> unused(q.size()), rows;
    Attention problem;
    problem.q = bshd(q.data(), kBatch, kSq, kHeads, kDim);
    problem.k = bshd(k.data(), kBatch, s_kv, kHeads, kDim);
    problem.v = bshd(v.data(), kBatch, s_kv, kHeads, kDim);
    problem.o = bshd(unused.data(), kBatch, kSq, kHeads, kDim);
    problem.causal = causal;
    const std::vector<double> o = oracle(problem).o;  // [batch, heads, seq, dim]
    for (int64_t b = 0; b < kBatch; ++b)
      for (int64_t i = 0; i < kSq; ++i)
        for (int64_t c = 0; c < kInner; ++c)
          rows.push_back(static_cast<float>(
              o[static_cast<size_t>(((b * kHeads + c / kDim) * kSq + i) * kDim + c % kDim)]));
    const std::vector<float> y = product(rows, w_[3], b_[3], kInner);
    return {y.begin(), y.end()};
  }

  void expect_y(const std::vector<double>& y) const {
    expect_close(load_floats(file("y.npy"), {kBatch, kSq, kWidth}), y, 1e-5, "y");
  }

  const TempFolder folder_;
  const std::vector<float> x_ = random_floats({kBatch, kSq, kWidth}, 1);
  const std::vector<float> w_[4] = {
      random_floats({kInner, kWidth}, 2), random_floats({kInner, kWidth}, 3),
      random_floats({kInner, kWidth}, 4), random_floats({kWidth, kInner}, 5)};
  const std::vector<float> b_[4] = {random_floats({kInner}, 6), random_floats({kInner}, 7),
                                    random_floats({kInner}, 8), random_floats({kWidth}, 9)};
  std::vector<std::pair<std::string, io::Array>> arrays_;
};

TEST_F(LayerTest, FindsTheWeightsByTheirNames) {
  const std::vector<double> y = want(x_, kSq, true);
  const std::vector<std::vector<std::string>> models = {
      {model("one_torch")},
      {model("torch"), "--prefix", "a.0"},
      {model("torch"), "--prefix", ""},
      {model("llama"), "--prefix", "model.layers.10.self_attn."},
      {model("llama"), "--prefix", "model.layers.10"},
      {model("bart")},
      {model("bert"), "--prefix", "encoder.layer.0"},
  };
  for (std::vector<std::string> arguments : models) {
    const std::string named = arguments.front();
    arguments.insert(arguments.begin(),
                     {"-x", file("x.npy"), "-o", file("y.npy"), "--causal", "--model"});
    const Outcome outcome = layer(arguments);
    ASSERT_EQ(outcome.code, 0) << named << outcome.err;
    EXPECT_NE(outcome.out.find("cpu_layer on cpu"), std::string::npos) << outcome.out;
    expect_y(y);
  }
}

TEST_F(LayerTest, CrossAttentionFromNamedFiles) {
  const std::vector<float> x_kv = random_floats({kBatch, 7, kWidth}, 11);
  save(file("x_kv.npy"), array({kBatch, 7, kWidth}, x_kv));
  const std::vector<double> y = want(x_kv, 7, false);
  // PyTorch's packed weights, and each weight by an option.
  Outcome outcome = layer({"-x", file("x.npy"), "--x-kv", file("x_kv.npy"), "-o", file("y.npy"),
                           "--model", model("one_torch")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  expect_y(y);
  const std::string bert = model("bert") + ":encoder.layer.0.attention.";
  outcome = layer({"-x",        file("x.npy"),
                   "--x-kv",    file("x_kv.npy"),
                   "-o",        file("y.npy"),
                   "--w-q",     bert + "self.query.weight",
                   "--bias-q",  bert + "self.query.bias",
                   "--w-k",     bert + "self.key.weight",
                   "--bias-k",  bert + "self.key.bias",
                   "--w-v",     bert + "self.value.weight",
                   "--bias-v",  bert + "self.value.bias",
                   "--w-o",     bert + "output.dense.weight",
                   "--bias-o",  bert + "output.dense.bias",
                   "--lse",     file("lse.npy"),
                   "--weights", file("weights.npy")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  expect_y(y);
  (void)load_floats(file("lse.npy"), {kBatch, kHeads, kSq});
  (void)load_floats(file("weights.npy"), {kBatch, kHeads, kSq, 7});
}

// Without an output product, in fp16, y has attention's axes.
TEST_F(LayerTest, WithoutTheOutputProduct) {
  const Outcome outcome = layer({"-x", file("x.npy"), "-o", file("y.npy"), "--type", "f16",
                                 "--w-qkv", model("one_torch") + ":in_proj_weight"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(io::load_npy(file("y.npy")).shape, (std::vector<int64_t>{kBatch, kSq, kHeads, kDim}));
}

TEST_F(LayerTest, RefusesWithAReason) {
  save(file("odd.npy"), array({2, 3, 4, 5}, random_floats({2, 3, 4, 5}, 1)));
  const std::string x = file("x.npy");
  const struct {
    std::vector<std::string> arguments;
    const char* says;
  } rows[] = {
      {{"-x", x, "--model", model("torch")},
       "has 2 layers, with the prefixes \"a.0\", \"\"; --prefix says which"},
      {{"-x", x, "--model", model("llama")}, "\"model.layers.10.self_attn\""},
      {{"-x", x, "--model", model("llama"), "--prefix", "model"}, "2 layers behind this prefix"},
      {{"-x", x, "--model", model("half")}, "has \"q_proj.weight\", but no \"k_proj.weight\""},
      {{"-x", x, "--model", model("llama"), "--prefix", "model.layers.1"},
       "--prefix is \"model.layers.1\"; the layers of"},
      {{"-x", x, "--prefix", "a"}, "--prefix is given; it needs --model"},
      {{"-x", x, "--model", file("x.npy")}, "x.npy"},
      {{"-x", x}, "w_q is absent"},
      {{"-x", file("odd.npy"), "--model", model("bart")}, "--x has rank 4"},
      {{"-x", x, "--w-q", x}, "--w-q has rank 3, shape [2, 5, 6]; allowed: [out, in]"},
      {{"-x", x, "--model", model("bart"), "--in-out"}, "w_q.shape"},
      {{"-x", x, "--model", model("bart"), "-o", "a", "--lse", "a"}, "are both a"},
      {{"--model", model("bart")}, "--x"},
  };
  for (const auto& [arguments, says] : rows) {
    const Outcome outcome = layer(arguments);
    EXPECT_EQ(outcome.code, 2) << says << outcome.err;
    EXPECT_NE(outcome.err.find(says), std::string::npos) << says << "\n not in \n" << outcome.err;
  }
}

}  // namespace
}  // namespace qkv::cli_test
