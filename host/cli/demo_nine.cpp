// Parts 3 and 4 of the demo: one sentence of nine tokens attends to itself, step by step.
#include <fmt/format.h>

#include <cmath>
#include <cstdio>

#include "demo.h"
#include "errors.h"
#include "layer_run.h"

namespace qkv::cli {
namespace {

constexpr int64_t kHead = 1;
constexpr size_t kQuery = 2;  // "like"

// One head of the layer: n numbers in a vector, one vector for each token.
struct Head {
  int64_t tokens = 0, n = 0;
  std::vector<std::string> names;
  std::span<const float> q, k, v, out;

  std::span<const float> query() const {
    return q.subspan(kQuery * static_cast<size_t>(n), static_cast<size_t>(n));
  }
};

Head read_head(const LayerData& data) {
  if (data.heads <= kHead || data.pieces.size() <= kQuery) {
    throw BadInput("the nine tokens' data is too small");
  }
  Head head;
  head.tokens = data.tokens;
  head.n = data.dim;
  const auto size = static_cast<size_t>(data.tokens * data.dim);
  const auto part = [&](std::span<const float> all) { return all.subspan(kHead * size, size); };
  head.q = part(data.q);
  head.k = part(data.k);
  head.v = part(data.v);
  head.out = part(data.out);
  for (const Word& piece : spelled_pieces(data)) head.names.push_back(piece.text);
  return head;
}

// Attention for one query over all tokens; weights in the mode asked for.
struct Answer {
  std::vector<float> o, weights;
};

Answer ask(const Head& head, Attention problem, Comparison* on) {
  Answer out{std::vector<float>(static_cast<size_t>(head.n)),
             std::vector<float>(static_cast<size_t>(head.tokens))};
  problem.q = bhsd(head.query().data(), 1, 1, 1, head.n);
  problem.k = bhsd(head.k.data(), 1, 1, head.tokens, head.n);
  problem.v = bhsd(head.v.data(), 1, 1, head.tokens, head.n);
  problem.o = bhsd(out.o.data(), 1, 1, 1, head.n);
  problem.weights = bhsd(out.weights.data(), 1, 1, 1, head.tokens);
  on->attend(problem);
  return out;
}

std::string numbers(std::span<const float> vector) {
  std::string out = "[";
  for (size_t i = 0; i < std::min<size_t>(4, vector.size()); ++i) {
    out += fmt::format("{:6.2f}", vector[i]);
  }
  return out + " ... ]";
}

void print_step(int step, const std::string& what, const std::string& symbols,
                const std::string& shape, const std::string& values = "") {
  fmt::print("  {}. {} {}  {}\n", step, fit(what, 46), symbols,
             values.empty() ? shape : fit(shape, 9) + values);
}

void print_table(const Head& head, const std::vector<float>& scores,
                 const std::vector<float>& weights, const Terminal& terminal) {
  fmt::print("\n  token      score  weight\n");
  double sum = 0;
  for (size_t j = 0; j < head.names.size(); ++j) {
    const std::string shown = bar(terminal, static_cast<double>(weights[j]), 45);
    fmt::print("  {} {:>6.2f}  {:>6.3f}{}{}\n", fit(head.names[j], 9), scores[j], weights[j],
               shown.empty() ? "" : " ", shown);
    sum += static_cast<double>(weights[j]);
  }
  if (std::abs(sum - 1) > 1e-5) throw Failure(fmt::format("the weights sum to {}", sum));
  fmt::print("  {:<9} {:>6}  {:>6.3f}\n", "sum", "", sum);
}

void show_dot(const Demo& demo, const LayerData& data, const Head& head) {
  const std::string nine = std::to_string(head.tokens);
  const std::string n = std::to_string(head.n);
  std::string tokens;
  for (const std::string& name : head.names) tokens += "  " + name;
  fmt::print("{}", headline(demo.terminal, "3. \"" + data.text + "\" step by step"));
  fmt::print(
      "{}", wrap(fmt::format("Self-attention: queries, keys and values all come from one sentence. "
                             "The model cuts it into {} tokens (NLP into NL and P) and puts a mark "
                             "in front:",
                             nine)));
  fmt::print("\n{}\n\n", tokens);
  fmt::print("{}\n", wrap(fmt::format(
                         "Each token has a query, a key and a value: vectors of n numbers, here "
                         "n = {} (head {} of the layer above). Follow the query of \"{}\":",
                         n, kHead, head.names[kQuery])));

  Comparison on(demo.places);
  const Answer scores = ask(head, {.weights_mode = WeightsMode::kScores}, &on);
  const Answer answer = ask(head, {}, &on);
  const std::string n_by_1 = n + " x 1", n_by_nine = n + " x " + nine, nine_by_1 = nine + " x 1";
  fmt::print("     {} shape  here\n", fit("step", 46));
  print_step(1, "take the query", "n x 1", n_by_1, numbers(head.query()));
  print_step(2, "take all keys, one column for each token", "n x " + nine, n_by_nine);
  print_step(3, "compare: scores = keys^T query / sqrt(n)", nine_by_1, nine_by_1, "below");
  print_step(4, "softmax makes a probability vector: weights", nine_by_1, nine_by_1, "below");
  print_step(5, "take all values, one column for each token", "n x " + nine, n_by_nine);
  print_step(6, "sum the values: output = values weights", "n x 1", n_by_1, numbers(answer.o));
  print_table(head, scores.weights, answer.weights, demo.terminal);

  const auto row = static_cast<size_t>(head.n);
  const double difference = largest_difference(answer.o, head.out.subspan(kQuery * row, row));
  fmt::print("\n{}", wrap(fmt::format(
                         "\"{}\" asks what is liked, and the answer is made of NL and P. It is "
                         "within {:.0e} of the model's own. All {} tokens ask at once: {} "
                         "queries in, {} outputs out, one call of qkv.",
                         head.names[kQuery], difference, nine, n_by_nine, n_by_nine)));
  fmt::print("{}", on.text());
  if (!(difference <= 1e-5)) throw Failure("the nine tokens' output is not the model's");
}

void show_additive(const Demo& demo, const Head& head) {
  const std::vector<float> w(static_cast<size_t>(head.n), 1.0f);
  Attention problem{.score = Score::kAdditive, .additive_weight = bhsd(w.data(), 1, 1, 1, head.n)};
  Comparison on(demo.places);
  problem.weights_mode = WeightsMode::kScores;
  const Answer scores = ask(head, problem, &on);
  problem.weights_mode = WeightsMode::kProbabilities;
  const Answer answer = ask(head, problem, &on);
  fmt::print("{}", headline(demo.terminal, "4. The same with another score: additive attention"));
  fmt::print(
      "{}", wrap("Here a small network compares query and key: score = w^T tanh(query + key), with "
                 "w a vector of n learned numbers. The rest is as before. This model was not "
                 "trained so, and w is all ones here: the weights show the way, not a meaning."));
  print_table(head, scores.weights, answer.weights, demo.terminal);
  fmt::print("\n  output  {} x 1  {}\n", head.n, numbers(answer.o));
  fmt::print("{}", on.text());
}

}  // namespace

void show_nine(const Demo& demo) {
  const auto file = io::SafetensorsFile::open((demo.data / "minilm.safetensors").string());
  const LayerData data = layer_data(file, "nine");
  const Head head = read_head(data);
  show_dot(demo, data, head);
  show_additive(demo, head);
  std::fflush(stdout);
}

}  // namespace qkv::cli
