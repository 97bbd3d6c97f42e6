#include "layer_weights.h"

#include <fmt/format.h>

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "errors.h"
#include "host/io/safetensors.h"

namespace qkv::cli {
namespace {

struct Name {
  const char* field;
  const char* suffix;  // of the tensor's name; of two for a field a layer has one
};

constexpr Name kPyTorch[] = {{"w_qkv", "in_proj_weight"},
                             {"bias_qkv", "in_proj_bias"},
                             {"w_o", "out_proj.weight"},
                             {"bias_o", "out_proj.bias"}};
constexpr Name kHuggingFace[] = {{"w_q", "q_proj.weight"},   {"bias_q", "q_proj.bias"},
                                 {"w_k", "k_proj.weight"},   {"bias_k", "k_proj.bias"},
                                 {"w_v", "v_proj.weight"},   {"bias_v", "v_proj.bias"},
                                 {"w_o", "o_proj.weight"},   {"bias_o", "o_proj.bias"},
                                 {"w_o", "out_proj.weight"}, {"bias_o", "out_proj.bias"}};
constexpr Name kBert[] = {
    {"w_q", "attention.self.query.weight"},   {"bias_q", "attention.self.query.bias"},
    {"w_k", "attention.self.key.weight"},     {"bias_k", "attention.self.key.bias"},
    {"w_v", "attention.self.value.weight"},   {"bias_v", "attention.self.value.bias"},
    {"w_o", "attention.output.dense.weight"}, {"bias_o", "attention.output.dense.bias"}};

// The first name of each says that there is such a layer.
constexpr std::span<const Name> kFamilies[] = {kPyTorch, kHuggingFace, kBert};

struct Candidate {
  std::span<const Name> family;
  std::string prefix;
};

std::vector<Candidate> candidates(const io::SafetensorsFile& file) {
  std::vector<Candidate> out;
  for (size_t n = 0; n < file.size(); ++n) {
    const std::string name = file.name(n);
    for (const std::span<const Name> family : kFamilies) {
      const std::string_view mark = family.front().suffix;
      if (!name.ends_with(mark)) continue;
      const std::string prefix = name.substr(0, name.size() - mark.size());
      if (prefix.empty() || prefix.back() == '.') out.push_back({family, prefix});
    }
  }
  return out;
}

// As --prefix takes it: "encoder.layer.0" is as good as "encoder.layer.0."
std::string without_dot(std::string prefix) {
  if (prefix.ends_with('.')) prefix.pop_back();
  return prefix;
}

std::string listed(const std::vector<Candidate>& all) {
  constexpr size_t kMost = 20;
  std::string out;
  for (size_t n = 0; n < all.size() && n < kMost; ++n)
    out += (n == 0 ? "" : ", ") + io::quoted(without_dot(all[n].prefix));
  return all.size() > kMost ? out + ", ..." : out;
}

// The layers of this prefix; if there is none, those whose prefix goes on behind it: "layers.0" for
// "layers.0.self_attn".
std::vector<Candidate> fitting(const std::vector<Candidate>& all, const std::string& given) {
  std::vector<Candidate> same, longer;
  for (const Candidate& one : all) {
    if (without_dot(one.prefix) == without_dot(given)) same.push_back(one);
    if (one.prefix.starts_with(without_dot(given) + ".")) longer.push_back(one);
  }
  return same.empty() ? longer : same;
}

Candidate choose(const std::string& path, const std::vector<Candidate>& all,
                 const std::optional<std::string>& prefix) {
  if (all.empty()) {
    std::string known;
    for (const std::span<const Name> family : kFamilies)
      known += fmt::format("{}{}", known.empty() ? "" : ", ", family.front().suffix);
    throw BadInput(fmt::format(
        "--model {} has no layer's names: no tensor is called, or ends behind a dot with, one of "
        "{}; give --w-q and the others",
        path, known));
  }
  const std::vector<Candidate> found = prefix ? fitting(all, *prefix) : all;
  if (found.size() == 1) return found.front();
  if (found.empty()) {
    throw BadInput(fmt::format("--prefix is {}; the layers of {} have the prefixes {}",
                               io::quoted(*prefix), path, listed(all)));
  }
  throw BadInput(
      fmt::format("--model {} has {} layers{}, with the prefixes {}; --prefix says which", path,
                  found.size(), prefix ? " behind this prefix" : "", listed(found)));
}

// Biases are optional, and so is the output's weight; what is there must be whole.
void check_whole(const std::string& path, const Candidate& layer, const LayerNames& names) {
  const auto missing = [&](const char* field, const std::string& beside) {
    std::string wanted;
    for (const Name& name : layer.family)
      if (std::string_view(name.field) == field)
        wanted += fmt::format("{}{}", wanted.empty() ? "" : " or ",
                              io::quoted(layer.prefix + name.suffix));
    throw BadInput(fmt::format("--model {} has {}, but no {}", path, io::quoted(beside), wanted));
  };
  if (names.contains("w_q"))
    for (const char* field : {"w_k", "w_v"})
      if (!names.contains(field)) missing(field, names.at("w_q"));
  if (names.contains("bias_o") && !names.contains("w_o")) missing("w_o", names.at("bias_o"));
}

}  // namespace

LayerNames find_layer(const std::string& path, const std::optional<std::string>& prefix) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  const Candidate found = choose(path, candidates(file), prefix);
  LayerNames names;
  for (const Name& name : found.family) {
    const std::string whole = found.prefix + name.suffix;
    if (!file.contains(whole)) continue;
    const auto [at, added] = names.emplace(name.field, whole);
    if (!added) {
      throw BadInput(fmt::format("--model {} has both {} and {}; name one by --{}", path,
                                 io::quoted(at->second), io::quoted(whole),
                                 at->first == "w_o" ? "w-o" : "bias-o"));
    }
  }
  check_whole(path, found, names);
  return names;
}

}  // namespace qkv::cli
