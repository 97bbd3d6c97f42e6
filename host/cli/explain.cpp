// qkv explain: which kernel would run a problem, and how; or why none would.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "commands.h"
#include "device.h"
#include "errors.h"
#include "host/ops/attention/estimate.h"
#include "host/ops/attention/op.h"
#include "problem_input.h"
#include "qkv/qkv.hpp"

namespace qkv::cli {
namespace {

using host::attention::kTensors;
using host::attention::TensorRow;

struct ExplainOptions {
  ProblemOptions problem;
  std::vector<int64_t> batch, heads, seq, dim;  // instead of files
  std::vector<std::string> with;                // optional tensors
  bool json = false;
};

struct Explanation {
  std::string device;  // "cpu", "cuda:0", "h100"
  bool supported = false;
  std::string kernel;
  size_t workspace_bytes = 0;
  std::string reasons;  // one line for each kernel that declined
  std::string plan;     // as qkv_plan_print has it
  // For a device by name.
  std::string estimate_text;
  host::attention::Estimate estimate;
};

bool has_shapes(const ExplainOptions& o) {
  return !(o.batch.empty() && o.heads.empty() && o.seq.empty() && o.dim.empty());
}

qkv_attention_desc desc_from_shapes(const ExplainOptions& o) {
  const ProblemOptions& p = o.problem;
  const auto refuse = [](const std::string& name, const std::string& file) {
    if (file.empty()) return;
    throw BadInput(
        fmt::format("{} is given together with shapes; use files, or shapes and --with", name));
  };
  for (const auto& [name, file] :
       {std::pair{"--q", p.q}, {"--k", p.k}, {"--v", p.v}, {"--qkv", p.qkv}}) {
    refuse(name, file);
  }
  for (const TensorOption& option : tensor_options()) refuse(option.name, p.files[option.id]);
  for (const auto& [name, values] : {std::pair{"--seq", o.seq}, {"--dim", o.dim}}) {
    if (values.empty()) {
      throw BadInput(fmt::format("{} is missing; shapes need --seq and --dim", name));
    }
  }
  const auto first = [](const std::vector<int64_t>& x) { return x.empty() ? 1 : x.front(); };
  const auto last = [](const std::vector<int64_t>& x) { return x.empty() ? 1 : x.back(); };
  const qkv_type type = p.type == QKV_TYPE_NONE ? QKV_TYPE_F32 : p.type;
  const Axes axes = main_axes(p.layout, 4);
  qkv_attention_desc desc;
  check(qkv_attention_desc_init(&desc, sizeof desc));
  desc.q = shape_only(type, first(o.batch), first(o.heads), first(o.seq), first(o.dim), axes);
  desc.k = shape_only(type, first(o.batch), last(o.heads), last(o.seq), first(o.dim), axes);
  desc.v = shape_only(type, first(o.batch), last(o.heads), last(o.seq), last(o.dim), axes);
  set_output_shape(axes, &desc);
  apply_settings(p, &desc);
  if (p.score == QKV_SCORE_ADDITIVE) {
    desc.additive_weight = shape_only(QKV_TYPE_F32, 1, first(o.heads), 1, first(o.dim));
  }
  return desc;
}

// What --with may name: all that the command line asks for by name.
bool can_be_named(const TensorRow& row) { return row.kind != host::attention::Word::kNone; }

void add_optional_tensors(const ExplainOptions& o, qkv_attention_desc* desc) {
  const struct {
    int64_t batch, heads_q, heads_kv, s_q, s_kv, d_qk, d_v, top_k;
  } sizes{desc->q.shape[0], desc->q.shape[1], desc->k.shape[1], desc->q.shape[2],
          desc->k.shape[2], desc->q.shape[3], desc->v.shape[3], std::max<int64_t>(desc->top_k, 1)};
  for (const std::string& name : o.with) {
    const auto* found = std::find_if(kTensors.begin(), kTensors.end(), [&](const TensorRow& row) {
      return can_be_named(row) && name == row.word;
    });
    if (found == kTensors.end()) {
      std::string names;
      for (const TensorRow& row : kTensors)
        if (can_be_named(row)) names += (names.empty() ? "" : ", ") + std::string(row.word);
      throw BadInput(fmt::format("--with names {}; allowed: {}", io::quoted(name), names));
    }
    const auto shape = host::attention::shape_of(*found, host::attention::extents_of(sizes));
    desc->*found->given = shape_only(host::attention::types_of(found->element, desc->q.type)[0],
                                     shape[0], shape[1], shape[2], shape[3]);
  }
}

std::string plan_text(const qkv_plan* plan) {
  size_t length = 0;
  check(qkv_plan_print(plan, nullptr, 0, &length));
  std::string text(length + 1, '\0');
  check(qkv_plan_print(plan, text.data(), text.size(), nullptr));
  text.resize(length);
  return text;
}

Explanation ask(qkv_attention_desc desc, const DeviceChoice& where) {
  desc = without_addresses(desc);
  desc.device = where.device;
  desc.device_index = where.index;
  qkv_query_result answer{};
  answer.struct_size = sizeof answer;
  check(qkv_query(&desc, &answer));
  Explanation out;
  out.device = where.device == QKV_DEVICE_CPU ? "cpu" : fmt::format("cuda:{}", where.index);
  out.supported = answer.supported != 0;
  out.kernel = answer.kernel;
  out.workspace_bytes = answer.workspace_size;
  out.reasons = out.supported ? answer.reasons : where.note + answer.reasons;
  if (out.supported) {
    qkv_plan* plan = nullptr;
    check(qkv_plan_create(&desc, &plan));
    const std::unique_ptr<qkv_plan, void (*)(qkv_plan*)> owner(plan, qkv_plan_destroy);
    out.plan = plan_text(plan);
  }
  return out;
}

// What would run on a device that need not be here: plans ask CUDA for nothing.
Explanation ask(qkv_attention_desc desc, const host::KnownDevice& known) {
  desc = without_addresses(desc);
  desc.device = QKV_DEVICE_CUDA;
  desc.device_index = 0;
  host::CudaRuntime cuda = host::cuda_runtime();
  cuda.device_count = [](int32_t* count) {
    *count = 1;
    return host::Status();
  };
  host::attention::Problem problem;
  const host::Status valid = host::attention::validate(&desc, host::Need::kShapes, cuda, &problem);
  if (!valid.ok()) throw Error(valid.code(), valid.reason());
  const host::DeviceInfo device = device_info_of(known);
  host::Plan plan;
  const host::Status planned = make_plan(host::attention::kOp, problem, device, &plan);
  Explanation out;
  out.device = known.key;
  out.supported = planned.ok();
  out.reasons = plan.declined;
  if (!out.reasons.empty()) out.reasons.pop_back();  // the last line's end
  if (!out.supported) return out;
  out.kernel = plan.kernel->name;
  out.workspace_bytes = plan.workspace_bytes();
  out.plan = host::plan_text(host::attention::kOp, plan, problem, device);
  out.estimate = host::attention::estimate(problem, plan, known);
  out.estimate_text = host::attention::estimate_text(problem, plan, known);
  return out;
}

void print_json(const Explanation& e) {
  nlohmann::ordered_json out;
  out["supported"] = e.supported;
  out["device"] = e.device;
  out["kernel"] = e.supported ? nlohmann::ordered_json(e.kernel) : nullptr;
  out["workspace_bytes"] = e.workspace_bytes;
  out["reasons"] = nlohmann::ordered_json::array();
  std::istringstream lines(e.reasons);
  for (std::string line; std::getline(lines, line);) out["reasons"].push_back(line);
  out["plan"] = e.plan;
  if (!e.estimate_text.empty()) {
    out["estimate_microseconds"] = e.estimate.microseconds;
    out["estimate_is_at_least"] = e.estimate.at_least;
  }
  fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

int explain(const ExplainOptions& options) {
  ProblemInput input;
  qkv_attention_desc desc;
  if (has_shapes(options)) {
    desc = desc_from_shapes(options);
  } else {
    input = load_problem(options.problem);
    desc = input.desc;
  }
  add_optional_tensors(options, &desc);
  const std::string& on = options.problem.device;
  const host::KnownDevice* known = host::find_known_device(on);
  if (known == nullptr && !is_of_this_machine(on)) {
    throw BadInput(fmt::format("--device is {}; allowed: auto, cpu, cuda, cuda:N, or one of {}",
                               io::quoted(on), host::known_device_keys()));
  }
  const DeviceChoice where = known != nullptr ? DeviceChoice() : choose_device(on, desc);
  const Explanation answer = known != nullptr ? ask(desc, *known) : ask(desc, where);
  if (options.json) {
    print_json(answer);
  } else if (answer.supported) {
    fmt::print("{}{}", answer.plan, answer.estimate_text);
    if (!where.note.empty()) fmt::print("not on a GPU: {}\n", where.note);
  } else {
    fmt::print("Nothing would run: {}\n", answer.reasons);
  }
  return answer.supported ? kDone : kFailed;
}

}  // namespace

void add_explain(CLI::App* app, Command* chosen) {
  const auto options = std::make_shared<ExplainOptions>();
  CLI::App* sub = app->add_subcommand(
      "explain", "Says which kernel would run a problem, and how, or why none would");
  sub->footer(
      "Example: qkv explain --seq 4096 --dim 128 --heads 32,8 --type bf16 --causal\n"
      "On a GPU that is not here, with an estimate of its time: --device h100, or another of\n" +
      host::known_device_keys() +
      "\n"
      "Exit code 1: no kernel runs the problem.");
  sub->option_defaults()->group("Shapes (instead of files)");
  add_integers(sub, "--batch", &options->batch, 1, 1, "N", "Sequences (default 1)");
  add_integers(sub, "--heads", &options->heads, 1, 2, "HQ[,HKV]", "Heads (default 1)");
  add_integers(sub, "--seq", &options->seq, 1, 2, "SQ[,SKV]", "Queries and keys");
  add_integers(sub, "--dim", &options->dim, 1, 2, "DQK[,DV]", "Numbers in a vector");
  sub->add_option("--with", options->with,
                  "Optional tensors: lse, index, weights, mask, bias, alibi, lengths")
      ->delimiter(',')
      ->type_name("NAMES");
  add_problem_options(sub, &options->problem);
  sub->get_option("--device")
      ->description("auto, cpu, cuda, cuda:N (default auto), or a GPU's name");
  sub->add_flag("--json", options->json, "Print one JSON object");
  sub->final_callback([=] { *chosen = [=] { return explain(*options); }; });
}

}  // namespace qkv::cli
