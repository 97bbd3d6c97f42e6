// The options that attend and explain share: one attention problem as the command line states it.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "host/ops/attention/problem.h"
#include "qkv/qkv.h"

namespace CLI {
class App;
}

namespace qkv::cli {

// The order of the axes of a q, k, v or o file: [batch, seq, heads, dim] or [batch, heads, seq,
// dim].
enum class Layout { kBshd, kBhsd };

struct ProblemOptions {
  std::string q, k, v;             // files
  std::string qkv;                 // or one file with all three
  std::vector<int64_t> qkv_heads;  // how many heads of it are Q's, and how many K's and V's
  Layout layout = Layout::kBshd;
  qkv_type type = QKV_TYPE_NONE;  // to convert to; NONE: as the files have it

  qkv_score score = QKV_SCORE_DOT;
  qkv_selection selection = QKV_SELECT_SOFT;
  int32_t top_k = 0;
  qkv_weights_mode weights_mode = QKV_WEIGHTS_PROBABILITIES;
  std::optional<double> scale;
  double softcap = 0;

  bool causal = false;
  std::optional<qkv_alignment> alignment;
  std::optional<int64_t> offset;
  std::vector<int64_t> window;  // left, right

  std::array<std::string, host::attention::kTensorCount> files;  // of tensor_options()

  std::string device = "auto";  // auto, cpu, cuda or cuda:N
  int32_t threads = 0;          // of the CPU, at most; 0: as OpenMP says
};

// An optional input that a command line may name a file for.
struct TensorOption {
  host::attention::TensorId id;
  std::string name;  // "--mask"
  // The axes that a file may have: the tensor's own, or the last of them where it may be broadcast
  // on the others. [heads] or [batch, heads].
  std::vector<std::vector<int>> axes;
  std::string shapes;  // the same for people
};

// All of them, made from the library's table.
std::span<const TensorOption> tensor_options();

// Registers the options of a problem. `options` must outlive the app.
void add_problem_options(CLI::App* app, ProblemOptions* options);
// Those that have nothing to do with q, k, v and o: files of attention's other inputs, for the
// group that is being filled; then what is computed and where, in groups of their own.
void add_tensor_options(CLI::App* app, ProblemOptions* options);
void add_type(CLI::App* app, ProblemOptions* options, const std::string& help);
void add_settings(CLI::App* app, ProblemOptions* options);

void add_layout(CLI::App* app, Layout* layout);

// Whole numbers with commas between them: "--window 3,-1". `form` is what the message allows.
void add_integers(CLI::App* app, const std::string& name, std::vector<int64_t>* out, size_t least,
                  size_t most, const std::string& form, const std::string& help);

}  // namespace qkv::cli
