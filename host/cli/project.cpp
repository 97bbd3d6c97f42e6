// qkv project: x W^T + bias over tensors from files.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "commands.h"
#include "device.h"
#include "errors.h"
#include "output_files.h"
#include "problem_input.h"
#include "qkv/qkv.hpp"
#include "tensor_file.h"

namespace qkv::cli {
namespace {

struct ProjectOptions {
  std::string x, weight, bias, y;  // files
  bool in_out = false;             // of the weight
  int64_t heads = 0;               // 0: y has none
  Layout layout = Layout::kBshd;
  std::string device = "auto";
  int32_t threads = 0;
};

class ProjectJob : public Job {
 public:
  ProjectJob(const qkv_project_desc& desc, const DeviceChoice& where) : desc_(desc) {
    desc_.device = where.device;
    desc_.device_index = where.index;
  }

  std::string check_support() override {
    qkv_project_desc question = desc_;
    // A question without addresses is of any device.
    if (desc_.device != QKV_DEVICE_CPU)
      for (qkv_tensor* tensor : tensors(&question)) tensor->data = nullptr;
    qkv_query_result answer{};
    answer.struct_size = sizeof answer;
    check(qkv_project_query(&question, &answer));
    if (answer.supported == 0) throw Error(QKV_UNSUPPORTED_KERNEL, answer.reasons);
    return answer.kernel;
  }

  void move(const Move& to_copy) override {
    for (qkv_tensor* tensor : tensors(&desc_)) to_copy(tensor);
  }

  size_t prepare() override {
    qkv_plan* made = nullptr;
    check(qkv_project_plan_create(&desc_, &made));
    plan_.reset(made);
    size_t bytes = 0;
    check(qkv_plan_workspace_size(plan_.get(), &bytes));
    return bytes;
  }

  void run(void* workspace, size_t bytes) override {
    desc_.workspace = workspace;
    desc_.workspace_size = bytes;
    check(qkv_project_plan_run(plan_.get(), &desc_, nullptr));
  }
  int32_t most_threads() const override { return desc_.threads; }

 private:
  struct DestroyPlan {
    void operator()(qkv_plan* plan) const { qkv_plan_destroy(plan); }
  };

  static std::array<qkv_tensor*, 4> tensors(qkv_project_desc* desc) {
    return {&desc->x, &desc->weight, &desc->bias, &desc->y};
  }

  qkv_project_desc desc_;
  std::unique_ptr<qkv_plan, DestroyPlan> plan_;
};

io::Array read_x(const std::string& file) {
  io::Array array = read_tensor("--x", file);
  const qkv_type type = qkv_type_of(array.type);
  if (type == QKV_TYPE_F32 || type == QKV_TYPE_F16 || type == QKV_TYPE_BF16) return array;
  throw BadInput(
      fmt::format("--x holds {}; allowed: f32, f16, bf16", io::dtype_info(array.type).name));
}

[[noreturn]] void refuse_shape(const char* option, const io::Array& array,
                               const std::string& allowed) {
  throw BadInput(
      fmt::format("{} has shape {}; allowed: {}", option, io::shape_text(array.shape), allowed));
}

// A file's tensor in the type of x, of `rank` axes.
io::Array read_other(const char* option, const std::string& file, qkv_type type, size_t rank,
                     const std::string& allowed) {
  io::Array array = as_float(option, read_tensor(option, file), type);
  if (array.shape.size() != rank) refuse_shape(option, array, allowed);
  return array;
}

// The axes of y's file: x's own but for the width, which heads make two.
Axes y_axes(const ProjectOptions& options, bool batched) {
  if (options.heads > 0) return main_axes(options.layout, batched ? 4 : 3);
  return batched ? Axes{0, 2, 3} : Axes{2, 3};
}

// Of the memory of a file that is the other way round.
void swap_lines(qkv_tensor* weight) {
  std::swap(weight->shape[2], weight->shape[3]);
  std::swap(weight->stride[2], weight->stride[3]);
}

int project(const ProjectOptions& options) {
  io::Array x = read_x(options.x);
  if (x.shape.size() < 2 || x.shape.size() > 4)
    refuse_shape("--x", x, "[rows, in], [batch, rows, in] or [batch, rows, heads, dim]");
  // Heads side by side are one width.
  if (x.shape.size() == 4) x.shape = {x.shape[0], x.shape[1], x.shape[2] * x.shape[3]};
  const bool batched = x.shape.size() == 3;

  qkv_project_desc desc;
  check(qkv_project_desc_init(&desc, sizeof desc));
  desc.threads = options.threads;
  desc.x = tensor_of(&x, batched ? Axes{0, 2, 3} : Axes{2, 3});
  const std::string order = options.in_out ? "[in, out]" : "[out, in]";
  io::Array weight = read_other("--weight", options.weight, desc.x.type, 2, order);
  desc.weight = tensor_of(&weight, Axes{2, 3});
  if (options.in_out) swap_lines(&desc.weight);
  io::Array bias;
  if (!options.bias.empty()) {
    bias = read_other("--bias", options.bias, desc.x.type, 1, "[out]");
    desc.bias = tensor_of(&bias, Axes{3});
  }
  const int64_t out = desc.weight.shape[2], heads = std::max<int64_t>(options.heads, 1);
  if (out % heads != 0)
    throw BadInput(
        fmt::format("--heads is {}; --weight has {} rows, which it must divide", heads, out));
  const Axes axes = y_axes(options, batched);
  desc.y = shape_only(desc.x.type, desc.x.shape[0], heads, desc.x.shape[2], out / heads, axes);
  io::Array y = make_array(axes, &desc.y);

  std::vector<Buffer> buffers{{x.bytes, false}, {weight.bytes, false}, {y.bytes, true}};
  if (!options.bias.empty()) buffers.push_back({bias.bytes, false});
  const DeviceChoice where = choose_device(options.device);
  ProjectJob job(desc, where);
  const RunReport report = run(&job, where, buffers);

  std::string note;
  if (y.type == io::DType::bf16) {
    y = as_float("--y", std::move(y), QKV_TYPE_F32);
    note = " (bf16 values; .npy has no bf16)";
  }
  if (!options.y.empty()) write_npy_files({{options.y, y.view()}});
  fmt::print("problem {} sequence{}, {} rows, {} wide to {} wide{}, {}\n", desc.x.shape[0],
             desc.x.shape[0] == 1 ? "" : "s", desc.x.shape[2], desc.x.shape[3], out,
             options.bias.empty() ? "" : " with bias", io::dtype_info(dtype_of(desc.x.type)).name);
  fmt::print("kernel  {} on {}\n", report.kernel, report.device);
  fmt::print("time    {}\n", time_text(report));
  if (!options.y.empty())
    fmt::print("y       {} {} {}{}\n", options.y, io::dtype_info(y.type).name,
               io::shape_text(y.shape), note);
  return kDone;
}

}  // namespace

void add_project(CLI::App* app, Command* chosen) {
  const auto options = std::make_shared<ProjectOptions>();
  CLI::App* sub =
      app->add_subcommand("project", "Projects rows of any width into another space: x W^T + bias");
  sub->footer(
      "Example: qkv project -x hidden.npy -w model.safetensors:attn.q_proj.weight \\\n"
      "                     -b model.safetensors:attn.q_proj.bias --heads 12 -y q.npy\n"
      "The result has the type of x. bhsd and bshd are the layouts that attend reads.");
  sub->option_defaults()->group("Inputs (FILE.npy or FILE.safetensors:NAME)");
  sub->add_option("-x,--x", options->x,
                  "[rows, in], [batch, rows, in], or heads side by side as attend writes them")
      ->required()
      ->type_name("FILE");
  sub->add_option("-w,--weight", options->weight, "[out, in], as PyTorch's Linear has it")
      ->required()
      ->type_name("FILE");
  sub->add_flag("--in-out", options->in_out, "The weight is [in, out]");
  sub->add_option("-b,--bias", options->bias, "[out]")->type_name("FILE");
  sub->option_defaults()->group("Output (.npy)");
  sub->add_option("-y,--y", options->y, "The result, [batch, rows, out] as x has its axes")
      ->type_name("FILE");
  sub->add_option("--heads", options->heads, "Of y, in --layout; default: one width")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 31))
      ->type_name("N");
  add_layout(sub, &options->layout);
  sub->option_defaults()->group("Where");
  sub->add_option("--device", options->device, "auto, cpu, cuda or cuda:N (default auto)")
      ->type_name("DEVICE");
  sub->add_option("--threads", options->threads, "Of the CPU, at most; default: as OpenMP says")
      ->check(CLI::Range(1, INT32_MAX))
      ->type_name("N");
  sub->option_defaults()->group("Options");
  sub->final_callback([=] { *chosen = [=] { return project(*options); }; });
}

}  // namespace qkv::cli
