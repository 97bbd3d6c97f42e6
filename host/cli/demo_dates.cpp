// Part 4 of the demo: a model with additive attention turns written dates into ISO form.
#include <fmt/format.h>

#include <algorithm>
#include <array>
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

constexpr double kLimit = 1e-5;  // of weights and contexts from the model's own

struct Part {
  const char* name;
  size_t first, last;  // letters of "1979-05-03"; last is one past the end
};
constexpr std::array<Part, 3> kParts{{{"year", 0, 4}, {"month", 5, 7}, {"day", 8, 10}}};

// What the model read and wrote, and its attention on the way: a query for each letter that it
// writes, a key and a value for each letter that it reads.
struct Date {
  std::string written, iso;
  int64_t dim = 0, value_dim = 0;
  std::span<const float> w, q, k, v, weights, context;

  int64_t letters_read() const { return static_cast<int64_t>(written.size()); }
  int64_t letters_written() const { return static_cast<int64_t>(iso.size()); }
};

std::vector<Date> read_dates(const io::SafetensorsFile& file) {
  const std::vector<std::string> written = metadata_list(file, "written");
  const std::vector<std::string> iso = metadata_list(file, "iso");
  if (written.size() < 2 || written.size() != iso.size()) {
    throw BadInput("the dates' data needs an ISO form for each of at least 2 dates");
  }
  const int64_t dim = file.tensor("w").shape.back();
  const int64_t value_dim = file.tensor("date0.v").shape.back();
  std::vector<Date> out;
  for (size_t i = 0; i < written.size(); ++i) {
    Date date;
    date.written = written[i];
    date.iso = iso[i];
    date.dim = dim;
    date.value_dim = value_dim;
    date.w = tensor_data(file, "w", {1, 1, 1, dim});
    const int64_t in = date.letters_read(), out_letters = date.letters_written();
    if (out_letters != static_cast<int64_t>(kParts.back().last)) {
      throw BadInput("the date " + io::quoted(date.iso) + " is not written as 1979-05-03");
    }
    const auto tensor = [&](const char* name, int64_t rows, int64_t columns) {
      return tensor_data(file, fmt::format("date{}.{}", i, name), {1, 1, rows, columns});
    };
    date.q = tensor("q", out_letters, dim);
    date.k = tensor("k", in, dim);
    date.v = tensor("v", in, value_dim);
    date.weights = tensor("weights", out_letters, in);
    date.context = tensor("context", out_letters, value_dim);
    out.push_back(date);
  }
  return out;
}

// qkv's weights, and how far they and the contexts are from the model's own at each place.
struct Looked {
  std::vector<float> weights;
  std::vector<double> differences;
};

Looked look(const Date& date, Comparison* on) {
  Looked out;
  const int64_t rows = date.letters_written(), columns = date.letters_read();
  std::vector<float> context(date.context.size());
  out.weights.resize(date.weights.size());
  Attention problem{.q = bhsd(date.q.data(), 1, 1, rows, date.dim),
                    .k = bhsd(date.k.data(), 1, 1, columns, date.dim),
                    .v = bhsd(date.v.data(), 1, 1, columns, date.value_dim),
                    .o = bhsd(context.data(), 1, 1, rows, date.value_dim),
                    .score = Score::kAdditive};
  problem.additive_weight = bhsd(date.w.data(), 1, 1, 1, date.dim);
  problem.weights = bhsd(out.weights.data(), 1, 1, rows, columns);
  on->attend(problem, [&] {
    const double difference = std::max(largest_difference(out.weights, date.weights),
                                       largest_difference(context, date.context));
    if (!(difference <= kLimit)) {
      throw Failure(
          fmt::format("the weights for {} are {:.1e} from the model's own; at most "
                      "{:.0e} is allowed",
                      io::quoted(date.written), difference, kLimit));
    }
    out.differences.push_back(difference);
  });
  return out;
}

// Which letters are looked at; a space is shown as "_".
Grid letter_grid(const Date& date, const Looked& looked) {
  Grid grid;
  for (const char c : date.iso) grid.rows.emplace_back(1, c);
  for (const char c : date.written) grid.columns.emplace_back(1, c == ' ' ? '_' : c);
  for (const float weight : looked.weights) grid.weights.push_back(static_cast<double>(weight));
  return grid;
}

struct Source {
  std::string word;
  double weight = 0;
};

// The word that the letters of a part look at most, and how much of their weight it has.
Source source_of(const Date& date, const Grid& grid, const Part& part) {
  Source best;
  for (size_t begin = 0; begin < date.written.size();) {
    const size_t end = std::min(date.written.find(' ', begin), date.written.size());
    double sum = 0;
    for (size_t row = part.first; row < part.last; ++row) {
      for (size_t column = begin; column < end; ++column) sum += grid.at(row, column);
    }
    const double weight = sum / static_cast<double>(part.last - part.first);
    if (weight > best.weight) best = {date.written.substr(begin, end - begin), weight};
    begin = end + 1;
  }
  return best;
}

void show_idea(const Demo& demo, const io::SafetensorsFile& file) {
  fmt::print("{}", headline(demo.terminal, "4. Additive attention: a model that reads dates"));
  fmt::print("{}\n",
             wrap(fmt::format(
                 "The first model with attention was a translator (Bahdanau, Cho, Bengio "
                 "2014). A small one, trained for this demo, reads a date as people write "
                 "it and writes it as 1979-05-03, letter by letter. Of {} days that it had "
                 "never seen it got {} right.",
                 metadata_text(file, "held_out.days"), metadata_text(file, "held_out.right"))));
  fmt::print(
      "  keys, values   one for each letter that is read, with what stands around it\n"
      "  queries        one for each letter to write, from what is written so far\n"
      "  score          w^T tanh(q + k)\n\n");
  fmt::print("{}\n",
             wrap("A small network compares query and key, where the dot product multiplies "
                  "them. Its w was learned, and so were the matrices that project q and k "
                  "into one space. Softmax and sum are as before."));
  fmt::print("{}", wrap("The model was told to look at few letters, but not at which: it was right "
                        "more often when it looked at those that matter, and so it learned to."));
}

void show_table(const Demo& demo, const std::vector<Date>& dates,
                const std::vector<Looked>& looked) {
  fmt::print("{}",
             headline(demo.terminal, fmt::format("{} dates: qkv beside the model", dates.size())));
  fmt::print("{}\n", wrap(fmt::format("The model's own q, K, V and w go into qkv. Its weights and "
                                      "sums have to be within {:.0e} of the model's own.",
                                      kLimit)));
  fmt::print("  {}{}largest difference:", fit("read", 24), fit("written", 13));
  for (const Place& place : demo.places) fmt::print("{:>10}", place.name);
  fmt::print("\n");
  for (size_t i = 0; i < dates.size(); ++i) {
    fmt::print("  {}{}{:19}", fit(dates[i].written, 24), fit(dates[i].iso, 13), "");
    for (const double difference : looked[i].differences) fmt::print("{:>10.1e}", difference);
    fmt::print("\n");
  }
}

std::string save_picture(const Demo& demo, const Date& date, const Grid& grid, size_t number) {
  std::string path = (demo.out / fmt::format("date_{}.svg", number)).string();
  write_text_file(path, svg_heat_map({"Which letters each letter looks at",
                                      {fmt::format("\"{}\" becomes {}.", date.written, date.iso),
                                       "Additive attention; each row sums to 100 percent."},
                                      grid}));
  return path;
}

void show_map(const Demo& demo, const Date& date, const Looked& looked, size_t number,
              const std::string& hint) {
  const Grid grid = letter_grid(date, looked);
  fmt::print("{}", headline(demo.terminal, fmt::format("\"{}\"", date.written)));
  fmt::print("{}\n{}{}\n", wrap(hint), heat_map(grid, demo.terminal),
             heat_map_legend(demo.terminal));
  for (const Part& part : kParts) {
    const Source source = source_of(date, grid, part);
    fmt::print("  {:<5}  {:<4} looks at \"{}\" with {:.0f} percent\n", part.name,
               date.iso.substr(part.first, part.last - part.first), source.word,
               100 * source.weight);
  }
  fmt::print("\nPicture: {}\n", save_picture(demo, date, grid, number));
}

}  // namespace

void show_dates(const Demo& demo) {
  const auto file = io::SafetensorsFile::open((demo.data / "dates.safetensors").string());
  const std::vector<Date> dates = read_dates(file);
  Comparison on(demo.places);
  std::vector<Looked> looked;
  looked.reserve(dates.size());
  for (const Date& date : dates) looked.push_back(look(date, &on));
  show_idea(demo, file);
  show_map(demo, dates[0], looked[0], 1,
           "Each row is a letter that is written, and looks at those above (_: a space).");
  show_map(demo, dates[1], looked[1], 2,
           "The same day in another order: what a row looks for has moved.");
  show_table(demo, dates, looked);
  fmt::print("{}", on.text());
  std::fflush(stdout);
}

}  // namespace qkv::cli
