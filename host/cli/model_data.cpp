#include "model_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstring>

#include "errors.h"
#include "host/core/numeric.h"

namespace qkv::cli {
namespace {

char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

bool letter(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// Where `piece` next stands in `text` from `from` on, whatever its case.
size_t find_piece(std::string_view text, std::string_view piece, size_t from) {
  const auto found = std::search(
      text.begin() + static_cast<std::ptrdiff_t>(std::min(from, text.size())), text.end(),
      piece.begin(), piece.end(), [](char a, char b) { return lower(a) == lower(b); });
  return static_cast<size_t>(found - text.begin());
}

struct Place {
  size_t begin = 0, end = 0;  // in the text; equal for marks, which are not in it
};

std::vector<Place> places(const LayerData& data) {
  std::vector<Place> out;
  size_t at = 0;
  for (const std::string& piece : data.pieces) {
    std::string_view shown = piece;
    if (shown.starts_with("##")) shown.remove_prefix(2);
    const size_t begin = find_piece(data.text, shown, at);
    if (begin >= data.text.size()) {
      out.push_back({at, at});
      continue;
    }
    at = begin + shown.size();
    out.push_back({begin, at});
  }
  return out;
}

std::string mark_name(const std::string& piece) {
  if (piece == "[CLS]") return "(start)";
  return piece == "[SEP]" ? "(end)" : piece;
}

// Whether the text has an inner apostrophe or a cut inside of a word here.
bool joins(std::string_view text, const Place& left, const Place& right) {
  if (left.begin == left.end || right.begin == right.end || left.end != right.begin) return false;
  const char before = text[left.end - 1], after = text[right.begin];
  if (letter(before) && letter(after)) return true;
  if (letter(before) && after == '\'') return right.end < text.size() && letter(text[right.end]);
  return before == '\'' && letter(after) && left.begin > 0 && letter(text[left.begin - 1]);
}

io::View shaped(const io::SafetensorsFile& file, const std::string& name,
                const std::vector<int64_t>& shape) {
  io::View view = file.tensor(name);
  if (view.shape != shape) {
    throw BadInput(fmt::format("tensor {} has shape {}; the demo needs {}", name,
                               io::shape_text(view.shape), io::shape_text(shape)));
  }
  return view;
}

}  // namespace

std::span<const float> tensor_data(const io::SafetensorsFile& file, const std::string& name,
                                   const std::vector<int64_t>& shape) {
  return shaped(file, name, shape).as<float>();
}

std::vector<float> tensor_as_floats(const io::SafetensorsFile& file, const std::string& name,
                                    const std::vector<int64_t>& shape) {
  const io::View view = shaped(file, name, shape);
  if (view.type == io::DType::f32) {
    const auto found = view.as<float>();
    return {found.begin(), found.end()};
  }
  if (view.type != io::DType::f16)
    throw BadInput(fmt::format("tensor {} is {}; the demo needs f32 or f16", name,
                               io::dtype_info(view.type).name));
  std::vector<float> out;
  for (size_t at = 0; at < view.bytes.size(); at += sizeof(host::Half)) {
    host::Half half;
    std::memcpy(&half, view.bytes.data() + at, sizeof half);
    out.push_back(host::to_float(half));
  }
  return out;
}

std::string metadata_text(const io::SafetensorsFile& file, std::string_view key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) {
    throw BadInput(fmt::format("the demo's data has no metadata {}", io::quoted(key)));
  }
  return found->second;
}

std::vector<std::string> metadata_list(const io::SafetensorsFile& file, std::string_view key) {
  const std::string text = metadata_text(file, key);
  io::JsonReader json(text, key);
  std::vector<std::string> out;
  json.expect('[');
  if (json.accept(']')) return out;
  do {
    out.push_back(json.string().decode());
  } while (json.more(']'));
  return out;
}

LayerData layer_data(const io::SafetensorsFile& file, std::string_view name) {
  const auto tensor = [&](const char* part) { return fmt::format("{}.{}", name, part); };
  const std::vector<int64_t> shape = file.tensor(tensor("q")).shape;
  if (shape.size() != 4 || shape[0] != 1) {
    throw BadInput(fmt::format("tensor {} has shape {}; the demo needs [1, heads, tokens, dim]",
                               tensor("q"), io::shape_text(shape)));
  }
  LayerData data;
  data.heads = shape[1];
  data.tokens = shape[2];
  data.dim = shape[3];
  data.q = tensor_data(file, tensor("q"), shape);
  data.k = tensor_data(file, tensor("k"), shape);
  data.v = tensor_data(file, tensor("v"), shape);
  data.out = tensor_data(file, tensor("out"), shape);
  data.text = metadata_text(file, tensor("text"));
  data.pieces = metadata_list(file, tensor("tokens"));
  if (static_cast<int64_t>(data.pieces.size()) != data.tokens) {
    throw BadInput(fmt::format("{} lists {} tokens; its tensors have {}", tensor("tokens"),
                               data.pieces.size(), data.tokens));
  }
  return data;
}

std::vector<Word> spelled_pieces(const LayerData& data) {
  const std::vector<Place> where = places(data);
  std::vector<Word> out;
  for (size_t i = 0; i < where.size(); ++i) {
    const size_t length = where[i].end - where[i].begin;
    out.push_back(
        {length == 0 ? mark_name(data.pieces[i]) : data.text.substr(where[i].begin, length), i,
         i + 1});
  }
  return out;
}

std::vector<Word> joined_words(const LayerData& data) {
  const std::vector<Place> where = places(data);
  std::vector<Word> out;
  for (const Word& piece : spelled_pieces(data)) {
    if (!out.empty() && joins(data.text, where[piece.first - 1], where[piece.first])) {
      out.back().text += piece.text;
      out.back().last = piece.last;
    } else {
      out.push_back(piece);
    }
  }
  return out;
}

}  // namespace qkv::cli
