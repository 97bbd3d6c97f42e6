#include "ptx/lexer.h"

#include <array>
#include <string>

#include "common/error.h"

namespace vgpu::ptx {
namespace {

constexpr std::array<bool, 256> make_word_table() {
  std::array<bool, 256> table{};
  for (int c = 'a'; c <= 'z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[static_cast<size_t>(c)] = true;
  for (int c = '0'; c <= '9'; ++c) table[static_cast<size_t>(c)] = true;
  for (char c : {'_', '$', '%', '.'}) table[static_cast<size_t>(c)] = true;
  return table;
}
constexpr std::array<bool, 256> kWordChar = make_word_table();

bool is_word(char c) { return kWordChar[static_cast<unsigned char>(c)]; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

void Lexer::skip_space() {
  while (pos_ < text_.size()) {
    const char c = text_[pos_];
    if (c == '\n') {
      ++line_;
      ++pos_;
    } else if (c == ' ' || c == '\t' || c == '\r' || c == '\0') {
      ++pos_;
    } else if (c == '/' && pos_ + 1 < text_.size() && text_[pos_ + 1] == '/') {
      while (pos_ < text_.size() && text_[pos_] != '\n') ++pos_;
    } else if (c == '/' && pos_ + 1 < text_.size() && text_[pos_ + 1] == '*') {
      const size_t end = text_.find("*/", pos_ + 2);
      const size_t stop = end == std::string_view::npos ? text_.size() : end + 2;
      for (; pos_ < stop; ++pos_) line_ += text_[pos_] == '\n' ? 1 : 0;
    } else {
      return;
    }
  }
}

void Lexer::advance() {
  skip_space();
  current_.line = line_;
  if (pos_ >= text_.size()) {
    current_ = {Token::Kind::kEnd, {}, line_};
    return;
  }
  const size_t start = pos_;
  const char c = text_[pos_];
  if (is_digit(c)) {
    while (pos_ < text_.size() && is_word(text_[pos_])) {
      const char e = text_[pos_++];
      const bool hex = text_.substr(start, 2) == "0x" || text_.substr(start, 2) == "0X";
      if (!hex && (e == 'e' || e == 'E') && text_[start + 1] != 'f' && text_[start + 1] != 'd' &&
          pos_ < text_.size() && (text_[pos_] == '+' || text_[pos_] == '-'))
        ++pos_;
    }
    current_.kind = Token::Kind::kNumber;
  } else if (is_word(c)) {
    for (;;) {
      while (pos_ < text_.size() && is_word(text_[pos_])) ++pos_;
      if (pos_ + 2 < text_.size() && text_[pos_] == ':' && text_[pos_ + 1] == ':') {
        pos_ += 2;
      } else {
        break;
      }
    }
    current_.kind = Token::Kind::kWord;
  } else if (c == '"') {
    ++pos_;
    while (pos_ < text_.size() && text_[pos_] != '"') pos_ += text_[pos_] == '\\' ? 2 : 1;
    ++pos_;
    current_.kind = Token::Kind::kString;
  } else {
    ++pos_;
    current_.kind = Token::Kind::kPunct;
  }
  current_.text = text_.substr(start, pos_ - start);
}

Token Lexer::expect(char c) {
  if (!current_.is(c)) {
    throw PtxError(current_.line,
                   std::string("expected '") + c + "', found '" + std::string(current_.text) + "'");
  }
  return next();
}

Token Lexer::expect_word() {
  if (current_.kind != Token::Kind::kWord) {
    throw PtxError(current_.line, "expected a name, found '" + std::string(current_.text) + "'");
  }
  return next();
}

std::string_view Lexer::skip_block() {
  const size_t start = static_cast<size_t>(current_.text.data() - text_.data());
  for (int depth = 1;;) {
    if (current_.kind == Token::Kind::kEnd) throw PtxError(line_, "unbalanced '{'");
    if (current_.is('{')) ++depth;
    if (current_.is('}') && --depth == 0) break;
    advance();
  }
  const size_t end = static_cast<size_t>(current_.text.data() - text_.data());
  advance();
  return text_.substr(start, end - start);
}

void Lexer::skip_statement() {
  while (current_.kind != Token::Kind::kEnd) {
    if (accept(';')) return;
    if (accept('{')) {
      skip_block();
      if (!current_.is(';')) return;
    } else {
      advance();
    }
  }
}

}  // namespace vgpu::ptx
