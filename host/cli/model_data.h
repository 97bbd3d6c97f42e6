// The demo's data: tensors and texts of a real model, see tests/data/README.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "host/io/safetensors.h"

namespace qkv::cli {

// Attention of one layer over one text: q, k, v and the model's own output, fp32, [batch 1, heads,
// tokens, dim].
struct LayerData {
  int64_t heads = 0, tokens = 0, dim = 0;
  std::span<const float> q, k, v, out;
  std::string text;
  std::vector<std::string> pieces;  // the tokens as the model names them: "[CLS]", "nl", "##p"
};

// `name` is "paragraph", "sentence" or "nine". Throws BadInput if the file does not hold it.
LayerData layer_data(const io::SafetensorsFile& file, std::string_view name);

// A tensor's elements, its shape checked.
std::span<const float> tensor_data(const io::SafetensorsFile& file, const std::string& name,
                                   const std::vector<int64_t>& shape);

// The same of fp32 or fp16, as fp32.
std::vector<float> tensor_as_floats(const io::SafetensorsFile& file, const std::string& name,
                                    const std::vector<int64_t>& shape);

// A text of the file's metadata; BadInput if there is none such.
std::string metadata_text(const io::SafetensorsFile& file, std::string_view key);

// The same, where the text is a JSON list of texts.
std::vector<std::string> metadata_list(const io::SafetensorsFile& file, std::string_view key);

// Consecutive pieces that make up one word of the text, with the text's own spelling.
struct Word {
  std::string text;
  size_t first = 0, last = 0;  // pieces; last is one past the end
};

// One word for each piece: "NL", "P"; marks such as [CLS] become "(start)" and "(end)".
std::vector<Word> spelled_pieces(const LayerData& data);

// Pieces joined to words: "NLP", "didn't". Punctuation at a word's end stays apart.
std::vector<Word> joined_words(const LayerData& data);

}  // namespace qkv::cli
