// Top-k retrieval: a search over 100,000 titles. Hard attention finds the best one; top-k attention
// fills a shelf with the ten best, in order, with their scores. Neither stores 100,000 scores.
#include <cctype>
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <string>
#include <vector>

constexpr int64_t kTitles = 100000, kDim = 128, kShelf = 10;

// "Wild River Atlas of Bees, volume 3": ten words for each place, and ten volumes.
std::string title(int64_t n) {
  static const char* const kWords[][10] = {
      {"Quiet", "Lost", "New", "Great", "Dark", "Wild", "Deep", "Old", "Modern", "Small"},
      {"North", "South", "Desert", "River", "Island", "Alpine", "Polar", "Town", "Farm", "Winter"},
      {"History", "Theory", "Book", "Atlas", "Art", "Song", "Guide", "Law", "Story", "Craft"},
      {"Roses", "Bridges", "Clocks", "Glass", "Ships", "Bees", "Maps", "Bread", "Tea", "Ink"}};
  std::string text = std::string(kWords[0][n % 10]) + " " + kWords[1][n / 10 % 10] + " ";
  text = text + kWords[2][n / 100 % 10] + " of " + kWords[3][n / 1000 % 10];
  return text + ", volume " + std::to_string(n / 10000 + 1);
}

// A text as a vector of unit length: how often each pair of letters occurs, hashed.
void embed(const std::string& text, float* out) {
  float norm = 0;
  for (size_t n = 0; n + 1 < text.size(); ++n)
    out[(std::tolower(text[n]) * 31 + std::tolower(text[n + 1])) % kDim] += 1;
  for (int64_t d = 0; d < kDim; ++d) norm += out[d] * out[d];
  for (int64_t d = 0; d < kDim; ++d) out[d] /= std::sqrt(norm);
}

int main() {
  const int64_t wanted = 67890;
  std::vector<float> keys(kTitles * kDim), values(kTitles), query(kDim);
  for (int64_t n = 0; n < kTitles; ++n) embed(title(n), &keys[static_cast<size_t>(n * kDim)]);
  for (size_t n = 0; n < values.size(); ++n) values[n] = static_cast<float>(n);  // their numbers
  embed(title(wanted), query.data());

  float best, mixture, scores[kShelf];
  int32_t index, shelf[kShelf];
  qkv::Attention search{.q = qkv::bhsd(query.data(), 1, 1, 1, kDim),
                        .k = qkv::bhsd(keys.data(), 1, 1, kTitles, kDim),
                        .v = qkv::bhsd(values.data(), 1, 1, kTitles, 1),
                        .o = qkv::bhsd(&best, 1, 1, 1, 1),
                        .index = qkv::bhsd(&index, 1, 1, 1, 1),
                        .selection = qkv::Selection::kHard,
                        .scale = 20.0f};
  qkv::attention(search);
  search.o = qkv::bhsd(&mixture, 1, 1, 1, 1), search.index = qkv::bhsd(shelf, 1, 1, 1, kShelf);
  search.selection = qkv::Selection::kTopK, search.top_k = kShelf;
  search.top_scores = qkv::bhsd(scores, 1, 1, 1, kShelf);
  qkv::attention(search);

  for (int n = 0; n < kShelf; ++n) std::printf("%6.3f  %s\n", scores[n], title(shelf[n]).c_str());
  return index == wanted && best == values[wanted] && shelf[0] == wanted ? 0 : 1;
}
