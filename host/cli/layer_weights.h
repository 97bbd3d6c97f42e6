// The weights of a multi-head layer, found in a file by the names that frameworks give them.
#pragma once

#include <map>
#include <optional>
#include <string>

namespace qkv::cli {

// What a layer has, by qkv_layer_desc's names: "w_q" to "bias_o".
using LayerNames = std::map<std::string, std::string>;

// The tensors of one layer in a .safetensors file. Known are the names of PyTorch's
// MultiheadAttention (in_proj_weight, out_proj.weight), those of most models of Hugging Face
// (q_proj.weight, o_proj.weight or out_proj.weight) and those of BERT
// (attention.self.query.weight, attention.output.dense.weight), each behind any prefix that ends
// with a dot, or none. Throws BadInput where no layer, or more than one, has the prefix.
LayerNames find_layer(const std::string& path, const std::optional<std::string>& prefix);

}  // namespace qkv::cli
