// A grid of weights as a standalone SVG picture.
#pragma once

#include <string>
#include <vector>

#include "heat_map.h"

namespace qkv::cli {

struct Picture {
  std::string title;
  std::vector<std::string> subtitle;  // lines of text under it
  Grid grid;
};

std::string svg_heat_map(const Picture& picture);

}  // namespace qkv::cli
