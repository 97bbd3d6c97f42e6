#include "host/verify/built_problem.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "host/core/device.h"

namespace qkv::verify {
namespace {

using host::attention::Extent;
using host::attention::extents_of;
using host::attention::kOutputs;
using host::attention::kRequired;
using host::attention::kTensors;
using host::attention::TensorRow;
using host::attention::Values;

size_t size_of(qkv_type type) { return static_cast<size_t>(host::type_size(type)); }

// Strides of a tensor with its own memory.
Shape strides(Layout layout, const Shape& shape) {
  switch (layout) {
    case Layout::kBhsd:
      return strides_of(shape, kAsBhsd);
    case Layout::kSbhd:
      return strides_of(shape, kAsSbhd);
    case Layout::kPadded:
      return strides_of(shape, kAsBhsd, {64, 40, 8});
    case Layout::kOddPadded:
      return strides_of(shape, kAsBshd, {3, 1, 5});
    default:
      return strides_of(shape, kAsBshd);
  }
}

bool is_required(TensorId id) { return std::ranges::find(kRequired, id) != std::end(kRequired); }

// The type of a tensor; NONE where the case has none.
qkv_type type_of(const Case& c, TensorId id) {
  const auto if_there = [](bool is_there, qkv_type type) {
    return is_there ? type : QKV_TYPE_NONE;
  };
  switch (id) {
    case kLse:
      return if_there(c.lse, QKV_TYPE_F32);
    case kIndex:
      return c.index;
    case kWeights:
      return c.weights;
    case kTopScores:
      return if_there(c.top_scores, QKV_TYPE_F32);
    case kAdditive:
      return if_there(c.score == QKV_SCORE_ADDITIVE, QKV_TYPE_F32);
    case kLengths:
      return if_there(!c.lengths.empty(), c.long_lengths ? QKV_TYPE_I64 : QKV_TYPE_I32);
    default:
      break;
  }
  const std::array<qkv_type, 2> types = types_of(kTensors[id].element, c.type);
  if (is_required(id)) return types[0];
  return if_there(c.has(id), types[c.inputs[id].f32 ? 0 : 1]);
}

// The axis of the keys, 4 if there is none.
size_t key_axis(const TensorRow& row) {
  const auto at = std::ranges::find(row.shape, Extent::kSkv);
  return static_cast<size_t>(at - row.shape.begin());
}

// Which random numbers a tensor gets. The first ones stand in the order of 0.1.0: a seed means the
// same inputs for good.
uint64_t stream_of(TensorId id) {
  constexpr TensorId kOrder[] = {kQ, kK, kV, kBias, kMask, kAlibi, kAdditive};
  const auto* at = std::ranges::find(kOrder, id);
  return static_cast<uint64_t>(at == std::end(kOrder) ? static_cast<std::ptrdiff_t>(id)
                                                      : at - kOrder) +
         1;
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

BuiltProblem::BuiltProblem(const Case& row, const BuildOptions& options)
    : row_(row), options_(options), memory_(options) {
  if (row.layout == Layout::kPacked) add_packed();
  for (size_t id = 0; id < kTensors.size(); ++id) {
    if (!tensors_[id].present()) add(static_cast<TensorId>(id));
  }
  if (!options.contents) return;
  for (size_t id = 0; id < kTensors.size(); ++id) {
    if (tensors_[id].present() && kTensors[id].use == Use::kInput) draw(static_cast<TensorId>(id));
  }
  poison_hidden_keys();
  if (row.in_place && (q.base != o.base || q.slab->image.size() != o.slab->image.size()))
    throw std::invalid_argument("in place " + row.name);
}

void BuiltProblem::add_packed() {
  const Case& c = row_;
  if (c.s_q != c.s_kv || c.d_qk != c.d_v) throw std::invalid_argument("packed " + c.name);
  const int64_t heads = c.heads_q + 2 * c.heads_kv;
  const Shape shape{c.batch, heads, c.s_q, c.d_qk};
  Tensor part = memory_.add("qkv", c.type, shape, strides_of(shape, kAsBshd), Use::kInput,
                            static_cast<size_t>(c.misalign) * size_of(c.type));
  for (const auto& [id, own] : {std::pair{kQ, c.heads_q}, {kK, c.heads_kv}, {kV, c.heads_kv}}) {
    part.view.shape[1] = own;
    tensors_[id] = part;
    part.base += static_cast<size_t>(own * c.d_qk) * size_of(c.type);
  }
  if (!c.in_place) return;
  Tensor own = memory_.add("o", c.type, shape, strides_of(shape, kAsBshd), Use::kInput,
                           static_cast<size_t>(c.misalign) * size_of(c.type));
  own.view.shape[1] = c.heads_q;
  own.allow_writes();
  tensors_[kO] = own;
}

void BuiltProblem::add(TensorId id) {
  const Case& c = row_;
  const TensorRow& row = kTensors[id];
  const qkv_type type = type_of(c, id);
  if (type == QKV_TYPE_NONE) return;
  const Shape full = shape_of(row, extents_of(c));
  const int own = (c.has(id) ? c.inputs[id].axes : kAllAxes) | ~row.broadcast;
  Shape shape = full;
  for (size_t axis = 0; axis < 4; ++axis) {
    if ((own >> axis & 1) == 0) shape[axis] = 1;
  }
  Shape stride = strides(c.layout, shape);
  if (c.broadcast_by_stride) {
    shape = full;
    for (size_t axis = 0; axis < 4; ++axis) {
      if ((own >> axis & 1) == 0) stride[axis] = 0;
    }
  }
  if (id == kK || id == kV) {
    if (c.layout == Layout::kSharedKv) stride = {0, 0, shape[3], 1};
    if (c.layout == Layout::kRepeatedKv) stride[2] = 0;
  }
  const int64_t shift = is_required(id) ? c.misalign * host::type_size(type) : 0;
  tensors_[id] = memory_.add(row.name, type, shape, stride, row.use, static_cast<size_t>(shift));
}

void BuiltProblem::draw(TensorId id) {
  const Tensor& tensor = tensors_[id];
  Random random(options_.seed * 1000003 + stream_of(id));
  // The terms of an additive score sum up as those of a scaled dot product do.
  const double spread = id == kAdditive ? 2 / std::sqrt(static_cast<double>(row_.d_qk)) : 1;
  switch (kTensors[id].values) {
    case Values::kNone:
      return;
    case Values::kNormal:
      return tensor.draw([&] { return spread * random.normal(); });
    case Values::kTruth:  // every byte but 0 is true
      return tensor.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        const double drawn =
            random.uniform() < 0.3 ? 0.0 : static_cast<double>(random.integer(1, 255));
        tensor.set(b, h, i, d, row_.in_hidden_square(b, h, i, d) ? 0.0 : drawn);
      });
    case Values::kSlopes:
      return tensor.draw([&] { return 0.5 * random.uniform(); });
    case Values::kLengths:
      return tensor.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        tensor.set(b, h, i, d, static_cast<double>(row_.length(b)));
      });
  }
}

void BuiltProblem::poison_hidden_keys() {
  if (!tensors_[kLengths].present() || row_.batch == 0) return;
  int64_t longest = 0;
  for (int64_t b = 0; b < row_.batch; ++b) longest = std::max(longest, row_.length(b));
  for (size_t id = 0; id < kTensors.size(); ++id) {
    const Tensor& tensor = tensors_[id];
    const size_t axis = key_axis(kTensors[id]);
    if (!tensor.present() || kTensors[id].use == Use::kOutput || axis == 4) continue;
    if (tensor.view.shape[axis] != row_.s_kv || tensor.view.stride[axis] == 0) continue;
    if (id == kK && row_.scores_all_keys()) continue;
    // The first key of a batch that nobody uses; of a tensor that batches share, that none uses.
    const bool by_batch = tensor.view.shape[0] == row_.batch && tensor.view.stride[0] != 0;
    tensor.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      const int64_t key = axis == 2 ? i : d;
      if (key >= (by_batch ? row_.length(b) : longest)) tensor.spoil(b, h, i, d, options_.fill);
    });
  }
}

qkv_attention_desc BuiltProblem::desc(bool images) const {
  qkv_attention_desc desc;
  if (qkv_attention_desc_init(&desc, sizeof desc) != QKV_SUCCESS) throw std::runtime_error("init");
  for (size_t id = 0; id < kTensors.size(); ++id)
    desc.*kTensors[id].given = images ? tensors_[id].on_image() : tensors_[id].on_place();
  if (row_.in_place && !images) desc.o = desc.q;
  desc.device = images ? qkv_device{QKV_DEVICE_CPU} : place().device();
  desc.device_index = images ? 0 : place().index();
  desc.score = row_.score;
  desc.selection = row_.selection;
  if (row_.selection == QKV_SELECT_TOP_K) desc.top_k = static_cast<int32_t>(row_.top_k);
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
  desc.fixed_split_size = row_.fixed_split;
  return desc;
}

host::attention::Problem BuiltProblem::oracle_problem() const {
  const qkv_attention_desc on_images = desc(true);
  host::attention::Problem problem;
  const host::Status status =
      host::attention::validate(&on_images, host::Need::kAddresses, no_cuda(), &problem);
  if (!status.ok()) throw std::runtime_error(status.reason());
  return problem;
}

// In place the run has found q and left o in q's memory. Its image becomes o's, of the same form;
// that of q is again what was uploaded.
void BuiltProblem::download() {
  memory_.download();
  if (!row_.in_place) return;
  Slab &from = *tensors_[kQ].slab, &to = *tensors_[kO].slab;
  to.image = std::exchange(from.image, from.before);
  to.before = from.before;
}

qkv_status BuiltProblem::run(Api api) {
  upload();
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
      d.workspace = memory_.add_workspace(bytes);
      d.workspace_size = bytes;
    }
    if (status == QKV_SUCCESS) status = qkv_plan_run(plan, &d, nullptr);
    qkv_plan_destroy(plan);
  }
  download();
  return status;
}

std::vector<std::byte> BuiltProblem::output_bits() const {
  std::vector<std::byte> bits;
  for (const TensorId id : kOutputs) {
    const std::vector<std::byte> own = tensors_[id].bits();
    bits.insert(bits.end(), own.begin(), own.end());
  }
  return bits;
}

}  // namespace qkv::verify
