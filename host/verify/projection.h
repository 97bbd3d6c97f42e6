// A projection in the place's memory, and what qkv_project makes of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/verify/tensor.h"

namespace qkv::verify {

// What the contract test and `qkv verify` project.
struct ProjectCase {
  // How x lies in memory: rows after rows; with gaps between them; [rows, batch, in]; one batch for
  // all; one row for all, which no matrix of cuBLAS's is.
  enum class X { kPlain, kPadded, kRowsFirst, kOneBatch, kOneRow };
  // Heads side by side; with gaps around each row, as a part of packed Q, K and V; heads before
  // rows; heads with gaps between them.
  enum class Y { kPlain, kPart, kHeadsFirst, kHeadsApart };

  const char* label;
  qkv_type type = QKV_TYPE_F32;
  int64_t batch = 2, rows = 5, in = 70, heads = 3, dim = 11;
  bool bias = true;
  bool by_out = true;  // weight as [out, in], else [in, out]
  int64_t weight_gap = 0;
  X x = X::kPlain;
  Y y = Y::kPlain;
  int64_t shift = 0;  // elements from an aligned address to each tensor's first

  int64_t out() const { return heads * dim; }
  std::string name() const;  // "heads_first_io_bias_f16"
  double work() const;       // multiply-adds
  // Whether a kernel of CUDA's takes it.
  bool on_cuda() const { return x != X::kOneRow || rows == 1; }
};
std::vector<ProjectCase> project_cases();

class Projection {
 public:
  Projection(const ProjectCase& one, const BuildOptions& options);

  // The call, with addresses of the place.
  qkv_project_desc desc() const;

  // Uploads, projects, downloads; by a plan and with a workspace of exactly its size, or at once.
  qkv_status run(bool by_plan = false);

  void upload() { memory_.upload(); }
  void download() { memory_.download(); }

  // What the run changed that it must not: guards, gaps, inputs. "" if nothing.
  std::string damage() const { return memory_.damage(); }
  std::vector<std::byte> output_bits() const { return y.bits(); }

 private:
  Tensors memory_;

 public:
  Tensor x, weight, bias, y;
  int32_t threads = 0;
};

// What is wrong with y after run(); "" if nothing is. The largest error over what it may be goes to
// *worst.
std::string project_faults(const Projection& projection, double* worst);

}  // namespace qkv::verify
