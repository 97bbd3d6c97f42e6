#include "host/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

namespace qkv::io {
namespace {

static_assert(std::endian::native == std::endian::little, "payloads are read as they lie");

constexpr std::size_t kLengthField = 8;
constexpr std::size_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxMetadata = 4096;       // entries; bounds what the map's nodes take
constexpr std::size_t kMinEntry = 50;  // "":{"dtype":"U8","shape":[],"data_offsets":[0,0]},
constexpr std::string_view kMetadataKey = "__metadata__";

std::string number(std::uint64_t value) { return std::to_string(value); }

std::vector<std::int64_t> read_shape(JsonReader* json) {
  std::vector<std::int64_t> shape;
  json->expect('[');
  if (json->accept(']')) return shape;
  do {
    if (shape.size() == kMaxRank) {
      json->fail_at(json->position(),
                    "shape has more than " + number(kMaxRank) + " dimensions, which is the limit");
    }
    shape.push_back(json->integer());
  } while (json->more(']'));
  return shape;
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  SafetensorsFile file;
  file.source_ = path;
  file.mapping_ = Mapping(path);
  file.read(file.mapping_.bytes());
  return file;
}

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> data, std::string source) {
  SafetensorsFile file;
  file.source_ = std::move(source);
  file.read(data);
  return file;
}

void SafetensorsFile::read(std::span<const std::byte> data) {
  if (data.size() < kLengthField) {
    fail(source_, "has " + number(data.size()) + " bytes; a .safetensors file has at least 10");
  }
  std::uint64_t length = 0;
  std::memcpy(&length, data.data(), kLengthField);
  if (length > kMaxHeader || length > data.size() - kLengthField) {
    fail(source_, "header length is " + number(length) + "; at most " +
                      number(std::min(kMaxHeader, data.size() - kLengthField)) +
                      " is allowed in this file");
  }
  header_ = {reinterpret_cast<const char*>(data.data()) + kLengthField,
             static_cast<std::size_t>(length)};
  payload_ = data.subspan(kLengthField + header_.size());
  if (header_.substr(0, 1) != "{") fail(source_, "header does not begin with '{'");

  JsonReader json(header_, source_);
  bool has_metadata = false;
  entries_.reserve(header_.size() / kMinEntry + 1);
  json.expect('{');
  if (!json.accept('}')) {
    do {
      const JsonText key = json.string();
      json.expect(':');
      if (compare(key, {kMetadataKey}) != 0) {
        entries_.push_back(read_entry(key, &json));
      } else if (std::exchange(has_metadata, true)) {
        fail(source_, "header has __metadata__ twice");
      } else {
        read_metadata(&json);
      }
    } while (json.more('}'));
  }
  json.end();
  check_offsets();
  check_names();
}

void SafetensorsFile::read_metadata(JsonReader* json) {
  json->expect('{');
  if (json->accept('}')) return;
  do {
    if (metadata_.size() == kMaxMetadata) {
      fail(source_, "__metadata__ has more than " + number(kMaxMetadata) + " entries");
    }
    std::string key = json->string().decode();
    json->expect(':');
    std::string value = json->string().decode();
    const auto [at, inserted] = metadata_.try_emplace(std::move(key), std::move(value));
    if (!inserted) fail(source_, "__metadata__ has key " + quoted(at->first) + " twice");
  } while (json->more('}'));
}

SafetensorsFile::Entry SafetensorsFile::read_entry(const JsonText& name, JsonReader* json) const {
  Entry entry;
  entry.name = static_cast<std::uint32_t>(name.raw.data() - header_.data());
  entry.name_size = static_cast<std::uint32_t>(name.raw.size());
  entry.name_escaped = name.escaped;
  std::vector<std::int64_t> shape;
  bool has_dtype = false, has_shape = false, has_offsets = false;
  json->expect('{');
  do {
    const JsonText field = json->string();
    json->expect(':');
    bool repeated = false;
    if (compare(field, {"dtype"}) == 0) {
      repeated = std::exchange(has_dtype, true);
      const std::string_view value = json->string().raw;
      const auto row = std::ranges::find(dtype_table(), value, &DTypeInfo::safetensors);
      if (row == dtype_table().end()) {
        std::string allowed;
        for (const DTypeInfo& info : dtype_table()) {
          allowed += (allowed.empty() ? "" : ", ") + std::string(info.safetensors);
        }
        refuse(name, "dtype is " + quoted(value) + "; allowed are " + allowed);
      }
      entry.type = row->type;
    } else if (compare(field, {"shape"}) == 0) {
      repeated = std::exchange(has_shape, true);
      entry.shape = static_cast<std::uint32_t>(json->position());
      shape = read_shape(json);
    } else if (compare(field, {"data_offsets"}) == 0) {
      repeated = std::exchange(has_offsets, true);
      json->expect('[');
      entry.begin = json->integer();
      json->expect(',');
      entry.end = json->integer();
      json->expect(']');
    } else {
      refuse(name, "has field " + quoted(field.raw) + "; fields are dtype, shape, data_offsets");
    }
    if (repeated) refuse(name, "has field " + quoted(field.raw) + " twice");
  } while (json->more('}'));
  if (!has_dtype || !has_shape || !has_offsets) {
    refuse(name, "lacks a field; dtype, shape and data_offsets are required");
  }

  const auto offsets = [&] {
    return "data_offsets is [" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) +
           "]; ";
  };
  const auto what = [&] {
    return "shape " + shape_text(shape) + " of " + std::string(dtype_info(entry.type).safetensors);
  };
  if (entry.begin > entry.end || static_cast<std::uint64_t>(entry.end) > payload_.size()) {
    refuse(name, offsets() + "it must ascend and end within the payload of " +
                     number(payload_.size()) + " bytes");
  }
  const std::optional<std::int64_t> needed = byte_count(shape, entry.type);
  if (!needed) refuse(name, what() + ": the product exceeds 2^63 - 1 bytes");
  if (*needed != entry.end - entry.begin) {
    refuse(name, offsets() + what() + " needs " + std::to_string(*needed) + " bytes");
  }
  return entry;
}

// The tensors, in the order of their offsets, must cover the payload: each begins where the one
// before it ends.
void SafetensorsFile::check_offsets() {
  std::ranges::sort(entries_, {}, [](const Entry& e) { return std::pair(e.begin, e.end); });
  std::int64_t covered = 0;
  for (const Entry& entry : entries_) {
    if (entry.begin != covered) {
      refuse(raw_name(entry), "begins at " + std::to_string(entry.begin) +
                                  (entry.begin < covered ? " and overlaps the tensor before it"
                                                         : " and leaves a hole before it") +
                                  "; it must begin at " + std::to_string(covered));
    }
    covered = entry.end;
  }
  if (static_cast<std::uint64_t>(covered) != payload_.size()) {
    fail(source_, "payload is " + number(payload_.size()) + " bytes; the tensors cover " +
                      std::to_string(covered));
  }
}

void SafetensorsFile::check_names() {
  std::ranges::sort(entries_, [this](const Entry& a, const Entry& b) {
    return compare(raw_name(a), raw_name(b)) < 0;
  });
  const auto twice = std::ranges::adjacent_find(entries_, [this](const Entry& a, const Entry& b) {
    return compare(raw_name(a), raw_name(b)) == 0;
  });
  if (twice != entries_.end()) refuse(raw_name(*twice), "occurs twice");
}

std::vector<std::int64_t> SafetensorsFile::shape_at(std::size_t position) const {
  JsonReader json(header_, source_);
  json.seek(position);
  return read_shape(&json);
}

JsonText SafetensorsFile::raw_name(const Entry& entry) const {
  return {header_.substr(entry.name, entry.name_size), entry.name_escaped};
}

void SafetensorsFile::refuse(const JsonText& name, const std::string& reason) const {
  fail(source_, "tensor " + quoted(name.raw) + ": " + reason);
}

std::string SafetensorsFile::name(std::size_t index) const {
  return raw_name(entries_.at(index)).decode();
}

View SafetensorsFile::tensor(std::size_t index) const {
  const Entry& entry = entries_.at(index);
  return {entry.type, shape_at(entry.shape),
          payload_.subspan(static_cast<std::size_t>(entry.begin),
                           static_cast<std::size_t>(entry.end - entry.begin))};
}

const SafetensorsFile::Entry* SafetensorsFile::find(std::string_view name) const {
  const JsonText wanted = {name};
  const auto at = std::ranges::lower_bound(
      entries_, wanted, [](const JsonText& a, const JsonText& b) { return compare(a, b) < 0; },
      [this](const Entry& entry) { return raw_name(entry); });
  return at != entries_.end() && compare(raw_name(*at), wanted) == 0 ? &*at : nullptr;
}

bool SafetensorsFile::contains(std::string_view name) const { return find(name) != nullptr; }

View SafetensorsFile::tensor(std::string_view name) const {
  const Entry* entry = find(name);
  if (entry != nullptr) return tensor(static_cast<std::size_t>(entry - entries_.data()));
  constexpr std::size_t kListed = 16;
  std::string names;
  for (std::size_t i = 0; i < std::min(size(), kListed); ++i) {
    names += (i == 0 ? "" : ", ") + quoted(raw_name(entries_[i]).raw);
  }
  if (size() > kListed) names += ", ...";
  fail(source_, "has no tensor " + quoted(name) + "; it has " + (names.empty() ? "none" : names));
}

}  // namespace qkv::io
