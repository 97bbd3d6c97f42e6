// What the terminal can show, and texts that fit it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qkv::cli {

inline constexpr size_t kPageWidth = 80;  // columns of all texts

enum class Color { kAuto, kAlways, kNever };

struct Terminal {
  bool color = false;  // ANSI colours
  bool utf8 = true;    // else ASCII only
};

// kAuto: colour if standard output is a terminal and NO_COLOR is not set.
Terminal find_terminal(Color color);

// Characters, not bytes, of UTF-8 text.
size_t width(std::string_view text);

// Padded with spaces on the right, or cut at a character, to exactly `columns`.
std::string fit(std::string_view text, size_t columns);

// Lines of at most kPageWidth columns, broken at spaces, each starting with `indent` spaces.
std::string wrap(std::string_view text, size_t indent = 0);

// `value` in 0..1 as a bar of at most `columns`.
std::string bar(const Terminal& terminal, double value, size_t columns);

// A headline between two blank lines; a screen of at most 24 rows begins here.
std::string headline(const Terminal& terminal, std::string_view text);

std::string bold(const Terminal& terminal, std::string_view text);

}  // namespace qkv::cli
