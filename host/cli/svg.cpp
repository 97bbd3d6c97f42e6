#include "svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace qkv::cli {
namespace {

constexpr double kWordCell = 46, kLetterCell = 34;
constexpr double kMargin = 28;
constexpr double kLetter = 8.2;  // width of a letter of a label

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else {
      out += c;
    }
  }
  return out;
}

// Nearly white at 0, light blue in the middle, dark blue at 1; small weights are told apart best.
std::string color(double weight) {
  constexpr std::array<std::array<int, 3>, 3> kStops{
      {{246, 249, 253}, {107, 174, 222}, {8, 64, 140}}};
  const double t = 2 * std::pow(std::clamp(weight, 0.0, 1.0), 0.7);
  const size_t stop = t < 1 ? 0 : 1;
  const auto mix = [&](size_t channel) {
    const int from = kStops[stop][channel], to = kStops[stop + 1][channel];
    return std::lround(from + (t - static_cast<double>(stop)) * (to - from));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2));
}

double longest(const std::vector<std::string>& words) {
  size_t most = 0;
  for (const std::string& word : words) most = std::max(most, width(word));
  return static_cast<double>(most);
}

std::string text(double x, double y, const char* style, const std::string& content) {
  return fmt::format("  <text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style,
                     escaped(content));
}

std::string cell(double x, double y, double size, double weight) {
  std::string out = fmt::format(
      "  <rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"3\" fill=\"{}\"/>"
      "\n",
      x + 1, y + 1, size - 2, size - 2, color(weight));
  const long percent = std::lround(100 * weight);
  if (percent > 0) {
    out += text(x + size / 2, y + size / 2 + 4.5,
                weight > 0.45 ? "class=\"number\" fill=\"#ffffff\"" : "class=\"number\"",
                fmt::format("{}", percent));
  }
  return out;
}

// What is looked at, above its column: letters upright, words leaning by 45 degrees.
std::string column_label(double x, double y, double size, const std::string& label) {
  if (width(label) == 1) return text(x + size / 2, y, "class=\"letter\"", label);
  x += 0.42 * size;
  return text(x, y, fmt::format("transform=\"rotate(-45 {:.1f} {:.1f})\"", x, y).c_str(), label);
}

// From 0 to 100 percent, left to right.
std::string scale(double x, double y) {
  constexpr int kSteps = 50;
  constexpr double kWidth = 200, kHeight = 12;
  std::string out = text(x, y + 10.5, "class=\"small\"", "0 %");
  x += 32;
  for (int i = 0; i < kSteps; ++i) {
    out += fmt::format(
        "  <rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"/>\n",
        x + i * kWidth / kSteps, y, kWidth / kSteps + 0.5, kHeight, color((i + 0.5) / kSteps));
  }
  return out + text(x + kWidth + 8, y + 10.5, "class=\"small\"", "100 %");
}

}  // namespace

std::string svg_heat_map(const Picture& picture) {
  const Grid& grid = picture.grid;
  const bool letters = longest(grid.columns) <= 1;
  const double size = letters ? kLetterCell : kWordCell;
  const double labels = longest(grid.rows) * kLetter + 14;
  const double header = letters ? 28 : longest(grid.columns) * kLetter * 0.71 + 22;
  const double left = kMargin + labels;
  const double intro = kMargin + 30 + 20 * static_cast<double>(picture.subtitle.size());
  const double top = intro + 8 + header;
  const double grid_width = size * static_cast<double>(grid.columns.size());
  const double bottom = top + size * static_cast<double>(grid.rows.size());
  const double total_width =
      std::max(left + grid_width + header - 6, kMargin * 2 + kLetter * 0.92 * 62);
  const double total_height = bottom + 58;

  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\">\n"
      "  <title>{2}</title>\n"
      "  <style>\n"
      "    text {{ font-family: 'DejaVu Sans', Verdana, Arial, sans-serif; font-size: 14px; "
      "fill: #1f2933 }}\n"
      "    text.title {{ font-size: 19px; font-weight: bold }}\n"
      "    text.small {{ font-size: 12.5px; fill: #52606d }}\n"
      "    text.number {{ font-size: 12.5px; text-anchor: middle }}\n"
      "    text.number[fill] {{ fill: #ffffff }}\n"
      "    text.row {{ text-anchor: end }}\n"
      "    text.letter {{ text-anchor: middle }}\n"
      "  </style>\n"
      "  <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
      total_width, total_height, escaped(picture.title));
  out += text(kMargin, kMargin + 14, "class=\"title\"", picture.title);
  for (size_t i = 0; i < picture.subtitle.size(); ++i) {
    out += text(kMargin, kMargin + 40 + 20 * static_cast<double>(i), "class=\"small\"",
                picture.subtitle[i]);
  }
  for (size_t column = 0; column < grid.columns.size(); ++column) {
    out += column_label(left + size * static_cast<double>(column), top - 8, size,
                        grid.columns[column]);
  }
  for (size_t row = 0; row < grid.rows.size(); ++row) {
    const double y = top + size * static_cast<double>(row);
    out += text(left - 10, y + size / 2 + 5, "class=\"row\"", grid.rows[row]);
    for (size_t column = 0; column < grid.columns.size(); ++column) {
      out += cell(left + size * static_cast<double>(column), y, size, grid.at(row, column));
    }
  }
  return out + scale(left, bottom + 20) + "</svg>\n";
}

}  // namespace qkv::cli
