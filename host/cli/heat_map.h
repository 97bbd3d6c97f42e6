// A grid of weights, words by words, as text for a terminal.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "terminal.h"

namespace qkv::cli {

struct Grid {
  std::vector<std::string> rows;     // the words that look
  std::vector<std::string> columns;  // the words that are looked at
  std::vector<double> weights;       // row by row, each in 0..1

  double at(size_t row, size_t column) const { return weights[row * columns.size() + column]; }
};

// A row for each word that looks, a cell of four columns for each that is looked at: shade and
// weight in percent. Colours where the terminal has them, else shaded characters.
std::string heat_map(const Grid& grid, const Terminal& terminal);

// What the shades mean, one line.
std::string heat_map_legend(const Terminal& terminal);

}  // namespace qkv::cli
