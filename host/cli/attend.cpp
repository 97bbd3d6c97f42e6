// qkv attend: attention over tensors from files.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "commands.h"
#include "device.h"
#include "errors.h"
#include "host/ops/attention/problem.h"
#include "oracle_check.h"
#include "output_files.h"
#include "problem_input.h"
#include "qkv/qkv.hpp"
#include "tensor_file.h"

namespace qkv::cli {
namespace {

using host::attention::kIndex;
using host::attention::kLse;
using host::attention::kO;
using host::attention::kTensorCount;
using host::attention::kTensors;
using host::attention::kTopScores;
using host::attention::kWeights;
using host::attention::TensorId;

struct OutputOption {
  TensorId id;
  const char* name;
  const char* help;
};

constexpr OutputOption kOutputOptions[] = {
    {kO, "-o,--o", "The result, in --layout"},
    {kLse, "--lse", "log of the sum of exp(scores), [batch, heads, seq]"},
    {kIndex, "--index", "The chosen key, [batch, heads, seq], or keys, [batch, heads, seq, k]"},
    {kTopScores, "--top-scores", "Top-k selection: their scores, [batch, heads, seq, k]"},
    {kWeights, "--weights", "[batch, heads, seq q, seq k], see --weights-mode"},
};

struct AttendOptions {
  ProblemOptions problem;
  std::array<std::string, kTensorCount> files;  // to write
  bool check = false;
};

struct Output {
  const char* name;
  std::string path;  // empty: not written
  io::Array array;
  std::string note;
};

void check_paths(const AttendOptions& options) {
  std::vector<NamedPath> paths;
  for (const OutputOption& one : kOutputOptions)
    paths.push_back({kTensors[one.id].word, options.files[one.id]});
  check_own_files(paths);
}

// Fails before any output is allocated if the library would refuse the problem.
void check_problem(const qkv_attention_desc& desc) {
  qkv_query_result answer{};
  answer.struct_size = sizeof answer;
  check(qkv_query(&desc, &answer));
}

std::vector<Output> make_outputs(const AttendOptions& options, const Axes& main,
                                 qkv_attention_desc* desc) {
  const int64_t b = desc->q.shape[0], h = desc->q.shape[1], s = desc->q.shape[2];
  const Axes rows = row_axes(main.size());
  Axes pairs = rows;  // the axes that the input files have
  pairs.push_back(3);
  const bool chooses = desc->selection != QKV_SELECT_SOFT;
  const bool top = desc->selection == QKV_SELECT_TOP_K;
  const auto wanted = [&](TensorId id) {
    if (!options.files[id].empty()) return true;
    return options.check && (id == kLse || (id == kIndex && chooses) || (id == kTopScores && top));
  };
  if (wanted(kLse)) desc->lse = shape_only(QKV_TYPE_F32, b, h, s, 1, rows);
  const Axes& chosen = top ? pairs : rows;
  const int64_t k = top ? std::max<int64_t>(desc->top_k, 1) : 1;
  if (wanted(kIndex)) desc->index = shape_only(QKV_TYPE_I64, b, h, s, k, chosen);
  if (wanted(kTopScores)) desc->top_scores = shape_only(QKV_TYPE_F32, b, h, s, k, chosen);
  if (wanted(kWeights)) {
    desc->weights = shape_only(QKV_TYPE_F32, b, h, s, desc->k.shape[2], pairs);
  }
  check_problem(*desc);

  std::vector<Output> outputs;
  for (const OutputOption& option : kOutputOptions) {
    qkv_tensor* const tensor = &(desc->*kTensors[option.id].given);
    if (tensor->type == QKV_TYPE_NONE) continue;
    const bool of_keys = option.id == kIndex || option.id == kTopScores;
    const Axes& axes = option.id == kO         ? main
                       : option.id == kWeights ? pairs
                       : of_keys               ? chosen
                                               : rows;
    outputs.push_back(
        {kTensors[option.id].word, options.files[option.id], make_array(axes, tensor), ""});
  }
  return outputs;
}

void write_outputs(std::vector<Output>* outputs) {
  std::vector<OutputFile> files;
  for (Output& output : *outputs) {
    if (output.path.empty()) continue;
    if (output.array.type == io::DType::bf16) {
      output.array = as_float(output.name, std::move(output.array), QKV_TYPE_F32);
      output.note = " (bf16 values; .npy has no bf16)";
    }
    files.push_back({output.path, output.array.view()});
  }
  write_npy_files(files);
}

void print_summary(const ProblemInput& input, const RunReport& report, const DeviceChoice& where,
                   const std::vector<Output>& outputs) {
  for (const std::string& file : input.files) fmt::print("{}\n", file);
  const qkv_attention_desc& d = input.desc;
  fmt::print("problem {} sequence{}, {} heads of q on {} of k and v, {} queries, {} keys, ",
             d.q.shape[0], d.q.shape[0] == 1 ? "" : "s", d.q.shape[1], d.k.shape[1], d.q.shape[2],
             d.k.shape[2]);
  fmt::print("dim {}{}, {}\n", d.q.shape[3],
             d.v.shape[3] == d.q.shape[3] ? "" : fmt::format(" (v: {})", d.v.shape[3]),
             host::type_name(d.q.type));
  fmt::print("kernel  {} on {}\n", report.kernel, report.device);
  if (!where.note.empty()) fmt::print("        not on a GPU: {}\n", where.note);
  fmt::print("time    {}\n", time_text(report));
  for (const Output& output : outputs) {
    if (output.path.empty()) continue;
    fmt::print("{:<7} {} {} {}{}\n", output.name, output.path,
               io::dtype_info(output.array.type).name, io::shape_text(output.array.shape),
               output.note);
  }
}

int print_check(const OracleReport& report) {
  fmt::print("check   largest differences from the fp64 oracle:\n");
  for (const Difference& d : report.outputs) {
    fmt::print("        {:<8} {:.3g}, allowed {:.3g}{}{}\n", d.output, d.largest, d.allowed,
               d.nonfinite == 0
                   ? ""
                   : fmt::format("; {} elements are inf or NaN on one side only", d.nonfinite),
               d.passed() ? "" : "  TOO LARGE");
  }
  if (report.other_choices > 0) {
    fmt::print("        {} rows chose other keys of nearly the same score\n", report.other_choices);
  }
  if (report.passed()) return kDone;
  throw Failure("the result differs from the oracle by more than rounding explains");
}

int attend(const AttendOptions& options) {
  check_paths(options);
  ProblemInput input = load_problem(options.problem);
  std::vector<Output> outputs = make_outputs(options, input.main_axes, &input.desc);
  const DeviceChoice where = choose_device(options.problem.device, input.desc);

  std::vector<Buffer> buffers;
  for (const auto& array : input.storage) buffers.push_back({array->bytes, false});
  for (Output& output : outputs) buffers.push_back({output.array.bytes, true});
  const RunReport report = run(input.desc, where, buffers);
  std::optional<OracleReport> oracle;
  if (options.check) oracle = compare_with_oracle(input.desc);
  write_outputs(&outputs);
  print_summary(input, report, where, outputs);
  return oracle ? print_check(*oracle) : kDone;
}

}  // namespace

void add_attend(CLI::App* app, Command* chosen) {
  const auto options = std::make_shared<AttendOptions>();
  CLI::App* sub = app->add_subcommand("attend", "Computes attention over tensors from files");
  sub->footer(
      "Example: qkv attend --layout bhsd -q m.safetensors:q -k m.safetensors:k \\\n"
      "                    -v m.safetensors:v -o out.npy --check");
  add_problem_options(sub, &options->problem);
  sub->option_defaults()->group("Outputs (.npy)");
  for (const OutputOption& option : kOutputOptions)
    sub->add_option(option.name, options->files[option.id], option.help)->type_name("FILE");
  sub->add_flag("--check", options->check,
                "Compare with the fp64 oracle (slow); a difference is exit code 1");
  sub->final_callback([=] { *chosen = [=] { return attend(*options); }; });
}

}  // namespace qkv::cli
