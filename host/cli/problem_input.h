// From options and files to one attention problem in host memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "host/io/array.h"
#include "options.h"
#include "qkv/qkv.h"

namespace qkv::cli {

// Which axis of [batch, heads, seq, dim] each axis of a file is, outermost first. Axes that are not
// named have extent 1.
using Axes = std::vector<int>;

// A view of the array; its elements must have a type of qkv's.
qkv_tensor tensor_of(io::Array* array, const Axes& axes);

// A zeroed array that holds `tensor`'s extents in the order of `axes`; tensor gets its address.
io::Array make_array(const Axes& axes, qkv_tensor* tensor);

// What a descriptor points to.
using Storage = std::vector<std::unique_ptr<io::Array>>;

struct ProblemInput {
  // Inputs set, o as a shape without address, no other outputs, device cpu.
  qkv_attention_desc desc{};
  Axes main_axes;                  // of the q, k, v and o files
  Storage storage;                 // what desc points to
  std::vector<std::string> files;  // one line for each of q, k, v as read
};

// Throws BadInput. Does not call validate(): the library's checks follow.
ProblemInput load_problem(const ProblemOptions& options);

// Attention's optional inputs from their files, for a problem of type `main`.
void load_inputs(const ProblemOptions& options, qkv_type main, Storage* storage,
                 qkv_attention_desc* desc);

// The numbers of `file` as they are, or as type `to` if it is not NONE. Throws BadInput for what is
// no float.
io::Array read_float(const std::string& name, const std::string& file, qkv_type to);

// The options that are no tensors, into a descriptor that already has the tensors.
void apply_settings(const ProblemOptions& options, qkv_attention_desc* desc);

// o's shape, from those of q and v, in the layout of `axes`.
void set_output_shape(const Axes& axes, qkv_attention_desc* desc);

// A dense tensor without address.
qkv_tensor shape_only(qkv_type type, int64_t b, int64_t h, int64_t s, int64_t d,
                      const Axes& axes = {0, 1, 2, 3});

Axes main_axes(Layout layout, size_t rank);

// Of lse and index beside q and o files of that rank: [batch, heads, seq], or its end.
Axes row_axes(size_t rank);

}  // namespace qkv::cli
