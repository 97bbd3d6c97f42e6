#include "problem_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "errors.h"
#include "host/ops/attention/problem.h"
#include "qkv/qkv.hpp"
#include "tensor_file.h"

namespace qkv::cli {
namespace {

constexpr const char* kAxis[4] = {"batch", "heads", "seq", "dim"};

std::string axes_text(const Axes& axes) {
  std::string out;
  for (const int axis : axes) out += (out.empty() ? "[" : ", ") + std::string(kAxis[axis]);
  return out + "]";
}

[[noreturn]] void refuse_rank(const std::string& name, const io::Array& array,
                              const std::string& allowed) {
  throw BadInput(fmt::format("{} has rank {}, shape {}; allowed: {}", name, array.shape.size(),
                             io::shape_text(array.shape), allowed));
}

// The elements as the library takes them beside q of type `main`.
io::Array converted(const std::string& name, host::attention::Element element, qkv_type main,
                    io::Array array) {
  switch (element) {
    case host::attention::Element::kBool:
      return as_bool(name, std::move(array));
    case host::attention::Element::kLength:
      return as_int32(name, array);
    case host::attention::Element::kWide:
      if (qkv_type_of(array.type) == main) return array;
      [[fallthrough]];
    default:
      return as_float(name, std::move(array), QKV_TYPE_F32);
  }
}

// The file's rank says which axes it has.
const Axes& axes_of(const TensorOption& option, const io::Array& array) {
  for (const Axes& axes : option.axes)
    if (axes.size() == array.shape.size()) return axes;
  refuse_rank(option.name, array, option.shapes);
}

class Loader {
 public:
  explicit Loader(const ProblemOptions& options) : options_(options) {
    check(qkv_attention_desc_init(&input_.desc, sizeof input_.desc));
  }

  ProblemInput load() {
    if (options_.qkv.empty()) {
      load_separate();
    } else {
      load_packed();
    }
    set_output_shape(input_.main_axes, &input_.desc);
    load_inputs(options_, input_.desc.q.type, &input_.storage, &input_.desc);
    apply_settings(options_, &input_.desc);
    return std::move(input_);
  }

 private:
  void load_separate() {
    const std::pair<const char*, const std::string&> files[] = {
        {"--q", options_.q}, {"--k", options_.k}, {"--v", options_.v}};
    for (const auto& [name, file] : files) {
      if (file.empty()) {
        throw BadInput(fmt::format("{} is missing; give --q, --k and --v, or --qkv", name));
      }
    }
    if (!options_.qkv_heads.empty()) throw BadInput("--qkv-heads is given; it needs --qkv");
    input_.desc.q = load_main("--q", options_.q);
    input_.desc.k = load_main("--k", options_.k);
    input_.desc.v = load_main("--v", options_.v);
  }

  qkv_tensor load_main(const char* name, const std::string& file) {
    io::Array* array = keep(read_float(name, file, options_.type));
    const size_t rank = array->shape.size();
    if (rank < 2 || rank > 4) {
      refuse_rank(name, *array,
                  axes_text(main_axes(options_.layout, 4)) + ", " +
                      axes_text(main_axes(options_.layout, 3)) + " or [seq, dim]");
    }
    if (input_.main_axes.empty()) input_.main_axes = main_axes(options_.layout, rank);
    if (rank != input_.main_axes.size()) {
      refuse_rank(name, *array, fmt::format("rank {}, as --q has", input_.main_axes.size()));
    }
    note(name, file, *array, axes_text(input_.main_axes));
    return tensor_of(array, input_.main_axes);
  }

  void load_packed() {
    if (!options_.q.empty() || !options_.k.empty() || !options_.v.empty()) {
      throw BadInput("--qkv is given together with --q, --k or --v; it holds all three");
    }
    if (options_.layout != Layout::kBshd) {
      throw BadInput("--layout is bhsd; packed --qkv is always bshd");
    }
    io::Array* array = keep(read_float("--qkv", options_.qkv, options_.type));
    auto& shape = array->shape;
    const std::string shown = io::shape_text(shape);
    const bool five = shape.size() == 5 && shape[2] == 3;
    if (!five && shape.size() != 3 && shape.size() != 4) {
      refuse_rank("--qkv", *array,
                  "[batch, seq, 3, heads, dim], [batch, seq, heads of q + k + v, dim] or the "
                  "latter without batch");
    }
    int64_t heads_q = 0, heads_kv = 0;
    if (five) {  // the same memory as [batch, seq, 3 heads, dim]
      heads_q = heads_kv = shape[3];
      shape = {shape[0], shape[1], 3 * shape[3], shape[4]};
    }
    const int64_t total = shape[shape.size() - 2];
    const auto& given = options_.qkv_heads;
    if (!given.empty()) {
      heads_q = given[0];
      heads_kv = given.back();
    } else if (!five) {
      heads_q = heads_kv = total / 3;
    }
    if (heads_q < 1 || heads_kv < 1 || heads_q > total || heads_kv > total ||
        heads_q + 2 * heads_kv != total) {
      throw BadInput(fmt::format(
          "--qkv has shape {}, {} heads in all; --qkv-heads {},{} needs HQ + 2 HKV of them", shown,
          total, heads_q, heads_kv));
    }
    input_.main_axes = main_axes(Layout::kBshd, shape.size());
    const qkv_tensor all = tensor_of(array, input_.main_axes);
    const auto part = [&](int64_t first, int64_t heads) {
      qkv_tensor t = all;
      t.data = array->bytes.data() + first * all.stride[1] * host::type_size(all.type);
      t.shape[1] = heads;
      return t;
    };
    input_.desc.q = part(0, heads_q);
    input_.desc.k = part(heads_q, heads_kv);
    input_.desc.v = part(heads_q + heads_kv, heads_kv);
    input_.files.push_back(
        fmt::format("{:<6} {} {} {}", "qkv", options_.qkv, host::type_name(all.type), shown));
  }

  io::Array* keep(io::Array array) {
    return input_.storage.emplace_back(std::make_unique<io::Array>(std::move(array))).get();
  }

  void note(const std::string& name, const std::string& file, const io::Array& array,
            const std::string& axes) {
    input_.files.push_back(fmt::format("{:<6} {} {} {} = {}", name.substr(2), file,
                                       io::dtype_info(array.type).name, axes,
                                       io::shape_text(array.shape)));
  }

  const ProblemOptions& options_;
  ProblemInput input_;
};

}  // namespace

ProblemInput load_problem(const ProblemOptions& options) { return Loader(options).load(); }

void load_inputs(const ProblemOptions& options, qkv_type main, Storage* storage,
                 qkv_attention_desc* desc) {
  for (const TensorOption& option : tensor_options()) {
    const std::string& file = options.files[option.id];
    if (file.empty()) continue;
    const host::attention::TensorRow& row = host::attention::kTensors[option.id];
    io::Array array = converted(option.name, row.element, main, read_tensor(option.name, file));
    const Axes& axes = axes_of(option, array);
    storage->push_back(std::make_unique<io::Array>(std::move(array)));
    desc->*row.given = tensor_of(storage->back().get(), axes);
  }
}

io::Array read_float(const std::string& name, const std::string& file, qkv_type to) {
  io::Array array = read_tensor(name, file);
  if (to != QKV_TYPE_NONE) return as_float(name, std::move(array), to);
  const qkv_type type = qkv_type_of(array.type);
  if (type != QKV_TYPE_F32 && type != QKV_TYPE_F16 && type != QKV_TYPE_BF16) {
    throw BadInput(fmt::format("{} holds {}; allowed: f32, f16, bf16{}", name,
                               io::dtype_info(array.type).name,
                               array.type == io::DType::f64 ? "; --type f32 converts" : ""));
  }
  return array;
}

Axes main_axes(Layout layout, size_t rank) {
  if (rank == 2) return {2, 3};
  Axes axes = layout == Layout::kBshd ? Axes{0, 2, 1, 3} : Axes{0, 1, 2, 3};
  if (rank == 3) axes.erase(axes.begin());
  return axes;
}

Axes row_axes(size_t rank) {
  Axes rows;
  for (const int axis : {0, 1, 2})
    if (static_cast<size_t>(axis) + rank >= 4) rows.push_back(axis);
  return rows;
}

qkv_tensor tensor_of(io::Array* array, const Axes& axes) {
  qkv_tensor t{};
  t.data = array->bytes.data();
  t.type = qkv_type_of(array->type);
  std::fill(std::begin(t.shape), std::end(t.shape), 1);
  int64_t stride = 1;
  for (size_t i = axes.size(); i-- > 0;) {
    t.shape[axes[i]] = array->shape[i];
    t.stride[axes[i]] = stride;
    // An empty tensor's strides are never used; 1 keeps the product in range.
    stride *= array->shape[i] > 0 ? array->shape[i] : 1;
  }
  return t;
}

io::Array make_array(const Axes& axes, qkv_tensor* tensor) {
  io::Array array{dtype_of(tensor->type), {}, {}};
  for (const int axis : axes) array.shape.push_back(tensor->shape[axis]);
  const auto bytes = io::byte_count(array.shape, array.type);
  if (!bytes) {
    throw BadInput(fmt::format("an output of shape {} is too large", io::shape_text(array.shape)));
  }
  array.bytes.resize(static_cast<size_t>(*bytes));
  tensor->data = array.bytes.data();
  return array;
}

qkv_tensor shape_only(qkv_type type, int64_t b, int64_t h, int64_t s, int64_t d, const Axes& axes) {
  qkv_tensor t{};
  t.type = type;
  const int64_t shape[4] = {b, h, s, d};
  for (int axis = 0; axis < 4; ++axis) t.shape[axis] = shape[axis];
  int64_t stride = 1;
  for (size_t i = axes.size(); i-- > 0;) {
    t.stride[axes[i]] = stride;
    const int64_t extent = t.shape[axes[i]] > 0 ? t.shape[axes[i]] : 1;
    if (__builtin_mul_overflow(stride, extent, &stride)) {
      throw BadInput(fmt::format("a tensor of shape [{}, {}, {}, {}] is too large", b, h, s, d));
    }
  }
  return t;
}

void set_output_shape(const Axes& axes, qkv_attention_desc* desc) {
  desc->o = shape_only(desc->q.type, desc->q.shape[0], desc->q.shape[1], desc->q.shape[2],
                       desc->v.shape[3], axes);
}

void apply_settings(const ProblemOptions& options, qkv_attention_desc* desc) {
  desc->device = QKV_DEVICE_CPU;
  desc->threads = options.threads;
  desc->score = options.score;
  desc->selection = options.selection;
  desc->top_k = options.top_k;
  desc->weights_mode = options.weights_mode;
  desc->scale_set = options.scale.has_value() ? 1 : 0;
  desc->scale = static_cast<float>(options.scale.value_or(0));
  desc->softcap = static_cast<float>(options.softcap);
  desc->causal = options.causal ? 1 : 0;
  if (options.offset && options.alignment.value_or(QKV_ALIGN_EXPLICIT) != QKV_ALIGN_EXPLICIT) {
    throw BadInput("--offset is given, but --align is not explicit");
  }
  if (options.alignment == QKV_ALIGN_EXPLICIT && !options.offset) {
    throw BadInput("--align is explicit, but --offset is missing");
  }
  desc->alignment =
      options.offset ? QKV_ALIGN_EXPLICIT : options.alignment.value_or(QKV_ALIGN_BOTTOM_RIGHT);
  desc->offset = options.offset.value_or(0);
  if (!options.window.empty()) {
    desc->window_left = options.window[0];
    desc->window_right = options.window[1];
  }
}

}  // namespace qkv::cli
