// Part 1 of the demo: a transformer layer's heads over real text.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "demo.h"
#include "errors.h"
#include "heat_map.h"
#include "layer_run.h"
#include "model_data.h"
#include "output_files.h"
#include "svg.h"

namespace qkv::cli {
namespace {

constexpr double kLimit = 1e-5;    // of fp32 from the model's own output
constexpr int64_t kShownHead = 1;  // it finds the noun that a word goes with

bool is_mark(const std::string& word) { return word == "(start)" || word == "(end)"; }

// Weights between words: summed over the pieces looked at, averaged over the pieces that look.
Grid word_grid(const LayerData& data, const LayerResult& result, int64_t head) {
  Grid grid;
  const std::vector<Word> words = joined_words(data);
  const auto tokens = static_cast<size_t>(data.tokens);
  const float* weights = result.weights.data() + static_cast<size_t>(head) * tokens * tokens;
  for (const Word& to : words) grid.columns.push_back(to.text);
  for (const Word& from : words) {
    if (is_mark(from.text)) continue;
    grid.rows.push_back(from.text);
    for (const Word& to : words) {
      double sum = 0;
      for (size_t i = from.first; i < from.last; ++i) {
        for (size_t j = to.first; j < to.last; ++j) {
          sum += static_cast<double>(weights[i * tokens + j]);
        }
      }
      grid.weights.push_back(sum / static_cast<double>(from.last - from.first));
    }
  }
  return grid;
}

struct Link {
  std::string from, to;
  double weight;
};

// From a word to another one, strongest first; the marks are no words.
std::vector<Link> links(const Grid& grid) {
  std::vector<Link> out;
  for (size_t row = 0; row < grid.rows.size(); ++row) {
    for (size_t column = 0; column < grid.columns.size(); ++column) {
      const std::string &from = grid.rows[row], &to = grid.columns[column];
      const bool word = std::isalnum(static_cast<unsigned char>(from[0])) != 0;
      if (word && from != to && !is_mark(to)) out.push_back({from, to, grid.at(row, column)});
    }
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Link& a, const Link& b) { return a.weight > b.weight; });
  return out;
}

std::string shortened(const std::string& text) {
  constexpr size_t kShown = 40;
  return '"' + (text.size() <= kShown ? text : text.substr(0, kShown - 3) + "...") + '"';
}

void compare_with_model(const io::SafetensorsFile& file) {
  fmt::print("  {:<46}{:>8}{:>12}{:>12}{:>12}\n", "largest difference from the model", "tokens",
             "fp32", "fp16", "bf16");
  double worst = 0;
  for (const char* name : {"paragraph", "sentence", "nine"}) {
    const LayerData data = layer_data(file, name);
    const double difference = largest_difference(attend_layer(data, QKV_TYPE_F32).o, data.out);
    const double fp16 = largest_difference(attend_layer(data, QKV_TYPE_F16).o, data.out);
    const double bf16 = largest_difference(attend_layer(data, QKV_TYPE_BF16).o, data.out);
    fmt::print("  {:<46}{:>8}{:>12.1e}{:>12.1e}{:>12.1e}\n", shortened(data.text), data.tokens,
               difference, fp16, bf16);
    worst = std::max(worst, difference);
  }
  if (!(worst <= kLimit)) {
    throw Failure(
        fmt::format("fp32 is {:.1e} from the model's own output; at most {:.0e} is "
                    "allowed",
                    worst, kLimit));
  }
  fmt::print(
      "\n  fp32 has to be within {:.0e} of the model: it is, at {:.1e}. fp16 and bf16 round "
      "Q, K, V first.\n",
      kLimit, worst);
}

// Where to look first.
std::string reading_hint(const Grid& grid) {
  for (const Link& link : links(grid)) {
    if (link.from != "it") continue;
    return fmt::format(
        " Look at the row of \"it\": {:.0f} percent of it goes to \"{}\". The model "
        "has found out who was tired.",
        100 * link.weight, link.to);
  }
  return "";
}

void print_links(const Grid& grid, const Terminal& terminal) {
  fmt::print("\nStrongest links:\n");
  const std::vector<Link> all = links(grid);
  for (size_t i = 0; i < std::min<size_t>(6, all.size()); ++i) {
    fmt::print("  {:>8} {} {} {:.2f} {}\n", all[i].from, terminal.utf8 ? "→" : "->",
               fit(all[i].to, 8), all[i].weight, bar(terminal, all[i].weight, 40));
  }
}

// What every head finds for one word.
void print_heads(const LayerData& data, const LayerResult& result, const std::string& word,
                 const Terminal& terminal) {
  fmt::print("\n{}",
             wrap(fmt::format("Each of the {} heads looks for something else. The word that \"{}\" "
                              "looks at most, head by head:",
                              data.heads, word)));
  constexpr int64_t kColumns = 4;
  for (int64_t head = 0; head < data.heads; ++head) {
    const std::vector<Link> all = links(word_grid(data, result, head));
    const auto best =
        std::find_if(all.begin(), all.end(), [&](const Link& link) { return link.from == word; });
    if (best == all.end()) continue;
    const std::string name =
        fmt::format("head {:<2} {} {:.2f}", head, fit(best->to, 8), best->weight);
    const std::string shown = head == kShownHead ? bold(terminal, name) : name;
    fmt::print("  {}{}", shown, (head + 1) % kColumns == 0 ? "\n" : "  ");
  }
  if (data.heads % kColumns != 0) fmt::print("\n");
}

}  // namespace

void show_model(const Demo& demo) {
  const auto file = io::SafetensorsFile::open((demo.data / "minilm.safetensors").string());
  const std::string model = metadata_text(file, "model"), layer = metadata_text(file, "layer");
  const LayerData data = layer_data(file, "sentence");

  fmt::print("{}", headline(demo.terminal, "1. A real model reads"));
  fmt::print("{}\n", wrap(fmt::format("Layer {} of {} has {} heads: attentions side by side, with "
                                      "queries, keys and values of {} numbers each. The model's "
                                      "own Q, K, V go into qkv, and what comes out is compared "
                                      "with what the model itself computed.",
                                      layer, model, data.heads, data.dim)));
  compare_with_model(file);

  const LayerResult result = attend_layer(data, QKV_TYPE_F32);
  const Grid grid = word_grid(data, result, kShownHead);
  fmt::print("\n{}\n", bold(demo.terminal, '"' + data.text + '"'));
  fmt::print("{}\n",
             wrap(fmt::format("Which word looks at which, in head {}. Each row is one word's "
                              "weights over all words, in percent, and sums to 100.{} "
                              "(start) and (end) are marks that the model adds; heads "
                              "look at (start) when they find nothing.",
                              kShownHead, reading_hint(grid))));
  fmt::print("{}\n{}", heat_map(grid, demo.terminal), heat_map_legend(demo.terminal));
  print_links(grid, demo.terminal);
  print_heads(data, result, "it", demo.terminal);

  const std::string path = (demo.out / "sentence.svg").string();
  write_text_file(
      path,
      svg_heat_map({"Which word looks at which",
                    {data.text, fmt::format("{}, layer {}, head {}. Each row sums to 100 percent.",
                                            model, layer, kShownHead)},
                    grid}));
  fmt::print("\nAs a picture: {}\n", path);
  std::fflush(stdout);
}

}  // namespace qkv::cli
