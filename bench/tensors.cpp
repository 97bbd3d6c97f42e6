#include "bench/tensors.h"

#include <cmath>
#include <cstring>
#include <new>
#include <stdexcept>

#include "host/core/device.h"
#include "host/core/numeric.h"
#include "qkv/qkv.hpp"

namespace qkv::bench {
namespace {

constexpr size_t kAlignment = 256;

uint64_t scramble(uint64_t x) {  // SplitMix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Element `at` of stream `seed`: the sum of four uniform numbers, scaled to variance 1.
float normal(uint64_t seed, uint64_t at) {
  const uint64_t bits = scramble(seed ^ scramble(at));
  const auto sum = static_cast<float>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                                      (bits >> 32 & 0xffff) + (bits >> 48));
  return (sum - 2 * 65535.0f) * (1.7320508f / 65536.0f);
}

template <class T>
void fill(const Buffer& buffer, uint64_t seed) {
  T* data = static_cast<T*>(buffer.data());
  const auto count = static_cast<int64_t>(buffer.bytes() / sizeof(T));
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    data[i] = host::from_float<T>(normal(seed, static_cast<uint64_t>(i)));
  }
}

// Calls copy(row of the tensor, the same row of a contiguous one), in parallel.
template <class Copy>
void for_each_row(const host::View& view, const Copy& copy) {
  const auto& n = view.shape;
  const int64_t size = host::type_size(view.type);
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < n[0] * n[1] * n[2]; ++row) {
    const int64_t at = view.offset(row / n[2] / n[1], row / n[2] % n[1], row % n[2]);
    copy(static_cast<std::byte*>(view.data) + at * size, row * n[3] * size,
         static_cast<size_t>(n[3] * size));
  }
}

// One of four is false: a hidden key.
void fill_truth(const Buffer& buffer, uint64_t seed) {
  auto* data = static_cast<uint8_t*>(buffer.data());
  for (size_t i = 0; i < buffer.bytes(); ++i) data[i] = scramble(seed ^ scramble(i)) % 4 != 0;
}

// 2^(-8 / heads), and so on to 2^-8, as the paper has them.
void fill_slopes(const Buffer& buffer) {
  auto* data = static_cast<float*>(buffer.data());
  const size_t heads = buffer.bytes() / sizeof(float);
  for (size_t h = 0; h < heads; ++h)
    data[h] = std::exp2(-8 * static_cast<float>(h + 1) / static_cast<float>(heads));
}

void fill_lengths(const Buffer& buffer, const Spec& spec) {
  auto* data = static_cast<int32_t*>(buffer.data());
  for (int64_t b = 0; b < spec.batch && buffer.bytes() > 0; ++b)
    data[b] = static_cast<int32_t>(kv_length(spec, b));
}

void fill_input(const Buffer& buffer, const Spec& spec, Part part) {
  using host::attention::Values;
  switch (host::attention::kTensors[part].values) {
    case Values::kNormal:
      return fill_random(buffer, tensor(spec, part).type, part + 1);
    case Values::kTruth:
      return fill_truth(buffer, part);
    case Values::kSlopes:
      return fill_slopes(buffer);
    case Values::kLengths:
      return fill_lengths(buffer, spec);
    case Values::kNone:
      return;
  }
}

}  // namespace

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data_.reset(std::aligned_alloc(kAlignment, rounded));
  if (data_ == nullptr) throw std::bad_alloc();
}

size_t tensor_bytes(const Spec& spec, Part part) {
  const qkv_tensor t = tensor(spec, part);
  if (t.type == QKV_TYPE_NONE) return 0;
  int64_t elements = 1;
  for (size_t axis = 0; axis < 4; ++axis) {
    int64_t span = 0;
    if (__builtin_mul_overflow(t.shape[axis] - 1, t.stride[axis], &span) ||
        __builtin_add_overflow(elements, span, &elements))
      throw std::bad_alloc();
  }
  if (__builtin_mul_overflow(elements, host::type_size(t.type), &elements)) throw std::bad_alloc();
  return static_cast<size_t>(elements);
}

qkv_attention_desc describe(const Spec& s, qkv_device device, const Addresses& at) {
  Attention out;
  out.weights_mode = static_cast<WeightsMode>(s.weights_mode);
  out.score = s.additive ? Score::kAdditive : Score::kDot;
  out.selection = s.hard ? Selection::kHard : s.top ? Selection::kTopK : Selection::kSoft;
  if (s.top) out.top_k = static_cast<int32_t>(s.top_k);
  out.scale = s.scale;
  out.softcap = s.softcap;
  out.causal = s.causal;
  out.alignment = static_cast<Alignment>(s.alignment);
  out.offset = s.offset;
  out.window_left = s.left;
  out.window_right = s.right;
  out.fixed_split_size = s.split;
  out.threads = s.threads;
  out.device = static_cast<Device>(device);
  qkv_attention_desc desc = out.desc();
  for (size_t part = 0; part < kParts; ++part) {
    qkv_tensor& field = desc.*host::attention::kTensors[part].given;
    field = tensor(s, static_cast<Part>(part));
    field.data = at[part];
  }
  return desc;
}

host::attention::Problem make_problem(const qkv_attention_desc& desc) {
  host::attention::Problem problem;
  const auto need = desc.q.data == nullptr ? host::Need::kShapes : host::Need::kAddresses;
  const host::Status status =
      host::attention::validate(&desc, need, host::cuda_runtime(), &problem);
  if (!status.ok()) throw std::runtime_error(status.reason());
  return problem;
}

Tensors::Tensors(const Spec& spec) : spec_(spec) {
  (void)make_problem(describe(spec, QKV_DEVICE_CPU, {}));  // before memory is asked for
  Addresses at{};
  for (size_t part = 0; part < kParts; ++part) {
    buffers_[part] = Buffer(tensor_bytes(spec, static_cast<Part>(part)));
    at[part] = buffers_[part].data();
  }
  for (size_t part = 0; part < kParts; ++part)
    fill_input(buffers_[part], spec, static_cast<Part>(part));
  poison();
  desc_ = describe(spec, QKV_DEVICE_CPU, at);
  problem_ = make_problem(desc_);
}

void Tensors::poison() const {
  for (const Part part : kOutputs) {
    const Buffer& buffer = buffers_[part];
    if (buffer.bytes() > 0) std::memset(buffer.data(), poison_byte(part), buffer.bytes());
  }
}

void run(qkv_attention_desc desc) {
  desc.flags |= QKV_FLAG_ALLOW_ALLOCATION;
  check(qkv_attention(&desc, nullptr));
}

void fill_random(const Buffer& buffer, qkv_type type, uint64_t seed) {
  if (type == QKV_TYPE_F32) fill<float>(buffer, seed);
  if (type == QKV_TYPE_F16) fill<host::Half>(buffer, seed);
  if (type == QKV_TYPE_BF16) fill<host::Bfloat>(buffer, seed);
}

Buffer packed(const host::View& view) {
  const auto& n = view.shape;
  Buffer out(static_cast<size_t>(n[0] * n[1] * n[2] * n[3] * host::type_size(view.type)));
  for_each_row(view, [&](const std::byte* row, int64_t at, size_t bytes) {
    std::memcpy(static_cast<std::byte*>(out.data()) + at, row, bytes);
  });
  return out;
}

void unpack(const void* elements, const host::View& view) {
  for_each_row(view, [&](std::byte* row, int64_t at, size_t bytes) {
    std::memcpy(row, static_cast<const std::byte*>(elements) + at, bytes);
  });
}

}  // namespace qkv::bench
