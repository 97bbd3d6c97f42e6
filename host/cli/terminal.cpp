#include "terminal.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace qkv::cli {
namespace {

std::string_view env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

// Terminals speak UTF-8 unless the locale names another character set; "C" names none.
bool utf8_locale() {
  if (env("TERM") == "linux" || env("TERM") == "dumb") return false;
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = env(name);
    if (value.empty()) continue;
    const size_t dot = value.find('.');
    if (dot == std::string_view::npos) return true;
    const std::string_view set = value.substr(dot + 1);
    return set.starts_with("UTF-8") || set.starts_with("utf8") || set.starts_with("UTF8") ||
           set.starts_with("utf-8");
  }
  return true;
}

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u; }

}  // namespace

Terminal find_terminal(Color color) {
  const bool wanted =
      ::isatty(STDOUT_FILENO) == 1 && env("NO_COLOR").empty() && env("TERM") != "dumb";
  return {color == Color::kAlways || (color == Color::kAuto && wanted), utf8_locale()};
}

size_t width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

std::string fit(std::string_view text, size_t columns) {
  size_t used = 0, end = 0;
  for (; end < text.size(); ++end) {
    if (starts_character(text[end]) && ++used > columns) break;
  }
  return std::string(text.substr(0, end)) + std::string(columns - std::min(used, columns), ' ');
}

std::string wrap(std::string_view text, size_t indent) {
  const std::string margin(indent, ' ');
  std::string out, line;
  while (!text.empty()) {
    const size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    if (!line.empty() && indent + width(line) + 1 + width(word) > kPageWidth) {
      out += margin + line + "\n";
      line.clear();
    }
    if (!line.empty()) line += ' ';
    line += word;
    text.remove_prefix(std::min(space + 1, text.size()));
  }
  return out + margin + line + "\n";
}

std::string bar(const Terminal& terminal, double value, size_t columns) {
  const double clamped = std::clamp(value, 0.0, 1.0);
  if (!terminal.utf8) {
    return std::string(static_cast<size_t>(std::lround(clamped * static_cast<double>(columns))),
                       '#');
  }
  // Eighths of a character.
  const char* const kParts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<size_t>(std::lround(clamped * 8 * static_cast<double>(columns)));
  std::string out;
  for (size_t i = 0; i < eighths / 8; ++i) out += "█";
  out += kParts[eighths % 8];
  return terminal.color ? "\033[34m" + out + "\033[0m" : out;
}

std::string bold(const Terminal& terminal, std::string_view text) {
  return terminal.color ? fmt::format("\033[1m{}\033[0m", text) : std::string(text);
}

std::string headline(const Terminal& terminal, std::string_view text) {
  std::string rule;
  for (size_t i = 0; i < width(text); ++i) rule += terminal.utf8 ? "─" : "-";
  return fmt::format("\n{}\n{}\n\n", bold(terminal, text), rule);
}

}  // namespace qkv::cli
