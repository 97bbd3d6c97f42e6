// The CPU backend below the C ABI: what no tolerance sees. Probes that are right bit for bit,
// memory that must not be read, independence of threads, NaN and rows that see nothing.
#include <gtest/gtest.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "host/core/cpu/convert.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/attention/cpu/tile_products.h"
#include "tests/support/guarded.h"

namespace qkv::cpu {
namespace {

using host::View;
using host::attention::Problem;
using test::Guarded;
using test::normal;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// One problem over guarded memory, [batch, seq, heads, dim + gap] with everything filled with
// `fill` at first.
class Attention {
 public:
  struct Sizes {
    int64_t batch = 1, heads_q = 1, heads_kv = 1, s_q = 1, s_kv = 1, d_qk = 1, d_v = 1, gap = 0;
  };

  Attention(qkv_type type, const Sizes& n, float fill = 0) : gap_(n.gap), fill_(fill) {
    p.type = type;
    p.batch = n.batch;
    p.heads_q = n.heads_q;
    p.heads_kv = n.heads_kv;
    p.s_q = n.s_q;
    p.s_kv = n.s_kv;
    p.d_qk = n.d_qk;
    p.d_v = n.d_v;
    p.scale = 1;
    p.q = tensor(type, {n.batch, n.heads_q, n.s_q, n.d_qk});
    p.k = tensor(type, {n.batch, n.heads_kv, n.s_kv, n.d_qk});
    p.v = tensor(type, {n.batch, n.heads_kv, n.s_kv, n.d_v});
    p.o = tensor(type, {n.batch, n.heads_q, n.s_q, n.d_v});
    p.lse = tensor(QKV_TYPE_F32, {n.batch, n.heads_q, n.s_q, 1});
  }

  View tensor(qkv_type type, const std::array<int64_t, 4>& shape) {
    View view;
    view.type = type;
    view.shape = shape;
    const int64_t row = shape[3] + gap_, token = shape[1] * row;
    view.stride = {shape[2] * token, row, token, 1};
    const int64_t count = shape[0] * shape[2] * token - (shape[3] > 0 ? gap_ : 0);
    const int64_t n = std::max<int64_t>(count, 0);
    memory_.push_back(std::make_unique<Guarded>(static_cast<size_t>(n * host::type_size(type))));
    view.data = memory_.back()->data;
    for (size_t axis = 0; axis < 4; ++axis) {
      if (shape[axis] <= 1) view.stride[axis] = 0;
    }
    if (type == QKV_TYPE_F32 || type == QKV_TYPE_F16 || type == QKV_TYPE_BF16) {
      const std::vector<float> values(static_cast<size_t>(n), fill_);
      from_float(values.data(), n, view.data, type, 1);
    }
    return view;
  }

  static void set(const View& x, int64_t b, int64_t h, int64_t i, int64_t d, float value) {
    auto* to = static_cast<std::byte*>(x.data) + x.offset(b, h, i, d) * host::type_size(x.type);
    from_float(&value, 1, to, x.type, 1);
  }
  static float get(const View& x, int64_t b, int64_t h, int64_t i, int64_t d) {
    float value = 0;
    to_float(static_cast<std::byte*>(x.data) + x.offset(b, h, i, d) * host::type_size(x.type),
             x.type, 1, 1, &value);
    return value;
  }
  // x[b, h, i, d] = f(b, h, i, d)
  template <class F>
  static void each(const View& x, const F& f) {
    for (int64_t b = 0; b < x.shape[0]; ++b)
      for (int64_t h = 0; h < x.shape[1]; ++h)
        for (int64_t i = 0; i < x.shape[2]; ++i)
          for (int64_t d = 0; d < x.shape[3]; ++d) set(x, b, h, i, d, f(b, h, i, d));
  }
  static void randomize(const View& x, uint64_t seed) {
    const std::vector<float> values =
        normal(x.shape[0] * x.shape[1] * x.shape[2] * x.shape[3], seed);
    size_t next = 0;
    each(x, [&](int64_t, int64_t, int64_t, int64_t) { return values[next++]; });
  }
  void randomize() {
    randomize(p.q, 1);
    randomize(p.k, 2);
    randomize(p.v, 3);
  }
  void lengths(const std::vector<int32_t>& n) {
    p.kv_lengths = tensor(QKV_TYPE_I32, {p.batch, 1, 1, 1});
    p.kv_lengths.stride = {p.batch > 1 ? 1 : 0, 0, 0, 0};
    std::copy(n.begin(), n.end(), static_cast<int32_t*>(p.kv_lengths.data));
  }

  // Runs on a workspace of poison.
  void run(int32_t threads = 2) const { (void)run_as_planned(threads, threads); }

  // The same with a plan for some threads, where OpenMP has others at the time of the run. Says how
  // many of the plan's shares of the workspace were written to.
  int32_t run_as_planned(int32_t planned, int32_t openmp) const {
    const Policy policy = select_policy(p, planned);
    std::shared_ptr<const TileProducts> products;
    host::Status status = prepare(p, policy, &products);
    if (!status.ok()) throw std::runtime_error(status.reason());
    const Guarded workspace(policy.workspace_bytes);
    std::memset(workspace.data, 0xff, policy.workspace_bytes);
    const int before = omp_get_max_threads();
    omp_set_num_threads(openmp);
    status = cpu::run(p, policy, *products, workspace.data);
    omp_set_num_threads(before);
    EXPECT_TRUE(status.ok()) << status.reason();
    const size_t share = policy.thread_bytes;
    int32_t used = 0;
    for (int32_t n = 0; n < policy.threads; ++n) {
      const std::byte* begin = workspace.data + static_cast<size_t>(n) * share;
      used += std::any_of(begin, begin + share, [](std::byte x) { return x != std::byte{0xff}; });
    }
    return used;
  }

  // The bits of O and LSE.
  std::vector<uint32_t> bits() const {
    std::vector<uint32_t> out;
    for (const View* x : {&p.o, &p.lse}) {
      for (int64_t b = 0; b < p.batch; ++b)
        for (int64_t h = 0; h < p.heads_q; ++h)
          for (int64_t i = 0; i < p.s_q; ++i)
            for (int64_t d = 0; d < x->shape[3]; ++d)
              out.push_back(std::bit_cast<uint32_t>(get(*x, b, h, i, d)));
    }
    return out;
  }

  Problem p;

 private:
  int64_t gap_;
  float fill_;
  std::vector<std::unique_ptr<Guarded>> memory_;
};

constexpr qkv_type kTypes[] = {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16};
const auto type_of = [](const auto& row) { return std::string(host::type_name(row.param)); };
class EveryType : public testing::TestWithParam<qkv_type> {};
INSTANTIATE_TEST_SUITE_P(Types, EveryType, testing::ValuesIn(kTypes), type_of);

// +-1 codes of 64 bits that differ in at least 8 places: with q = 16 code(i), a wrong key scores at
// least 256 less than the right one, and its weight is 0 exactly.
std::vector<uint64_t> codes(int64_t n) {
  std::mt19937_64 random(7);
  std::vector<uint64_t> out;
  while (std::ssize(out) < n) {
    const uint64_t code = random();
    if (std::all_of(out.begin(), out.end(),
                    [&](uint64_t other) { return std::popcount(code ^ other) >= 8; })) {
      out.push_back(code);
    }
  }
  return out;
}

// Output row i must be V[pi(i)] bit for bit, through every width of tile, padded or not.
TEST_P(EveryType, SelectionProbe) {
  for (int64_t gap : {0, 3}) {
    for (int64_t s_kv : {1, 64, 131, 704, 1033}) {
      for (qkv_selection selection : {QKV_SELECT_SOFT, QKV_SELECT_HARD, QKV_SELECT_TOP_K}) {
        Attention a(GetParam(),
                    {.batch = 2,
                     .heads_q = 4,
                     .heads_kv = 2,
                     .s_q = 67,
                     .s_kv = s_kv,
                     .d_qk = 64,
                     .d_v = 19,
                     .gap = gap},
                    kNaN);
        a.p.selection = selection;
        if (selection == QKV_SELECT_TOP_K) a.p.top_k = 2;
        const std::vector<uint64_t> code = codes(s_kv);
        const auto sign = [&](int64_t j, int64_t d) {
          return (code[static_cast<size_t>(j)] >> d & 1) != 0 ? 1.0f : -1.0f;
        };
        const auto pi = [&](int64_t b, int64_t h, int64_t i) {
          return (i * 37 + h * 11 + b * 5) % s_kv;
        };
        Attention::randomize(a.p.v, 9);
        Attention::each(a.p.k, [&](int64_t, int64_t, int64_t j, int64_t d) { return sign(j, d); });
        Attention::each(a.p.q, [&](int64_t b, int64_t h, int64_t i, int64_t d) {
          return 16 * sign(pi(b, h, i), d);
        });
        a.run();
        Attention::each(a.p.q, [&](int64_t b, int64_t h, int64_t i, int64_t d) {
          if (d < a.p.d_v) {
            EXPECT_EQ(Attention::get(a.p.o, b, h, i, d),
                      Attention::get(a.p.v, b, h / 2, pi(b, h, i), d));
          }
          return 0.0f;
        });
        EXPECT_EQ(Attention::get(a.p.lse, 1, 3, 5, 0), 1024.0f);
      }
    }
  }
}

// Scores 0, V is n at key `leak` alone: a row that may not see it gives exactly 0, the others
// n / (number of keys seen).
TEST_P(EveryType, LeakProbe) {
  constexpr int64_t kSq = 150, kSkv = 300, kLength = 290;
  for (int64_t leak : {0, 63, 64, 140, 255, 256, 288, 289}) {
    Attention a(GetParam(), {.s_q = kSq, .s_kv = kSkv, .d_qk = 16, .d_v = 8});
    a.lengths({kLength});
    a.p.right = 0;
    a.p.left = 40;
    Attention::each(a.p.v, [&](int64_t, int64_t, int64_t j, int64_t) {
      return j >= kLength ? kNaN : j == leak ? 32.0f : 0.0f;
    });
    a.run();
    for (int64_t i = 0; i < kSq; ++i) {
      const host::attention::KeyRange seen = host::attention::visible_keys(a.p, i, kLength);
      const bool sees = leak >= seen.begin && leak < seen.end;
      const float got = Attention::get(a.p.o, 0, 0, i, 3);
      if (!sees) {
        EXPECT_EQ(std::bit_cast<uint32_t>(got), 0u) << i;
      } else {
        const float want = 32.0f / static_cast<float>(seen.end - seen.begin);
        EXPECT_NEAR(got, want, want * (GetParam() == QKV_TYPE_F32 ? 0x1p-23f : 0x1p-8f)) << i;
      }
    }
  }
}

// What lies past the lengths and between the rows changes nothing, whatever it is.
TEST_P(EveryType, PoisonOutsideOfTheProblemIsNotRead) {
  std::vector<uint32_t> first;
  for (float fill : {0.0f, kNaN, kInf, -kInf, 65504.0f}) {
    for (qkv_score score : {QKV_SCORE_DOT, QKV_SCORE_ADDITIVE}) {
      Attention a(GetParam(),
                  {.batch = 4,
                   .heads_q = 2,
                   .heads_kv = 1,
                   .s_q = 70,
                   .s_kv = 200,
                   .d_qk = 24,
                   .d_v = 12,
                   .gap = 5},
                  fill);
      a.p.score = score;
      if (score == QKV_SCORE_ADDITIVE) {
        a.p.additive_weight = a.tensor(QKV_TYPE_F32, {1, 2, 1, 24});
        Attention::randomize(a.p.additive_weight, 4);
      }
      a.lengths({0, 1, 129, 200});
      a.randomize();
      for (const View* x : {&a.p.k, &a.p.v}) {
        for (int64_t b = 0; b < 4; ++b)
          for (int64_t j = *a.p.kv_lengths.at<int32_t>(b, 0, 0); j < 200; ++j)
            for (int64_t d = 0; d < x->shape[3]; ++d) Attention::set(*x, b, 0, j, d, fill);
      }
      a.run();
      const std::vector<uint32_t> bits = a.bits();
      for (uint32_t x : bits) EXPECT_FALSE(std::isnan(std::bit_cast<float>(x)));
      if (score == QKV_SCORE_ADDITIVE) continue;
      if (first.empty()) first = bits;
      EXPECT_EQ(bits, first) << "fill " << fill;
    }
  }
}

TEST_P(EveryType, ResultsDoNotDependOnThreads) {
  Attention a(
      GetParam(),
      {.batch = 2, .heads_q = 3, .heads_kv = 1, .s_q = 333, .s_kv = 777, .d_qk = 40, .d_v = 40});
  a.randomize();
  a.p.right = 0;
  a.run(1);
  const std::vector<uint32_t> one = a.bits();
  for (int32_t threads : {1, 2, 3, 4, 7}) {
    a.run(threads);
    EXPECT_EQ(a.bits(), one) << threads << " threads";
  }
}

// One task has one thread, which must not bring oneDNN to use others.
TEST_P(EveryType, ResultsOfOneTaskDoNotDependOnThreads) {
  Attention a(GetParam(), {.s_q = 64, .s_kv = 300, .d_qk = 64, .d_v = 64});
  a.randomize();
  a.run(1);
  const std::vector<uint32_t> one = a.bits();
  a.run(4);
  EXPECT_EQ(a.bits(), one);
}

// A thread for each 60 us or so of work; the numbers are policy.cpp's.
TEST(UsefulThreads, GrowWithTheWork) {
  const auto threads = [](const Attention::Sizes& sizes,
                          int64_t left = host::attention::kUnbounded) {
    Attention a(QKV_TYPE_F32, {.s_q = 1, .s_kv = 1, .d_qk = 64, .d_v = 64});
    a.p.batch = sizes.batch, a.p.heads_q = sizes.heads_q, a.p.heads_kv = sizes.heads_kv;
    a.p.s_q = sizes.s_q, a.p.s_kv = sizes.s_kv;
    a.p.left = left;
    if (left != host::attention::kUnbounded) a.p.right = 0;
    return useful_threads(a.p, 64);
  };
  EXPECT_EQ(threads({.heads_q = 2, .s_q = 1, .s_kv = 64}), 1) << "10 us";
  EXPECT_EQ(threads({.heads_q = 2, .s_q = 64, .s_kv = 64}), 1) << "50 us";
  EXPECT_EQ(threads({.heads_q = 16, .s_q = 64, .s_kv = 64}), 6) << "340 us";
  EXPECT_EQ(threads({.heads_q = 16, .s_q = 512, .s_kv = 512}), 64);
  EXPECT_EQ(threads({.heads_q = 16, .heads_kv = 16, .s_q = 1, .s_kv = 4096}), 64)
      << "memory to read";
  EXPECT_EQ(threads({.heads_q = 16, .s_q = 1, .s_kv = 4096}), 9) << "which heads share";
  EXPECT_EQ(threads({.heads_q = 1, .s_q = 1, .s_kv = 1 << 20}, 31), 1) << "a window of 32 keys";
  EXPECT_EQ(
      threads({.batch = int64_t{1} << 40, .heads_q = 1 << 20, .s_q = 1 << 30, .s_kv = 1 << 30}),
      64);
}

// A plan's threads are the most that a run has; the call's own limit and OpenMP's are kept too.
TEST(Run, KeepsToTheCallsThreads) {
  Attention a(
      QKV_TYPE_F32,
      {.batch = 4, .heads_q = 8, .heads_kv = 8, .s_q = 64, .s_kv = 300, .d_qk = 32, .d_v = 32});
  a.randomize();
  a.p.threads = 1;
  EXPECT_EQ(a.run_as_planned(4, 4), 1);
  const std::vector<uint32_t> one = a.bits();
  a.p.threads = 2;
  EXPECT_LE(a.run_as_planned(4, 4), 2);
  EXPECT_EQ(a.bits(), one);
  a.p.threads = 0;
  EXPECT_EQ(a.run_as_planned(4, 1), 1) << "as OpenMP says at the call";
  EXPECT_EQ(a.bits(), one);
  a.p.threads = 9;
  EXPECT_LE(a.run_as_planned(3, 2), 2);
  EXPECT_EQ(a.bits(), one);
}

// Several runs share the products and each takes lanes of its own.
TEST(Run, IsThreadSafe) {
  std::vector<std::unique_ptr<Attention>> problems;
  std::vector<std::thread> threads;
  for (int n = 0; n < 4; ++n) {
    problems.push_back(std::make_unique<Attention>(
        QKV_TYPE_F32,
        Attention::Sizes{
            .heads_q = 2, .heads_kv = 2, .s_q = 100, .s_kv = 600, .d_qk = 32, .d_v = 32}));
    problems.back()->randomize();
  }
  for (auto& problem : problems) {
    threads.emplace_back([&problem] {
      for (int repeat = 0; repeat < 5; ++repeat) problem->run(2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (auto& problem : problems) EXPECT_EQ(problem->bits(), problems[0]->bits());
}

TEST_P(EveryType, NaNStaysInItsRowAndItsColumn) {
  Attention a(GetParam(), {.s_q = 40, .s_kv = 600, .d_qk = 16, .d_v = 8});
  a.randomize();
  Attention::set(a.p.q, 0, 0, 7, 3, kNaN);
  Attention::set(a.p.v, 0, 0, 555, 2, kNaN);
  a.run();
  for (int64_t i = 0; i < 40; ++i) {
    EXPECT_EQ(std::isnan(Attention::get(a.p.lse, 0, 0, i, 0)), i == 7);
    for (int64_t d = 0; d < 8; ++d) {
      EXPECT_EQ(std::isnan(Attention::get(a.p.o, 0, 0, i, d)), i == 7 || d == 2) << i << "," << d;
    }
  }
}

TEST_P(EveryType, RowsThatSeeNothingAreZero) {
  Attention a(GetParam(), {.s_q = 128, .s_kv = 1, .d_qk = 16, .d_v = 8}, kNaN);
  a.randomize();
  a.p.right = 0;  // bottom-right: 127 rows see no key
  a.p.weights = a.tensor(QKV_TYPE_F32, {1, 1, 128, 1});
  a.run();
  for (int64_t i = 0; i < 127; ++i) {
    for (int64_t d = 0; d < 8; ++d) {
      EXPECT_EQ(std::bit_cast<uint32_t>(Attention::get(a.p.o, 0, 0, i, d)), 0u);
    }
    EXPECT_EQ(Attention::get(a.p.lse, 0, 0, i, 0), -kInf);
    EXPECT_EQ(Attention::get(a.p.weights, 0, 0, i, 0), 0.0f);
  }
  EXPECT_EQ(Attention::get(a.p.o, 0, 0, 127, 4), Attention::get(a.p.v, 0, 0, 0, 4));
  EXPECT_EQ(Attention::get(a.p.weights, 0, 0, 127, 0), 1.0f);
}

// Tiles that a mask hides altogether are not computed, tiles that it leaves alone are not masked:
// the bits are those of a bias of -inf, of which neither holds.
TEST_P(EveryType, MasksGiveTheBitsOfAnInfiniteBias) {
  constexpr int64_t kSkv = 1100;
  // A band, whole tiles of keys, and rows that see all or nothing.
  const auto sees = [](int64_t i, int64_t j) {
    if (i % 64 == 5) return i % 128 == 5;
    return j / 256 == 1 ? i >= 100 : j / 256 != 2 && j > 3 * i;
  };
  for (const int64_t s_q : {int64_t{1}, int64_t{140}}) {
    for (qkv_selection selection : {QKV_SELECT_SOFT, QKV_SELECT_HARD, QKV_SELECT_TOP_K}) {
      for (const bool keys_together : {true, false}) {
        Attention a(GetParam(),
                    {.heads_q = 4, .heads_kv = 2, .s_q = s_q, .s_kv = kSkv, .d_qk = 24, .d_v = 20});
        a.randomize();
        a.p.scale = 0.7f;
        a.p.selection = selection;
        if (selection == QKV_SELECT_TOP_K) a.p.top_k = 3;
        a.p.bias = a.tensor(QKV_TYPE_F32, {1, 1, s_q, kSkv});
        Attention::each(a.p.bias, [&](int64_t, int64_t, int64_t i, int64_t j) {
          return sees(i, j) ? 0.0f : -kInf;
        });
        a.run();
        const std::vector<uint32_t> want = a.bits();
        a.p.bias = {};
        a.p.mask = a.tensor(QKV_TYPE_BOOL, {1, 1, s_q, kSkv});
        if (!keys_together) a.p.mask.stride[2] = s_q > 1 ? 1 : 0, a.p.mask.stride[3] = s_q;
        for (int64_t i = 0; i < s_q; ++i)
          for (int64_t j = 0; j < kSkv; ++j)
            *a.p.mask.at<uint8_t>(0, 0, i, j) = static_cast<uint8_t>(sees(i, j) ? 1 + j % 255 : 0);
        a.run();
        EXPECT_EQ(a.bits(), want) << s_q << " queries, selection " << selection;
      }
    }
  }
}

// Where the heads of a key follow each other in memory, tiles of few rows take several groups; the
// bits are those of heads with a gap between them, whose groups have tiles of their own.
TEST_P(EveryType, GroupsThatShareATileKeepTheirBits) {
  for (const int64_t s_q : {int64_t{1}, int64_t{3}}) {
    for (qkv_selection selection : {QKV_SELECT_SOFT, QKV_SELECT_HARD, QKV_SELECT_TOP_K}) {
      const auto bits = [&](int64_t gap, int64_t groups) {
        Attention a(GetParam(), {.batch = 2,
                                 .heads_q = 12,
                                 .heads_kv = 6,
                                 .s_q = s_q,
                                 .s_kv = 300,
                                 .d_qk = 40,
                                 .d_v = 24,
                                 .gap = gap});
        a.randomize();
        a.p.right = 0;
        a.p.selection = selection;
        if (selection == QKV_SELECT_TOP_K) a.p.top_k = 3;
        a.p.mask = a.tensor(QKV_TYPE_BOOL, {1, 12, s_q, 300});
        for (int64_t h = 0; h < 12; ++h)
          for (int64_t i = 0; i < s_q; ++i)
            for (int64_t j = 0; j < 300; ++j)
              *a.p.mask.at<uint8_t>(0, h, i, j) = static_cast<uint8_t>((h + i + j) % 3);
        a.lengths({300, 155});
        EXPECT_EQ(select_policy(a.p, 2).heads, 2 * groups);
        a.run();
        return a.bits();
      };
      EXPECT_EQ(bits(0, s_q == 1 ? 6 : 3), bits(8, 1)) << s_q << " queries, " << selection;
    }
  }
}

// Their parts of the keys are others, but the same for any number of threads.
TEST_P(EveryType, GroupsThatShareATileDoNotDependOnThreads) {
  Attention a(GetParam(),
              {.heads_q = 8, .heads_kv = 4, .s_q = 1, .s_kv = 1500, .d_qk = 32, .d_v = 32});
  a.randomize();
  ASSERT_EQ(select_policy(a.p, 2).tiles, 1);
  ASSERT_GT(select_policy(a.p, 2).parts, 1);
  a.run(1);
  const std::vector<uint32_t> one = a.bits();
  for (const int32_t threads : {2, 4}) {
    a.run(threads);
    EXPECT_EQ(a.bits(), one) << threads;
  }
}

// A row whose bias is the lowest number everywhere still has a softmax.
TEST(Run, LowestBiasIsNotHidden) {
  Attention a(QKV_TYPE_F32, {.s_q = 3, .s_kv = 100, .d_qk = 8, .d_v = 4}, 1);
  a.p.bias = a.tensor(QKV_TYPE_F32, {1, 1, 3, 100});
  Attention::each(a.p.bias, [](int64_t, int64_t, int64_t i, int64_t) {
    return i == 1 ? -std::numeric_limits<float>::max() : i == 2 ? -kInf : 0.0f;
  });
  a.run();
  EXPECT_EQ(Attention::get(a.p.o, 0, 0, 1, 0), 1.0f);
  EXPECT_EQ(Attention::get(a.p.lse, 0, 0, 1, 0), -std::numeric_limits<float>::max());
  EXPECT_EQ(Attention::get(a.p.o, 0, 0, 2, 0), 0.0f);
  EXPECT_EQ(Attention::get(a.p.lse, 0, 0, 2, 0), -kInf);
}

// Keys and outputs more than 2^32 elements apart, in address space that costs no memory.
// Each tile of keys has a sum of its own: the error does not grow with every key.
TEST_P(EveryType, LongCachesAreSummedTileByTile) {
  constexpr int64_t kKeys = 1 << 15;
  Attention a(GetParam(), {.batch = 16, .s_q = 1, .s_kv = 1, .d_qk = 16, .d_v = 40});
  a.each(a.p.v, [](int64_t, int64_t, int64_t, int64_t) { return 0.1f; });
  const float value = a.get(a.p.v, 0, 0, 0, 0);  // in the type
  a.p.s_kv = kKeys;
  for (View* x : {&a.p.k, &a.p.v})
    x->shape[2] = kKeys, x->stride[2] = 0;  // one row again and again
  ASSERT_TRUE(select_policy(a.p, 2).few_rows);
  ASSERT_EQ(select_policy(a.p, 2).parts, 1);
  a.run();
  const float unit = a.p.type == QKV_TYPE_F32   ? 0x1p-24f
                     : a.p.type == QKV_TYPE_F16 ? 0x1p-11f
                                                : 0x1p-8f;
  const float allowed = value * std::max(64 * 0x1p-24f, unit);
  for (int64_t b = 0; b < a.p.batch; ++b)
    for (int64_t d = 0; d < 40; ++d)
      EXPECT_NEAR(a.get(a.p.o, b, 0, 0, d), value, allowed) << b << ' ' << d;
}

TEST(Run, OffsetsAreSixtyFourBit) {
  constexpr int64_t kApart = (int64_t{1} << 32) + 64;
  constexpr size_t kBytes = static_cast<size_t>(kApart + 4096) * sizeof(float);
  void* k = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  void* o = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (k == MAP_FAILED || o == MAP_FAILED) GTEST_SKIP() << "no address space";
  Attention near(QKV_TYPE_F32, {.batch = 2, .s_q = 5, .s_kv = 2, .d_qk = 8, .d_v = 8});
  near.randomize();
  near.run();
  Attention far(QKV_TYPE_F32, {.batch = 2, .s_q = 5, .s_kv = 2, .d_qk = 8, .d_v = 8});
  far.p.k.data = k;
  far.p.k.stride[2] = kApart;
  far.p.k.stride[0] = 1024;
  far.p.o.data = o;
  far.p.o.stride[0] = kApart;
  far.randomize();
  far.run();
  EXPECT_EQ(far.bits(), near.bits());
  munmap(k, kBytes);
  munmap(o, kBytes);
}

}  // namespace
}  // namespace qkv::cpu
