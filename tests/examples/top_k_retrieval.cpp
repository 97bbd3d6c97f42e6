// Top-k retrieval: a search over 100,000 titles. Hard attention finds the best one; top-k attention
// fills a shelf with the ten best, in order, with their scores, and mixes their values. Neither
// stores the 100,000 scores of a query.
#include <cctype>
#include <cmath>
#include <cstdio>
#include <qkv/qkv.hpp>
#include <string>
#include <vector>

constexpr int64_t kTitles = 100000, kDim = 128, kShelf = 10, kQueries = 3;

// "A Quiet History of Northern Gardens, volume 3": 20 x 5 x 10 x 10 of them, in 10 volumes each.
std::string title(int64_t n) {
  const char* const moods[] = {"Quiet",  "Short",  "Secret", "Lost",    "Practical",
                               "Golden", "Broken", "New",    "Great",   "Curious",
                               "Dark",   "Simple", "Honest", "Wild",    "Deep",
                               "Old",    "Modern", "Small",  "Strange", "Useful"};
  const char* const forms[] = {"History", "Theory", "Book", "Atlas", "Dictionary"};
  const char* const places[] = {"Northern", "Southern", "Desert",  "Island", "Mountain",
                                "River",    "Forest",   "Village", "Winter", "Summer"};
  const char* const things[] = {"Gardens", "Bridges", "Mushrooms", "Clocks", "Glass",
                                "Songs",   "Letters", "Ships",     "Bees",   "Maps"};
  const int64_t part = n / 1000;
  return std::string("A ") + moods[n % 20] + " " + forms[n / 20 % 5] + " of " +
         places[n / 100 % 10] + " " + things[part % 10] + ", volume " +
         std::to_string(part / 10 + 1);
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
  std::vector<float> keys(kTitles * kDim), numbers(kTitles), queries(kQueries * kDim);
  for (int64_t n = 0; n < kTitles; ++n) {
    embed(title(n), &keys[static_cast<size_t>(n * kDim)]);
    numbers[static_cast<size_t>(n)] = static_cast<float>(n);  // the values: of one element each
  }
  const int64_t wanted[kQueries] = {4321, 67890, 99999};
  for (int64_t i = 0; i < kQueries; ++i)
    embed(title(wanted[i]), &queries[static_cast<size_t>(i * kDim)]);

  float best[kQueries], mixture[kQueries], scores[kQueries * kShelf];
  int32_t index[kQueries], shelf[kQueries * kShelf];
  qkv::Attention search{.q = qkv::bhsd(queries.data(), 1, 1, kQueries, kDim),
                        .k = qkv::bhsd(keys.data(), 1, 1, kTitles, kDim),
                        .v = qkv::bhsd(numbers.data(), 1, 1, kTitles, 1),
                        .o = qkv::bhsd(best, 1, 1, kQueries, 1),
                        .index = qkv::bhsd(index, 1, 1, kQueries, 1),
                        .selection = qkv::Selection::kHard,
                        .scale = 20.0f};
  qkv::attention(search);
  search.o = qkv::bhsd(mixture, 1, 1, kQueries, 1);
  search.index = qkv::bhsd(shelf, 1, 1, kQueries, kShelf);
  search.selection = qkv::Selection::kTopK;
  search.top_k = kShelf;
  search.top_scores = qkv::bhsd(scores, 1, 1, kQueries, kShelf);
  qkv::attention(search);

  bool all = true;
  for (int64_t i = 0; i < kQueries; ++i) {
    std::printf("\"%s\"\n", title(wanted[i]).c_str());
    all = all && index[i] == wanted[i] && best[i] == static_cast<float>(wanted[i]);
    for (int64_t n = 0; n < kShelf; ++n) {
      const auto at = static_cast<size_t>(i * kShelf + n);
      std::printf("  %6.3f  %s\n", scores[at], title(shelf[at]).c_str());
      all = all && (n == 0 ? shelf[at] == index[i] : scores[at] <= scores[at - 1]);
    }
  }
  return all ? 0 : 1;
}
