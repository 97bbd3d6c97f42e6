// The vector pieces of the CPU backend one by one, on every instruction set that the machine has:
// exp and tanh, conversions, softmax and argmax of a tile.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "host/core/cpu/convert.h"
#include "host/core/cpu/dispatch.h"
#include "host/core/numeric.h"
#include "host/ops/attention/cpu/scores.h"
#include "host/ops/attention/cpu/softmax.h"

namespace qkv::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// 64-byte aligned floats, as the kernels' scratch is.
class Floats {
 public:
  explicit Floats(int64_t n, float value = 0)
      : size_(n),
        data_(static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(round_up(n, 16)) * 4)),
              std::free) {
    std::fill_n(data_.get(), n, value);
  }
  operator float*() { return data_.get(); }
  float* begin() { return data_.get(); }
  float* end() { return data_.get() + size_; }

 private:
  int64_t size_;
  std::unique_ptr<float, void (*)(void*)> data_;
};

void fill_normal(Floats* x, uint64_t seed, float sigma = 1) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, sigma);
  for (float& value : *x) value = normal(random);
}

double ulps(float got, double want) {
  const int exponent = std::max(std::ilogb(want), -126);
  return std::abs(static_cast<double>(got) - want) / std::ldexp(1.0, exponent - 23);
}

class OnEveryTarget : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { chosen_target().Update(GetParam()); }
  void TearDown() override { chosen_target().Update(supported_targets()); }
};

std::vector<int64_t> targets() {
  std::vector<int64_t> out;
  for (int64_t rest = supported_targets(); rest != 0; rest &= rest - 1) {
    out.push_back(rest & -rest);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Simd, OnEveryTarget, testing::ValuesIn(targets()), [](const auto& target) {
  return std::string(hwy::TargetName(target.param));
});

// All of [log(2^-126), -0], every 499th float.
TEST_P(OnEveryTarget, ExpIsWithinOneUlp) {
  std::vector<float> x, y;
  const uint32_t last = std::bit_cast<uint32_t>(-87.33654f);
  for (uint32_t bits = 0x80000000u; bits <= last; bits += 499) {
    x.push_back(std::bit_cast<float>(bits));
  }
  y.resize(x.size());
  exp_array(x.data(), y.data(), std::ssize(x));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, ulps(y[i], std::exp(static_cast<double>(x[i]))));
  }
  EXPECT_LE(worst, 1.0);
}

// For 16-bit types: the bound is simd-inl.h's, wider where nothing fuses a multiply-add.
TEST_P(OnEveryTarget, ExpOf16BitsIsWithinItsBound) {
  std::vector<float> x, y;
  const uint32_t last = std::bit_cast<uint32_t>(-87.33654f);
  for (uint32_t bits = 0x80000000u; bits <= last; bits += 499)
    x.push_back(std::bit_cast<float>(bits));
  y.resize(x.size());
  exp_array(x.data(), y.data(), std::ssize(x), true);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::abs(y[i] / std::exp(static_cast<double>(x[i])) - 1));
  const bool fused = GetParam() == HWY_AVX2 || GetParam() == HWY_AVX3;
  EXPECT_LE(worst, fused ? 0x1p-21 : 0x1p-17);
}

TEST_P(OnEveryTarget, ExpOfSpecialValues) {
  for (const bool of_16_bits : {false, true}) {
    const float x[] = {0.0f, -0.0f, -kInf, -1e30f, -104.1f, -103.0f, kNaN, 1e-7f};
    float y[std::size(x)];
    exp_array(x, y, std::ssize(x), of_16_bits);
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(y[1], 1.0f);
    for (int i : {2, 3, 4}) EXPECT_EQ(std::bit_cast<uint32_t>(y[i]), 0u) << x[i];
    EXPECT_EQ(std::bit_cast<uint32_t>(y[5]), 0u);  // would be subnormal
    EXPECT_TRUE(std::isnan(y[6]));
    EXPECT_FLOAT_EQ(y[7], 1.0f);
  }
}

TEST_P(OnEveryTarget, TanhIsWithinThreeUlps) {
  std::vector<float> x, y;
  for (uint32_t bits = 0; bits <= std::bit_cast<uint32_t>(30.0f); bits += 997) {
    x.push_back(std::bit_cast<float>(bits));
    x.push_back(-x.back());
  }
  y.resize(x.size());
  tanh_array(x.data(), y.data(), std::ssize(x));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, ulps(y[i], std::tanh(static_cast<double>(x[i]))));
  }
  EXPECT_LE(worst, 3.0);
  const float special[] = {kInf, -kInf, kNaN, -0.0f};
  float out[4];
  tanh_array(special, out, 4);
  EXPECT_EQ(out[0], 1.0f);
  EXPECT_EQ(out[1], -1.0f);
  EXPECT_TRUE(std::isnan(out[2]));
  EXPECT_TRUE(out[3] == 0 && std::signbit(out[3]));
}

// Scores of one dim with weight 1: tanh(q + k) of each pair.
struct AdditiveTile {
  static constexpr int64_t kDim = kLanes;

  explicit AdditiveTile(const std::vector<float>& queries, const std::vector<float>& keys)
      : rows(std::ssize(queries)),
        width(round_up(std::ssize(keys), kLanes)),
        q(rows * kDim),
        k(width * kDim),
        w(kDim),
        s(rows * width, kNaN),
        scratch(static_cast<int64_t>(additive_scratch_bytes(rows, kDim) / sizeof(float)), kNaN) {
    for (int64_t r = 0; r < rows; ++r) q[r * kDim] = queries[static_cast<size_t>(r)];
    for (int64_t j = 0; j < std::ssize(keys); ++j) k[j * kDim] = keys[static_cast<size_t>(j)];
    w[0] = 1;
  }
  void run() {
    additive_scores(q, k, w, rows, width, kDim, s, reinterpret_cast<std::byte*>(scratch.begin()));
  }

  int64_t rows, width;
  Floats q, k, w, s, scratch;
};

// What scores.h promises, in the range of the rational form, at its edge and beyond.
TEST_P(OnEveryTarget, AdditiveScoresErrByAPartOfOne) {
  std::vector<float> x;
  for (float at = 1e-6f; at < 300; at *= 1.37f) x.insert(x.end(), {at, -at});
  x.insert(x.end(), {0.0f, -0.0f, 20.0f, -20.0f, std::nextafter(20.0f, 21.0f), 3e38f, -3e38f});
  AdditiveTile tile(x, x);
  tile.run();
  double worst = 0;
  for (size_t r = 0; r < x.size(); ++r) {
    for (size_t j = 0; j < x.size(); ++j) {
      const double want = std::tanh(static_cast<double>(x[r]) + static_cast<double>(x[j]));
      const float got = tile.s[static_cast<int64_t>(r) * tile.width + static_cast<int64_t>(j)];
      worst = std::max(worst, std::abs(static_cast<double>(got) - want));
    }
  }
  EXPECT_LE(worst, 0x1p-21);
  std::printf("tanh errs by at most 2^%.2f\n", std::log2(worst));
}

TEST_P(OnEveryTarget, AdditiveScoresPassOnWhatIsNoNumber) {
  AdditiveTile tile({0.5f, kInf, kNaN, -kInf}, {0.25f, -kInf, kNaN, kInf, 1e30f});
  tile.run();
  for (int64_t r = 0; r < 4; ++r) {
    for (int64_t j = 0; j < 5; ++j) {
      const float want = std::tanh(tile.q[r * AdditiveTile::kDim] + tile.k[j * AdditiveTile::kDim]);
      const float got = tile.s[r * tile.width + j];
      EXPECT_TRUE(std::isnan(want) ? std::isnan(got) : std::abs(got - want) < 1e-6f)
          << r << " " << j << ": " << got << " instead of " << want;
    }
  }
  for (const float weight : {kInf, kNaN, 1e38f}) {
    tile.w[0] = weight;
    tile.run();
    const float want = weight * std::tanh(0.75f), got = tile.s[0];
    EXPECT_TRUE(std::isnan(want) ? std::isnan(got)
                                 : got == want || std::abs(got / want - 1) < 1e-6f)
        << weight << ": " << got;
  }
}

// The best that four dims can do to one denominator: all of them far out, and large weights.
TEST_P(OnEveryTarget, AdditiveScoresDoNotOverflow) {
  for (const float far : {19.9f, -19.9f}) {
    AdditiveTile tile({far}, {far});
    for (int64_t c = 0; c < AdditiveTile::kDim; ++c)
      tile.q[c] = tile.k[c] = far, tile.w[c] = 0x1p30f;
    tile.run();
    EXPECT_EQ(tile.s[0], std::copysign(16 * 0x1p30f, far));
  }
}

// A score depends on nothing beside its own row and key.
TEST_P(OnEveryTarget, AdditiveScoresKnowNoNeighbours) {
  std::vector<float> x{0.3f, -0.7f, 1.1f};
  AdditiveTile tile(x, x);
  tile.run();
  for (const float neighbour : {500.0f, kNaN}) {
    x.back() = neighbour;
    AdditiveTile other(x, x);
    other.run();
    for (int64_t r = 0; r < 2; ++r)
      for (int64_t j = 0; j < 2; ++j)
        EXPECT_EQ(other.s[r * tile.width + j], tile.s[r * tile.width + j]) << neighbour;
  }
}

TEST_P(OnEveryTarget, WideningIsExactForEveryValue) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> out(bits.size());
  const auto check = [&](auto to_scalar, qkv_type type) {
    to_float(bits.data(), type, 1, std::ssize(bits), out.data());
    for (size_t i = 0; i < bits.size(); ++i) {
      const float want = to_scalar(bits[i]);
      if (std::isnan(want) ? !std::isnan(out[i]) : out[i] != want) {
        ADD_FAILURE() << "bits " << i << ": " << out[i] << " instead of " << want;
      }
    }
  };
  check([](uint16_t b) { return host::to_float(host::Half{b}); }, QKV_TYPE_F16);
  check([](uint16_t b) { return host::to_float(host::Bfloat{b}); }, QKV_TYPE_BF16);
}

TEST_P(OnEveryTarget, NarrowingRoundsToNearestEven) {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 65521 * 7) {
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  }
  for (uint32_t i = 0; i < 65536; i += 3) {  // halfway between two bf16, and two fp16
    x.push_back(std::bit_cast<float>(i << 16 | 0x8000u));
    x.push_back(host::to_float(host::Half{static_cast<uint16_t>(i)}) * (1 + 0x1p-11f));
  }
  x.push_back(std::bit_cast<float>(0x7fffffffu));  // a NaN that must not round up into -0
  std::vector<uint16_t> out(x.size());
  const auto check = [&](auto narrow, qkv_type type) {
    from_float(x.data(), std::ssize(x), out.data(), type, 1);
    for (size_t i = 0; i < x.size(); ++i) {
      const auto want = narrow(x[i]);
      const float got = host::to_float(decltype(want){out[i]});
      if (std::isnan(x[i]) ? !std::isnan(got) : out[i] != want.bits) {
        ADD_FAILURE() << x[i] << ": " << out[i] << " instead of " << want.bits;
      }
    }
  };
  check([](float f) { return host::from_float<host::Half>(f); }, QKV_TYPE_F16);
  check([](float f) { return host::from_float<host::Bfloat>(f); }, QKV_TYPE_BF16);
}

struct State {
  explicit State(int64_t rows, int64_t d_v) : m(rows, -kInf), l(rows), o(rows * d_v, 1.0f) {}
  Floats m, l, o;
};

TEST_P(OnEveryTarget, SoftmaxOfTwoTilesIsSoftmaxOfOne) {
  constexpr int64_t kRows = 5, kWidth = 64, kDv = 19;
  constexpr float kScale = 0.375f;
  Floats s(kRows * kWidth * 2);
  fill_normal(&s, 1, 20);
  Floats first(kRows * kWidth), second(kRows * kWidth);
  std::copy_n(s.begin(), kRows * kWidth, first.begin());
  std::copy_n(s.begin() + kRows * kWidth, kRows * kWidth, second.begin());
  const int32_t begin[kRows] = {0, 3, 16, 63, 40}, end[kRows] = {64, 17, 16, 64, 20};
  State state(kRows, kDv);
  const SoftmaxState view{state.m, state.l, state.o, kDv};
  online_softmax({first, nullptr, kRows, kWidth, kScale, nullptr, nullptr}, view);
  Floats m_before(kRows);
  std::copy(state.m.begin(), state.m.end(), m_before.begin());
  for (float o : state.o) EXPECT_EQ(o, 0.0f);  // 1 before: from m = -inf, everything scales to 0
  std::fill(state.o.begin(), state.o.end(), 1.0f);
  online_softmax({second, nullptr, kRows, kWidth, kScale, begin, end}, view);

  for (int64_t r = 0; r < kRows; ++r) {
    double m = -INFINITY, l = 0;
    const auto score = [&](int64_t tile, int64_t j) {
      return s[tile * kRows * kWidth + r * kWidth + j] * kScale;
    };
    const auto visible = [&](int64_t tile, int64_t j) {
      return tile == 0 || (j >= begin[r] && j < end[r]);
    };
    for (int64_t tile : {0, 1}) {
      for (int64_t j = 0; j < kWidth; ++j) {
        if (visible(tile, j)) m = std::max<double>(m, score(tile, j));
      }
    }
    for (int64_t tile : {0, 1}) {
      for (int64_t j = 0; j < kWidth; ++j) {
        if (visible(tile, j)) l += std::exp(score(tile, j) - m);
      }
    }
    EXPECT_EQ(state.m[r], m);
    EXPECT_NEAR(state.l[r], l, 1e-6 * l);
    for (int64_t j = 0; j < kWidth; ++j) {
      const float p = second[r * kWidth + j];
      const float want = visible(1, j) ? std::exp(score(1, j) - static_cast<float>(m)) : 0.0f;
      EXPECT_NEAR(p, want, 1e-6f * want) << r << "," << j;
    }
    const float alpha = std::exp(m_before[r] - static_cast<float>(m));
    for (int64_t d = 0; d < kDv; ++d) {
      EXPECT_NEAR(state.o[r * kDv + d], alpha, 1e-6f * alpha);
    }
  }
}

TEST_P(OnEveryTarget, SoftmaxRoundsPAndSumsItUnrounded) {
  constexpr int64_t kWidth = 64;
  Floats s(kWidth), exact(kWidth);
  fill_normal(&s, 2);
  std::copy(s.begin(), s.end(), exact.begin());
  State reference(1, 1);
  online_softmax({exact, nullptr, 1, kWidth, 1, nullptr, nullptr, {}, {}, true},
                 {reference.m, reference.l, reference.o, 1});
  alignas(64) uint16_t p16[kWidth];
  State state(1, 1);
  online_softmax({s, p16, 1, kWidth, 1, nullptr, nullptr}, {state.m, state.l, state.o, 1});
  EXPECT_EQ(state.l[0], reference.l[0]);
  for (int64_t j = 0; j < kWidth; ++j)
    EXPECT_EQ(p16[j], host::from_float<host::Bfloat>(exact[j]).bits);
}

// Weights are never subnormal, and the softmax says where products with them may be.
TEST_P(OnEveryTarget, SoftmaxSaysWhereWeightsAreTiny) {
  constexpr int64_t kWidth = 64;
  const struct {
    float score;
    bool tiny;
  } rows[] = {{-40, false}, {-45, true}, {-87, true}, {-88, false}, {-200, false}, {-kInf, false}};
  for (const auto& row : rows) {
    Floats s(kWidth, 0.0f);
    s[kWidth - 2] = row.score;
    State state(1, 1);
    EXPECT_EQ(online_softmax({s, nullptr, 1, kWidth, 1, nullptr, nullptr},
                             {state.m, state.l, state.o, 1}),
              row.tiny)
        << row.score;
    EXPECT_FALSE(std::fpclassify(s[kWidth - 2]) == FP_SUBNORMAL) << row.score;
  }
}

TEST_P(OnEveryTarget, SoftmaxOfNothingAndOfNaN) {
  constexpr int64_t kWidth = 64;
  Floats s(4 * kWidth, -kInf);
  s[1 * kWidth + 7] = kNaN;
  s[2 * kWidth + 7] = kInf;
  std::fill_n(s + 3 * kWidth, kWidth, -std::numeric_limits<float>::max());
  State state(4, 1);
  const SoftmaxState view{state.m, state.l, state.o, 1};
  online_softmax({s, nullptr, 4, kWidth, 1, nullptr, nullptr}, view);
  EXPECT_EQ(state.m[0], -kInf);
  EXPECT_EQ(state.l[0], 0.0f);
  for (int64_t j = 0; j < kWidth; ++j) EXPECT_EQ(std::bit_cast<uint32_t>(s[j]), 0u);
  EXPECT_TRUE(std::isnan(state.l[1]));
  EXPECT_TRUE(std::isnan(s[kWidth + 7]));
  EXPECT_TRUE(std::isnan(state.l[2]));
  EXPECT_EQ(state.l[3], 64.0f);  // the lowest number is a score like others
}

TEST_P(OnEveryTarget, ArgmaxKeepsTheLowestOfTheBest) {
  constexpr int64_t kWidth = 64, kRows = 6;
  Floats s(kRows * kWidth, 1.0f);
  s[0 * kWidth + 9] = s[0 * kWidth + 40] = 3.0f;  // a tie
  s[1 * kWidth + 2] = kInf;
  s[1 * kWidth + 50] = s[1 * kWidth + 33] = kNaN;  // NaN beats +inf, the lower NaN wins
  s[2 * kWidth + 5] = 9.0f;                        // outside of the range
  std::fill_n(s + 3 * kWidth, kWidth, -kInf);      // nothing
  s[4 * kWidth + 0] = kNaN;                        // outside of the range
  const int32_t begin[kRows] = {0, 0, 6, 0, 1, 20}, end[kRows] = {64, 64, 64, 64, 30, 20};
  float m[kRows];
  int64_t index[kRows];
  std::fill_n(m, kRows, -kInf);
  std::fill_n(index, kRows, int64_t{-1});
  running_argmax({s, nullptr, kRows, kWidth, 2.0f, begin, end}, 100, m, index);
  const int64_t want[kRows] = {109, 133, 106, -1, 101, -1};
  for (int64_t r = 0; r < kRows; ++r) EXPECT_EQ(index[r], want[r]) << r;
  EXPECT_EQ(m[0], 6.0f);
  EXPECT_TRUE(std::isnan(m[1]));
  // A later tile wins only by more, and never against NaN.
  Floats later(kRows * kWidth, 3.0f);
  running_argmax({later, nullptr, kRows, kWidth, 2.0f, begin, end}, 200, m, index);
  const int64_t then[kRows] = {109, 133, 206, 200, 201, -1};
  for (int64_t r = 0; r < kRows; ++r) EXPECT_EQ(index[r], then[r]) << r;
}

TEST_P(OnEveryTarget, AlibiDistanceIsExactFarFromTheDiagonal) {
  Floats s(64);
  subtract_alibi(s, 64, 1.0f, 16777216 - 64);
  for (int64_t j = 0; j < 64; ++j) EXPECT_EQ(s[j], -static_cast<float>(16777216 - 64 - j));
}

}  // namespace
}  // namespace qkv::cpu
