// Part 1 of the demo: a transformer layer's heads over real text.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <utility>

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

std::string shortened(const std::string& text, size_t columns) {
  const size_t shown = columns - 2;
  return '"' + (text.size() <= shown ? text : text.substr(0, shown - 3) + "...") + '"';
}

// A column for each type, on each place.
struct Column {
  const Place* place;
  qkv_type type;
  const char* name;
  std::string kernel;
};

std::vector<Column> columns_of(const Demo& demo) {
  std::vector<Column> out;
  for (const Place& place : demo.places) {
    out.push_back({&place, QKV_TYPE_F32, "fp32", {}});
    out.push_back({&place, QKV_TYPE_F16, "fp16", {}});
    out.push_back({&place, QKV_TYPE_BF16, "bf16", {}});
  }
  return out;
}

// "GPU kernels: fp32 simt_forward, fp16 sm80_forward, bf16 sm80_forward"
void print_kernels(const std::vector<Column>& columns) {
  std::string out;
  for (const Column& column : columns) {
    if (column.place->device.device != QKV_DEVICE_CUDA) continue;
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", column.name, column.kernel);
  }
  if (!out.empty()) fmt::print("\n{}", wrap("GPU kernels: " + out + ".", 2));
}

void compare_with_model(const Demo& demo, const io::SafetensorsFile& file) {
  std::vector<Column> columns = columns_of(demo);
  // Both tables are as wide as the page.
  const size_t text_width = demo.has_gpu() ? 18 : 36, width = demo.has_gpu() ? 9 : 12;
  fmt::print("Largest difference from what the model itself computed:\n\n");
  fmt::print("  {}{:>6}", fit("text", text_width), "tokens");
  for (const Column& column : columns) {
    const std::string name = demo.has_gpu() ? column.place->name + " " + column.name : column.name;
    fmt::print("{:>{}}", name, width);
  }
  fmt::print("\n");
  double worst = 0;
  for (const char* name : {"paragraph", "sentence", "nine"}) {
    const LayerData data = layer_data(file, name);
    fmt::print("  {}{:>6}", fit(shortened(data.text, text_width - 1), text_width), data.tokens);
    for (Column& column : columns) {
      const LayerResult result = attend_layer(data, column.type, *column.place);
      const double difference = largest_difference(result.o, data.out);
      fmt::print("{:>{}.1e}", difference, width);
      std::fflush(stdout);
      if (column.type == QKV_TYPE_F32) worst = std::max(worst, difference);
      column.kernel = result.kernel;
    }
    fmt::print("\n");
  }
  if (!(worst <= kLimit)) {
    throw Failure(
        fmt::format("fp32 is {:.1e} from the model's own output; at most {:.0e} is "
                    "allowed",
                    worst, kLimit));
  }
  fmt::print("\n{}", wrap(fmt::format("fp32 has to be within {:.0e} of the model: it is, at "
                                      "{:.1e}. fp16 and bf16 round Q, K, V first.",
                                      kLimit, worst),
                          2));
  print_kernels(columns);
}

// Where to look first.
std::string reading_hint(const Grid& grid) {
  for (const Link& link : links(grid)) {
    if (link.from != "it") continue;
    return fmt::format(" \"it\" gives {:.0f} to \"{}\": the model has found out who was tired.",
                       100 * link.weight, link.to);
  }
  return "";
}

void print_links(const Grid& grid, const Terminal& terminal) {
  fmt::print("The strongest links of head {}:\n\n", kShownHead);
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
             wrap(fmt::format("All {} heads look at once. The word that \"{}\" looks at most, head "
                              "by head:",
                              data.heads, word)));
  fmt::print("\n");
  constexpr int64_t kColumns = 3;
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

// The sentence with its weights, the last place's; all places must agree on them.
LayerResult attend_everywhere(const Demo& demo, const LayerData& data) {
  LayerResult result = attend_layer(data, QKV_TYPE_F32, demo.places.front(), true);
  for (size_t i = 1; i < demo.places.size(); ++i) {
    LayerResult other = attend_layer(data, QKV_TYPE_F32, demo.places[i], true);
    const double difference = largest_difference(other.weights, result.weights);
    if (!(difference <= kLimit)) {
      throw Failure(
          fmt::format("the weights of {} and {} differ by {:.1e}; at most {:.0e} is "
                      "allowed",
                      demo.places[i].name, demo.places.front().name, difference, kLimit));
    }
    fmt::print(
        "\n{}",
        wrap(fmt::format("The weights below are the {}'s ({}); the {}'s differ by {:.1e} at most.",
                         demo.places[i].name, other.kernel, demo.places.front().name, difference),
             2));
    result = std::move(other);
  }
  return result;
}

void show_map(const Demo& demo, const LayerData& data, const Grid& grid) {
  fmt::print("{}", headline(demo.terminal, '"' + data.text + '"'));
  fmt::print("{}\n",
             wrap(fmt::format("Which word looks at which, in head {}: each row is one word's "
                              "weights over all words.{} (start) and (end) are marks; heads look "
                              "at (start) when they find nothing.",
                              kShownHead, reading_hint(grid))));
  fmt::print("{}{}", heat_map(grid, demo.terminal), heat_map_legend(demo.terminal));
}

void save_picture(const Demo& demo, const LayerData& data, const std::string& layer,
                  const Grid& grid) {
  const std::string path = (demo.out / "sentence.svg").string();
  write_text_file(
      path, svg_heat_map({"Which word looks at which",
                          {data.text, fmt::format("{}, head {}. Each row sums to 100 percent.",
                                                  layer, kShownHead)},
                          grid}));
  fmt::print("\nPicture: {}\n", path);
}

}  // namespace

void show_model(const Demo& demo) {
  const auto file = io::SafetensorsFile::open((demo.data / "minilm.safetensors").string());
  const std::string model = metadata_text(file, "model"), layer = metadata_text(file, "layer");
  const LayerData data = layer_data(file, "sentence");

  fmt::print("{}", headline(demo.terminal, "1. A real model reads"));
  fmt::print("{}\n", wrap(fmt::format("Layer {} of {} has {} heads: attentions side by side, with "
                                      "queries, keys and values of {} numbers each. The model's "
                                      "own Q, K, V go into qkv.",
                                      layer, model, data.heads, data.dim)));
  compare_with_model(demo, file);
  const LayerResult result = attend_everywhere(demo, data);
  const Grid grid = word_grid(data, result, kShownHead);
  show_map(demo, data, grid);
  fmt::print("{}", headline(demo.terminal, "What the heads look for"));
  print_links(grid, demo.terminal);
  print_heads(data, result, "it", demo.terminal);
  save_picture(demo, data, fmt::format("{}, layer {}", model, layer), grid);
  std::fflush(stdout);
}

}  // namespace qkv::cli
