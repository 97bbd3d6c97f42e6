// Part 3 of the demo: one sentence of nine tokens attends to itself, from its hidden states on.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "demo.h"
#include "errors.h"
#include "layer_run.h"

namespace qkv::cli {
namespace {

constexpr int64_t kHead = 1;
constexpr size_t kQuery = 2;  // "like"
constexpr double kLimit = 1e-5;

// Vectors of one width, one after the other: one for each token, or for each row of a matrix.
struct Rows {
  size_t width = 0;
  std::vector<float> numbers;

  std::span<const float> row(size_t i) const {
    return std::span(numbers).subspan(i * width, width);
  }
};

// W and b of y = W x + b.
struct Linear {
  Rows weight;
  std::vector<float> bias;
};

// One head of the layer, and what goes into it.
struct Head {
  std::string text;
  std::vector<std::string> tokens;
  Rows hidden;  // one row for each token
  Linear query, key, value;
  Rows out;  // what the model makes of it

  size_t m() const { return hidden.width; }
  size_t n() const { return out.width; }
  size_t count() const { return tokens.size(); }
  const std::string& asking() const { return tokens[kQuery]; }
};

// Queries, keys and values: what attention is given.
struct Projected {
  Rows q, k, v;
};

// --- the data

std::vector<float> part(const io::SafetensorsFile& file, const std::string& name,
                        const std::vector<int64_t>& shape, size_t first, size_t count) {
  const std::vector<float> all = tensor_as_floats(file, name, shape);
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

// The head's rows of the layer's matrix.
Linear head_linear(const io::SafetensorsFile& file, const std::string& name, int64_t m, int64_t n) {
  const auto rows = static_cast<size_t>(n), width = static_cast<size_t>(m);
  const size_t first = kHead * rows;
  return {{width, part(file, name + ".weight", {m, m}, first * width, rows * width)},
          part(file, name + ".bias", {m}, first, rows)};
}

Head read_head(const Demo& demo) {
  const auto texts = io::SafetensorsFile::open((demo.data / "minilm.safetensors").string());
  const auto layer = io::SafetensorsFile::open((demo.data / "minilm_layer.safetensors").string());
  const LayerData data = layer_data(texts, "nine");
  if (data.heads <= kHead || data.pieces.size() <= kQuery) {
    throw BadInput("the nine tokens' data is too small");
  }
  const int64_t tokens = data.tokens, n = data.dim, m = data.heads * n;
  const auto size = static_cast<size_t>(tokens * n);
  Head head;
  head.text = data.text;
  for (const Word& piece : spelled_pieces(data)) head.tokens.push_back(piece.text);
  head.hidden = {static_cast<size_t>(m),
                 part(layer, "nine.x", {1, 1, tokens, m}, 0, static_cast<size_t>(tokens * m))};
  head.query = head_linear(layer, "q_proj", m, n);
  head.key = head_linear(layer, "k_proj", m, n);
  head.value = head_linear(layer, "v_proj", m, n);
  head.out = {static_cast<size_t>(n),
              part(layer, "nine.out", {1, data.heads, tokens, n}, kHead * size, size)};
  return head;
}

// --- the computation

// W h + b for each row h of x.
Rows project(const Rows& x, const Linear& linear) {
  const auto rows = static_cast<int64_t>(x.numbers.size() / x.width);
  const auto in = static_cast<int64_t>(x.width), out = static_cast<int64_t>(linear.bias.size());
  Rows y{linear.bias.size(), std::vector<float>(static_cast<size_t>(rows * out))};
  qkv::project({.x = states(x.numbers.data(), 1, rows, in),
                .weight = out_in(linear.weight.numbers.data(), out, in),
                .bias = per_out(linear.bias.data(), out),
                .y = states(y.numbers.data(), 1, rows, out)});
  return y;
}

Projected project_all(const Head& head) {
  return {project(head.hidden, head.query), project(head.hidden, head.key),
          project(head.hidden, head.value)};
}

// Attention of one query over all tokens.
struct Answer {
  std::vector<float> scores, weights, o;
};

void ask(const Projected& from, WeightsMode mode, std::vector<float>* weights,
         std::vector<float>* o, Comparison* on) {
  const auto n = static_cast<int64_t>(from.q.width);
  const auto tokens = static_cast<int64_t>(from.k.numbers.size() / from.k.width);
  weights->assign(static_cast<size_t>(tokens), 0.0f);
  o->assign(from.v.width, 0.0f);
  on->attend({.q = bhsd(from.q.row(kQuery).data(), 1, 1, 1, n),
              .k = bhsd(from.k.numbers.data(), 1, 1, tokens, n),
              .v = bhsd(from.v.numbers.data(), 1, 1, tokens, n),
              .o = bhsd(o->data(), 1, 1, 1, n),
              .weights = bhsd(weights->data(), 1, 1, 1, tokens),
              .weights_mode = mode});
}

Answer ask_all(const Projected& from, Comparison* on) {
  Answer out;
  ask(from, WeightsMode::kScores, &out.scores, &out.o, on);
  ask(from, WeightsMode::kProbabilities, &out.weights, &out.o, on);
  return out;
}

// --- the screens

// "[ -0.01  0.44  1.07  0.69 ... ]"
std::string numbers(std::span<const float> vector, float times = 1) {
  std::string out = "[";
  for (size_t i = 0; i < std::min<size_t>(4, vector.size()); ++i) {
    const float number = times * vector[i];
    out += fmt::format("{:6.2f}", std::abs(number) < 0.005f ? 0.0f : number);  // not "-0.00"
  }
  return out + " ... ]";
}

void show_steps(const Demo& demo, const Head& head) {
  std::string tokens;
  for (const std::string& name : head.tokens) tokens += "  " + name;
  fmt::print("{}", headline(demo.terminal, "3. \"" + head.text + "\" step by step"));
  fmt::print("{}", wrap(fmt::format("Self-attention: one sentence asks itself. The model cuts it "
                                    "into {} tokens (NLP into NL and P) and puts a mark in front:",
                                    head.count())));
  fmt::print("\n{}\n\n", tokens);
  fmt::print("{}\n", wrap(fmt::format(
                         "Each token comes as a hidden state h, a vector of m = {} numbers; H is "
                         "all {} side by side. Head {} of the layer above works with vectors of "
                         "n = {} numbers. \"{}\" asks, in four steps:",
                         head.m(), head.count(), kHead, head.n(), head.asking())));
  fmt::print(
      "     step                                 shapes               result\n"
      "  1. project   q = W_q h + b_q            n x m  by  m x 1     n x 1\n"
      "               K = W_k H + b_k            n x m  by  m x 9     n x 9\n"
      "               V = W_v H + b_v            n x m  by  m x 9     n x 9\n"
      "  2. compare   scores = K^T q / sqrt(n)   9 x n  by  n x 1     9 x 1\n"
      "  3. softmax   weights                    9 x 1                9 x 1\n"
      "  4. sum       output = V weights         n x 9  by  9 x 1     n x 1\n");
}

void print_vector(const std::string& what, const std::string& shape,
                  std::span<const float> values) {
  fmt::print("  {}{}{}\n", fit(what, 30), fit(shape, 12), numbers(values));
}

void show_projection(const Demo& demo, const Head& head, const Projected& to) {
  const auto shape = [](size_t rows, size_t columns) {
    return fmt::format("{} x {}", rows, columns);
  };
  const size_t m = head.m(), n = head.n(), tokens = head.count();
  fmt::print("{}", headline(demo.terminal, "Step 1: project into one space"));
  fmt::print("{}\n", wrap(fmt::format(
                         "A hidden state holds all that the model knows of a token. Three matrices "
                         "take out of it what the token asks (query), what it answers to (key) "
                         "and what it tells (value). Queries and keys are in one space then, of {} "
                         "numbers: that is what makes them comparable.",
                         n)));
  print_vector("h of \"" + head.asking() + '"', shape(m, 1), head.hidden.row(kQuery));
  print_vector("W_q, its first row", shape(n, m), head.query.weight.row(0));
  print_vector("b_q", shape(n, 1), head.query.bias);
  print_vector("q = W_q h + b_q", shape(n, 1), to.q.row(kQuery));
  fmt::print("\n");
  print_vector("H, its first column", shape(m, tokens), head.hidden.row(0));
  print_vector("K = W_k H + b_k, likewise", shape(n, tokens), to.k.row(0));
  print_vector("V = W_v H + b_v, likewise", shape(n, tokens), to.v.row(0));
}

void show_product(const Demo& demo, const Head& head, const Projected& from,
                  const std::vector<float>& scores) {
  fmt::print("{}", headline(demo.terminal, "Step 2: compare"));
  fmt::print("{}\n", wrap(fmt::format(
                         "A score is the product of query and key: number by number, summed, over "
                         "sqrt({}). It is large where they point the same way. K^T is {} x {}, so "
                         "one product gives all {} scores.",
                         head.n(), head.count(), head.n(), head.count())));
  fmt::print("  q  \"{}\"    {}\n\n  {}{}score\n", head.asking(), numbers(from.q.row(kQuery)),
             fit("token", 12), fit("key", 34));
  for (size_t j = 0; j < scores.size(); ++j) {
    fmt::print("  {}{}{:>5.2f}\n", fit(head.tokens[j], 12), fit(numbers(from.k.row(j)), 34),
               scores[j]);
  }
}

void show_softmax(const Demo& demo, const Head& head, const Answer& answer) {
  fmt::print("{}", headline(demo.terminal, "Step 3: softmax"));
  fmt::print("{}\n", wrap("exp makes every score positive, and each is divided by their sum: a "
                          "probability vector. These are the weights."));
  fmt::print("  token      score  exp(score)  weight\n");
  double sum = 0, exp_sum = 0;
  for (size_t j = 0; j < head.tokens.size(); ++j) {
    const auto score = static_cast<double>(answer.scores[j]);
    const auto weight = static_cast<double>(answer.weights[j]);
    const std::string shown = bar(demo.terminal, weight, 36);
    fmt::print("  {} {:>6.2f}  {:>10.3f}  {:>6.3f}{}{}\n", fit(head.tokens[j], 9), score,
               std::exp(score), weight, shown.empty() ? "" : " ", shown);
    sum += weight;
    exp_sum += std::exp(score);
  }
  if (std::abs(sum - 1) > kLimit) throw Failure(fmt::format("the weights sum to {}", sum));
  fmt::print("  {:<9} {:>6}  {:>10.3f}  {:>6.3f}\n", "sum", "", exp_sum, sum);
}

void show_sum(const Demo& demo, const Head& head, const Projected& from, const Answer& answer) {
  fmt::print("{}", headline(demo.terminal, "Step 4: sum the values"));
  fmt::print("{}\n", wrap("Each value times its weight; the sum is the answer."));
  fmt::print("  token      weight  weight x value\n");
  for (size_t j = 0; j < head.tokens.size(); ++j) {
    fmt::print("  {} {:>7.3f}  {}\n", fit(head.tokens[j], 9), answer.weights[j],
               numbers(from.v.row(j), answer.weights[j]));
  }
  fmt::print("  {:<9} {:>7}  {}  {} x 1\n", "output", "", numbers(answer.o), head.n());

  const double difference = largest_difference(answer.o, head.out.row(kQuery));
  if (!(difference <= kLimit)) {
    throw Failure(
        fmt::format("the nine tokens' output is {:.1e} from the model's own; at "
                    "most {:.0e} is allowed",
                    difference, kLimit));
  }
  fmt::print("\n{}", wrap(fmt::format("\"{}\" asks what is liked, and the answer is made of NL and "
                                      "P. It is within {:.0e} of the model's own. In truth all {} "
                                      "tokens ask at once.",
                                      head.asking(), difference, head.count())));
}

}  // namespace

void show_nine(const Demo& demo) {
  const Head head = read_head(demo);
  const Projected projected = project_all(head);
  Comparison on(demo.places);
  const Answer answer = ask_all(projected, &on);
  show_steps(demo, head);
  show_projection(demo, head, projected);
  show_product(demo, head, projected, answer.scores);
  show_softmax(demo, head, answer);
  show_sum(demo, head, projected, answer);
  fmt::print("{}", on.text());
  std::fflush(stdout);
}

}  // namespace qkv::cli
