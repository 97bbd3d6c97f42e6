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

std::string listed(const std::vector<Candidate>& all) {
  constexpr size_t kMost = 20;
  std::string out;
  for (size_t n = 0; n < all.size() && n < kMost; ++n)
    out += (n == 0 ? "" : ", ") + io::quoted(all[n].prefix + all[n].family.front().suffix);
  return all.size() > kMost ? out + ", ..." : out;
}

// "encoder.layer.0" is as good as "encoder.layer.0."
bool is_prefix(const std::string& given, const std::string& prefix) {
  return prefix == given || prefix == given + ".";
}

Candidate choose(const std::string& path, const std::vector<Candidate>& all,
                 const std::optional<std::string>& prefix) {
  if (all.empty()) {
    std::string known;
    for (const std::span<const Name> family : kFamilies)
      known += fmt::format("{}{}", known.empty() ? "" : ", ", family.front().suffix);
    throw BadInput(fmt::format(
        "--model {} has no layer's names: no tensor ends with one of {}; give --w-q and "
        "the others",
        path, known));
  }
  std::vector<Candidate> fitting;
  for (const Candidate& one : all)
    if (!prefix || is_prefix(*prefix, one.prefix)) fitting.push_back(one);
  if (fitting.size() == 1) return fitting.front();
  if (fitting.empty()) {
    throw BadInput(fmt::format("--prefix is {}; the layers of {} are those of {}",
                               io::quoted(*prefix), path, listed(all)));
  }
  throw BadInput(fmt::format("--model {} has {} layers{}: those of {}; --prefix says which", path,
                             fitting.size(), prefix ? " with this prefix" : "", listed(fitting)));
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
  return names;
}

}  // namespace qkv::cli
