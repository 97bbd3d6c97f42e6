// Part 2 of the demo, at its end: the same search where scores are many.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "demo.h"
#include "errors.h"
#include "layer_run.h"

namespace qkv::cli {
namespace {

constexpr int64_t kDim = 128;
constexpr int32_t kShelf = 10;

// "Wild River Atlas of Bees, volume 3": ten words for each place, and ten volumes.
std::string title(int64_t n) {
  using Words = std::array<const char*, 10>;
  static constexpr std::array<Words, 4> kWords{
      {{"Quiet", "Lost", "New", "Great", "Dark", "Wild", "Deep", "Old", "Modern", "Small"},
       {"North", "South", "Desert", "River", "Island", "Alpine", "Polar", "Town", "Farm", "Winter"},
       {"History", "Theory", "Book", "Atlas", "Art", "Song", "Guide", "Law", "Story", "Craft"},
       {"Roses", "Bridges", "Clocks", "Glass", "Ships", "Bees", "Maps", "Bread", "Tea", "Ink"}}};
  std::array<const char*, 4> words{};
  for (size_t place = 0; place < words.size(); ++place, n /= 10)
    words[place] = kWords[place][static_cast<size_t>(n % 10)];
  return fmt::format("{} {} {} of {}, volume {}", words[0], words[1], words[2], words[3], n + 1);
}

// A text as a vector of unit length: how often each pair of letters occurs, hashed.
void embed(const std::string& text, float* out) {
  float norm = 0;
  for (size_t n = 0; n + 1 < text.size(); ++n) {
    const int first = std::tolower(static_cast<unsigned char>(text[n]));
    const int second = std::tolower(static_cast<unsigned char>(text[n + 1]));
    out[(first * 31 + second) % kDim] += 1;
  }
  for (int64_t d = 0; d < kDim; ++d) norm += out[d] * out[d];
  for (int64_t d = 0; d < kDim; ++d) out[d] /= std::sqrt(norm);
}

struct Titles {
  int64_t count, wanted;
  std::vector<float> query, keys, values;  // values: their numbers
};

Titles make_titles(int64_t count) {
  Titles out{count, count * 2 / 3, std::vector<float>(kDim),
             std::vector<float>(static_cast<size_t>(count * kDim)),
             std::vector<float>(static_cast<size_t>(count))};
  for (int64_t n = 0; n < count; ++n) {
    embed(title(n), out.keys.data() + n * kDim);
    out.values[static_cast<size_t>(n)] = static_cast<float>(n);
  }
  embed(title(out.wanted), out.query.data());
  return out;
}

// What a run on the CPU takes, the best of some.
double milliseconds(const Attention& problem) {
  double best = 0;
  for (int run = 0; run < 5; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    attention(problem);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - begin;
    best = run == 0 ? time.count() : std::min(best, time.count());
  }
  return best;
}

}  // namespace

void show_titles(const Demo& demo, Comparison* on) {
  const Titles titles = make_titles(demo.sizes == SpeedSizes::kTiny ? 1000 : 100000);
  float found = 0, mixed = 0;
  int64_t index = -1;
  std::array<int64_t, kShelf> shelf{};
  std::array<float, kShelf> scores{};
  Attention hard{.q = bhsd(titles.query.data(), 1, 1, 1, kDim),
                 .k = bhsd(titles.keys.data(), 1, 1, titles.count, kDim),
                 .v = bhsd(titles.values.data(), 1, 1, titles.count, 1),
                 .o = bhsd(&found, 1, 1, 1, 1),
                 .selection = Selection::kHard,
                 .scale = 1.0f};
  Attention ten = hard;
  hard.index = bhsd(&index, 1, 1, 1, 1);
  ten.o = bhsd(&mixed, 1, 1, 1, 1);
  ten.selection = Selection::kTopK;
  ten.top_k = kShelf;
  ten.index = bhsd(shelf.data(), 1, 1, 1, kShelf);
  ten.top_scores = bhsd(scores.data(), 1, 1, 1, kShelf);
  const std::string wanted = title(titles.wanted);
  const auto check = [&](int64_t best) {
    if (best < 0 || best >= titles.count || title(best) != wanted)
      throw Failure("the search among generated titles did not find the one that was asked for");
  };
  on->attend(hard, [&] { check(index); });
  on->attend(ten, [&] { check(shelf[0]); });
  fmt::print("{}", headline(demo.terminal, fmt::format("Among {} titles", titles.count)));
  fmt::print("{}\n", wrap(fmt::format("Generated titles, and \"{}\" among them. Scores are not "
                                      "stored: they go by, and the best ones are kept.",
                                      wanted)));
  for (size_t n = 0; n < 3; ++n)
    fmt::print("  {}. {} {:.2f}\n", n + 1, fit(title(shelf[n]), 48), scores[n]);
  fmt::print("\n  on the CPU: the best in {:.2f} ms, the ten best in {:.2f} ms\n",
             milliseconds(hard), milliseconds(ten));
}

}  // namespace qkv::cli
