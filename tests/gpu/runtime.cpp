#include "tests/gpu/runtime.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "tests/support/elements.h"

namespace qkv::test {
namespace {

size_t element_bytes(qkv_type type) { return type == QKV_TYPE_F32 ? 4 : 2; }

std::vector<std::byte> numbers(qkv_type type, int64_t count, Random& random) {
  std::vector<std::byte> image(static_cast<size_t>(count) * element_bytes(type));
  for (int64_t i = 0; i < count; ++i) {
    store(type, &image[static_cast<size_t>(i) * element_bytes(type)], random.normal());
  }
  return image;
}

qkv_tensor contiguous(void* data, qkv_type type, std::array<int64_t, 4> shape) {
  qkv_tensor t{};
  t.data = data;
  t.type = type;
  int64_t stride = 1;
  for (size_t axis = 4; axis-- > 0; stride *= shape[axis]) {
    t.shape[axis] = shape[axis];
    t.stride[axis] = stride;
  }
  return t;
}

using Addresses = std::array<void*, 6>;  // q, k, v, lengths, o, lse

qkv_attention_desc describe(const Kind& kind, const Addresses& at, qkv_device device) {
  qkv_attention_desc d;
  (void)qkv_attention_desc_init(&d, sizeof d);
  d.device = device;
  d.q = contiguous(at[0], kind.type, {kBatch, kind.heads_q, kind.s_q, kind.d});
  d.k = contiguous(at[1], kind.type, {kBatch, kind.heads_kv, kind.s_kv, kind.d});
  d.v = contiguous(at[2], kind.type, {kBatch, kind.heads_kv, kind.s_kv, kind.d});
  if (kind.lengths) d.kv_lengths = contiguous(at[3], QKV_TYPE_I32, {kBatch, 1, 1, 1});
  d.o = contiguous(at[4], kind.type, {kBatch, kind.heads_q, kind.s_q, kind.d});
  d.lse = contiguous(at[5], QKV_TYPE_F32, {kBatch, kind.heads_q, kind.s_q, 1});
  d.causal = kind.causal ? 1 : 0;
  if (device == QKV_DEVICE_CPU) d.flags = QKV_FLAG_ALLOW_ALLOCATION;
  return d;
}

}  // namespace

std::vector<std::byte> random_bytes(int64_t count, uint64_t seed, float deviation) {
  Random random(seed);
  std::vector<std::byte> image(static_cast<size_t>(count) * sizeof(float));
  for (int64_t i = 0; i < count; ++i)
    store(QKV_TYPE_F32, &image[static_cast<size_t>(i) * sizeof(float)],
          deviation * random.normal());
  return image;
}

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

RandomInputs::RandomInputs(const Kind& kind, uint64_t seed) {
  Random random(seed);
  q = numbers(kind.type, kBatch * kind.heads_q * kind.s_q * kind.d, random);
  k = numbers(kind.type, kBatch * kind.heads_kv * kind.s_kv * kind.d, random);
  v = numbers(kind.type, kBatch * kind.heads_kv * kind.s_kv * kind.d, random);
  lengths.resize(kBatch * sizeof(int32_t));
  for (int64_t b = 0; b < kBatch; ++b) {
    write(&lengths[static_cast<size_t>(b) * 4], static_cast<int32_t>(random.integer(1, kind.s_kv)));
  }
}

Problem::Problem(const Kind& kind, uint64_t seed)
    : kind_(kind),
      inputs_(kind, seed),
      q_(inputs_.q.size()),
      k_(inputs_.k.size()),
      v_(inputs_.v.size()),
      lengths_(inputs_.lengths.size()),
      o_(inputs_.q.size()),
      lse_(static_cast<size_t>(kBatch * kind.heads_q * kind.s_q) * sizeof(float)) {
  upload(inputs_, nullptr);
  CUDA(cudaStreamSynchronize(nullptr));
}

qkv_attention_desc Problem::desc(qkv_device device) const {
  return describe(kind_, {q_.data(), k_.data(), v_.data(), lengths_.data(), o_.data(), lse_.data()},
                  device);
}

void Problem::upload(const RandomInputs& inputs, cudaStream_t stream) const {
  q_.put(inputs.q, stream);
  k_.put(inputs.k, stream);
  v_.put(inputs.v, stream);
  lengths_.put(inputs.lengths, stream);
  CUDA(cudaMemsetAsync(o_.data(), 0xff, o_.bytes(), stream));
  CUDA(cudaMemsetAsync(lse_.data(), 0xff, lse_.bytes(), stream));
}

std::vector<std::byte> Problem::result(cudaStream_t stream) const {
  std::vector<std::byte> bits(o_.bytes() + lse_.bytes());
  o_.get(bits.data(), stream);
  lse_.get(bits.data() + o_.bytes(), stream);
  CUDA(cudaStreamSynchronize(stream));
  return bits;
}

double distance_to_cpu(const Kind& kind, const RandomInputs& given,
                       const std::vector<std::byte>& bits) {
  RandomInputs in = given;
  std::vector<std::byte> o(in.q.size()), lse(bits.size() - o.size());
  const qkv_attention_desc d = describe(
      kind, {in.q.data(), in.k.data(), in.v.data(), in.lengths.data(), o.data(), lse.data()},
      QKV_DEVICE_CPU);
  EXPECT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
  double worst = 0;
  const auto compare = [&](qkv_type type, const std::byte* a, const std::byte* b, size_t bytes) {
    for (size_t i = 0; i < bytes; i += element_bytes(type)) {
      const double x = load(type, a + i), y = load(type, b + i);
      if (x == y) continue;
      const double error = std::fabs(x - y) / (1 + std::fabs(y)) / unit_roundoff(type);
      worst = std::isnan(error) ? kInf : std::max(worst, error);
    }
  };
  compare(kind.type, bits.data(), o.data(), o.size());
  compare(QKV_TYPE_F32, bits.data() + o.size(), lse.data(), lse.size());
  return worst;
}

void Gpu::SetUp() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  if (error != cudaSuccess || count == 0)
    GTEST_SKIP() << "no CUDA device; runs on the virtual GPU (vgpu_T14_* to T18_*)";
  devices_ = count;
}

std::vector<std::vector<std::byte>> serial_results() {
  std::vector<std::vector<std::byte>> want;
  for (int k = 0; k < kKindCount; ++k) {
    const Problem p(kKinds[k], static_cast<uint64_t>(k));
    const qkv_attention_desc d = p.desc();
    EXPECT_EQ(qkv_attention(&d, nullptr), QKV_SUCCESS) << qkv_last_error();
    want.push_back(p.result(nullptr));
    EXPECT_LT(distance_to_cpu(p.kind(), p.inputs(), want.back()), kCloseEnough) << "kind " << k;
  }
  return want;
}

}  // namespace qkv::test
