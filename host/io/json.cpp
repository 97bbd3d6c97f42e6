#include "host/io/json.h"

#include <array>

#include "host/io/array.h"

namespace qkv::io {
namespace {

constexpr std::string_view kSimpleEscapes = "\"\\/bfnrt";
constexpr std::string_view kSimpleBytes = "\"\\/\b\f\n\r\t";
constexpr std::string_view kHex = "0123456789abcdef";

constexpr bool is_high_surrogate(std::uint32_t code) { return code >= 0xd800 && code < 0xdc00; }
constexpr bool is_low_surrogate(std::uint32_t code) { return code >= 0xdc00 && code < 0xe000; }

constexpr int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Yields the bytes of a checked text one after the other, escapes resolved; -1 at the end.
class Decoder {
 public:
  explicit Decoder(const JsonText& text) : raw_(text.raw), escaped_(text.escaped) {}

  int next() {
    if (pending_at_ < pending_size_) return byte(pending_[pending_at_++]);
    if (pos_ == raw_.size()) return -1;
    if (!escaped_ || raw_[pos_] != '\\') return byte(raw_[pos_++]);
    const char kind = raw_[pos_ + 1];
    pos_ += 2;
    if (kind != 'u') return byte(kSimpleBytes[kSimpleEscapes.find(kind)]);
    std::uint32_t code = hex4();
    if (is_high_surrogate(code)) {
      pos_ += 2;  // "\u" of the low half
      code = 0x10000 + ((code - 0xd800) << 10) + (hex4() - 0xdc00);
    }
    encode(code);
    return byte(pending_[pending_at_++]);
  }

 private:
  static int byte(char c) { return static_cast<unsigned char>(c); }

  std::uint32_t hex4() {
    std::uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      code = code * 16 + static_cast<std::uint32_t>(hex_value(raw_[pos_++]));
    }
    return code;
  }

  void encode(std::uint32_t code) {
    pending_at_ = pending_size_ = 0;
    const auto tail = [&](int shift) { return 0x80 | ((code >> shift) & 0x3f); };
    if (code < 0x80) {
      push(code);
    } else if (code < 0x800) {
      push(0xc0 | (code >> 6)), push(tail(0));
    } else if (code < 0x10000) {
      push(0xe0 | (code >> 12)), push(tail(6)), push(tail(0));
    } else {
      push(0xf0 | (code >> 18)), push(tail(12)), push(tail(6)), push(tail(0));
    }
  }

  void push(std::uint32_t value) { pending_[pending_size_++] = static_cast<char>(value); }

  std::string_view raw_;
  bool escaped_;
  std::size_t pos_ = 0;
  std::array<char, 4> pending_ = {};  // what is left of an escaped character
  std::size_t pending_at_ = 0;
  std::size_t pending_size_ = 0;
};

}  // namespace

std::string JsonText::decode() const {
  if (!escaped) return std::string(raw);
  std::string out;
  out.reserve(raw.size());
  Decoder decoder(*this);
  for (int c = decoder.next(); c >= 0; c = decoder.next()) out += static_cast<char>(c);
  return out;
}

int compare(const JsonText& a, const JsonText& b) {
  if (!a.escaped && !b.escaped) return a.raw.compare(b.raw);
  Decoder left(a), right(b);
  while (true) {
    const int x = left.next(), y = right.next();
    if (x != y || x < 0) return x - y;
  }
}

void JsonReader::expect(char token) {
  if (!accept(token)) fail_at(pos_, found() + "; '" + token + "' must stand here");
}

bool JsonReader::accept(char token) {
  skip_space();
  if (pos_ == text_.size() || text_[pos_] != token) return false;
  ++pos_;
  return true;
}

bool JsonReader::more(char close) {
  if (accept(',')) return true;
  if (accept(close)) return false;
  fail_at(pos_, found() + "; ',' or '" + close + "' must stand here");
}

JsonText JsonReader::string() {
  expect('"');
  const std::size_t begin = pos_;
  bool escaped = false;
  while (pos_ < text_.size() && text_[pos_] != '"') {
    if (text_[pos_] == '\\') {
      escaped = true;
      skip_escape();
      continue;
    }
    if (static_cast<unsigned char>(text_[pos_]) < 0x20) {
      fail_at(pos_, found() + " in a string; control characters must be escaped");
    }
    const std::size_t length = utf8_length(text_.substr(pos_));
    if (length == 0) fail_at(pos_, found() + " in a string; it must be UTF-8");
    pos_ += length;
  }
  if (pos_ == text_.size()) fail_at(begin, "a string starts and does not end");
  return {text_.substr(begin, pos_++ - begin), escaped};
}

// At a backslash.
void JsonReader::skip_escape() {
  const std::size_t begin = pos_++;
  if (pos_ == text_.size()) return;  // string() reports the missing quote
  const char kind = text_[pos_++];
  if (kind != 'u') {
    if (kSimpleEscapes.find(kind) == std::string_view::npos) {
      fail_at(begin, "escape " + quoted(text_.substr(begin, 2)) + "; JSON has no such escape");
    }
    return;
  }
  const std::uint32_t code = hex4();
  if (is_low_surrogate(code)) fail_at(begin, "a low surrogate without a high one before it");
  if (!is_high_surrogate(code)) return;
  const bool paired = text_.substr(pos_, 2) == "\\u";
  if (paired) pos_ += 2;
  if (!paired || !is_low_surrogate(hex4())) {
    fail_at(begin, "a high surrogate without a low one after it");
  }
}

std::uint32_t JsonReader::hex4() {
  std::uint32_t code = 0;
  for (int i = 0; i < 4; ++i, ++pos_) {
    const int digit = pos_ < text_.size() ? hex_value(text_[pos_]) : -1;
    if (digit < 0) fail_at(pos_, found() + "; \\u needs 4 hexadecimal digits");
    code = code * 16 + static_cast<std::uint32_t>(digit);
  }
  return code;
}

std::int64_t JsonReader::integer() {
  skip_space();
  const std::size_t begin = pos_;
  std::int64_t value = 0;
  for (; pos_ < text_.size() && text_[pos_] >= '0' && text_[pos_] <= '9'; ++pos_) {
    if (__builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, text_[pos_] - '0', &value)) {
      fail_at(begin, "a number above 2^63 - 1");
    }
  }
  if (pos_ == begin) fail_at(pos_, found() + "; a whole number >= 0 must stand here");
  if (pos_ - begin > 1 && text_[begin] == '0') fail_at(begin, "a number with a leading zero");
  return value;
}

void JsonReader::end() {
  skip_space();
  if (pos_ != text_.size()) fail_at(pos_, found() + " after the end of the header");
}

void JsonReader::fail_at(std::size_t position, std::string_view reason) const {
  fail(source_, "header byte " + std::to_string(position) + ": " + std::string(reason));
}

void JsonReader::skip_space() {
  const std::size_t next = text_.find_first_not_of(" \t\n\r", pos_);
  pos_ = next == std::string_view::npos ? text_.size() : next;
}

std::string JsonReader::found() const {
  return pos_ < text_.size() ? "found " + quoted(text_.substr(pos_, 1)) : "found the end";
}

std::size_t utf8_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (text.empty()) return 0;
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xc2   ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                             : lead < 0xf5 ? 4
                                           : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xc0) != 0x80) return 0;
  }
  // The second byte alone tells overlong forms, surrogates and codes above U+10FFFF.
  if (lead == 0xe0 && at(1) < 0xa0) return 0;
  if (lead == 0xed && at(1) >= 0xa0) return 0;
  if (lead == 0xf0 && at(1) < 0x90) return 0;
  if (lead == 0xf4 && at(1) >= 0x90) return 0;
  return length;
}

void append_json_string(std::string_view text, std::string* out) {
  *out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += c;
    } else if (byte < 0x20) {
      *out += "\\u00";
      *out += kHex[byte >> 4];
      *out += kHex[byte & 15];
    } else {
      *out += c;
    }
  }
  *out += '"';
}

}  // namespace qkv::io
