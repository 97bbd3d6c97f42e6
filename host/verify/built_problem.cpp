#include "host/verify/built_problem.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

#include "host/core/device.h"

namespace qkv::verify {
namespace {

constexpr size_t kGuard = 4096;

using Shape = std::array<int64_t, 4>;

std::byte guard_byte(size_t at) { return static_cast<std::byte>(at * 37 + 11); }

size_t size_of(qkv_type type) { return static_cast<size_t>(host::type_size(type)); }

// The five fills, in every type.
uint64_t fill_bits(qkv_type type, Fill fill) {
  constexpr uint64_t kF32[] = {0, 0x7fc00000, 0x7f800000, 0xff800000, 0x7f7fffff};
  constexpr uint64_t kF16[] = {0, 0x7e00, 0x7c00, 0xfc00, 0x7bff};
  constexpr uint64_t kBf16[] = {0, 0x7fc0, 0x7f80, 0xff80, 0x7f7f};
  constexpr uint64_t kInteger[] = {0, ~uint64_t{0}, 0x7f7f7f7f7f7f7f7f, 0x8080808080808080, 1};
  const auto at = static_cast<size_t>(fill);
  switch (type) {
    case QKV_TYPE_F32:
      return kF32[at];
    case QKV_TYPE_F16:
      return kF16[at];
    case QKV_TYPE_BF16:
      return kBf16[at];
    default:
      return kInteger[at];
  }
}

void fill_element(qkv_type type, Fill fill, std::byte* to) {
  const uint64_t bits = fill_bits(type, fill);
  std::memcpy(to, &bits, size_of(type));  // little-endian, as all machines with CUDA are
}

// Strides of a tensor with its own memory, for a layout.
Shape strides(Layout layout, const Shape& shape) {
  std::array<size_t, 3> order{0, 2, 1};  // axes but dim, outermost first: BSHD
  Shape pad{};                           // elements after an index of the axis
  switch (layout) {
    case Layout::kBhsd:
      order = {0, 1, 2};
      break;
    case Layout::kSbhd:
      order = {2, 0, 1};
      break;
    case Layout::kPadded:
      order = {0, 1, 2};
      pad = {64, 40, 8, 0};
      break;
    case Layout::kOddPadded:
      pad = {3, 1, 5, 0};
      break;
    default:
      break;
  }
  Shape stride{};
  int64_t extent = shape[3];
  stride[3] = 1;
  for (size_t n = 3; n-- > 0;) {
    const size_t axis = order[n];
    stride[axis] = std::max<int64_t>(extent, 1) + pad[axis];
    extent = std::max<int64_t>(shape[axis], 1) * stride[axis];
  }
  return stride;
}

Shape compact(const Shape& shape) { return strides(Layout::kBhsd, shape); }

// Elements from the first to the last, 0 if there is none.
size_t span_of(const Shape& shape, const Shape& stride) {
  int64_t last = 0;
  for (size_t axis = 0; axis < 4; ++axis) {
    if (shape[axis] == 0) return 0;
    last += (shape[axis] - 1) * stride[axis];
  }
  return static_cast<size_t>(last) + 1;
}

const host::CudaRuntime& no_cuda() {
  static const host::CudaRuntime table{.device_count =
                                           [](int32_t* count) {
                                             *count = 0;
                                             return host::Status();
                                           },
                                       .no_device = [] { return std::string(); },
                                       .device_info = nullptr,
                                       .pointer_info = nullptr,
                                       .pending_error = nullptr,
                                       .set_device = nullptr,
                                       .allocate = nullptr,
                                       .release = nullptr,
                                       .load = nullptr,
                                       .queue = nullptr};
  return table;
}

}  // namespace

std::byte* BuiltProblem::Tensor::at(int64_t b, int64_t h, int64_t i, int64_t d) const {
  const int64_t offset =
      b * view.stride[0] + h * view.stride[1] + i * view.stride[2] + d * view.stride[3];
  return slab->image.data() + base + static_cast<size_t>(offset) * size_of(view.type);
}

std::vector<double> BuiltProblem::Tensor::dense() const {
  std::vector<double> out;
  if (!present()) return out;
  for (int64_t b = 0; b < view.shape[0]; ++b)
    for (int64_t h = 0; h < view.shape[1]; ++h)
      for (int64_t i = 0; i < view.shape[2]; ++i)
        for (int64_t d = 0; d < view.shape[3]; ++d) out.push_back(get(b, h, i, d));
  return out;
}

BuiltProblem::BuiltProblem(const Case& row, const BuildOptions& options)
    : row_(row), options_(options) {
  add_qkv();
  add_outputs();
  add_options();
  randomize();
  poison_hidden_keys();
}

BuiltProblem::Slab* BuiltProblem::add_slab(const char* name, qkv_type type, size_t elements,
                                           Use use) {
  const bool roomy = options_.fit == Memory::Fit::kRoomy;
  const size_t guard = roomy ? kGuard : 0, bytes = elements * size_of(type);
  std::vector<std::byte> image(bytes + 2 * guard);
  for (size_t at = 0; at < image.size(); ++at) image[at] = guard_byte(at);
  for (size_t at = 0; at < bytes; at += size_of(type)) {
    if (use == Use::kInput) {
      fill_element(type, options_.fill, image.data() + guard + at);
    } else {
      std::memset(image.data() + guard + at, options_.poison, size_of(type));
    }
  }
  const size_t whole = image.size();
  slabs_.push_back({std::move(image), {}, Memory(whole, options_.fit), name, use == Use::kOutput});
  return &slabs_.back();
}

BuiltProblem::Tensor BuiltProblem::add(const char* name, qkv_type type, Shape shape, Shape stride,
                                       Use use, int64_t misalign) {
  Tensor tensor;
  const size_t elements = span_of(shape, stride);
  const auto shift = options_.fit == Memory::Fit::kRoomy ? static_cast<size_t>(misalign) : 0;
  tensor.slab = add_slab(name, type, elements == 0 ? 0 : elements + shift, use);
  tensor.base = (options_.fit == Memory::Fit::kRoomy ? kGuard : 0) +
                (elements == 0 ? 0 : shift * size_of(type));
  tensor.view.type = type;
  for (size_t axis = 0; axis < 4; ++axis) {
    tensor.view.shape[axis] = shape[axis];
    tensor.view.stride[axis] = stride[axis];
  }
  return tensor;
}

void BuiltProblem::add_qkv() {
  const Case& c = row_;
  const Shape q_shape{c.batch, c.heads_q, c.s_q, c.d_qk},
      k_shape{c.batch, c.heads_kv, c.s_kv, c.d_qk}, v_shape{c.batch, c.heads_kv, c.s_kv, c.d_v},
      o_shape{c.batch, c.heads_q, c.s_q, c.d_v};
  const auto input = [&](const char* name, const Shape& shape, Shape stride) {
    return add(name, c.type, shape, stride, Use::kInput, c.misalign);
  };
  o = add("o", c.type, o_shape, strides(c.layout, o_shape), Use::kOutput, c.misalign);
  if (c.layout == Layout::kPacked) {
    if (c.s_q != c.s_kv || c.d_qk != c.d_v) throw std::invalid_argument("packed " + c.name);
    const int64_t width = (c.heads_q + 2 * c.heads_kv) * c.d_qk;
    const Shape stride{c.s_q * width, c.d_qk, width, 1};
    q = input("qkv", {c.batch, c.heads_q + 2 * c.heads_kv, c.s_q, c.d_qk}, stride);
    k = v = q;
    q.view.shape[1] = c.heads_q;
    k.view.shape[1] = v.view.shape[1] = c.heads_kv;
    k.base += static_cast<size_t>(c.heads_q * c.d_qk) * size_of(c.type);
    v.base = k.base + static_cast<size_t>(c.heads_kv * c.d_qk) * size_of(c.type);
    return;
  }
  Shape k_stride = strides(c.layout, k_shape), v_stride = strides(c.layout, v_shape);
  if (c.layout == Layout::kSharedKv) {
    for (Shape* stride : {&k_stride, &v_stride}) (*stride)[0] = (*stride)[1] = 0;
    k_stride[2] = c.d_qk;
    v_stride[2] = c.d_v;
  }
  if (c.layout == Layout::kRepeatedKv) k_stride[2] = v_stride[2] = 0;
  q = input("q", q_shape, strides(c.layout, q_shape));
  k = input("k", k_shape, k_stride);
  v = input("v", v_shape, v_stride);
}

void BuiltProblem::add_outputs() {
  const Case& c = row_;
  const Shape per_row{c.batch, c.heads_q, c.s_q, 1}, pair{c.batch, c.heads_q, c.s_q, c.s_kv};
  if (c.lse) lse = add("lse", QKV_TYPE_F32, per_row, strides(c.layout, per_row), Use::kOutput);
  if (c.index != QKV_TYPE_NONE) {
    index = add("index", c.index, per_row, strides(c.layout, per_row), Use::kOutput);
  }
  if (c.weights != QKV_TYPE_NONE) {
    weights = add("weights", c.weights, pair, strides(c.layout, pair), Use::kOutput);
  }
}

void BuiltProblem::add_options() {
  const Case& c = row_;
  const auto input = [&](const char* name, qkv_type type, Shape shape, Shape stride) {
    return add(name, type, shape, stride, Use::kInput);
  };
  const auto broadcast = [&](const char* name, qkv_type type, int axes) {
    const Shape full{c.batch, c.heads_q, c.s_q, c.s_kv};
    Shape own = full;
    for (size_t axis = 0; axis < 4; ++axis) {
      if ((axes >> axis & 1) == 0) own[axis] = 1;
    }
    Shape stride = strides(c.layout, own);
    if (!c.broadcast_by_stride) return input(name, type, own, stride);
    for (size_t axis = 0; axis < 4; ++axis) {
      if ((axes >> axis & 1) == 0) stride[axis] = 0;
    }
    return input(name, type, full, stride);
  };
  if (c.mask != kAbsent) mask = broadcast("mask", QKV_TYPE_BOOL, c.mask);
  if (c.bias != kAbsent) bias = broadcast("bias", c.bias_f32 ? QKV_TYPE_F32 : c.type, c.bias);
  if (c.alibi) {
    const Shape shape{1, c.heads_q, 1, 1};
    alibi_slopes = input("alibi_slopes", QKV_TYPE_F32, shape, compact(shape));
  }
  if (c.score == QKV_SCORE_ADDITIVE) {
    const Shape shape{1, c.heads_q, 1, c.d_qk};
    additive_weight = input("additive_weight", QKV_TYPE_F32, shape, compact(shape));
  }
  if (!c.lengths.empty()) {
    const Shape shape{c.batch, 1, 1, 1};
    const int64_t gap = c.layout == Layout::kPadded ? 3 : 1;
    kv_lengths = input("kv_lengths", QKV_TYPE_I32, shape, {gap, 1, 1, 1});
  }
}

void BuiltProblem::randomize() {
  uint64_t stream = 0;
  const auto draw = [&](const Tensor& tensor, auto&& number) {
    Random random(options_.seed * 1000003 + ++stream);
    if (!tensor.present()) return;
    tensor.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      tensor.set(b, h, i, d, number(random));
    });
  };
  const auto normal = [](Random& random) { return random.normal(); };
  draw(q, normal);
  draw(k, normal);
  draw(v, normal);
  draw(bias, normal);
  draw(mask, [](Random& random) {  // every byte but 0 is true
    return random.uniform() < 0.3 ? 0.0 : static_cast<double>(random.integer(1, 255));
  });
  draw(alibi_slopes, [](Random& random) { return 0.5 * random.uniform(); });
  const double spread = 2 / std::sqrt(static_cast<double>(row_.d_qk));
  draw(additive_weight, [&](Random& random) { return spread * random.normal(); });
  if (kv_lengths.present()) {
    for (int64_t b = 0; b < row_.batch; ++b) {
      kv_lengths.set(b, 0, 0, 0, static_cast<double>(row_.length(b)));
    }
  }
}

void BuiltProblem::poison_hidden_keys() {
  if (!kv_lengths.present() || row_.batch == 0) return;
  // The first key of a batch that nobody uses; of a tensor that batches share, that none uses.
  const auto unused_from = [&](const Tensor& tensor, int64_t b) {
    if (tensor.view.shape[0] == row_.batch && tensor.view.stride[0] != 0) return row_.length(b);
    int64_t longest = 0;
    for (int64_t other = 0; other < row_.batch; ++other)
      longest = std::max(longest, row_.length(other));
    return longest;
  };
  for (const Tensor* tensor : {&k, &v}) {
    if (tensor->view.stride[2] == 0) continue;
    tensor->each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      if (i >= unused_from(*tensor, b))
        fill_element(tensor->view.type, options_.fill, tensor->at(b, h, i, d));
    });
  }
  for (const Tensor* tensor : {&mask, &bias}) {
    if (!tensor->present() || tensor->view.shape[3] != row_.s_kv || tensor->view.stride[3] == 0)
      continue;
    tensor->each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      if (d >= unused_from(*tensor, b))
        fill_element(tensor->view.type, options_.fill, tensor->at(b, h, i, d));
    });
  }
}

qkv_attention_desc BuiltProblem::desc(bool images) const {
  qkv_attention_desc desc;
  if (qkv_attention_desc_init(&desc, sizeof desc) != QKV_SUCCESS) throw std::runtime_error("init");
  const auto view = [&](const Tensor& tensor) {
    qkv_tensor out = tensor.view;
    if (!tensor.present()) return out;
    std::byte* first =
        images ? tensor.slab->image.data() : static_cast<std::byte*>(tensor.slab->memory.address());
    out.data = first + tensor.base;
    return out;
  };
  desc.device = images ? qkv_device{QKV_DEVICE_CPU} : place().device();
  desc.score = row_.score;
  desc.selection = row_.selection;
  desc.q = view(q);
  desc.k = view(k);
  desc.v = view(v);
  desc.o = view(o);
  desc.lse = view(lse);
  desc.index = view(index);
  desc.weights = view(weights);
  // A row may say what it has no use for; a descriptor may not.
  if (row_.weights != QKV_TYPE_NONE) desc.weights_mode = row_.weights_mode;
  desc.scale_set = row_.scale.has_value() ? 1 : 0;
  desc.scale = row_.scale.value_or(0.0f);
  desc.softcap = row_.softcap;
  desc.causal = row_.causal ? 1 : 0;
  desc.alignment = row_.alignment;
  if (row_.alignment == QKV_ALIGN_EXPLICIT) desc.offset = row_.offset;
  desc.window_left = row_.left;
  desc.window_right = row_.right;
  desc.mask = view(mask);
  desc.bias = view(bias);
  desc.alibi_slopes = view(alibi_slopes);
  desc.additive_weight = view(additive_weight);
  desc.kv_lengths = view(kv_lengths);
  desc.fixed_split_size = row_.fixed_split;
  return desc;
}

qkv_attention_desc BuiltProblem::desc() const { return desc(false); }

host::attention::Problem BuiltProblem::oracle_problem() const {
  const qkv_attention_desc on_images = desc(true);
  host::attention::Problem problem;
  const host::Status status =
      host::attention::validate(&on_images, host::Need::kAddresses, no_cuda(), &problem);
  if (!status.ok()) throw std::runtime_error(status.reason());
  return problem;
}

qkv_status BuiltProblem::run(Api api) {
  for (Slab& slab : slabs_) {
    slab.before = slab.image;
    place().upload(slab.memory.address(), slab.image.data(), slab.image.size());
  }
  qkv_attention_desc d = desc();
  qkv_status status = QKV_SUCCESS;
  if (api == Api::kOneShot) {
    d.flags |= QKV_FLAG_ALLOW_ALLOCATION;
    status = qkv_attention(&d, nullptr);
  } else {
    qkv_plan* plan = nullptr;
    size_t bytes = 0;
    status = qkv_plan_create(&d, &plan);
    if (status == QKV_SUCCESS) status = qkv_plan_workspace_size(plan, &bytes);
    if (status == QKV_SUCCESS && bytes > 0) {
      // Guards on both sides of exactly the bytes asked for.
      BuildOptions roomy = options_;
      roomy.fit = Memory::Fit::kRoomy;
      std::swap(roomy, options_);
      Slab* workspace = add_slab("workspace", QKV_TYPE_BOOL, bytes, Use::kOutput);
      std::swap(roomy, options_);
      workspace->before = workspace->image;
      place().upload(workspace->memory.address(), workspace->image.data(), workspace->image.size());
      d.workspace = static_cast<std::byte*>(workspace->memory.address()) + kGuard;
      d.workspace_size = bytes;
    }
    if (status == QKV_SUCCESS) status = qkv_plan_run(plan, &d, nullptr);
    qkv_plan_destroy(plan);
  }
  for (Slab& slab : slabs_) {
    place().download(slab.image.data(), slab.memory.address(), slab.image.size());
  }
  return status;
}

std::string BuiltProblem::damage() {
  std::ostringstream out;
  for (Slab& slab : slabs_) {
    std::vector<bool> writable(slab.image.size());
    if (slab.name == std::string_view("workspace")) {
      std::fill(writable.begin() + kGuard, writable.end() - kGuard, true);
    }
    for (const Tensor* tensor : outputs()) {
      if (tensor->slab != &slab) continue;
      tensor->each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        const auto at = tensor->at(b, h, i, d) - slab.image.data();
        std::fill_n(writable.begin() + at, size_of(tensor->view.type), true);
      });
    }
    for (size_t at = 0; at < slab.image.size(); ++at) {
      if (writable[at] || slab.image[at] == slab.before[at]) continue;
      out << "byte " << at << " of the " << slab.image.size() << " around " << slab.name
          << " was changed\n";
      break;
    }
  }
  return std::move(out).str();
}

std::vector<std::byte> BuiltProblem::output_bits() const {
  std::vector<std::byte> bits;
  for (const Tensor* tensor : outputs()) {
    tensor->each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      const std::byte* from = tensor->at(b, h, i, d);
      bits.insert(bits.end(), from, from + size_of(tensor->view.type));
    });
  }
  return bits;
}

std::vector<const BuiltProblem::Tensor*> BuiltProblem::outputs() const {
  std::vector<const Tensor*> present;
  for (const Tensor* tensor : {&o, &lse, &index, &weights}) {
    if (tensor->present()) present.push_back(tensor);
  }
  return present;
}

}  // namespace qkv::verify
