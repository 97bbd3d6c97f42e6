#include "heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace qkv::cli {
namespace {

constexpr size_t kCell = 4;
constexpr size_t kLongestLabel = 9;

struct Shade {
  double from;  // weights from here on
  const char* color;
  const char* block;
  const char* ascii;
};

// Dull to bright colours of the 256-colour palette, which tell on dark and on light backgrounds,
// each with a text colour that is readable on it.
constexpr std::array<Shade, 6> kShades{{{0.00, "", " ", " "},
                                        {0.05, "\033[48;5;60;38;5;255m", "░", "."},
                                        {0.15, "\033[48;5;31;38;5;255m", "▒", ":"},
                                        {0.30, "\033[48;5;36;38;5;16m", "▓", "o"},
                                        {0.50, "\033[48;5;113;38;5;16m", "█", "#"},
                                        {0.75, "\033[48;5;220;38;5;16m", "█", "#"}}};

const Shade& shade(double weight) {
  const Shade* found = &kShades.front();
  for (const Shade& candidate : kShades) {
    if (weight >= candidate.from) found = &candidate;
  }
  return *found;
}

std::string cell(double weight, const Terminal& terminal) {
  const long percent = std::lround(100 * weight);
  const std::string none = terminal.utf8 ? " ·" : " -";
  const std::string shown = percent == 0 ? none : fmt::format("{:2}", percent);
  const Shade& s = shade(weight);
  if (terminal.color) {
    if (s.color[0] == '\0') return ' ' + shown + ' ';
    return fmt::format("{}{:>3}\033[0m ", s.color, shown);
  }
  const std::string mark = terminal.utf8 ? s.block : s.ascii;
  return mark + shown + (percent > 99 ? "" : " ");
}

bool are_letters(const std::vector<std::string>& labels) {
  return std::all_of(labels.begin(), labels.end(),
                     [](const std::string& label) { return width(label) == 1; });
}

std::string without_end(std::string line) {
  while (line.ends_with(' ')) line.pop_back();
  return line + "\n";
}

// Letters stand above the last digit of their column.
std::string letters_header(const Grid& grid, size_t label) {
  std::string line(label, ' ');
  for (const std::string& letter : grid.columns) line += "  " + letter + " ";
  return without_end(line);
}

// Words stand above their columns, on two lines in turn, so that each has the room of two columns.
std::string words_header(const Grid& grid, size_t label) {
  std::array<std::string, 2> lines{std::string(label, ' '), std::string(label + kCell, ' ')};
  for (size_t column = 0; column < grid.columns.size(); ++column) {
    const bool last = column + 1 >= grid.columns.size();
    lines[column % 2] +=
        last ? grid.columns[column] : fit(grid.columns[column], 2 * kCell - 1) + ' ';
  }
  return without_end(lines[0]) + without_end(lines[1]);
}

}  // namespace

std::string heat_map(const Grid& grid, const Terminal& terminal) {
  size_t longest = 0;
  for (const std::string& row : grid.rows) longest = std::max(longest, width(row));
  const size_t label = std::min(longest, kLongestLabel) + 1;
  std::string out =
      are_letters(grid.columns) ? letters_header(grid, label) : words_header(grid, label);
  for (size_t row = 0; row < grid.rows.size(); ++row) {
    std::string line = fit(grid.rows[row], label - 1) + ' ';
    for (size_t column = 0; column < grid.columns.size(); ++column) {
      line += cell(grid.at(row, column), terminal);
    }
    out += without_end(line);
  }
  return out;
}

std::string heat_map_legend(const Terminal& terminal) {
  std::string out = "Percent:";
  for (size_t i = 1; i < kShades.size(); ++i) {
    const Shade& s = kShades[i];
    if (!terminal.color && s.from > 0.5) continue;  // the characters end at 50
    const std::string from = fmt::format("from {:.0f}", 100 * s.from);
    out += terminal.color ? fmt::format("  {} {} \033[0m", s.color, from)
                          : fmt::format("  {} {}", terminal.utf8 ? s.block : s.ascii, from);
  }
  return out + "\n";
}

}  // namespace qkv::cli
