// .safetensors files: a JSON header that names tensors, then their bytes, little-endian, C order.
//
// Refused, each with its reason: headers above 100 MB or beyond the file, anything but the known
// fields, names that occur twice, offsets outside the file, holes, overlaps, and tensors whose
// bytes are not what type and shape need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host/io/array.h"
#include "host/io/file.h"
#include "host/io/json.h"

namespace qkv::io {

using Metadata = std::map<std::string, std::string, std::less<>>;

// All checks happen in open() and parse(); after them every tensor is inside the data. Tensors are
// views and nothing is copied: they live as long as this object (open) or the caller's data
// (parse). Memory on the heap stays below the header's size + 1 MiB.
class SafetensorsFile {
 public:
  static SafetensorsFile open(const std::string& path);
  // `source` names the data in messages.
  static SafetensorsFile parse(std::span<const std::byte> data,
                               std::string source = "safetensors data");

  // Tensors are numbered in the order of their names.
  std::size_t size() const { return entries_.size(); }
  std::string name(std::size_t index) const;
  View tensor(std::size_t index) const;

  bool contains(std::string_view name) const;
  View tensor(std::string_view name) const;  // FormatError that lists the names if there is none

  const Metadata& metadata() const { return metadata_; }

 private:
  // Positions in the header instead of strings and vectors: an entry takes 50 bytes of header or
  // more, so that entries never outgrow the file that asks for them.
  struct Entry {
    std::uint32_t name = 0;  // of the raw name, between its quotes
    std::uint32_t name_size = 0;
    std::uint32_t shape = 0;  // of its '['
    bool name_escaped = false;
    DType type = DType::f32;
    std::int64_t begin = 0;  // in payload_
    std::int64_t end = 0;
  };
  static_assert(sizeof(Entry) <= 40);

  SafetensorsFile() = default;
  void read(std::span<const std::byte> data);
  void read_metadata(JsonReader* json);
  Entry read_entry(const JsonText& name, JsonReader* json) const;
  void check_offsets();
  void check_names();
  std::vector<std::int64_t> shape_at(std::size_t position) const;
  JsonText raw_name(const Entry& entry) const;
  const Entry* find(std::string_view name) const;
  [[noreturn]] void refuse(const JsonText& name, const std::string& reason) const;

  std::string source_;
  Mapping mapping_;
  std::string_view header_;
  std::span<const std::byte> payload_;
  std::vector<Entry> entries_;  // by name
  Metadata metadata_;
};

struct NamedView {
  std::string name;
  View tensor;
};

// Tensors of larger element types come first, then the order is by name: every tensor is aligned to
// its elements. The payload starts at a multiple of 8.
std::vector<std::byte> write_safetensors(std::span<const NamedView> tensors,
                                         const Metadata& metadata = {});
void save_safetensors(const std::string& path, std::span<const NamedView> tensors,
                      const Metadata& metadata = {});

}  // namespace qkv::io
