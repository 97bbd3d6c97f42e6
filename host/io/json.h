// The JSON that a safetensors header consists of: objects, arrays, strings and whole numbers.
//
// A pull parser: the caller asks for what must come next, so nesting is bounded by the caller's
// own grammar, nothing recurses, and nothing is allocated but what the caller decodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace qkv::io {

// The characters between a string's quotes, checked: valid UTF-8, valid escapes, no lone surrogate.
struct JsonText {
  std::string_view raw;
  bool escaped = false;  // raw holds a backslash

  std::string decode() const;  // never longer than raw
};

// Byte order of the decoded texts, without decoding into memory: < 0, 0 or > 0.
int compare(const JsonText& a, const JsonText& b);

class JsonReader {
 public:
  // `text` stays the caller's. Failures say where in the text they are, counted from its start.
  JsonReader(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  // All of these skip white space first.
  void expect(char token);
  bool accept(char token);
  bool more(char close);  // after an element: true at a comma, false at `close`, else a failure
  JsonText string();
  std::int64_t integer();  // digits only: no sign, fraction, exponent or leading zero
  void end();

  std::size_t position() const { return pos_; }
  void seek(std::size_t position) { pos_ = position; }
  [[noreturn]] void fail_at(std::size_t position, std::string_view reason) const;

 private:
  void skip_space();
  std::string found() const;  // names what stands at pos_
  void skip_escape();
  std::uint32_t hex4();

  std::string_view text_;
  std::string_view source_;
  std::size_t pos_ = 0;
};

// Bytes of the UTF-8 sequence that `text` starts with; 0 if there is no valid one.
std::size_t utf8_length(std::string_view text);

// Appends `text` as a JSON string, quotes included. `text` must be valid UTF-8.
void append_json_string(std::string_view text, std::string* out);

}  // namespace qkv::io
