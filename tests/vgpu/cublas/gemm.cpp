#include "cublas/gemm.h"

#include <cstdio>
#include <deque>
#include <mutex>
#include <vector>

#include "common/minifloat.h"
#include "machine/global_memory.h"

// Exported by the stand-in runtime: the host's view of device memory, and its map of defined bytes
// (null: all are), where the first one is at bit `offset`.
extern "C" void* __cudaVgpuView(const void* device, size_t bytes, vgpu::u64** defined,
                                vgpu::u64* offset);

namespace vgpu {

size_t element_bytes(cudaDataType_t t) {
  switch (t) {
    case CUDA_R_16F:
    case CUDA_R_16BF:
      return 2;
    case CUDA_R_32F:
      return 4;
    case CUDA_R_64F:
      return 8;
    default:
      return 0;
  }
}

namespace {

double load(const u8* p, cudaDataType_t t, i64 i) {
  switch (t) {
    case CUDA_R_16F:
      return half_to_float(reinterpret_cast<const u16*>(p)[i]);
    case CUDA_R_16BF:
      return bf16_to_float(reinterpret_cast<const u16*>(p)[i]);
    case CUDA_R_32F:
      return reinterpret_cast<const float*>(p)[i];
    default:
      return reinterpret_cast<const double*>(p)[i];
  }
}
void store(u8* p, cudaDataType_t t, i64 i, double v) {
  switch (t) {
    case CUDA_R_16F:
      reinterpret_cast<u16*>(p)[i] =
          static_cast<u16>(encode(kF16, v, Rounding::kNearestEven, false));
      break;
    case CUDA_R_16BF:
      reinterpret_cast<u16*>(p)[i] =
          static_cast<u16>(encode(kBf16, v, Rounding::kNearestEven, false));
      break;
    case CUDA_R_32F:
      reinterpret_cast<float*>(p)[i] = static_cast<float>(v);
      break;
    default:
      reinterpret_cast<double*>(p)[i] = v;
      break;
  }
}

// Which elements of a matrix are defined.
struct Defined {
  u64* map;
  u64 offset;
  size_t bytes;

  u64 at(i64 element) const { return offset + static_cast<u64>(element) * bytes; }
  bool get(i64 element) const { return map == nullptr || all_set(map, at(element), bytes); }
  void set(i64 element, bool defined) const {
    if (map != nullptr) put_bits(map, at(element), bytes, defined ? ~u64{0} : 0);
  }
};

i64 extent(i64 rows, i64 columns, i64 ld) {
  return rows == 0 || columns == 0 ? 0 : (columns - 1) * ld + rows;
}

}  // namespace

void Gemm::run() const {
  for (i64 i = 0; i < batch; ++i) one(i);
}

void Gemm::one(i64 index) const {
  const size_t ea = element_bytes(type_a), eb = element_bytes(type_b), ec = element_bytes(type_c);
  const i64 rows_a = transpose_a ? k : m, columns_a = transpose_a ? m : k;
  const i64 rows_b = transpose_b ? n : k, columns_b = transpose_b ? k : n;
  Defined defined_a{nullptr, 0, ea}, defined_b{nullptr, 0, eb}, defined_c{nullptr, 0, ec};
  const auto view = [&](const void* p, i64 offset, i64 count, Defined& d) {
    const u8* at = static_cast<const u8*>(p) + offset * static_cast<i64>(d.bytes);
    return static_cast<u8*>(
        __cudaVgpuView(at, static_cast<size_t>(count) * d.bytes, &d.map, &d.offset));
  };
  const u8* pa = view(a, index * stride_a, extent(rows_a, columns_a, lda), defined_a);
  const u8* pb = view(b, index * stride_b, extent(rows_b, columns_b, ldb), defined_b);
  u8* pc = view(c, index * stride_c, extent(m, n, ldc), defined_c);
  if (pa == nullptr || pb == nullptr || pc == nullptr) {
    std::fprintf(stderr, "vgpu: a GEMM operand is not in device memory\n");
    return;
  }
  Defined defined_bias{nullptr, 0, ec};
  const u8* pbias = bias == nullptr ? nullptr : view(bias, index * stride_bias, m, defined_bias);
  if (bias != nullptr && pbias == nullptr) {
    std::fprintf(stderr, "vgpu: a GEMM's bias is not in device memory\n");
    return;
  }
  std::vector<double> row(static_cast<size_t>(k)), columns(static_cast<size_t>(k * n));
  // An element of C is as defined as all that goes into it.
  std::vector<char> column_defined(static_cast<size_t>(n), 1);
  for (i64 j = 0; j < n; ++j) {
    for (i64 x = 0; x < k; ++x) {
      const i64 at = transpose_b ? x * ldb + j : j * ldb + x;
      columns[static_cast<size_t>(j * k + x)] = load(pb, type_b, at);
      if (!defined_b.get(at)) column_defined[static_cast<size_t>(j)] = 0;
    }
  }
  for (i64 i = 0; i < m; ++i) {
    bool row_defined = pbias == nullptr || defined_bias.get(i);
    for (i64 x = 0; x < k; ++x) {
      const i64 at = transpose_a ? i * lda + x : x * lda + i;
      row[static_cast<size_t>(x)] = load(pa, type_a, at);
      row_defined = row_defined && defined_a.get(at);
    }
    for (i64 j = 0; j < n; ++j) {
      double sum = 0;
      const double* column = &columns[static_cast<size_t>(j * k)];
      for (i64 x = 0; x < k; ++x) sum += row[static_cast<size_t>(x)] * column[x];
      const i64 at = j * ldc + i;
      const double old = beta == 0 ? 0 : beta * load(pc, type_c, at);
      const double added = pbias == nullptr ? 0 : load(pbias, type_c, i);
      store(pc, type_c, at, alpha * sum + old + added);
      defined_c.set(at, row_defined && column_defined[static_cast<size_t>(j)] != 0 &&
                            (beta == 0 || defined_c.get(at)));
    }
  }
}

cudaError_t enqueue(cudaStream_t stream, const Gemm& gemm) {
  static std::mutex mutex;
  static auto* kept = new std::deque<Gemm>;
  Gemm* work = nullptr;
  {
    std::lock_guard lock(mutex);
    work = &kept->emplace_back(gemm);
  }
  return cudaLaunchHostFunc(
      stream, [](void* p) { static_cast<const Gemm*>(p)->run(); }, work);
}

}  // namespace vgpu
