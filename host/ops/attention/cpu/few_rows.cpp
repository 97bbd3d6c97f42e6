#include "host/ops/attention/cpu/few_rows.h"

#include <algorithm>
#include <cstddef>

#include "host/core/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/ops/attention/cpu/few_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "host/core/cpu/dispatch.h"
#include "host/core/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qkv::cpu::HWY_NAMESPACE {

// How far ahead of its use memory is fetched: what is computed with, or comes, in the memory's
// latency. Of many heads' rows, which are long, fewer.
constexpr int64_t kFetchRows = 16, kFetchRowsOfHeads = 14, kFetchBytes = 4096;

// Keys that are multiplied by all rows before the next ones are: they are in the cache meanwhile. A
// multiple of every kKeys below.
constexpr int64_t kBlock = 12;

// How elements in memory become fp32.
struct AsF32 {
  using Element = float;
  static HWY_INLINE V32 Load(const float* from) { return hn::LoadU(F32(), from); }
};
struct AsBf16 {
  using Element = uint16_t;
  static HWY_INLINE V32 Load(const uint16_t* from) {
    return FromBf16(F32(), hn::LoadU(U16(), from));
  }
};
struct AsF16 {
  using Element = uint16_t;
  static HWY_INLINE V32 Load(const uint16_t* from) {
    return FromF16(F32(), hn::LoadU(U16(), from));
  }
};

// The last n elements of a row, fewer than a vector: nothing behind them is read.
template <class Type>
HWY_INLINE V32 LoadLast(const typename Type::Element* from, int64_t n) {
  HWY_ALIGN typename Type::Element last[kLanes] = {};
  std::copy_n(from, n, last);
  return Type::Load(last);
}

// Fetches rows that will be used later, a cache line at a time, in the order of memory, in which
// the heads of a key follow each other: as many lines at a time as are computed with, for a core
// has few misses under way at once, and more of them would hold up its loads.
class Fetcher {
 public:
  HWY_INLINE Fetcher(const void* first_row, int64_t row_bytes, int64_t pitch)
      : row_(static_cast<const char*>(first_row)), at_(row_), bytes_(row_bytes), pitch_(pitch) {}

  // So many rows may be fetched from now on, besides those that were not before.
  HWY_INLINE void Allow(int64_t rows) { lines_ += rows * ((bytes_ + kLine - 1) / kLine); }

  HWY_INLINE void Next() {
    if (lines_ == 0) return;
    --lines_;
    __builtin_prefetch(at_, 0, 3);
    at_ += kLine;
    if (at_ - row_ < bytes_) return;
    row_ += pitch_;
    at_ = row_;
  }

 private:
  static constexpr int64_t kLine = 64;
  const char* row_;
  const char* at_;
  int64_t bytes_, pitch_, lines_ = 0;
};

// Rows of a head's keys or values.
template <class Type>
struct Rows {
  using Element = typename Type::Element;
  static constexpr int64_t kSize = sizeof(Element);

  const Element* data;
  int64_t stride, dim;

  HWY_INLINE Rows(const KeyRows& x, int64_t head)
      : data(static_cast<const Element*>(x.data) + head * x.head_stride),
        stride(x.stride),
        dim(x.dim) {}

  HWY_INLINE const Element* At(int64_t row, int64_t column) const {
    return data + row * stride + column;
  }
  // From kFetchRows or kFetchBytes behind the first row on, whichever is more.
  static HWY_INLINE Fetcher Ahead(const KeyRows& x) {
    const int64_t bytes = std::max<int64_t>(x.heads * x.dim * kSize, 1);
    const int64_t rows =
        std::max(x.heads > 1 ? kFetchRowsOfHeads : kFetchRows, kFetchBytes / bytes);
    return {Rows(x, 0).At(rows, 0), bytes, x.stride * kSize};
  }
  // Whether a cache line of a row begins there, counted from the row's first element.
  static HWY_INLINE bool LineBegins(int64_t column) { return column * kSize % 64 == 0; }
};

// The sums of all lanes of four vectors, sums[i] of x[i].
HWY_INLINE void SumsOfFour(const V32* x, float* sums) {
  const F32 d;
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < 4; ++i) sums[i] = hn::GetLane(hn::SumOfLanes(d, x[i]));
#else
  const hn::Repartition<uint64_t, F32> d64;
  const auto pairs = [&](V32 a, V32 b) HWY_ATTR {
    return hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  };
  const auto first = pairs(x[0], x[1]), last = pairs(x[2], x[3]);
  // In each block of four lanes a sum of its own lanes for each of the vectors.
  const V32 blocks = hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, first, last)),
                             hn::BitCast(d, hn::InterleaveUpper(d64, first, last)));
  HWY_ALIGN float lanes[kLanes];
  hn::Store(blocks, d, lanes);
  const hn::CappedTag<float, 4> d4;
  auto sum = hn::Load(d4, lanes);
  for (size_t i = 4; i < hn::Lanes(d); i += 4) sum = hn::Add(sum, hn::Load(d4, lanes + i));
  hn::StoreU(sum, d4, sums);
#endif
}

// s[r, j] of kRows rows and kKeys keys from `first` on; one of both is a multiple of 4, or all is
// filled up with zeros.
template <class Type, int kRows, int kKeys>
HWY_INLINE void Dots(const float* HWY_RESTRICT q, int64_t pitch, const Rows<Type>& k, int64_t first,
                     float* HWY_RESTRICT s, int64_t width, Fetcher& ahead) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  constexpr int kSums = (kRows * kKeys + 3) / 4 * 4;
  V32 sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = hn::Zero(d);
  V32 x[kKeys];
  const auto add = [&](int64_t c) HWY_ATTR {
    for (int r = 0; r < kRows; ++r) {
      const V32 y = hn::LoadU(d, q + r * pitch + c);
      for (int j = 0; j < kKeys; ++j) sum[r * kKeys + j] = hn::MulAdd(y, x[j], sum[r * kKeys + j]);
    }
  };
  int64_t c = 0;
  for (; c + step <= k.dim; c += step) {
    for (int j = 0; j < kKeys; ++j) {
      x[j] = Type::Load(k.At(first + j, c));
      if (k.LineBegins(c)) ahead.Next();
    }
    add(c);
  }
  if (c < k.dim) {
    for (int j = 0; j < kKeys; ++j) x[j] = LoadLast<Type>(k.At(first + j, c), k.dim - c);
    add(c);
  }
  HWY_ALIGN float sums[kSums];
  for (int i = 0; i < kSums; i += 4) SumsOfFour(sum + i, sums + i);
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kKeys; ++j) s[r * width + first + j] = sums[r * kKeys + j];
}

// The same of keys [first, end), kKeys at a time.
template <class Type, int kRows, int kKeys>
HWY_INLINE void DotsOfKeys(const float* q, int64_t pitch, const Rows<Type>& k, int64_t first,
                           int64_t end, float* s, int64_t width, Fetcher& ahead) {
  int64_t j = first;
  for (; j + kKeys <= end; j += kKeys) Dots<Type, kRows, kKeys>(q, pitch, k, j, s, width, ahead);
  for (; j < end; ++j) Dots<Type, kRows, 1>(q, pitch, k, j, s, width, ahead);
}

template <class Type>
HWY_INLINE void ScoresOf(const float* q, int64_t rows, int64_t pitch, const KeyRows& keys, float* s,
                         int64_t width) {
  const int64_t of_head = rows / keys.heads;
  Fetcher ahead = Rows<Type>::Ahead(keys);
  for (int64_t j = 0; j < keys.keys; j += kBlock) {
    const int64_t end = std::min(j + kBlock, keys.keys);
    ahead.Allow(end - j);
    for (int64_t h = 0; h < keys.heads; ++h) {
      const Rows<Type> k(keys, h);
      const int64_t last = (h + 1) * of_head;
      int64_t r = h * of_head;
      for (; r + 4 <= last; r += 4)
        DotsOfKeys<Type, 4, 3>(q + r * pitch, pitch, k, j, end, s + r * width, width, ahead);
      for (; r + 2 <= last; r += 2)
        DotsOfKeys<Type, 2, 4>(q + r * pitch, pitch, k, j, end, s + r * width, width, ahead);
      if (r < last)
        DotsOfKeys<Type, 1, 4>(q + r * pitch, pitch, k, j, end, s + r * width, width, ahead);
    }
  }
}

void FewScores(const float* q, int64_t rows, int64_t pitch, const KeyRows& k, float* s,
               int64_t width) {
  if (k.type == QKV_TYPE_F32) {
    ScoresOf<AsF32>(q, rows, pitch, k, s, width);
  } else if (k.type == QKV_TYPE_BF16) {
    ScoresOf<AsBf16>(q, rows, pitch, k, s, width);
  } else {
    ScoresOf<AsF16>(q, rows, pitch, k, s, width);
  }
}

// A tile's P and O, from some row and column on.
struct Sums {
  const float* p;
  int64_t width;
  float* o;
  int64_t pitch;
};

// kVectors vectors of columns from `c` on of kRows rows of O, over keys [first, end).
template <class Type, int kRows, int kVectors>
HWY_INLINE void AddValues(const Sums& to, const Rows<Type>& v, int64_t first, int64_t end,
                          int64_t c, Fetcher& ahead) {
  const F32 d;
  const auto step = static_cast<int64_t>(hn::Lanes(d));
  const float* HWY_RESTRICT p = to.p;
  float* HWY_RESTRICT o = to.o + c;
  V32 sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kVectors; ++i) sum[r][i] = hn::LoadU(d, o + r * to.pitch + i * step);
  for (int64_t j = first; j < end; ++j) {
    V32 x[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      x[i] = Type::Load(v.At(j, c + i * step));
      if (v.LineBegins(c + i * step)) ahead.Next();
    }
    for (int r = 0; r < kRows; ++r) {
      const V32 weight = hn::Set(d, p[r * to.width + j]);
      for (int i = 0; i < kVectors; ++i) sum[r][i] = hn::MulAdd(weight, x[i], sum[r][i]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int i = 0; i < kVectors; ++i) hn::StoreU(sum[r][i], d, o + r * to.pitch + i * step);
}

// The columns that are left: fewer than a vector.
template <class Type>
HWY_INLINE void AddLastValues(const Sums& to, const Rows<Type>& v, int64_t first, int64_t end,
                              int64_t c) {
  const F32 d;
  const int64_t n = v.dim - c;
  HWY_ALIGN float last[kLanes] = {};
  std::copy_n(to.o + c, n, last);
  V32 sum = hn::Load(d, last);
  for (int64_t j = first; j < end; ++j)
    sum = hn::MulAdd(hn::Set(d, to.p[j]), LoadLast<Type>(v.At(j, c), n), sum);
  hn::Store(sum, d, last);
  std::copy_n(last, n, to.o + c);
}

// All columns of kRows rows, kVectors vectors at a time.
template <class Type, int kRows, int kVectors>
HWY_INLINE void AddColumns(const Sums& to, const Rows<Type>& v, int64_t first, int64_t end,
                           Fetcher& ahead) {
  const auto step = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t c = 0;
  for (; c + kVectors * step <= v.dim; c += kVectors * step)
    AddValues<Type, kRows, kVectors>(to, v, first, end, c, ahead);
  for (; c + step <= v.dim; c += step) AddValues<Type, kRows, 1>(to, v, first, end, c, ahead);
  if (c == v.dim) return;
  for (int r = 0; r < kRows; ++r)
    AddLastValues({to.p + r * to.width, to.width, to.o + r * to.pitch, to.pitch}, v, first, end, c);
}

template <class Type>
HWY_INLINE void ValuesOf(const Sums& to, int64_t rows, const KeyRows& values) {
  const int64_t of_head = rows / values.heads;
  Fetcher ahead = Rows<Type>::Ahead(values);
  for (int64_t j = 0; j < values.keys; j += kBlock) {
    const int64_t end = std::min(j + kBlock, values.keys);
    ahead.Allow(end - j);
    const auto from = [&](int64_t r) {
      return Sums{to.p + r * to.width, to.width, to.o + r * to.pitch, to.pitch};
    };
    for (int64_t h = 0; h < values.heads; ++h) {
      const Rows<Type> v(values, h);
      const int64_t last = (h + 1) * of_head;
      int64_t r = h * of_head;
      for (; r + 4 <= last; r += 4) AddColumns<Type, 4, 2>(from(r), v, j, end, ahead);
      for (; r + 2 <= last; r += 2) AddColumns<Type, 2, 4>(from(r), v, j, end, ahead);
      if (r < last) AddColumns<Type, 1, 8>(from(r), v, j, end, ahead);
    }
  }
}

// NOLINTNEXTLINE(readability-non-const-parameter): the sums are written through
void FewValues(const float* p, int64_t rows, int64_t width, const KeyRows& v, float* o) {
  const Sums to{p, width, o, v.dim};
  if (v.type == QKV_TYPE_F32) {
    ValuesOf<AsF32>(to, rows, v);
  } else if (v.type == QKV_TYPE_BF16) {
    ValuesOf<AsBf16>(to, rows, v);
  } else {
    ValuesOf<AsF16>(to, rows, v);
  }
}

}  // namespace qkv::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace qkv::cpu {

HWY_EXPORT(FewScores);
HWY_EXPORT(FewValues);

void few_scores(const float* q, int64_t rows, int64_t pitch, const KeyRows& k, float* s,
                int64_t width) {
  HWY_DYNAMIC_DISPATCH(FewScores)(q, rows, pitch, k, s, width);
}

void few_values(const float* p, int64_t rows, int64_t width, const KeyRows& v, float* o) {
  HWY_DYNAMIC_DISPATCH(FewValues)(p, rows, width, v, o);
}

}  // namespace qkv::cpu
#endif  // HWY_ONCE
