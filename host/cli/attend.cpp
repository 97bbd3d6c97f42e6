// qkv attend: attention over tensors from files.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
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

struct AttendOptions {
  ProblemOptions problem;
  std::string o, lse, index, weights;  // files to write
  bool check = false;
};

struct Output {
  const char* name;
  std::string path;  // empty: not written
  io::Array array;
  std::string note;
};

void check_paths(const AttendOptions& options) {
  const std::pair<const char*, const std::string&> paths[] = {{"--o", options.o},
                                                              {"--lse", options.lse},
                                                              {"--index", options.index},
                                                              {"--weights", options.weights}};
  for (const auto& [name, path] : paths) {
    for (const auto& [other, other_path] : paths) {
      if (name != other && !path.empty() && path == other_path) {
        throw BadInput(fmt::format("{} and {} are both {}; each output needs its own file", name,
                                   other, path));
      }
    }
  }
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
  Axes rows, pairs;  // of lse and index, and of weights: the axes that the input files have
  for (const int axis : {0, 1, 2, 3}) {
    if (static_cast<size_t>(axis) + main.size() < 4) continue;
    if (axis < 3) rows.push_back(axis);
    pairs.push_back(axis);
  }
  const bool hard = desc->selection == QKV_SELECT_HARD;
  if (!options.lse.empty() || options.check) desc->lse = shape_only(QKV_TYPE_F32, b, h, s, 1, rows);
  if (!options.index.empty() || (options.check && hard)) {
    desc->index = shape_only(QKV_TYPE_I64, b, h, s, 1, rows);
  }
  if (!options.weights.empty()) {
    desc->weights = shape_only(QKV_TYPE_F32, b, h, s, desc->k.shape[2], pairs);
  }
  check_problem(*desc);

  std::vector<Output> outputs;
  outputs.push_back({"o", options.o, make_array(main, &desc->o), ""});
  if (desc->lse.type != QKV_TYPE_NONE) {
    outputs.push_back({"lse", options.lse, make_array(rows, &desc->lse), ""});
  }
  if (desc->index.type != QKV_TYPE_NONE) {
    outputs.push_back({"index", options.index, make_array(rows, &desc->index), ""});
  }
  if (desc->weights.type != QKV_TYPE_NONE) {
    outputs.push_back({"weights", options.weights, make_array(pairs, &desc->weights), ""});
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

std::string time_text(double milliseconds) {
  if (milliseconds < 1) return fmt::format("{:.1f} us", milliseconds * 1000);
  if (milliseconds < 1000) return fmt::format("{:.2f} ms", milliseconds);
  return fmt::format("{:.2f} s", milliseconds / 1000);
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
  if (!where.note.empty()) fmt::print("        no GPU kernel: {}\n", where.note);
  fmt::print("time    {} ({})\n", time_text(report.milliseconds),
             report.runs == 1 ? "one run" : fmt::format("fastest of {} runs", report.runs));
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
    fmt::print("        {} rows chose another key of nearly the same score; left out of o\n",
               report.other_choices);
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
  const std::pair<const char*, std::string*> files[] = {{"-o,--o", &options->o},
                                                        {"--lse", &options->lse},
                                                        {"--index", &options->index},
                                                        {"--weights", &options->weights}};
  const char* help[] = {"The result, in --layout",
                        "log of the sum of exp(scores), [batch, heads, seq]",
                        "Hard selection: the chosen key, [batch, heads, seq]",
                        "[batch, heads, seq q, seq k], see --weights-mode"};
  for (size_t i = 0; i < std::size(files); ++i) {
    sub->add_option(files[i].first, *files[i].second, help[i])->type_name("FILE");
  }
  sub->add_flag("--check", options->check,
                "Compare with the fp64 oracle (slow); a difference is exit code 1");
  sub->final_callback([=] { *chosen = [=] { return attend(*options); }; });
}

}  // namespace qkv::cli
