// Attention weights out: who looks at whom. Nine tokens attend to themselves, causally; the
// probabilities are shown as a table.
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <vector>

int main() {
  const char* const tokens[] = {"I", "like", "NLP", ",", "and", "I", "like", "it", "!"};
  const int64_t seq = 9, dim = 8;
  // Equal words have equal vectors, so they score high with each other.
  std::vector<float> x(seq * dim), o(x), weights(seq * seq);
  for (size_t i = 0; i < seq; ++i) {
    for (size_t d = 0; d < dim; ++d) {
      const auto seed = static_cast<float>(tokens[i][0] * 7 + tokens[i][1] * 3);
      x[i * dim + d] = std::sin(seed * static_cast<float>(d + 1));
    }
  }
  const qkv::Tensor t = qkv::bhsd(x.data(), 1, 1, seq, dim);
  qkv::attention({.q = t,
                  .k = t,
                  .v = t,
                  .o = qkv::bhsd(o.data(), 1, 1, seq, dim),
                  .weights = qkv::bhsd(weights.data(), 1, 1, seq, seq),
                  .weights_mode = qkv::WeightsMode::kProbabilities,
                  .causal = true});

  bool right = std::fabs(weights[6 * seq + 1] - weights[6 * seq + 6]) < 1e-6f;  // like, like
  std::printf("         %4s %4s %4s %4s %4s %4s %4s %4s %4s\n", tokens[0], tokens[1], tokens[2],
              tokens[3], tokens[4], tokens[5], tokens[6], tokens[7], tokens[8]);
  for (size_t i = 0; i < seq; ++i) {
    float sum = 0;
    std::printf("%-8s", tokens[i]);
    for (size_t j = 0; j < seq; ++j) {
      const float p = weights[i * seq + j];
      std::printf(" %4.2f", p);
      right = right && (j <= i ? p > 0 : p == 0);  // nobody looks ahead
      sum += p;
    }
    std::printf("\n");
    right = right && std::fabs(sum - 1) < 1e-5f;  // every row is a distribution
    for (size_t d = 0; d < dim; ++d) {            // and mixes the values
      float mix = 0;
      for (size_t j = 0; j <= i; ++j) mix += weights[i * seq + j] * x[j * dim + d];
      right = right && std::fabs(mix - o[i * dim + d]) < 1e-4f;
    }
  }
  return right ? 0 : 1;
}
