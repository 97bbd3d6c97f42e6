#include "host/verify/layer_parts.h"

#include <cmath>
#include <stdexcept>
#include <utility>

namespace qkv::verify {
namespace {

bool has(std::string_view letters, char letter) {
  return letters.find(letter) != std::string_view::npos;
}

}  // namespace

Tensor BuiltLayer::add(const std::string& name, int64_t b, int64_t s, int64_t width, Use use) {
  const Shape shape{b, 1, s, width};
  const Tensor tensor = memory_.add(name, row_.attention.type, shape,
                                    strides_of(shape, kAsBshd, {2 * row_.gap, 0, row_.gap}), use);
  if (use == Use::kInput) tensor.draw([&] { return random_.normal(); });
  return tensor;
}

// Products of such weights with numbers around 0 of variance 1 are such numbers.
Tensor BuiltLayer::add_weight(const std::string& name, char letter, int64_t out, int64_t in) {
  const Shape shape{1, 1, out, in};
  Shape stride{0, 0, in + row_.gap, 1};
  if (has(row_.in_out, letter)) stride = {0, 0, 1, out + row_.gap};
  const Tensor tensor = memory_.add(name, row_.attention.type, shape, stride, Use::kInput);
  const double spread = 1 / std::sqrt(static_cast<double>(in));
  tensor.draw([&] { return spread * random_.normal(); });
  return tensor;
}

Tensor BuiltLayer::add_bias(const std::string& name, char letter, int64_t out) {
  if (!has(row_.biases, letter)) return {};
  const Tensor tensor =
      memory_.add(name, row_.attention.type, {1, 1, 1, out}, {0, 0, 0, 1}, Use::kInput);
  tensor.draw([&] { return 0.5 * random_.normal(); });
  return tensor;
}

BuiltLayer::BuiltLayer(const LayerCase& row, const BuildOptions& options)
    : row_(row),
      middle_(row.attention, options),
      memory_(options),
      random_(options.seed * 1000003 + 77) {
  const Case& c = row_.attention;
  const bool self = row_.e_kv == 0;
  if (self && c.s_q != c.s_kv) throw std::invalid_argument("self-attention " + c.name);
  const int64_t e_kv = self ? row_.e_q : row_.e_kv;
  x_q = add("x_q", c.batch, c.s_q, row_.e_q, Use::kInput);
  if (!self) x_kv = add("x_kv", c.batch, c.s_kv, e_kv, Use::kInput);
  if (row_.packed) {
    const int64_t out = (c.heads_q + 2 * c.heads_kv) * c.d_qk;
    w_qkv = add_weight("w_qkv", 'q', out, row_.e_q);
    bias_qkv = add_bias("bias_qkv", 'q', out);
  } else {
    w_q = add_weight("w_q", 'q', c.heads_q * c.d_qk, row_.e_q);
    w_k = add_weight("w_k", 'k', c.heads_kv * c.d_qk, e_kv);
    w_v = add_weight("w_v", 'v', c.heads_kv * c.d_v, e_kv);
    bias_q = add_bias("bias_q", 'q', c.heads_q * c.d_qk);
    bias_k = add_bias("bias_k", 'k', c.heads_kv * c.d_qk);
    bias_v = add_bias("bias_v", 'v', c.heads_kv * c.d_v);
  }
  if (row_.e_y > 0) {
    w_o = add_weight("w_o", 'o', row_.e_y, c.heads_q * c.d_v);
    bias_o = add_bias("bias_o", 'o', row_.e_y);
    y = add("y", c.batch, c.s_q, row_.e_y, Use::kOutput);
  } else {
    const Shape shape{c.batch, c.heads_q, c.s_q, c.d_v};
    y = memory_.add("y", c.type, shape, strides_of(shape, kAsBshd, {row_.gap, row_.gap, 0}),
                    Use::kOutput);
  }
  // Hidden states past their sequence's length reach nothing.
  if (!self && !c.lengths.empty() && !c.scores_all_keys()) {
    x_kv.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
      if (i >= c.length(b)) x_kv.spoil(b, h, i, d, options.fill);
    });
  }
}

void BuiltLayer::upload() {
  middle_.upload();
  memory_.upload();
}

void BuiltLayer::download() {
  middle_.download();
  memory_.download();
}

qkv_layer_desc BuiltLayer::desc() {
  attention_ = middle_.desc();
  attention_.q = attention_.k = attention_.v = attention_.o = {};
  attention_.device = QKV_DEVICE_AUTO;
  attention_.device_index = 0;
  qkv_layer_desc d;
  if (qkv_layer_desc_init(&d, sizeof d) != QKV_SUCCESS) throw std::runtime_error("init");
  d.device = place().device();
  d.device_index = place().index();
  d.heads_q = static_cast<int32_t>(row_.attention.heads_q);
  d.heads_kv = static_cast<int32_t>(row_.attention.heads_kv);
  d.x_q = x_q.on_place(), d.x_kv = x_kv.on_place();
  d.w_q = w_q.on_place(), d.w_k = w_k.on_place(), d.w_v = w_v.on_place();
  d.bias_q = bias_q.on_place(), d.bias_k = bias_k.on_place(), d.bias_v = bias_v.on_place();
  d.w_qkv = w_qkv.on_place(), d.bias_qkv = bias_qkv.on_place();
  d.w_o = w_o.on_place(), d.bias_o = bias_o.on_place();
  d.y = y.on_place();
  d.attention = &attention_;
  return d;
}

qkv_status BuiltLayer::run(Api api) {
  upload();
  qkv_layer_desc d = desc();
  qkv_status status = QKV_SUCCESS;
  if (api == Api::kOneShot) {
    d.flags |= QKV_FLAG_ALLOW_ALLOCATION;
    status = qkv_layer(&d, nullptr);
  } else {
    qkv_plan* plan = nullptr;
    size_t bytes = 0;
    status = qkv_layer_plan_create(&d, &plan);
    if (status == QKV_SUCCESS) status = qkv_plan_workspace_size(plan, &bytes);
    if (status == QKV_SUCCESS && bytes > 0) {
      d.workspace = memory_.add_workspace(bytes);
      d.workspace_size = bytes;
    }
    if (status == QKV_SUCCESS) status = qkv_layer_plan_run(plan, &d, nullptr);
    qkv_plan_destroy(plan);
  }
  download();
  return status;
}

qkv_status BuiltLayer::run_with(const qkv_attention_desc* attention) {
  upload();
  qkv_layer_desc d = desc();
  d.flags |= QKV_FLAG_ALLOW_ALLOCATION;
  d.attention = attention;
  const qkv_status status = qkv_layer(&d, nullptr);
  download();
  return status;
}

qkv_status BuiltLayer::run_steps() {
  const Case& c = row_.attention;
  const auto buffer = [&](const char* name, int64_t heads, int64_t s, int64_t dim) {
    const Shape shape{c.batch, heads, s, dim};
    return memory_.add(name, c.type, shape, strides_of(shape, kAsBshd), Use::kOutput);
  };
  const auto part = [&](Tensor whole, int64_t first, int64_t heads) {
    whole.base += static_cast<size_t>(first * c.d_qk * host::type_size(c.type));
    whole.view.shape[1] = heads;
    return whole;
  };
  const auto project = [&](const Tensor& x, const Tensor& weight, const Tensor& bias,
                           const qkv_tensor& to) {
    qkv_project_desc d;
    qkv_status status = qkv_project_desc_init(&d, sizeof d);
    d.device = place().device(), d.device_index = place().index();
    d.flags |= QKV_FLAG_ALLOW_ALLOCATION;
    d.x = x.on_place(), d.weight = weight.on_place(), d.bias = bias.on_place(), d.y = to;
    return status == QKV_SUCCESS ? qkv_project(&d, nullptr) : status;
  };
  const Tensor& x_of_kv = x_kv.present() ? x_kv : x_q;
  Tensor q, k, v, qkv;
  if (row_.packed) {
    qkv = buffer("QKV", c.heads_q + 2 * c.heads_kv, c.s_q, c.d_qk);
    q = part(qkv, 0, c.heads_q);
    k = part(qkv, c.heads_q, c.heads_kv);
    v = part(qkv, c.heads_q + c.heads_kv, c.heads_kv);
  } else {
    q = buffer("Q", c.heads_q, c.s_q, c.d_qk);
    k = buffer("K", c.heads_kv, c.s_kv, c.d_qk);
    v = buffer("V", c.heads_kv, c.s_kv, c.d_v);
  }
  const Tensor o = w_o.present() ? buffer("O", c.heads_q, c.s_q, c.d_v) : y;
  upload();
  if (row_.packed) {
    if (const qkv_status s = project(x_q, w_qkv, bias_qkv, qkv.on_place()); s != QKV_SUCCESS)
      return s;
  } else {
    if (const qkv_status s = project(x_q, w_q, bias_q, q.on_place()); s != QKV_SUCCESS) return s;
    if (const qkv_status s = project(x_of_kv, w_k, bias_k, k.on_place()); s != QKV_SUCCESS)
      return s;
    if (const qkv_status s = project(x_of_kv, w_v, bias_v, v.on_place()); s != QKV_SUCCESS)
      return s;
  }
  qkv_attention_desc d = middle_.desc();
  d.q = q.on_place(), d.k = k.on_place(), d.v = v.on_place(), d.o = o.on_place();
  d.flags |= QKV_FLAG_ALLOW_ALLOCATION;
  qkv_status status = qkv_attention(&d, nullptr);
  if (status == QKV_SUCCESS && w_o.present()) {
    Tensor rows = o;
    rows.view.shape[1] = 1, rows.view.shape[3] = c.heads_q * c.d_v;
    status = project(rows, w_o, bias_o, y.on_place());
  }
  download();
  return status;
}

namespace {

class Rows {
 public:
  // In each of the types: change(a small case).
  template <class Change>
  void add(const std::string& name, Change&& change) {
    for (const qkv_type type : {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16}) {
      LayerCase row;
      row.attention.sizes(21, 21).heads(2, 2).dims(16, 16);
      change(row, row.attention);
      row.attention.type = type;
      row.attention.name = name + "_" + type_label(type);
      if (row.attention.selection == QKV_SELECT_HARD) row.attention.index = QKV_TYPE_I32;
      rows.push_back(std::move(row));
    }
  }
  std::vector<LayerCase> rows;
};

}  // namespace

double LayerCase::work() const {
  const Case& c = attention;
  const auto times = [](int64_t a, int64_t b) {
    return static_cast<double>(a) * static_cast<double>(b);
  };
  const int64_t queries = c.batch * c.s_q, keys = c.batch * c.s_kv;
  return times(queries * c.heads_q, c.d_qk * e_q + c.d_v * e_y) +
         times(keys * c.heads_kv, (c.d_qk + c.d_v) * (e_kv == 0 ? e_q : e_kv)) +
         times(queries * c.heads_q, c.s_kv * (c.d_qk + c.d_v));
}

std::vector<LayerCase> layer_cases() {
  Rows out;
  const auto cross = [](LayerCase& l, Case& a) { l.e_kv = 36, a.sizes(21, 33); };
  out.add("self", [](LayerCase&, Case&) {});
  out.add("self_biases", [](LayerCase& l, Case&) { l.biases = "qkvo"; });
  out.add("self_bias_of_k_alone", [](LayerCase& l, Case&) { l.biases = "k"; });
  out.add("self_in_out", [](LayerCase& l, Case&) { l.in_out = "qkvo"; });
  out.add("self_gaps", [](LayerCase& l, Case&) { l.gap = 8, l.in_out = "k", l.biases = "qo"; });
  out.add("self_odd_gaps", [](LayerCase& l, Case&) { l.gap = 3, l.in_out = "vo"; });
  out.add("self_without_o", [](LayerCase& l, Case&) { l.e_y = 0; });
  out.add("self_without_o_gaps", [](LayerCase& l, Case&) { l.e_y = 0, l.gap = 8; });
  out.add("self_gqa", [](LayerCase& l, Case& a) { a.heads(6, 2), l.biases = "qkvo"; });
  out.add("self_two_dims", [](LayerCase&, Case& a) { a.dims(24, 8); });
  out.add("self_odd", [](LayerCase& l, Case& a) {
    a.dims(7, 5).heads(3, 1), l.e_q = 13, l.e_y = 11, l.biases = "qkvo";
  });
  out.add("self_causal", [](LayerCase&, Case& a) { a.causal = true; });
  out.add("self_window", [](LayerCase&, Case& a) { a.window(3, 2); });
  out.add("self_lengths", [](LayerCase&, Case& a) { a.lengths = {21, 9}; });
  out.add("self_one", [](LayerCase& l, Case& a) {
    a.one_head().sizes(1, 1).dims(1, 1), l.e_q = 1, l.e_y = 1, l.biases = "qkvo";
  });
  out.add("self_wide", [](LayerCase& l, Case& a) {
    a.sizes(70, 70).heads(4, 4).dims(64, 64), l.e_q = 256, l.e_y = 256, l.biases = "qkvo";
  });
  out.add("packed", [](LayerCase& l, Case&) { l.packed = true; });
  out.add("packed_gqa", [](LayerCase& l, Case& a) {
    l.packed = true, a.heads(4, 2), l.biases = "qo", a.causal = true;
  });
  out.add("packed_odd", [](LayerCase& l, Case& a) {
    l.packed = true, a.heads(2, 1).dims(5, 5), l.biases = "q", l.gap = 1;
  });
  out.add("packed_in_out", [](LayerCase& l, Case&) { l.packed = true, l.in_out = "q"; });
  out.add("packed_wide", [](LayerCase& l, Case& a) {
    l.packed = true, a.sizes(66, 66).heads(4, 2).dims(64, 64), l.e_q = 256, l.e_y = 256;
    l.biases = "qo";
  });
  out.add("cross", cross);
  out.add("cross_lengths", [&](LayerCase& l, Case& a) { cross(l, a), a.lengths = {17, 0}; });
  out.add("cross_gqa_mask", [&](LayerCase& l, Case& a) {
    cross(l, a), a.heads(4, 2), l.biases = "kv";
    a.inputs = {{kMask, kQueries | kKeys}, {kBias, kAllAxes}};
  });
  out.add("cross_alibi_softcap", [&](LayerCase& l, Case& a) {
    cross(l, a), a.inputs = {{kAlibi, kHeads}}, a.softcap = 5, a.scale = 0.5F;
  });
  out.add("cross_without_o", [&](LayerCase& l, Case& a) { cross(l, a), l.e_y = 0; });
  out.add("cross_weights", [&](LayerCase& l, Case& a) {
    cross(l, a), a.weights = QKV_TYPE_F32, a.lengths = {17, 33};
  });
  out.add("cross_all_scores", [&](LayerCase& l, Case& a) {
    cross(l, a), a.weights = QKV_TYPE_F32, a.weights_mode = QKV_WEIGHTS_SCORES;
    a.lengths = {17, 33};
  });
  out.add("cross_no_keys", [&](LayerCase& l, Case& a) { cross(l, a), a.sizes(9, 0); });
  out.add("cross_one_query", [&](LayerCase& l, Case& a) {
    cross(l, a), a.sizes(1, 70).heads(8, 2).dims(64, 64), a.weights = QKV_TYPE_NONE;
  });
  out.add("additive", [&](LayerCase& l, Case& a) {
    cross(l, a), a.score = QKV_SCORE_ADDITIVE, l.biases = "q";
  });
  out.add("additive_hard", [&](LayerCase& l, Case& a) {
    cross(l, a), a.score = QKV_SCORE_ADDITIVE, a.selection = QKV_SELECT_HARD;
  });
  out.add("hard", [](LayerCase&, Case& a) { a.selection = QKV_SELECT_HARD, a.causal = true; });
  out.add("hard_without_o", [](LayerCase& l, Case& a) {
    a.selection = QKV_SELECT_HARD, l.e_y = 0, l.packed = true, a.weights = QKV_TYPE_F32;
  });
  out.add("top_k", [](LayerCase&, Case& a) { a.select_top(4).causal = true; });
  out.add("top_k_without_o", [](LayerCase& l, Case& a) {
    a.select_top(30), l.e_y = 0, l.packed = true, a.weights = QKV_TYPE_F32;
  });
  out.add("empty_batch", [](LayerCase&, Case& a) { a.batch = 0; });
  out.add("empty_queries", [&](LayerCase& l, Case& a) { cross(l, a), a.sizes(0, 5); });
  return std::move(out.rows);
}

std::vector<std::byte> BuiltLayer::output_bits() const {
  std::vector<std::byte> bits = y.bits();
  for (const TensorId id : {kLse, kIndex, kWeights, kTopScores}) {
    const std::vector<std::byte> own = middle_[id].bits();
    bits.insert(bits.end(), own.begin(), own.end());
  }
  return bits;
}

}  // namespace qkv::verify
