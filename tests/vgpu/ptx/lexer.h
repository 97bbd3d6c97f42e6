// PTX text to tokens. A token is a view into the text; the text outlives it.
//
// PTX ISA 9.0 chapter 4 (syntax): identifiers may contain $ _ % and digits; opcodes and special
// registers carry their dots ("ld.global.v4.f32", "%tid.x"), so a dotted word is one token.
#pragma once

#include <string_view>

#include "common/types.h"

namespace vgpu::ptx {

struct Token {
  enum class Kind : u8 { kEnd, kWord, kNumber, kString, kPunct };
  Kind kind = Kind::kEnd;
  std::string_view text;
  u32 line = 0;

  bool is(char c) const { return kind == Kind::kPunct && text.size() == 1 && text[0] == c; }
  bool word(std::string_view w) const { return kind == Kind::kWord && text == w; }
};

class Lexer {
 public:
  explicit Lexer(std::string_view text, u32 first_line = 1) : text_(text), line_(first_line) {
    advance();
  }
  const Token& peek() const { return current_; }
  Token next() {
    Token token = current_;
    advance();
    return token;
  }
  bool accept(char c) {
    if (!current_.is(c)) return false;
    advance();
    return true;
  }
  Token expect(char c);
  Token expect_word();
  // With `{` consumed: returns the text up to its matching `}`, which is consumed too.
  std::string_view skip_block();
  // Skips to just past the next `;`, passing over balanced braces.
  void skip_statement();

 private:
  void advance();
  void skip_space();

  std::string_view text_;
  size_t pos_ = 0;
  u32 line_;
  Token current_;
};

}  // namespace vgpu::ptx
