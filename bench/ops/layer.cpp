// Layers as the benchmark measures them: qkv_layer, and the same layer unfused. A line has what
// attention's has, and what is the layer's own:
//   layer:cpu:f32:d64:causal:b1:hq8:hkv2:sq512:skv512:eq512:ey512:packed:biases=qo
#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "bench/baselines/cublas_layer.h"
#include "bench/check.h"
#include "bench/cuda_bench.h"
#include "bench/spec.h"
#include "bench/tensors.h"
#include "bench/unfused_problem.h"
#include "bench/workload.h"
#include "host/core/device.h"
#include "host/core/numeric.h"
#include "qkv/qkv.hpp"
#if QKV_BENCH_HAS_OPENBLAS
#include "bench/baselines/cpu_heads.h"
#include "bench/baselines/cpu_product.h"
#include "bench/baselines/cpu_unfused.h"
#endif

namespace qkv::bench {
namespace {

// The tensors of a layer beside attention's own, in the order of their buffers.
enum Item : size_t { kXq, kXkv, kWq, kWk, kWv, kWo, kBiasQ, kBiasK, kBiasV, kBiasO, kY, kItems };

// Packed, kWq and kBiasQ are those of all three, and kWk, kWv, kBiasK and kBiasV are not there.
struct LayerSpec {
  Spec middle;                           // attention
  int64_t e_q = 512, e_kv = 0, e_y = 0;  // widths; 0: no x_kv, no w_o
  bool packed = false;
  std::string biases, in_out;  // letters q, k, v, o

  int64_t out_q() const { return middle.heads_q * middle.d_qk; }
  int64_t out_k() const { return middle.heads_kv * middle.d_qk; }
  int64_t out_v() const { return middle.heads_kv * middle.d_v; }

  // Rows and columns of an item as the library sees it; 0 rows: it is not there.
  std::array<int64_t, 2> size(Item item) const {
    const int64_t kv = e_kv == 0 ? e_q : e_kv;
    const auto weight = [](bool there, int64_t out, int64_t in) {
      return std::array<int64_t, 2>{there ? out : 0, in};
    };
    const auto bias = [&](char letter, int64_t out) {
      const bool there = biases.find(letter) != std::string::npos;
      return std::array<int64_t, 2>{there ? 1 : 0, out};
    };
    const int64_t first = packed ? out_q() + out_k() + out_v() : out_q();
    switch (item) {
      case kXq:
        return {middle.batch * middle.s_q, e_q};
      case kXkv:
        return {e_kv == 0 ? 0 : middle.batch * middle.s_kv, e_kv};
      case kWq:
        return weight(true, first, e_q);
      case kWk:
        return weight(!packed, out_k(), kv);
      case kWv:
        return weight(!packed, out_v(), kv);
      case kWo:
        return weight(e_y > 0, e_y, middle.heads_q * middle.d_v);
      case kBiasQ:
        return bias('q', first);
      case kBiasK:
        return bias('k', out_k());
      case kBiasV:
        return bias('v', out_v());
      case kBiasO:
        return bias('o', e_y);
      default:
        return {middle.batch * middle.s_q, e_y > 0 ? e_y : middle.heads_q * middle.d_v};
    }
  }
  bool in_out_of(Item weight) const {
    return in_out.find("qkvo"[weight - kWq]) != std::string::npos;
  }
};

template <class... Args>
[[noreturn]] void refuse(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  throw std::invalid_argument(out.str());
}

// --- the line

int64_t width_of(const std::string& field, size_t digits) {
  int64_t out = 0;
  const char* const end = field.data() + field.size();
  const auto [at, error] = std::from_chars(field.data() + digits, end, out);
  if (error != std::errc() || at != end || out < 1 || out > int64_t{1} << 31)
    refuse("problem field '", field, "' holds '", field.substr(digits),
           "'; allowed is a whole number from 1 to ", int64_t{1} << 31);
  return out;
}

std::string letters_of(const std::string& field, size_t at) {
  size_t next = at;
  for (const char letter : std::string("qkvo"))
    if (next < field.size() && field[next] == letter) ++next;
  if (next == at || next != field.size())
    refuse("problem field '", field, "' holds '", field.substr(at),
           "'; allowed are letters out of q, k, v, o in this order");
  return field.substr(at);
}

LayerSpec parse_layer(const std::string& line) {
  LayerSpec spec;
  std::istringstream in(line);
  std::string field, rest = "fwd";
  std::getline(in, field, ':');
  while (std::getline(in, field, ':')) {
    const auto is = [&](const char* key) {
      return field.starts_with(key) && field.size() > std::strlen(key) &&
             field.find_first_of("-0123456789") == std::strlen(key);
    };
    if (is("eq")) {
      spec.e_q = width_of(field, 2);
    } else if (is("ekv")) {
      spec.e_kv = width_of(field, 3);
    } else if (is("ey")) {
      spec.e_y = width_of(field, 2);
    } else if (field == "packed") {
      spec.packed = true;
    } else if (field.starts_with("biases=")) {
      spec.biases = letters_of(field, 7);
    } else if (field.starts_with("in-out=")) {
      spec.in_out = letters_of(field, 7);
    } else {
      rest += ":" + field;
    }
  }
  spec.middle = parse(rest);
  const Spec& m = spec.middle;
  if (spec.e_kv == 0 && m.s_q != m.s_kv)
    refuse("problem has sq", m.s_q, " and skv", m.s_kv, "; without ekv they are one");
  if (spec.packed && (spec.e_kv > 0 || m.d_qk != m.d_v))
    refuse("problem has packed; allowed is that with neither ekv nor dv");
  for (const auto& strides : m.strides)
    if (strides) refuse("problem has strides of q, k, v or o, which are the layer's own");
  return spec;
}

// --- memory

class LayerTensors {
 public:
  explicit LayerTensors(const LayerSpec& s) : spec(s), middle(s.middle) {
    for (size_t item = 0; item < kItems; ++item) {
      const auto [rows, columns] = spec.size(static_cast<Item>(item));
      own[item] = Buffer(static_cast<size_t>(rows * columns * host::type_size(s.middle.type)));
      fill_random(own[item], spec.middle.type, 100 + item);
      if (item >= kWq && item <= kWo) scale(own[item], 1 / std::sqrt(static_cast<float>(columns)));
    }
    poison();
  }

  void poison() const {
    std::memset(own[kY].data(), 0xff, own[kY].bytes());
    middle.poison();
  }

  // In the order of describe_layer()'s addresses: attention's, then the layer's.
  std::vector<HostBuffer> buffers() const {
    std::vector<HostBuffer> out;
    for (size_t part = 0; part < kParts; ++part) {
      const Buffer& buffer = middle[static_cast<Part>(part)];
      const bool is_output = std::ranges::find(kOutputs, part) != std::end(kOutputs);
      out.push_back({buffer.data(), part <= kO ? 0 : buffer.bytes(), is_output && part > kO});
    }
    for (size_t item = 0; item < kItems; ++item)
      out.push_back({own[item].data(), own[item].bytes(), item == kY});
    return out;
  }

  const LayerSpec spec;
  const Tensors middle;  // its q, k, v and o are not used
  std::array<Buffer, kItems> own;

 private:
  // Products of such weights with normal numbers are such numbers.
  void scale(const Buffer& buffer, float by) const {
    const auto all = [&]<class T>(T* at) {
      for (size_t n = 0; n < buffer.bytes() / sizeof(T); ++n)
        at[n] = host::from_float<T>(by * host::to_float(at[n]));
    };
    if (spec.middle.type == QKV_TYPE_F32) all(static_cast<float*>(buffer.data()));
    if (spec.middle.type == QKV_TYPE_F16) all(static_cast<host::Half*>(buffer.data()));
    if (spec.middle.type == QKV_TYPE_BF16) all(static_cast<host::Bfloat*>(buffer.data()));
  }
};

// A layer over such addresses, whose descriptor points to `middle`.
qkv_layer_desc describe_layer(const LayerSpec& s, std::span<void* const> at,
                              qkv_attention_desc* middle) {
  Addresses of_attention{};
  std::copy_n(at.begin(), kParts, of_attention.begin());
  *middle = describe(s.middle, QKV_DEVICE_AUTO, of_attention);
  middle->q = middle->k = middle->v = middle->o = {};
  qkv_layer_desc d;
  check(qkv_layer_desc_init(&d, sizeof d));
  d.threads = std::exchange(middle->threads, 0);
  d.attention = middle;
  d.device = s.middle.device;
  d.heads_q = static_cast<int32_t>(s.middle.heads_q);
  d.heads_kv = static_cast<int32_t>(s.middle.heads_kv);
  const auto tensor_of = [&](Item item) {
    const auto [rows, columns] = s.size(item);
    if (rows == 0) return qkv_tensor{};
    void* const data = at[kParts + item];
    const qkv_type type = s.middle.type;
    if (item == kXq || item == kXkv || (item == kY && s.e_y > 0)) {
      const int64_t length = rows / s.middle.batch;
      return strided(data, type, {s.middle.batch, 1, length, columns},
                     {length * columns, 0, columns, 1});
    }
    if (item == kY)
      return strided(data, type, {s.middle.batch, s.middle.heads_q, s.middle.s_q, s.middle.d_v},
                     {s.middle.s_q * columns, s.middle.d_v, columns, 1});
    if (item >= kBiasQ) return strided(data, type, {1, 1, 1, columns}, {0, 0, 0, 1});
    if (s.in_out_of(item)) return strided(data, type, {1, 1, rows, columns}, {0, 0, 1, rows});
    return strided(data, type, {1, 1, rows, columns}, {0, 0, columns, 1});
  };
  d.x_q = tensor_of(kXq), d.x_kv = tensor_of(kXkv);
  (s.packed ? d.w_qkv : d.w_q) = tensor_of(kWq);
  (s.packed ? d.bias_qkv : d.bias_q) = tensor_of(kBiasQ);
  d.w_k = tensor_of(kWk), d.bias_k = tensor_of(kBiasK);
  d.w_v = tensor_of(kWv), d.bias_v = tensor_of(kBiasV);
  d.w_o = tensor_of(kWo), d.bias_o = tensor_of(kBiasO);
  d.y = tensor_of(kY);
  return d;
}

// Of the products, and attention's own.
double flops_of(const LayerSpec& s) {
  double sum = flops(s.middle);
  const auto queries = static_cast<double>(s.middle.batch * s.middle.s_q);
  const auto keys = static_cast<double>(s.middle.batch * s.middle.s_kv);
  for (const Item item : {kWq, kWk, kWv, kWo}) {
    const auto [rows, columns] = s.size(item);
    sum += 2 * (item == kWk || item == kWv ? keys : queries) * static_cast<double>(rows) *
           static_cast<double>(columns);
  }
  return sum;
}

template <class Run>
double seconds_of(const Run& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Another contender, of which is known that it rounds scores.
class RoundsScores : public Contender {
 public:
  explicit RoundsScores(std::unique_ptr<Contender> contender) : contender_(std::move(contender)) {}
  void poison() override { contender_->poison(); }
  bool fetch() override { return contender_->fetch(); }
  Measurement run() override { return contender_->run(); }
  bool rounds_scores() const override { return true; }

 private:
  std::unique_ptr<Contender> contender_;
};

class CpuLayer : public Contender {
 public:
  explicit CpuLayer(std::shared_ptr<const LayerTensors> tensors) : tensors_(std::move(tensors)) {
    std::vector<void*> at;
    for (const HostBuffer& buffer : tensors_->buffers()) at.push_back(buffer.data);
    desc_ = describe_layer(tensors_->spec, at, &middle_);
    qkv_plan* made = nullptr;
    check(qkv_layer_plan_create(&desc_, &made));
    plan_ = {made, qkv_plan_destroy};
    size_t bytes = 0;
    check(qkv_plan_workspace_size(made, &bytes));
    workspace_ = Buffer(bytes);
    desc_.workspace = workspace_.data();
    desc_.workspace_size = workspace_.bytes();
  }
  void poison() override { tensors_->poison(); }
  bool fetch() override { return true; }
  Measurement run() override {
    return {seconds_of([&] { check(qkv_layer_plan_run(plan_.get(), &desc_, nullptr)); }),
            flops_of(tensors_->spec)};
  }

 private:
  std::shared_ptr<const LayerTensors> tensors_;
  qkv_attention_desc middle_{};
  qkv_layer_desc desc_{};
  std::unique_ptr<qkv_plan, void (*)(qkv_plan*)> plan_{nullptr, qkv_plan_destroy};
  Buffer workspace_;
};

double element(const Buffer& buffer, qkv_type type, int64_t at) {
  switch (type) {
    case QKV_TYPE_F16:
      return to_float(static_cast<const host::Half*>(buffer.data())[at]);
    case QKV_TYPE_BF16:
      return to_float(static_cast<const host::Bfloat*>(buffer.data())[at]);
    default:
      return static_cast<double>(static_cast<const float*>(buffer.data())[at]);
  }
}

#if QKV_BENCH_HAS_OPENBLAS
// All in fp32, which 16-bit tensors are converted to first; y is rounded at the end.
class UnfusedLayer : public Contender {
 public:
  explicit UnfusedLayer(std::shared_ptr<const LayerTensors> tensors)
      : tensors_(std::move(tensors)),
        threads_(host::cpu_threads(tensors_->spec.middle.threads)),
        attention_(middle(), threads_) {
    const LayerSpec& s = tensors_->spec;
    const Spec& m = s.middle;
    const int64_t queries = m.batch * m.s_q, keys = m.batch * m.s_kv;
    rows_ = floats(std::max({queries * s.size(kWq)[0], keys * std::max(s.out_k(), s.out_v()),
                             queries * m.heads_q * m.d_v}));
    q_ = floats(queries * s.out_q()), k_ = floats(keys * s.out_k());
    v_ = floats(keys * s.out_v()), o_ = floats(queries * m.heads_q * m.d_v);
    y_ = floats(queries * s.size(kY)[1]);
    workspace_ = Buffer(attention_.workspace_bytes());
    for (size_t item = 0; item < kY; ++item)
      if (m.type != QKV_TYPE_F32) converted_[item] = floats(count(static_cast<Item>(item)));
  }
  void poison() override { tensors_->poison(); }
  bool fetch() override { return true; }
  Measurement run() override {
    return {seconds_of([&] { compute(); }), flops_of(tensors_->spec)};
  }

 private:
  static Buffer floats(int64_t n) { return Buffer(static_cast<size_t>(n) * sizeof(float)); }
  static float* data(const Buffer& buffer) { return static_cast<float*>(buffer.data()); }
  int64_t count(Item item) const {
    const auto [rows, columns] = tensors_->spec.size(item);
    return rows * columns;
  }

  Unfused middle() const {
    Unfused out = unfused_problem(tensors_->spec.middle, tensors_->middle.problem().scale);
    out.type = QKV_TYPE_F32;
    return out;
  }

  // An item in fp32; null where it is not there.
  const float* input(Item item) const {
    const Buffer& own = tensors_->own[item];
    if (own.bytes() == 0) return nullptr;
    const qkv_type type = tensors_->spec.middle.type;
    if (type == QKV_TYPE_F32) return data(own);
    float* const to = data(converted_[item]);
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (int64_t n = 0; n < count(item); ++n) to[n] = static_cast<float>(element(own, type, n));
    return to;
  }

  void product(const float* x, int64_t rows, Item weight, float* y) const {
    const auto [out, in] = tensors_->spec.size(weight);
    const Item bias = static_cast<Item>(kBiasQ + (weight - kWq));
    const float* const addend = input(bias);
    bench::run(PlainProduct{QKV_TYPE_F32, rows, in, out, !tensors_->spec.in_out_of(weight),
                            addend != nullptr},
               x, input(weight), addend, y, nullptr, threads_);
  }

  void compute() const {
    const LayerSpec& s = tensors_->spec;
    const Spec& m = s.middle;
    const int64_t queries = m.batch * m.s_q, keys = m.batch * m.s_kv;
    const CpuHeads q{m.batch, m.heads_q, m.s_q, m.d_qk}, k{m.batch, m.heads_kv, m.s_kv, m.d_qk};
    const CpuHeads v{m.batch, m.heads_kv, m.s_kv, m.d_v}, o{m.batch, m.heads_q, m.s_q, m.d_v};
    float* const rows = data(rows_);
    const float* const x_q = input(kXq);
    const float* const x_kv = s.e_kv > 0 ? input(kXkv) : x_q;
    product(x_q, queries, kWq, rows);
    const int64_t pitch = s.size(kWq)[0];
    q.apart(rows, pitch, data(q_), threads_);
    if (s.packed) {
      k.apart(rows + s.out_q(), pitch, data(k_), threads_);
      v.apart(rows + s.out_q() + s.out_k(), pitch, data(v_), threads_);
    } else {
      product(x_kv, keys, kWk, rows);
      k.apart(rows, s.out_k(), data(k_), threads_);
      product(x_kv, keys, kWv, rows);
      v.apart(rows, s.out_v(), data(v_), threads_);
    }
    attention_.run(q_.data(), k_.data(), v_.data(), o_.data(), workspace_.data());
    const bool direct = m.type == QKV_TYPE_F32;
    float* const y = direct ? data(tensors_->own[kY]) : data(y_);
    o.together(data(o_), s.e_y > 0 ? rows : y, threads_);
    if (s.e_y > 0) product(rows, queries, kWo, y);
    if (!direct) round(y);
  }

  void round(const float* y) const {
    const Buffer& to = tensors_->own[kY];
    const bool half = tensors_->spec.middle.type == QKV_TYPE_F16;
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (int64_t n = 0; n < count(kY); ++n) {
      if (half)
        static_cast<host::Half*>(to.data())[n] = host::from_float<host::Half>(y[n]);
      else
        static_cast<host::Bfloat*>(to.data())[n] = host::from_float<host::Bfloat>(y[n]);
    }
  }

  std::shared_ptr<const LayerTensors> tensors_;
  int threads_;
  CpuUnfused attention_;
  Buffer rows_, q_, k_, v_, o_, y_, workspace_;
  std::array<Buffer, kItems> converted_;
};
#endif

// --- the check

// A batch of the layer, in fp64 or by the textbook with the contract's roundings.
class Side {
 public:
  Side(const LayerTensors& tensors, int64_t batch, bool exact)
      : t_(tensors),
        b_(batch),
        exact_(exact),
        own_(exact ? QKV_TYPE_F32 : tensors.spec.middle.type) {
    const LayerSpec& s = t_.spec;
    k_ = keys(s.packed ? kWq : kWk, s.packed ? s.out_q() : 0, s.out_k());
    v_ = keys(s.packed ? kWq : kWv, s.packed ? s.out_q() + s.out_k() : 0, s.out_v());
  }

  // Row i of y. *decided: hard selection has no other key that scores nearly the same.
  std::vector<double> row(int64_t i, bool* decided, bool rounds_scores = false) const {
    const LayerSpec& s = t_.spec;
    const Spec& m = s.middle;
    const Buffer q(static_cast<size_t>(s.out_q() * host::type_size(own_)));
    for (int64_t c = 0; c < s.out_q(); ++c) store(q, c, product(kXq, b_ * m.s_q + i, kWq, c));
    host::attention::Problem all = t_.middle.problem();
    all.type = own_;
    all.q = view(q, m.heads_q, 1, m.d_qk);
    all.q.stride[2] = 0;  // every row is this one
    all.q.shape[2] = m.s_q;
    all.k = view(k_, m.heads_kv, m.s_kv, m.d_qk);
    all.v = view(v_, m.heads_kv, m.s_kv, m.d_v);
    all.weights_mode = QKV_WEIGHTS_MASKED;
    std::vector<double> o;
    for (int64_t h = 0; h < m.heads_q; ++h) {
      const auto one = row_problem(all, b_, h, i);
      if (rounds_scores) {
        const std::vector<double> own = with_rounded_scores(one);
        o.insert(o.end(), own.begin(), own.end());
        continue;
      }
      const auto result = reference::attention(
          one, exact_ ? reference::Precision::kDouble : reference::Precision::kInput);
      o.insert(o.end(), result.o.begin(), result.o.end());
      if (m.hard) *decided = *decided && clear(result);
    }
    if (s.e_y == 0) return o;
    std::vector<double> y;
    const int64_t in = m.heads_q * m.d_v;
    for (int64_t c = 0; c < s.e_y; ++c) {
      const auto term = [&](int64_t e) {
        return std::pair{o[static_cast<size_t>(e)], weight(kWo, c, e)};
      };
      y.push_back(sum(in, term, bias(kWo, c)));
    }
    return y;
  }

 private:
  template <class Term>
  double sum(int64_t n, const Term& term, double bias) const {
    double wide = bias;
    float narrow = static_cast<float>(bias);
    for (int64_t e = 0; e < n; ++e) {
      const auto [a, w] = term(e);
      wide += a * w;
      narrow += static_cast<float>(a) * static_cast<float>(w);
    }
    return exact_ ? wide : rounded(narrow);
  }
  double rounded(float x) const {
    if (own_ == QKV_TYPE_F16) return to_float(host::from_float<host::Half>(x));
    if (own_ == QKV_TYPE_BF16) return to_float(host::from_float<host::Bfloat>(x));
    return x;
  }

  double weight(Item item, int64_t out, int64_t in) const {
    const auto [outs, ins] = t_.spec.size(item);
    const int64_t at = t_.spec.in_out_of(item) ? in * outs + out : out * ins + in;
    return element(t_.own[item], t_.spec.middle.type, at);
  }
  double bias(Item weight, int64_t out) const {
    const Buffer& own = t_.own[kBiasQ + (weight - kWq)];
    return own.bytes() == 0 ? 0 : element(own, t_.spec.middle.type, out);
  }
  double product(Item x, int64_t row, Item w, int64_t out) const {
    const int64_t in = t_.spec.size(w)[1];
    const auto term = [&](int64_t e) {
      return std::pair{element(t_.own[x], t_.spec.middle.type, row * in + e), weight(w, out, e)};
    };
    return sum(in, term, bias(w, out));
  }

  void store(const Buffer& to, int64_t at, double x) const {
    const auto f = static_cast<float>(x);
    if (own_ == QKV_TYPE_F32) static_cast<float*>(to.data())[at] = f;
    if (own_ == QKV_TYPE_F16)
      static_cast<host::Half*>(to.data())[at] = host::from_float<host::Half>(f);
    if (own_ == QKV_TYPE_BF16)
      static_cast<host::Bfloat*>(to.data())[at] = host::from_float<host::Bfloat>(f);
  }

  // K or V of the batch, [s_kv, out], from column `first` of the product on.
  Buffer keys(Item w, int64_t first, int64_t out) const {
    const LayerSpec& s = t_.spec;
    const int64_t rows = s.middle.s_kv;
    Buffer to(static_cast<size_t>(rows * out * host::type_size(own_)));
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t c = 0; c < out; ++c)
        store(to, row * out + c, product(s.e_kv > 0 ? kXkv : kXq, b_ * rows + row, w, first + c));
    return to;
  }

  // One batch that stands for all.
  host::View view(const Buffer& buffer, int64_t heads, int64_t rows, int64_t dim) const {
    return {
        buffer.data(), own_, {t_.spec.middle.batch, heads, rows, dim}, {0, dim, heads * dim, 1}};
  }

  // fp32 or 16-bit scores choose as fp64 does.
  bool clear(const reference::Result& row) const {
    if (row.index[0] < 0) return true;
    const double best = row.weights[static_cast<size_t>(row.index[0])];
    const double unit = t_.spec.middle.type == QKV_TYPE_F32 ? 0x1p-18 : 0x1p-4;
    int near = 0;
    for (const double score : row.weights) near += score >= best - unit * (1 + std::abs(best));
    return near == 1;
  }

  const LayerTensors& t_;
  int64_t b_;
  bool exact_;
  qkv_type own_;
  Buffer k_, v_;
};

// Sampled rows of y.
class LayerReference {
 public:
  explicit LayerReference(std::shared_ptr<const LayerTensors> tensors)
      : tensors_(std::move(tensors)) {
    const Spec& m = tensors_->spec.middle;
    for (int64_t b = 0; b < m.batch; b += std::max<int64_t>(m.batch - 1, 1)) {
      const Side exact(*tensors_, b, true), lowp(*tensors_, b, false);
      for (const int64_t i : {int64_t{0}, m.s_q / 3, m.s_q - 1}) {
        Row row{b * m.s_q + i, {}, {}, {}, true};
        row.exact = exact.row(i, &row.decided);
        row.lowp = lowp.row(i, &row.decided);
        row.rounded = unfused_declines(m).empty() ? lowp.row(i, nullptr, true) : row.lowp;
        rows_.push_back(std::move(row));
      }
    }
  }

  // Every element of y is finite, as the inputs are; and of the sampled rows
  //   max|y - y64| <= 2 max|lowp - y64| + a unit in the last place of max|y64|
  // Rows in which hard selection may take one of several keys are left out.
  std::string check(bool rounds_scores) const {
    const LayerSpec& s = tensors_->spec;
    const qkv_type type = s.middle.type;
    const auto y = [&](int64_t at) { return element(tensors_->own[kY], type, at); };
    const auto [rows, width] = s.size(kY);
    for (int64_t n = 0; n < rows * width; ++n)
      if (!std::isfinite(y(n)))
        return host::text("y[", n / width, "][", n % width, "] is not finite or was not written");
    double worst = 0, of_lowp = 0, largest = 0;
    for (const Row& row : rows_) {
      for (int64_t c = 0; row.decided && c < width; ++c) {
        const auto at = static_cast<size_t>(c);
        worst = std::max(worst, std::abs(y(row.at * width + c) - row.exact[at]));
        const double textbook = rounds_scores ? row.rounded[at] : row.lowp[at];
        of_lowp = std::max(of_lowp, std::abs(textbook - row.exact[at]));
        largest = std::max(largest, std::abs(row.exact[at]));
      }
    }
    const double unit = type == QKV_TYPE_F32 ? 0x1p-23 : type == QKV_TYPE_F16 ? 0x1p-10 : 0x1p-7;
    const double allowed = 2 * of_lowp + unit * largest;
    if (worst <= allowed) return {};
    return host::text("y is off by ", worst, ", allowed is ", allowed);
  }

 private:
  struct Row {
    int64_t at;                                // of y
    std::vector<double> exact, lowp, rounded;  // rounded: and so are its scores
    bool decided;
  };

  std::shared_ptr<const LayerTensors> tensors_;
  std::vector<Row> rows_;
};

// --- the workload

class LayerWorkload : public Workload {
 public:
  explicit LayerWorkload(LayerSpec spec) : spec_(std::move(spec)) {}

  Subject subject() const override {
    Subject subject = subject_of(spec_.middle);
    std::ostringstream own;
    own << "eq" << spec_.e_q;
    if (spec_.e_kv > 0) own << "_ekv" << spec_.e_kv;
    if (spec_.e_y > 0) own << "_ey" << spec_.e_y;
    if (spec_.packed) own << "_packed";
    if (!spec_.biases.empty()) own << "_biases=" << spec_.biases;
    if (!spec_.in_out.empty()) own << "_in-out=" << spec_.in_out;
    subject.name = "layer" + subject.name.substr(subject.name.find('/')) + "/" + own.str();
    subject.options = "layer_" + own.str() + "_" + subject.options;
    // Without Q, K, V and O, which are between the steps.
    const int64_t size = host::type_size(spec_.middle.type);
    for (const Part part : {bench::kQ, bench::kK, bench::kV, bench::kO})
      subject.bytes -= static_cast<double>(tensor_bytes(spec_.middle, part));
    for (size_t item = 0; item < kItems; ++item) {
      const auto [rows, columns] = spec_.size(static_cast<Item>(item));
      subject.bytes += static_cast<double>(rows * columns * size);
    }
    return subject;
  }
  qkv_device device() const override { return spec_.middle.device; }
  qkv_type ceiling_type() const override { return spec_.middle.type; }
  std::vector<Candidate> names(CudaBench* cuda) const override { return candidates(cuda, nullptr); }

  Ready ready(CudaBench* cuda) const override {
    const auto tensors = std::make_shared<const LayerTensors>(spec_);
    const auto reference = std::make_shared<const LayerReference>(tensors);
    return {candidates(cuda, tensors),
            [reference](bool rounds_scores) { return reference->check(rounds_scores); }};
  }

 private:
  std::vector<Candidate> candidates(CudaBench* cuda,
                                    const std::shared_ptr<const LayerTensors>& tensors) const {
    std::vector<Candidate> out;
    if (device() == QKV_DEVICE_CUDA) {
      out.push_back({kQkv, [cuda, tensors] { return on_cuda(cuda, tensors); }});
      if (CublasLayer::available().empty())
        out.push_back({kUnfused, [cuda, tensors] { return unfused_on_cuda(cuda, tensors); },
                       "cuBLAS", cublas_declines()});
      return out;
    }
    out.push_back({kQkv, [tensors] { return std::make_unique<CpuLayer>(tensors); }});
#if QKV_BENCH_HAS_OPENBLAS
    out.push_back({kUnfused, [tensors] { return std::make_unique<UnfusedLayer>(tensors); }, "",
                   unfused_declines(spec_.middle)});
#endif
    return out;
  }

  // The tensors, and a workspace behind them.
  static std::vector<HostBuffer> with_workspace(const LayerTensors& tensors,
                                                const Buffer& workspace) {
    std::vector<HostBuffer> out = tensors.buffers();
    out.push_back({workspace.data(), workspace.bytes(), false});
    return out;
  }

  static std::unique_ptr<Contender> on_cuda(CudaBench* cuda,
                                            const std::shared_ptr<const LayerTensors>& tensors) {
    qkv_attention_desc middle;
    const std::vector<void*> nowhere(kParts + kItems);
    const qkv_layer_desc question = describe_layer(tensors->spec, nowhere, &middle);
    qkv_query_result answer{};
    answer.struct_size = sizeof answer;
    check(qkv_layer_query(&question, &answer));
    if (answer.supported == 0) throw std::runtime_error(answer.reasons);
    const Buffer workspace(answer.workspace_size);
    const auto queue = [tensors, bytes = workspace.bytes()](std::span<void* const> at,
                                                            void* stream) {
      qkv_attention_desc options;
      qkv_layer_desc desc = describe_layer(tensors->spec, at, &options);
      desc.workspace = at.back();
      desc.workspace_size = bytes;
      check(qkv_layer(&desc, stream));
    };
    return cuda->contender(with_workspace(*tensors, workspace), queue, flops_of(tensors->spec));
  }

  static std::unique_ptr<Contender> unfused_on_cuda(
      CudaBench* cuda, const std::shared_ptr<const LayerTensors>& tensors) {
    const LayerSpec& s = tensors->spec;
    const auto layer = std::make_shared<CublasLayer>(
        CublasLayerShape{unfused_problem(s.middle, tensors->middle.problem().scale),
                         s.e_q,
                         s.e_kv > 0 ? s.e_kv : s.e_q,
                         s.e_y,
                         s.packed,
                         {s.in_out_of(kWq), s.in_out_of(kWk), s.in_out_of(kWv), s.in_out_of(kWo)}});
    const Buffer workspace(layer->workspace_bytes());
    const auto queue = [tensors, layer](std::span<void* const> all, void* stream) {
      const std::span<void* const> at = all.subspan(kParts);
      const std::string wrong = layer->run({at[kXq],
                                            tensors->spec.e_kv > 0 ? at[kXkv] : at[kXq],
                                            {at[kWq], at[kWk], at[kWv], at[kWo]},
                                            at[kY]},
                                           all.back(), stream);
      if (!wrong.empty()) throw std::runtime_error(wrong);
    };
    return std::make_unique<RoundsScores>(
        cuda->contender(with_workspace(*tensors, workspace), queue, flops_of(s)));
  }

  std::string cublas_declines() const {
    const std::string middle = unfused_declines(spec_.middle);
    if (spec_.biases.empty()) return middle;
    return middle.empty() ? "cannot do biases" : middle + ", biases";
  }

  LayerSpec spec_;
};

}  // namespace

extern const Family layer_family;
const Family layer_family{
    "layer",
    "  as fwd, without strides, and\n"
    "  eq<n> ekv<n> ey<n>      widths of x_q, x_kv, y; no ekv: self-attention; no ey: no w_o\n"
    "  packed                  one weight for Q, K and V\n"
    "  biases= in-out=<qkvo>   the products with a bias; those with [in, out] weights\n",
    [](const std::string& line) -> std::unique_ptr<Workload> {
      return std::make_unique<LayerWorkload>(parse_layer(line));
    }};

}  // namespace qkv::bench
