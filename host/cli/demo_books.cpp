// Part 2 of the demo: a search as attention. Titles are keys, books are values.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

#include "demo.h"
#include "errors.h"
#include "layer_run.h"

namespace qkv::cli {
namespace {

struct Library {
  std::string query;
  std::vector<std::string> titles, books;
  std::span<const float> q, k, v;
  int64_t count = 0, dim = 0;
  float scale = 1;
};

Library read_library(const io::SafetensorsFile& file) {
  Library out;
  out.query = metadata_text(file, "query");
  out.titles = metadata_list(file, "titles");
  out.books = metadata_list(file, "summaries");
  const std::string scale = metadata_text(file, "scale");
  const char* end = scale.data() + scale.size();
  if (std::from_chars(scale.data(), end, out.scale).ptr != end) {
    throw BadInput("the book data's scale is " + io::quoted(scale) + "; it must be a number");
  }
  out.count = static_cast<int64_t>(out.titles.size());
  const io::View keys = file.tensor("k");
  if (keys.shape.size() != 2 || out.books.size() != out.titles.size()) {
    throw BadInput("the book data needs a key and a summary for each title");
  }
  out.dim = keys.shape[1];
  out.q = tensor_data(file, "q", {1, out.dim});
  out.k = tensor_data(file, "k", {out.count, out.dim});
  out.v = tensor_data(file, "v", {out.count, out.dim});
  return out;
}

Attention search(const Library& books, Selection selection, std::vector<float>* o) {
  o->assign(static_cast<size_t>(books.dim), 0.0f);
  return {.q = bhsd(books.q.data(), 1, 1, 1, books.dim),
          .k = bhsd(books.k.data(), 1, 1, books.count, books.dim),
          .v = bhsd(books.v.data(), 1, 1, books.count, books.dim),
          .o = bhsd(o->data(), 1, 1, 1, books.dim),
          .selection = selection,
          .scale = books.scale};
}

std::string mixture(const Library& books, const std::vector<float>& weights) {
  std::vector<size_t> order(weights.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return weights[a] > weights[b]; });
  std::string out = "answer =";
  for (size_t i = 0; i < std::min<size_t>(3, order.size()); ++i) {
    out += fmt::format("{} {:.2f} x {}", i == 0 ? "" : " +", weights[order[i]],
                       books.titles[order[i]]);
  }
  return out + (order.size() > 3 ? " + a little of the others" : "");
}

void show_soft(const Library& books, const Terminal& terminal, Comparison* on) {
  std::vector<float> o, weights(books.titles.size());
  Attention problem = search(books, Selection::kSoft, &o);
  problem.weights = bhsd(weights.data(), 1, 1, 1, books.count);
  on->attend(problem);
  fmt::print("{}", headline(terminal, "Soft attention mixes"));
  fmt::print("Every book gets a weight, and the answer is their sum with these weights:\n\n");
  for (size_t i = 0; i < books.titles.size(); ++i) {
    const std::string shown = bar(terminal, static_cast<double>(weights[i]), 30);
    fmt::print("  {} {:.2f}{}{}\n", fit(books.titles[i], 40), weights[i], shown.empty() ? "" : " ",
               shown);
  }
  fmt::print("\n{}", wrap(mixture(books, weights), 2));
}

void show_hard(const Library& books, const Terminal& terminal, Comparison* on) {
  std::vector<float> o;
  int64_t index = -1;
  Attention problem = search(books, Selection::kHard, &o);
  problem.index = bhsd(&index, 1, 1, 1, 1);
  on->attend(problem, [&] {
    if (index < 0 || index >= books.count ||
        !std::equal(o.begin(), o.end(), books.v.begin() + index * books.dim)) {
      throw Failure("hard attention did not return one book's vector as it is");
    }
  });
  const auto at = static_cast<size_t>(index);
  fmt::print("{}", headline(terminal, "Hard attention retrieves"));
  fmt::print("The answer is the best title's book alone, bit for bit:\n\n");
  fmt::print("  {}\n{}", bold(terminal, books.titles[at]), wrap(books.books[at], 2));
}

void show_shelf(const Library& books, const Terminal& terminal, Comparison* on) {
  constexpr int32_t kShelf = 3;
  std::vector<float> o;
  std::array<int64_t, kShelf> index{};
  std::array<float, kShelf> scores{};
  Attention problem = search(books, Selection::kTopK, &o);
  problem.top_k = kShelf;
  problem.index = bhsd(index.data(), 1, 1, 1, kShelf);
  problem.top_scores = bhsd(scores.data(), 1, 1, 1, kShelf);
  on->attend(problem, [&] {
    for (const int64_t key : index)
      if (key < 0 || key >= books.count)
        throw Failure("top-k attention did not return three books");
  });
  fmt::print("{}", headline(terminal, "Top-k attention fills a shelf"));
  fmt::print("The three best titles in order, with their scores; their books alone are mixed:\n\n");
  for (size_t n = 0; n < index.size(); ++n) {
    const auto at = static_cast<size_t>(index[n]);
    fmt::print("  {}. {} {:.2f}\n", n + 1, fit(books.titles[at], 40), scores[n]);
  }
  fmt::print("\n");
}

}  // namespace

void show_books(const Demo& demo) {
  const auto file = io::SafetensorsFile::open((demo.data / "books.safetensors").string());
  const Library books = read_library(file);
  fmt::print("{}", headline(demo.terminal, "2. Searching a bookshelf"));
  fmt::print("  query    {}\n", bold(demo.terminal, '"' + books.query + '"'));
  fmt::print("  keys     the titles of {} books\n  values   the books\n\n", books.count);
  fmt::print("{}", wrap(fmt::format("The query is compared with all keys; what comes back is made "
                                    "of the values. Each of them is a vector of {} numbers that "
                                    "the same model made of the words.",
                                    books.dim)));
  Comparison on(demo.places);
  show_soft(books, demo.terminal, &on);
  show_hard(books, demo.terminal, &on);
  show_shelf(books, demo.terminal, &on);
  show_titles(demo, &on);
  fmt::print("{}", on.text());
  std::fflush(stdout);
}

}  // namespace qkv::cli
