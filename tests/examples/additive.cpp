// Additive attention (Bahdanau): the score of query i and key j is w . tanh(q_i + k_j). A
// translator looks for the word to translate next; q and k are already projected to the common
// width.
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <vector>

int main() {
  const int64_t words = 5, dim = 4;
  const char* const source[] = {"the", "cat", "drinks", "cold", "milk"};
  // Features: article, noun, verb, adjective; 2 where a word has it, -2 where not.
  const float keys[words][dim] = {
      {2, -2, -2, -2}, {-2, 2, -2, -2}, {-2, -2, 2, -2}, {-2, -2, -2, 2}, {-2, 2, -2, -2}};
  // A verb comes next: where q is large tanh saturates and the word does not matter, where q is 0
  // it decides.
  const float query[dim] = {9, 9, 0, 9};
  const float w[dim] = {1.5f, 1.5f, 1.5f, 1.5f};
  const float values[words] = {1, 2, 3, 4, 5};  // each word's place
  float place = NAN, weights[words] = {};

  qkv::attention({.q = qkv::bhsd(query, 1, 1, 1, dim),
                  .k = qkv::bhsd(&keys[0][0], 1, 1, words, dim),
                  .v = qkv::bhsd(values, 1, 1, words, 1),
                  .o = qkv::bhsd(&place, 1, 1, 1, 1),
                  .weights = qkv::bhsd(weights, 1, 1, 1, words),
                  .score = qkv::Score::kAdditive,
                  .additive_weight = qkv::bhsd(w, 1, 1, 1, dim)});

  // The same from the formula, in double precision.
  double scores[words], sum = 0, mix = 0;
  for (int j = 0; j < words; ++j) {
    double score = 0;
    for (int d = 0; d < dim; ++d) score += w[d] * std::tanh(double{query[d]} + keys[j][d]);
    sum += scores[j] = std::exp(score);
    mix += scores[j] * values[j];
  }
  bool right = std::fabs(place - mix / sum) < 1e-5;
  for (int j = 0; j < words; ++j) {
    std::printf("%-6s %.3f\n", source[j], weights[j]);
    right = right && std::fabs(weights[j] - scores[j] / sum) < 1e-6;
  }
  std::printf("mean place %.2f: the verb is word 3\n", place);
  return right && weights[2] > 0.8f ? 0 : 1;
}
