#include "heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace qkv::cli {
namespace {

constexpr size_t kCell = 6;
constexpr size_t kLabel = 10;

struct Shade {
  double from;  // weights from here on
  const char* color;
  const char* blocks;
  const char* ascii;
};

// Dull to bright colours of the 256-colour palette, which tell on dark and on light backgrounds,
// each with a text colour that is readable on it.
constexpr std::array<Shade, 6> kShades{{{0.00, "", "  ", "  "},
                                        {0.05, "\033[48;5;60;38;5;255m", "░░", ".."},
                                        {0.15, "\033[48;5;31;38;5;255m", "▒▒", "::"},
                                        {0.30, "\033[48;5;36;38;5;16m", "▓▓", "oo"},
                                        {0.50, "\033[48;5;113;38;5;16m", "██", "##"},
                                        {0.75, "\033[48;5;220;38;5;16m", "██", "##"}}};

const Shade& shade(double weight) {
  const Shade* found = &kShades.front();
  for (const Shade& candidate : kShades) {
    if (weight >= candidate.from) found = &candidate;
  }
  return *found;
}

std::string cell(double weight, const Terminal& terminal) {
  const long percent = std::lround(100 * weight);
  const std::string number = percent == 0 ? "  ·" : fmt::format("{:3}", percent);
  const std::string shown = percent == 0 && !terminal.utf8 ? "  -" : number;
  const Shade& s = shade(weight);
  if (terminal.color) {
    if (s.color[0] == '\0') return shown + "   ";
    return fmt::format("{}{}  \033[0m ", s.color, shown);
  }
  return fmt::format("{}{} ", terminal.utf8 ? s.blocks : s.ascii, shown);
}

// Words above their columns, on two lines in turn, so that each has the room of two columns.
std::string header(const Grid& grid) {
  std::array<std::string, 2> lines{std::string(kLabel, ' '), std::string(kLabel, ' ')};
  for (size_t column = 0; column < grid.columns.size(); ++column) {
    const size_t mine = column % 2;
    if (column == 1) lines[1] += std::string(kCell, ' ');
    const bool last = column + 1 >= grid.columns.size();
    lines[mine] += last ? grid.columns[column] : fit(grid.columns[column], 2 * kCell - 1) + ' ';
  }
  for (std::string& line : lines) {
    while (line.ends_with(' ')) line.pop_back();
  }
  return lines[0] + "\n" + lines[1] + "\n";
}

}  // namespace

std::string heat_map(const Grid& grid, const Terminal& terminal) {
  std::string out = header(grid);
  for (size_t row = 0; row < grid.rows.size(); ++row) {
    out += fit(grid.rows[row], kLabel - 1) + ' ';
    for (size_t column = 0; column < grid.columns.size(); ++column) {
      out += cell(grid.at(row, column), terminal);
    }
    while (out.ends_with(' ')) out.pop_back();
    out += "\n";
  }
  return out;
}

std::string heat_map_legend(const Terminal& terminal) {
  std::string out = "Numbers are percent:";
  for (size_t i = 1; i < kShades.size(); ++i) {
    const Shade& s = kShades[i];
    if (!terminal.color && s.from > 0.5) continue;  // the characters end at 50
    const std::string from = fmt::format("{:.0f} or more", 100 * s.from);
    out += terminal.color ? fmt::format("  {} {} \033[0m", s.color, from)
                          : fmt::format("  {} {}", terminal.utf8 ? s.blocks : s.ascii, from);
  }
  return out + "\n";
}

}  // namespace qkv::cli
