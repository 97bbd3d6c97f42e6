#include "host/io/npy.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

#include "host/io/file.h"

namespace qkv::io {
namespace {

static_assert(std::endian::native == std::endian::little, "payloads are read as they lie");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxPrefix = 12;                     // magic, version, length field
constexpr std::size_t kMaxHeader = std::size_t{64} << 10;  // numpy's own headers stay below 1 KiB
constexpr std::size_t kChunk = std::size_t{64} << 10;      // transposed at once; any element fits
constexpr std::size_t kAlignment = 64;                     // of the payload in files written here

struct Header {
  DType type = DType::f32;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
  std::size_t payload_offset = 0;
  std::size_t payload_bytes = 0;
};

// Parses the header's one Python literal, {'descr': S, 'fortran_order': B, 'shape': (N, ...)}: its
// three keys once each, in any order.
class Literal {
 public:
  Literal(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  void parse(Header* header) {
    std::optional<std::string_view> descr;
    std::optional<bool> fortran_order;
    bool has_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string("a key");
      expect(':');
      bool repeated = false;
      if (key == "descr") {
        repeated = descr.has_value();
        descr = parse_descr();
      } else if (key == "fortran_order") {
        repeated = fortran_order.has_value();
        fortran_order = parse_bool();
      } else if (key == "shape") {
        repeated = std::exchange(has_shape, true);
        header->shape = parse_shape();
      } else {
        refuse("has key " + quoted(key) + "; the keys are descr, fortran_order, shape");
      }
      if (repeated) refuse("has key " + quoted(key) + " twice");
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (!descr || !fortran_order || !has_shape) {
      refuse("lacks a key; descr, fortran_order and shape are required");
    }
    skip_space();
    if (pos_ != text_.size()) refuse("goes on after '}'");
    header->type = type_of(*descr);
    header->fortran_order = *fortran_order;
  }

 private:
  [[noreturn]] void refuse(const std::string& reason) const {
    fail(source_, "header " + reason + " (near header byte " + std::to_string(pos_) + ")");
  }

  void skip_space() {
    const std::size_t next = text_.find_first_not_of(" \t\n\r", pos_);
    pos_ = next == std::string_view::npos ? text_.size() : next;
  }

  bool accept(char token) {
    skip_space();
    if (pos_ == text_.size() || text_[pos_] != token) return false;
    ++pos_;
    return true;
  }

  void expect(char token) {
    if (accept(token)) return;
    const std::string found = pos_ < text_.size() ? quoted(text_.substr(pos_, 1)) : "the end";
    refuse("has " + found + " where '" + token + "' must stand");
  }

  std::string_view string(const std::string& what) {
    skip_space();
    const char quote = pos_ < text_.size() ? text_[pos_] : '\0';
    if (quote != '\'' && quote != '"') refuse("has no quoted string where " + what + " must stand");
    const std::size_t begin = ++pos_;
    const std::size_t end = text_.find(quote, begin);
    if (end == std::string_view::npos) refuse("has a string without an end");
    pos_ = end + 1;
    return text_.substr(begin, end - begin);
  }

  std::string_view parse_descr() {
    if (accept('[')) refuse("field descr is a list: structured types are not supported");
    return string("the value of descr");
  }

  bool parse_bool() {
    skip_space();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(pos_, word.size()) == word) {
        pos_ += word.size();
        return value;
      }
    }
    refuse("field fortran_order is neither True nor False");
  }

  std::vector<std::int64_t> parse_shape() {
    std::vector<std::int64_t> shape;
    bool comma = true;
    expect('(');
    while (!accept(')')) {
      if (!comma) refuse("field shape has no ',' between two dimensions");
      if (shape.size() == kMaxRank) {
        refuse("field shape has more than " + std::to_string(kMaxRank) + " dimensions");
      }
      shape.push_back(dimension());
      comma = accept(',');
    }
    if (shape.size() == 1 && !comma) refuse("field shape is (N); one dimension is written (N,)");
    return shape;
  }

  std::int64_t dimension() {
    skip_space();
    const std::size_t begin = pos_;
    std::int64_t value = 0;
    for (; pos_ < text_.size() && text_[pos_] >= '0' && text_[pos_] <= '9'; ++pos_) {
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, text_[pos_] - '0', &value)) {
        refuse("field shape has a dimension above 2^63 - 1");
      }
    }
    if (pos_ == begin) refuse("field shape has a dimension that is no whole number >= 0");
    if (pos_ - begin > 1 && text_[begin] == '0') {
      refuse("field shape has a dimension with a leading zero");
    }
    return value;
  }

  DType type_of(std::string_view descr) const {
    const char order = descr.empty() ? '\0' : descr[0];
    const std::string_view code = descr.substr(std::min<std::size_t>(1, descr.size()));
    if (code.substr(0, 1) == "O") {
      refuse("field descr is " + quoted(descr) + ": Python objects (pickle) are never read");
    }
    for (const DTypeInfo& row : dtype_table()) {
      if (row.npy.empty() || row.npy != code) continue;
      if (order == '<' || (order == '|' && row.size == 1)) return row.type;
      if (order == '>') {
        refuse("field descr is " + quoted(descr) +
               ": big-endian data is not read; convert it to <" + std::string(row.npy));
      }
    }
    std::string allowed;
    for (const DTypeInfo& row : dtype_table()) {
      if (row.npy.empty()) continue;
      allowed += std::string(allowed.empty() ? "" : ", ") + (row.size == 1 ? '|' : '<');
      allowed += row.npy;
    }
    refuse("field descr is " + quoted(descr) + "; allowed are " + allowed);
  }

  std::string_view text_;
  std::string_view source_;
  std::size_t pos_ = 0;
};

// `front` holds the file's first bytes, all of a file no longer than kMaxPrefix + kMaxHeader.
Header parse_header(std::string_view front, std::size_t file_size, std::string_view source) {
  if (front.substr(0, kMagic.size()) != kMagic) {
    fail(source, "begins with " + quoted(front.substr(0, kMagic.size())) +
                     "; a .npy file begins with " + quoted(kMagic));
  }
  const auto byte = [&](std::size_t i) -> std::size_t {
    if (i >= front.size()) fail(source, "ends inside the first 12 bytes of the header");
    return static_cast<unsigned char>(front[i]);
  };
  const std::size_t major = byte(6), minor = byte(7);
  if (major < 1 || major > 3 || minor != 0) {
    fail(source, "format version is " + std::to_string(major) + "." + std::to_string(minor) +
                     "; 1.0, 2.0 and 3.0 are allowed");
  }
  const std::size_t begin = major == 1 ? 10 : 12;
  std::size_t length = 0;
  for (std::size_t i = begin; i-- > 8;) length = length << 8 | byte(i);
  if (length > kMaxHeader) {
    fail(source, "header length is " + std::to_string(length) + "; at most " +
                     std::to_string(kMaxHeader) + " is allowed");
  }
  if (length > front.size() - begin) {
    fail(source, "header length is " + std::to_string(length) + "; the file has " +
                     std::to_string(front.size() - begin) + " bytes after the length");
  }
  const std::string_view text = front.substr(begin, length);
  if (text.empty() || text.back() != '\n') fail(source, "header does not end with a newline");

  Header header;
  Literal(text, source).parse(&header);
  header.payload_offset = begin + length;
  const std::size_t payload = file_size - header.payload_offset;
  const std::optional<std::int64_t> needed = byte_count(header.shape, header.type);
  const std::string what =
      "shape " + shape_text(header.shape) + " of " + std::string(dtype_info(header.type).name);
  if (!needed) fail(source, what + ": the product exceeds 2^63 - 1 bytes");
  if (static_cast<std::uint64_t>(*needed) != payload) {
    fail(source, "payload is " + std::to_string(payload) + " bytes; " + what + " needs " +
                     std::to_string(*needed));
  }
  header.payload_bytes = payload;
  return header;
}

// Puts elements that come in Fortran order (first index fastest) at their places in C order.
class Transposer {
 public:
  Transposer(const Header& header, std::span<std::byte> out)
      : shape_(header.shape),
        size_(static_cast<std::size_t>(dtype_info(header.type).size)),
        step_(shape_.size()),
        index_(shape_.size()),
        out_(out) {
    std::size_t step = size_;
    for (std::size_t axis = shape_.size(); axis-- > 0;) {
      step_[axis] = step;
      step *= static_cast<std::size_t>(shape_[axis]);
    }
  }

  // `elements` is a whole number of them.
  void put(std::span<const std::byte> elements) {
    for (; !elements.empty(); elements = elements.subspan(size_)) {
      std::memcpy(&out_[offset_], elements.data(), size_);
      for (std::size_t axis = 0; axis < shape_.size(); ++axis) {
        offset_ += step_[axis];
        if (++index_[axis] < shape_[axis]) break;
        offset_ -= step_[axis] * static_cast<std::size_t>(shape_[axis]);
        index_[axis] = 0;
      }
    }
  }

 private:
  std::span<const std::int64_t> shape_;
  std::size_t size_;
  std::vector<std::size_t> step_;  // bytes from one index to the next, in C order
  std::vector<std::int64_t> index_;
  std::size_t offset_ = 0;  // sum of index_ * step_
  std::span<std::byte> out_;
};

using ReadAt = std::function<void(std::size_t offset, std::span<std::byte> out)>;

Array read_payload(Header header, const ReadAt& read_at) {
  Array array;
  array.type = header.type;
  array.bytes.resize(header.payload_bytes);
  if (!header.fortran_order) {
    read_at(header.payload_offset, array.bytes);
  } else {
    Transposer transposer(header, array.bytes);
    std::vector<std::byte> chunk(std::min(kChunk, header.payload_bytes));
    for (std::size_t done = 0; done < header.payload_bytes; done += chunk.size()) {
      chunk.resize(std::min(chunk.size(), header.payload_bytes - done));
      read_at(header.payload_offset + done, chunk);
      transposer.put(chunk);
    }
  }
  array.shape = std::move(header.shape);
  return array;
}

std::string header_text(const View& array) {
  const DTypeInfo& info = dtype_info(array.type);
  if (info.npy.empty()) {
    fail("npy writer", "type is " + std::string(info.name) +
                           ", which numpy does not have; write .safetensors instead");
  }
  check_complete(array, "npy writer");
  std::string shape = shape_text(array.shape);
  shape = "(" + shape.substr(1, shape.size() - 2) + (array.shape.size() == 1 ? ",)" : ")");
  std::string text(kMagic);
  text += std::string_view("\1\0\0\0", 4);  // version 1.0; the length follows below
  text += "{'descr': '" + std::string(info.size == 1 ? "|" : "<") + std::string(info.npy) +
          "', 'fortran_order': False, 'shape': " + shape + ", }";
  text.append(kAlignment - 1 - text.size() % kAlignment, ' ');
  text += '\n';
  const std::size_t length = text.size() - 10;  // 64 dimensions of 19 digits stay below 2^16
  text[8] = static_cast<char>(length & 0xff);
  text[9] = static_cast<char>(length >> 8);
  return text;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

Array read_npy(std::span<const std::byte> data, std::string_view source) {
  const auto front = data.first(std::min(data.size(), kMaxPrefix + kMaxHeader));
  return read_payload(parse_header(as_text(front), data.size(), source),
                      [&](std::size_t offset, std::span<std::byte> out) {
                        std::ranges::copy(data.subspan(offset, out.size()), out.begin());
                      });
}

Array load_npy(const std::string& path) {
  const InputFile file(path);
  std::vector<std::byte> front(std::min(file.size(), kMaxPrefix + kMaxHeader));
  file.read_at(0, front);
  return read_payload(
      parse_header(as_text(front), file.size(), path),
      [&](std::size_t offset, std::span<std::byte> out) { file.read_at(offset, out); });
}

std::vector<std::byte> write_npy(const View& array) {
  const std::string text = header_text(array);
  const auto header = std::as_bytes(std::span(text));
  std::vector<std::byte> out;
  out.reserve(header.size() + array.bytes.size());
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), array.bytes.begin(), array.bytes.end());
  return out;
}

void save_npy(const std::string& path, const View& array) {
  const std::string text = header_text(array);
  const std::span<const std::byte> pieces[] = {std::as_bytes(std::span(text)), array.bytes};
  write_file(path, pieces);
}

}  // namespace qkv::io
