#include "bench/presets.h"

#include <stdexcept>

namespace qkv::bench {
namespace {

const std::vector<Preset>& table() {
  static const std::vector<Preset> all = {
      {"llama3-8b",
       "causal:b1:hq32:hkv8:d128",
       {2048},
       0,
       "Llama 3 8B, prompt; arXiv:2407.21783, table 3"},
      {"llama3-8b-decode", "b16:hq32:hkv8:d128", {4096}, 1, "Llama 3 8B, one token of 16 requests"},
      {"llama3-70b",
       "causal:b1:hq64:hkv8:d128",
       {2048},
       0,
       "Llama 3 70B, prompt; arXiv:2407.21783, table 3"},
      {"llama3-70b-decode",
       "b16:hq64:hkv8:d128",
       {4096},
       1,
       "Llama 3 70B, one token of 16 requests"},
      {"qwen3-0.6b",
       "causal:b1:hq16:hkv8:d128",
       {2048},
       0,
       "Qwen 3 0.6B, prompt; arXiv:2505.09388, table 1, and its config.json (head_dim)"},
      {"qwen3-14b",
       "causal:b1:hq40:hkv8:d128",
       {2048},
       0,
       "Qwen 3 14B, prompt; arXiv:2505.09388, table 1"},
      {"gemma2-9b",
       "causal:b1:hq16:hkv8:d256:softcap=50",
       {2048},
       0,
       "Gemma 2 9B, prompt, global layers; arXiv:2408.00118, table 1 and section 2"},
      {"gemma2-9b-local",
       "causal:left=4095:b1:hq16:hkv8:d256:softcap=50",
       {8192},
       0,
       "Gemma 2 9B, prompt, local layers: the last 4096 keys"},
      {"gemma4",
       "causal:b1:hq8:hkv4:d512",
       {2048},
       0,
       "Gemma 4, prompt, global layers; defaults of Gemma4TextConfig in transformers 5"},
      {"gemma4-local",
       "causal:left=511:b1:hq8:hkv4:d256",
       {2048},
       0,
       "Gemma 4, prompt, local layers: the last 512 keys"},
      {"gpt3-175b",
       "causal:b1:h96:d128",
       {2048},
       0,
       "GPT-3 175B, prompt, all heads of their own; arXiv:2005.14165, table 2.1"},
      {"mistral-7b",
       "causal:left=4095:b1:hq32:hkv8:d128",
       {8192},
       0,
       "Mistral 7B, prompt: the last 4096 keys; arXiv:2310.06825, table 1"},
      {"deepseek-v3",
       "causal:b1:h128:d192:dv128",
       {2048},
       0,
       "DeepSeek-V3, prompt, widths 128 + 64 and 128; arXiv:2412.19437, section 4.2"},
      {"vit-b16",
       "b8:h12:d64",
       {197},
       0,
       "ViT-B/16, 8 images of 224 x 224; arXiv:2010.11929, table 1"},
      {"bert-base", "b8:h12:d64", {512}, 0, "BERT base, 8 texts; arXiv:1810.04805, section 3"},
      {"whisper-large",
       "b1:h20:d64",
       {1500},
       0,
       "Whisper large, encoder, 30 s of sound; arXiv:2212.04356, table 1 and section 2.2"},
      {"whisper-large-decode",
       "b1:h20:d64",
       {1500},
       1,
       "Whisper large, decoder, one token over the encoder's output"},
      {"decode-1", "b1:hq32:hkv8:d128", {1024, 4096, 16384}, 1, "Llama 3 8B, one request"},
      {"decode-8", "b8:hq32:hkv8:d128", {1024, 4096, 16384}, 1, "Llama 3 8B, 8 requests"},
      {"decode-64", "b64:hq32:hkv8:d128", {1024, 4096}, 1, "Llama 3 8B, 64 requests"},
      {"retrieval", "b1:h1:d384:hard", {100000}, 4096, "the best of 100,000 titles, 4096 queries"},
      {"retrieval-10", "b1:h1:d384:top-k=10", {100000}, 4096, "the same, the 10 best"},
      {"bahdanau", "b1:h4:d128:additive", {1024}, 0, "additive scores"},
  };
  return all;
}

}  // namespace

std::span<const Preset> presets() { return table(); }

std::vector<std::string> preset_names() {
  std::vector<std::string> out;
  for (const Preset& one : table()) out.emplace_back(one.name);
  return out;
}

std::vector<Spec> preset_problems(const std::string& name, const std::string& device,
                                  const std::string& type, const std::vector<int64_t>& sizes) {
  for (const Preset& one : table()) {
    if (name != one.name) continue;
    std::vector<Spec> out;
    for (const int64_t size : sizes.empty() ? one.sizes : sizes) {
      const int64_t queries = one.queries > 0 ? one.queries : size;
      Spec spec = parse("fwd:" + device + ":" + type + ":" + one.fields + ":sq" +
                        std::to_string(queries) + ":skv" + std::to_string(size));
      set_bhsd(&spec);
      out.push_back(spec);
    }
    return out;
  }
  throw std::invalid_argument("preset '" + name + "' is not known; --help lists them");
}

}  // namespace qkv::bench
