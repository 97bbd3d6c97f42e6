#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "host/io/safetensors.h"

namespace qkv::io {
namespace {

constexpr std::size_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr std::size_t kAlignment = 8;            // of the header's end

void check_utf8(std::string_view text, std::string_view what) {
  for (std::size_t pos = 0; pos < text.size();) {
    const std::size_t length = utf8_length(text.substr(pos));
    if (length == 0) {
      fail("safetensors writer", std::string(what) + " " + quoted(text) + " is not UTF-8");
    }
    pos += length;
  }
}

// The tensors in the order in which they are written.
std::vector<const NamedView*> sorted(std::span<const NamedView> tensors) {
  std::vector<const NamedView*> order;
  for (const NamedView& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, {}, [](const NamedView* t) {
    return std::tuple<std::int64_t, std::string_view>(-dtype_info(t->tensor.type).size, t->name);
  });
  return order;
}

// The length field and the header.
std::string front_text(const std::vector<const NamedView*>& order, const Metadata& metadata) {
  std::string text(8, '\0');
  text += '{';
  if (!metadata.empty()) {
    text += "\"__metadata__\":";
    char separator = '{';
    for (const auto& [key, value] : metadata) {
      check_utf8(key, "metadata key");
      check_utf8(value, "metadata value");
      text += std::exchange(separator, ',');
      append_json_string(key, &text);
      text += ':';
      append_json_string(value, &text);
    }
    text += '}';
  }
  std::vector<std::string_view> names;
  std::size_t offset = 0;
  for (const NamedView* t : order) {
    check_utf8(t->name, "tensor name");
    if (t->name == "__metadata__") {
      fail("safetensors writer", "tensor name is __metadata__, which the format reserves");
    }
    check_complete(t->tensor, "safetensors writer: tensor " + quoted(t->name));
    names.push_back(t->name);
    if (text.back() != '{') text += ',';
    append_json_string(t->name, &text);
    std::string shape = shape_text(t->tensor.shape);
    std::erase(shape, ' ');
    text += ":{\"dtype\":\"" + std::string(dtype_info(t->tensor.type).safetensors) +
            "\",\"shape\":" + shape + ",\"data_offsets\":[" + std::to_string(offset) + ',';
    offset += t->tensor.bytes.size();
    text += std::to_string(offset) + "]}";
  }
  text += '}';
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice != names.end()) {
    fail("safetensors writer", "tensor name " + quoted(*twice) + " occurs twice");
  }
  while (text.size() % kAlignment != 0) text += ' ';
  const std::uint64_t length = text.size() - 8;
  if (length > kMaxHeader) {
    fail("safetensors writer", "header is " + std::to_string(length) + " bytes; at most " +
                                   std::to_string(kMaxHeader) + " are allowed");
  }
  std::memcpy(text.data(), &length, sizeof length);
  return text;
}

}  // namespace

std::vector<std::byte> write_safetensors(std::span<const NamedView> tensors,
                                         const Metadata& metadata) {
  const std::vector<const NamedView*> order = sorted(tensors);
  const std::string text = front_text(order, metadata);
  const auto front = std::as_bytes(std::span(text));
  std::vector<std::byte> out(front.begin(), front.end());
  for (const NamedView* t : order) {
    out.insert(out.end(), t->tensor.bytes.begin(), t->tensor.bytes.end());
  }
  return out;
}

void save_safetensors(const std::string& path, std::span<const NamedView> tensors,
                      const Metadata& metadata) {
  const std::vector<const NamedView*> order = sorted(tensors);
  const std::string text = front_text(order, metadata);
  std::vector<std::span<const std::byte>> pieces = {std::as_bytes(std::span(text))};
  for (const NamedView* t : order) pieces.push_back(t->tensor.bytes);
  write_file(path, pieces);
}

}  // namespace qkv::io
