// Hard retrieval: a book search. The query is compared with every title (the keys); the best one's
// book (its value) comes back whole, with its index. Soft attention would mix all books.
#include <cctype>
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <string>
#include <vector>

constexpr int64_t kDim = 256;

// A text as a vector of unit length: how often each pair of letters occurs, hashed.
std::vector<float> embed(const std::string& text) {
  std::vector<float> out(kDim);
  float norm = 0;
  for (size_t n = 0; n + 1 < text.size(); ++n) {
    const int pair = std::tolower(text[n]) * 31 + std::tolower(text[n + 1]);
    out[static_cast<size_t>(pair % kDim)] += 1;
  }
  for (const float x : out) norm += x * x;
  for (float& x : out) x /= std::sqrt(norm);
  return out;
}

int main() {
  const std::string titles[] = {"A Short History of Glass", "Cooking with Mushrooms",
                                "Deep Learning in Plain Words", "Gardens of the North"};
  const float books[4][3] = {{1998, 310, 4}, {2011, 188, 2}, {2021, 402, 7}, {1975, 96, 1}};
  const std::string wanted[] = {"machine learning explained in words", "northern garden",
                                "what mushroom can I cook?", "glass"};
  const int32_t right[] = {2, 3, 1, 0};

  std::vector<float> keys, queries, found(4 * 3);
  for (const std::string& title : titles) {
    for (const float x : embed(title)) keys.push_back(x);
  }
  for (const std::string& text : wanted) {
    for (const float x : embed(text)) queries.push_back(x);
  }
  int32_t index[4];
  qkv::attention({.q = qkv::bhsd(queries.data(), 1, 1, 4, kDim),
                  .k = qkv::bhsd(keys.data(), 1, 1, 4, kDim),
                  .v = qkv::bhsd(&books[0][0], 1, 1, 4, 3),
                  .o = qkv::bhsd(found.data(), 1, 1, 4, 3),
                  .index = qkv::bhsd(index, 1, 1, 4, 1),
                  .selection = qkv::Selection::kHard});
  bool all = true;
  for (size_t n = 0; n < 4; ++n) {
    std::printf("\"%s\" -> %s: %.0f, %.0f pages, shelf %.0f\n", wanted[n].c_str(),
                titles[index[n]].c_str(), found[3 * n], found[3 * n + 1], found[3 * n + 2]);
    all = all && index[n] == right[n];
    for (size_t d = 0; d < 3; ++d) all = all && found[3 * n + d] == books[right[n]][d];
  }
  return all ? 0 : 1;
}
