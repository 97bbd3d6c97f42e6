// qkv layer: a multi-head layer over hidden states and weights from files.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "commands.h"
#include "device.h"
#include "errors.h"
#include "host/core/view.h"
#include "host/ops/attention/problem.h"
#include "layer_job.h"
#include "layer_weights.h"
#include "output_files.h"
#include "problem_input.h"
#include "qkv/qkv.hpp"
#include "tensor_file.h"

namespace qkv::cli {
namespace {

using host::attention::kIndex;
using host::attention::kLse;
using host::attention::kTensorCount;
using host::attention::kTensors;
using host::attention::kTopScores;
using host::attention::kWeights;
using host::attention::TensorId;

// A tensor of weights: its field, its option, which axes a file has.
struct WeightOption {
  const char* field;
  const char* option;
  qkv_tensor qkv_layer_desc::*tensor;
  const char* help;

  bool is_bias() const { return field[0] == 'b'; }
};

constexpr WeightOption kWeightOptions[] = {
    {"w_q", "--w-q", &qkv_layer_desc::w_q, "Weights of Q, [heads x dim, width]"},
    {"w_k", "--w-k", &qkv_layer_desc::w_k, "of K"},
    {"w_v", "--w-v", &qkv_layer_desc::w_v, "of V"},
    {"w_qkv", "--w-qkv", &qkv_layer_desc::w_qkv, "of all three, one below the other"},
    {"w_o", "--w-o", &qkv_layer_desc::w_o, "of the output, [width, heads x dim]"},
    {"bias_q", "--bias-q", &qkv_layer_desc::bias_q, "Biases, [heads x dim]"},
    {"bias_k", "--bias-k", &qkv_layer_desc::bias_k, ""},
    {"bias_v", "--bias-v", &qkv_layer_desc::bias_v, ""},
    {"bias_qkv", "--bias-qkv", &qkv_layer_desc::bias_qkv, ""},
    {"bias_o", "--bias-o", &qkv_layer_desc::bias_o, ""},
};

struct OutputOption {
  TensorId id;
  const char* name;
  const char* help;
};

constexpr OutputOption kOutputOptions[] = {
    {kLse, "--lse", "log of the sum of exp(scores), [batch, heads, seq]"},
    {kIndex, "--index", "The chosen key, [batch, heads, seq], or keys, [batch, heads, seq, k]"},
    {kTopScores, "--top-scores", "Top-k selection: their scores, [batch, heads, seq, k]"},
    {kWeights, "--weights", "[batch, heads, seq q, seq k], see --weights-mode"},
};

struct LayerOptions {
  ProblemOptions problem;  // its q, k, v and layout are not used
  std::string x, x_kv, model;
  std::optional<std::string> prefix;
  std::map<std::string, std::string> weights;  // files by field
  bool in_out = false;
  std::vector<int64_t> heads;
  std::string y;                                  // files to write
  std::array<std::string, kTensorCount> outputs;  // likewise
};

// What the layer is made of: tensors in host memory, and the descriptor over them.
struct LayerInput {
  LayerInput() {
    check(qkv_layer_desc_init(&desc, sizeof desc));
    check(qkv_attention_desc_init(&attention, sizeof attention));
  }

  qkv_layer_desc desc;
  qkv_attention_desc attention;
  Storage storage;
  std::vector<std::string> lines;  // about each tensor as read
  size_t rank = 0;                 // of x
};

const Axes kStates{0, 2, 3};  // [batch, seq, width]

qkv_tensor keep(io::Array array, const Axes& axes, Storage* storage) {
  storage->push_back(std::make_unique<io::Array>(std::move(array)));
  return tensor_of(storage->back().get(), axes);
}

void load_states(const LayerOptions& options, LayerInput* in) {
  const auto load = [&](const char* name, const std::string& file, qkv_type type) {
    io::Array array = read_float(name, file, type);
    const size_t rank = array.shape.size();
    if (rank != 2 && rank != 3) {
      throw BadInput(
          fmt::format("{} has rank {}, shape {}; allowed: [batch, seq, width] or [seq, "
                      "width]",
                      name, rank, io::shape_text(array.shape)));
    }
    in->lines.push_back(fmt::format("{:<8} {} {} {}", name + 2, file,
                                    io::dtype_info(array.type).name, io::shape_text(array.shape)));
    if (in->rank == 0) in->rank = rank;
    return keep(std::move(array), rank == 3 ? kStates : Axes{2, 3}, &in->storage);
  };
  in->desc.x_q = load("--x", options.x, options.problem.type);
  if (!options.x_kv.empty()) in->desc.x_kv = load("--x-kv", options.x_kv, in->desc.x_q.type);
}

void load_weights(const LayerOptions& options, LayerInput* in) {
  std::map<std::string, std::string> files = options.weights;
  if (!options.model.empty()) {
    for (const auto& [field, name] : find_layer(options.model, options.prefix))
      files.emplace(field, options.model + ":" + name);
  } else if (options.prefix) {
    throw BadInput("--prefix is given; it needs --model");
  }
  for (const WeightOption& one : kWeightOptions) {
    const auto file = files.find(one.field);
    if (file == files.end()) continue;
    io::Array array = read_float(one.option, file->second, in->desc.x_q.type);
    const size_t rank = one.is_bias() ? 1 : 2;
    if (array.shape.size() != rank) {
      throw BadInput(fmt::format("{} has rank {}, shape {}; allowed: {}", one.option,
                                 array.shape.size(), io::shape_text(array.shape),
                                 one.is_bias()    ? "[out]"
                                 : options.in_out ? "[in, out]"
                                                  : "[out, in]"));
    }
    in->lines.push_back(
        fmt::format("{:<8} {} {}", one.option + 2, file->second, io::shape_text(array.shape)));
    const Axes axes = one.is_bias() ? Axes{3} : options.in_out ? Axes{3, 2} : Axes{2, 3};
    in->desc.*one.tensor = keep(std::move(array), axes, &in->storage);
  }
}

// PyTorch packs the weights of cross-attention as well; the library has them apart there.
void unpack_for_cross(LayerInput* in) {
  qkv_layer_desc& d = in->desc;
  if (d.x_kv.type == QKV_TYPE_NONE || d.w_qkv.type == QKV_TYPE_NONE) return;
  const int64_t heads_kv = d.heads_kv == 0 ? d.heads_q : d.heads_kv;
  const int64_t all = d.heads_q + 2 * heads_kv, out = d.w_qkv.shape[2];
  if (out % all != 0) return;  // the library says so
  const int64_t dim = out / all;
  const auto part = [](const qkv_tensor& whole, int axis, int64_t first, int64_t count) {
    qkv_tensor t = whole;
    if (t.type == QKV_TYPE_NONE) return t;
    t.data = static_cast<std::byte*>(whole.data) +
             first * whole.stride[axis] * host::type_size(whole.type);
    t.shape[axis] = count;
    return t;
  };
  const int64_t q = d.heads_q * dim, kv = heads_kv * dim;
  d.w_q = part(d.w_qkv, 2, 0, q), d.bias_q = part(d.bias_qkv, 3, 0, q);
  d.w_k = part(d.w_qkv, 2, q, kv), d.bias_k = part(d.bias_qkv, 3, q, kv);
  d.w_v = part(d.w_qkv, 2, q + kv, kv), d.bias_v = part(d.bias_qkv, 3, q + kv, kv);
  d.w_qkv = d.bias_qkv = {};
}

LayerInput load(const LayerOptions& options) {
  LayerInput in;
  for (const int64_t heads : options.heads)
    if (heads < 1 || heads > INT32_MAX)
      throw BadInput(fmt::format("--heads has {}; allowed: 1 to {}", heads, INT32_MAX));
  in.desc.heads_q = static_cast<int32_t>(options.heads.front());
  in.desc.heads_kv = static_cast<int32_t>(options.heads.back());
  load_states(options, &in);
  load_weights(options, &in);
  unpack_for_cross(&in);
  load_inputs(options.problem, in.desc.x_q.type, &in.storage, &in.attention);
  apply_settings(options.problem, &in.attention);
  // These are the layer's.
  in.desc.threads = std::exchange(in.attention.threads, 0);
  in.attention.device = QKV_DEVICE_AUTO;
  return in;
}

struct Output {
  const char* name;
  std::string path;
  io::Array array;
};

// y, and what else is asked for.
std::vector<Output> make_outputs(const LayerOptions& options, LayerInput* in) {
  qkv_layer_desc& d = in->desc;
  const int64_t b = d.x_q.shape[0], s = d.x_q.shape[2], heads = d.heads_q;
  const int64_t s_kv = d.x_kv.type == QKV_TYPE_NONE ? s : d.x_kv.shape[2];
  const bool batched = in->rank == 3;
  const auto axes_from = [&](Axes axes) {
    if (!batched) axes.erase(axes.begin());
    return axes;
  };
  std::vector<Output> out;
  const auto add = [&](const char* name, const std::string& path, const Axes& axes,
                       qkv_tensor shape, qkv_tensor* tensor) {
    *tensor = shape;
    io::Array array = make_array(axes, tensor);
    out.push_back({name, path, std::move(array)});
  };
  if (d.w_o.type != QKV_TYPE_NONE) {
    const Axes axes = axes_from(kStates);
    add("y", options.y, axes, shape_only(d.x_q.type, b, 1, s, d.w_o.shape[2], axes), &d.y);
  } else {
    const qkv_tensor& rows = d.w_v.type == QKV_TYPE_NONE ? d.w_qkv : d.w_v;
    const int64_t of = d.w_v.type == QKV_TYPE_NONE ? heads + int64_t{2} * d.heads_kv : d.heads_kv;
    const Axes axes = axes_from({0, 2, 1, 3});
    add("y", options.y, axes, shape_only(d.x_q.type, b, heads, s, rows.shape[2] / of, axes), &d.y);
  }
  const Axes rows = axes_from({0, 1, 2}), pairs = axes_from({0, 1, 2, 3});
  for (const OutputOption& one : kOutputOptions) {
    const std::string& path = options.outputs[one.id];
    if (path.empty()) continue;
    const bool top = in->attention.selection == QKV_SELECT_TOP_K;
    const bool of_keys = top && (one.id == kIndex || one.id == kTopScores);
    const int64_t columns = one.id == kWeights ? s_kv
                            : of_keys          ? std::max<int64_t>(in->attention.top_k, 1)
                                               : 1;
    const qkv_type type = one.id == kIndex ? QKV_TYPE_I64 : QKV_TYPE_F32;
    const Axes& axes = one.id == kWeights || of_keys ? pairs : rows;
    add(kTensors[one.id].word, path, axes, shape_only(type, b, heads, s, columns, axes),
        &(in->attention.*kTensors[one.id].given));
  }
  return out;
}

int layer(const LayerOptions& options) {
  std::vector<NamedPath> paths{{"y", options.y}};
  for (const OutputOption& one : kOutputOptions)
    paths.push_back({kTensors[one.id].word, options.outputs[one.id]});
  check_own_files(paths);
  LayerInput in = load(options);
  std::vector<Output> outputs = make_outputs(options, &in);

  std::vector<Buffer> buffers;
  for (const auto& array : in.storage) buffers.push_back({array->bytes, false});
  for (Output& output : outputs) buffers.push_back({output.array.bytes, true});
  const DeviceChoice where = choose_device(options.problem.device);
  LayerJob job(in.desc, in.attention, where);
  const RunReport report = run(&job, where, buffers);

  std::vector<OutputFile> files;
  for (Output& output : outputs) {
    if (output.path.empty()) continue;
    // .npy has no bf16.
    if (output.array.type == io::DType::bf16)
      output.array = as_float(output.name, std::move(output.array), QKV_TYPE_F32);
    files.push_back({output.path, output.array.view()});
  }
  write_npy_files(files);

  for (const std::string& line : in.lines) fmt::print("{}\n", line);
  fmt::print("kernel   {} on {}, {} bytes of workspace\n", report.kernel, report.device,
             report.workspace_bytes);
  fmt::print("time     {}\n", time_text(report));
  for (const Output& output : outputs) {
    if (!output.path.empty())
      fmt::print("{:<8} {} {} {}\n", output.name, output.path,
                 io::dtype_info(output.array.type).name, io::shape_text(output.array.shape));
  }
  return kDone;
}

}  // namespace

void add_layer(CLI::App* app, Command* chosen) {
  const auto options = std::make_shared<LayerOptions>();
  CLI::App* sub = app->add_subcommand(
      "layer", "Computes a multi-head layer over hidden states, with weights from files");
  sub->footer(
      "Example: qkv layer --x x.npy --model model.safetensors --prefix encoder.layer.0 \\\n"
      "                   --heads 12 -o y.npy\n"
      "--model knows the names of PyTorch (in_proj_weight), Hugging Face (q_proj.weight) and BERT\n"
      "(attention.self.query.weight). Biases and the output's weight are taken where they are "
      "there.");
  sub->option_defaults()->group("Tensors (FILE.npy or FILE.safetensors:NAME)");
  const auto file = [&](const char* name, std::string* to, const char* help) {
    return sub->add_option(name, *to, help)->type_name("FILE");
  };
  file("-x,--x", &options->x, "Hidden states, [batch, seq, width] or [seq, width]")->required();
  file("--x-kv", &options->x_kv, "Those that K and V are made from (default: --x)");
  sub->add_option("--model", options->model, "A file with the weights, found by their names")
      ->type_name("FILE.safetensors");
  sub->add_option("--prefix", options->prefix,
                  "Which layer of --model: the names of its weights begin so")
      ->type_name("NAME");
  add_integers(sub, "--heads", &options->heads, 1, 2, "HQ[,HKV]", "Heads of q, and of k and v");
  sub->get_option("--heads")->required();
  for (const WeightOption& one : kWeightOptions)
    sub->add_option_function<std::string>(
           one.option, [=](const std::string& given) { options->weights[one.field] = given; },
           one.help)
        ->type_name("FILE");
  sub->add_flag("--in-out", options->in_out, "Weights are [in, out] in their files");
  add_tensor_options(sub, &options->problem);
  add_type(sub, &options->problem, "Convert hidden states to (weights have their type)");
  add_settings(sub, &options->problem);
  sub->option_defaults()->group("Outputs (.npy)");
  file("-o,--y", &options->y, "The result, in the axes of --x; without --w-o [.., heads, dim]");
  for (const OutputOption& one : kOutputOptions)
    file(one.name, &options->outputs[one.id], one.help);
  sub->option_defaults()->group("Options");
  sub->final_callback([=] { *chosen = [=] { return layer(*options); }; });
}

}  // namespace qkv::cli
