#include "bench/tensors.h"

#include <cstring>
#include <new>
#include <stdexcept>

#include "host/device.h"
#include "host/numeric.h"

namespace qkv::bench {
namespace {

constexpr size_t kAlignment = 256;

size_t tensor_bytes(const Spec& spec, int64_t heads, int64_t length, int64_t width) {
  int64_t elements = 1;
  for (const int64_t extent : {spec.batch, heads, length, width, host::type_size(spec.type)}) {
    if (__builtin_mul_overflow(elements, extent, &elements)) throw std::bad_alloc();
  }
  return static_cast<size_t>(elements);
}

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

}  // namespace

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data_.reset(std::aligned_alloc(kAlignment, rounded));
  if (data_ == nullptr) throw std::bad_alloc();
}

Extents::Extents(const Spec& s)
    : q(tensor_bytes(s, s.heads_q, s.s_q, s.d_qk)),
      k(tensor_bytes(s, s.heads_kv, s.s_kv, s.d_qk)),
      v(tensor_bytes(s, s.heads_kv, s.s_kv, s.d_v)),
      o(tensor_bytes(s, s.heads_q, s.s_q, s.d_v)) {}

Attention describe(const Spec& s, qkv_device device, const Addresses& at) {
  const auto view = [&](void* data, int64_t heads, int64_t length, int64_t width) {
    return strided(data, s.type, {s.batch, heads, length, width},
                   {heads * length * width, length * width, width, 1});
  };
  Attention attention;
  attention.q = view(at.q, s.heads_q, s.s_q, s.d_qk);
  attention.k = view(at.k, s.heads_kv, s.s_kv, s.d_qk);
  attention.v = view(at.v, s.heads_kv, s.s_kv, s.d_v);
  attention.o = view(at.o, s.heads_q, s.s_q, s.d_v);
  attention.causal = s.causal;
  attention.device = static_cast<Device>(device);
  return attention;
}

host::Problem make_problem(const Attention& attention) {
  const qkv_attention_desc desc = attention.desc();
  host::Problem problem;
  const auto need = attention.q.data == nullptr ? host::Need::kShapes : host::Need::kAddresses;
  const host::Status status = host::validate(&desc, need, host::cuda_runtime(), &problem);
  if (!status.ok()) throw std::runtime_error(status.reason());
  return problem;
}

Tensors::Tensors(const Spec& spec) : spec_(spec) {
  const Extents bytes(spec);
  q_ = Buffer(bytes.q);
  k_ = Buffer(bytes.k);
  v_ = Buffer(bytes.v);
  o_ = Buffer(bytes.o);
  fill_random(q_, spec.type, 1);
  fill_random(k_, spec.type, 2);
  fill_random(v_, spec.type, 3);
  poison(o_);
  attention_ = describe(spec, QKV_DEVICE_CPU, {q_.data(), k_.data(), v_.data(), o_.data()});
  problem_ = make_problem(attention_);
}

void fill_random(const Buffer& buffer, qkv_type type, uint64_t seed) {
  if (type == QKV_TYPE_F32) fill<float>(buffer, seed);
  if (type == QKV_TYPE_F16) fill<host::Half>(buffer, seed);
  if (type == QKV_TYPE_BF16) fill<host::Bfloat>(buffer, seed);
}

void poison(const Buffer& output) { std::memset(output.data(), 0xff, output.bytes()); }

}  // namespace qkv::bench
