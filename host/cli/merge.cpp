// qkv merge: parts of one attention problem, each with its O and LSE, from files into the whole.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <iterator>
#include <memory>
#include <utility>

#include "commands.h"
#include "device.h"
#include "errors.h"
#include "output_files.h"
#include "problem_input.h"
#include "qkv/qkv.hpp"
#include "tensor_file.h"

namespace qkv::cli {
namespace {

struct MergeOptions {
  std::vector<std::string> o_parts, lse_parts;  // files
  std::string o, lse;                           // files to write
  Layout layout = Layout::kBshd;
  std::string device = "auto";
};

class MergeJob : public Job {
 public:
  MergeJob(const DeviceChoice& where, std::vector<qkv_tensor> o_parts,
           std::vector<qkv_tensor> lse_parts, const qkv_tensor& o, const qkv_tensor& lse)
      : o_parts_(std::move(o_parts)), lse_parts_(std::move(lse_parts)) {
    check(qkv_merge_desc_init(&desc_, sizeof desc_));
    desc_.device = where.device;
    desc_.device_index = where.index;
    desc_.parts = static_cast<int32_t>(o_parts_.size());
    desc_.o_parts = o_parts_.data();
    desc_.lse_parts = lse_parts_.data();
    desc_.o = o;
    desc_.lse = lse;
  }

  // The call itself refuses what cannot be merged.
  std::string check_support() override {
    return desc_.device == QKV_DEVICE_CPU ? "cpu_merge" : "merge";
  }

  void move(const Move& to_copy) override {
    for (auto* tensors : {&o_parts_, &lse_parts_})
      for (qkv_tensor& tensor : *tensors) to_copy(&tensor);
    to_copy(&desc_.o);
    to_copy(&desc_.lse);
  }

  size_t prepare() override { return 0; }

  void run(void*, size_t) override { check(qkv_merge(&desc_, nullptr)); }

 private:
  std::vector<qkv_tensor> o_parts_, lse_parts_;
  qkv_merge_desc desc_;
};

// Numbers in one of qkv's float types; lse has to be f32.
io::Array read_floats(const std::string& option, const std::string& file) {
  io::Array array = read_tensor(option, file);
  const qkv_type type = qkv_type_of(array.type);
  if (type == QKV_TYPE_F32 || type == QKV_TYPE_F16 || type == QKV_TYPE_BF16) return array;
  throw BadInput(
      fmt::format("{} holds {}; allowed: f32, f16, bf16", option, io::dtype_info(array.type).name));
}

// A view of the array, whose axes must be those of its kind.
qkv_tensor view_of(const std::string& option, io::Array* array, const Axes& axes) {
  if (array->shape.size() != axes.size()) {
    throw BadInput(fmt::format("{} has rank {}, shape {}; rank {} is needed beside the first part",
                               option, array->shape.size(), io::shape_text(array->shape),
                               axes.size()));
  }
  return tensor_of(array, axes);
}

int merge(const MergeOptions& options) {
  const size_t parts = options.o_parts.size();
  if (parts != options.lse_parts.size()) {
    throw BadInput(
        fmt::format("--o-parts names {} files, --lse-parts {}; each part has one of both", parts,
                    options.lse_parts.size()));
  }
  check_own_files({{"o", options.o}, {"lse", options.lse}});
  std::vector<io::Array> o_files, lse_files;
  for (size_t n = 0; n < parts; ++n) {
    o_files.push_back(read_floats("--o-parts", options.o_parts[n]));
    lse_files.push_back(
        as_float("--lse-parts", read_tensor("--lse-parts", options.lse_parts[n]), QKV_TYPE_F32));
  }
  const size_t rank = o_files[0].shape.size();
  if (rank < 2 || rank > 4) {
    throw BadInput(fmt::format("--o-parts has rank {}, shape {}; allowed: 2 to 4", rank,
                               io::shape_text(o_files[0].shape)));
  }
  const Axes axes = main_axes(options.layout, rank), rows = row_axes(rank);

  std::vector<qkv_tensor> o_parts, lse_parts;
  std::vector<Buffer> buffers;
  for (size_t n = 0; n < parts; ++n) {
    o_parts.push_back(view_of("--o-parts", &o_files[n], axes));
    lse_parts.push_back(view_of("--lse-parts", &lse_files[n], rows));
    buffers.push_back({o_files[n].bytes, false});
    buffers.push_back({lse_files[n].bytes, false});
  }
  const int64_t* const n = o_parts[0].shape;
  qkv_tensor o = shape_only(o_parts[0].type, n[0], n[1], n[2], n[3], axes);
  qkv_tensor lse = shape_only(QKV_TYPE_F32, n[0], n[1], n[2], 1, rows);
  io::Array merged_o = make_array(axes, &o), merged_lse = make_array(rows, &lse);
  buffers.push_back({merged_o.bytes, true});
  buffers.push_back({merged_lse.bytes, true});

  const DeviceChoice where = choose_device(options.device);
  MergeJob job(where, std::move(o_parts), std::move(lse_parts), o, lse);
  const RunReport report = run(&job, where, buffers);

  std::string note;
  if (merged_o.type == io::DType::bf16) {
    merged_o = as_float("--o", std::move(merged_o), QKV_TYPE_F32);
    note = " (bf16 values; .npy has no bf16)";
  }
  std::vector<OutputFile> files;
  if (!options.o.empty()) files.push_back({options.o, merged_o.view()});
  if (!options.lse.empty()) files.push_back({options.lse, merged_lse.view()});
  write_npy_files(files);

  fmt::print("merged  {} part{} of {} sequence{}, {} heads, {} queries, dim {}\n", parts,
             parts == 1 ? "" : "s", o.shape[0], o.shape[0] == 1 ? "" : "s", o.shape[1], o.shape[2],
             o.shape[3]);
  fmt::print("kernel  {} on {}\n", report.kernel, report.device);
  fmt::print("time    {}\n", time_text(report));
  for (const OutputFile& file : files) {
    const bool is_o = file.path == options.o;
    fmt::print("{:<7} {} {} {}{}\n", is_o ? "o" : "lse", file.path,
               io::dtype_info(file.array.type).name, io::shape_text(file.array.shape),
               is_o ? note : "");
  }
  return kDone;
}

}  // namespace

void add_merge(CLI::App* app, Command* chosen) {
  const auto options = std::make_shared<MergeOptions>();
  CLI::App* sub = app->add_subcommand(
      "merge", "Merges attention over disjoint sets of keys, as attend writes it, into the whole");
  sub->footer(
      "Example: qkv merge --o-parts o1.npy o2.npy --lse-parts lse1.npy lse2.npy -o o.npy\n"
      "Only soft attention can be merged.");
  sub->option_defaults()->group("Parts (FILE.npy or FILE.safetensors:NAME)");
  sub->add_option("--o-parts", options->o_parts, "Their results, in --layout")
      ->required()
      ->type_name("FILE");
  sub->add_option("--lse-parts", options->lse_parts, "Their LSE, [batch, heads, seq], as many")
      ->required()
      ->type_name("FILE");
  add_layout(sub, &options->layout);
  sub->option_defaults()->group("Outputs (.npy)");
  sub->add_option("-o,--o", options->o, "The result, in --layout and the parts' type")
      ->type_name("FILE");
  sub->add_option("--lse", options->lse, "Its LSE")->type_name("FILE");
  sub->option_defaults()->group("Where");
  sub->add_option("--device", options->device, "auto, cpu, cuda or cuda:N (default auto)")
      ->type_name("DEVICE");
  sub->option_defaults()->group("Options");
  sub->final_callback([=] { *chosen = [=] { return merge(*options); }; });
}

}  // namespace qkv::cli
