// The corners of the contract: NaN and infinity, numbers near zero, rows and lengths of nothing,
// addresses of every alignment.
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <tuple>

#include "tests/support/each_type.h"

namespace qkv::test {
namespace {

using host::attention::kTensors;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class Edge : public EachType {};
EACH_TYPE(Edge);

void copy_elements(const Tensor& from, const Tensor& to) {
  to.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    to.set(b, h, i, d, from.get(b, h, i, d));
  });
}

// Ends the program when a call does not come back.
class Watchdog {
 public:
  explicit Watchdog(unsigned seconds) {
    std::signal(SIGALRM, [](int) {
      constexpr char kText[] = "a call did not return in time\n";
      (void)!::write(STDERR_FILENO, kText, sizeof kText - 1);
      _exit(1);
    });
    alarm(seconds);
  }
  ~Watchdog() { alarm(0); }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
};

// Rows of one tile, from one to more than a tile, unaligned and aligned, at the edge of memory that
// may be touched: each row that a loop serves is once the last one.
TEST_P(Edge, T12_TailsOfEveryLength) {
  for (int64_t rows = 1; rows <= 65; ++rows) {
    for (const int64_t d : {3, 4}) {
      const Case row = typed({.name = "tail",
                              .batch = 1,
                              .heads_q = 1,
                              .heads_kv = 1,
                              .s_q = rows,
                              .s_kv = 66 - rows,
                              .d_qk = d,
                              .d_v = d});
      BuiltProblem built(row, {.seed = test_seed(), .fit = Memory::Fit::kExact});
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      ASSERT_TRUE(accepted(built)) << row;
    }
  }
}

// A NaN or an infinity in an input changes exactly the outputs that see it, and these as the oracle
// says: a query its row, a key the rows of its kv head, a value its column of these. (Keys hidden
// by causal mask or window must be finite; what lies past a length is the contract test's.)
struct Spot {
  char tensor;
  int64_t b, h, i, d;

  bool reaches(int64_t at_b, int64_t at_h, int64_t at_i, int64_t at_d) const {
    if (at_b != b || (tensor == 'q' ? at_h != h : at_h / 2 != h)) return false;
    return tensor == 'q' ? at_i == i : tensor == 'k' || at_d == d;
  }
};

void expect_special_values_stay(const Case& row) {
  BuiltProblem plain(row, {.seed = test_seed()});
  ASSERT_EQ(plain.run(), QKV_SUCCESS) << qkv_last_error();
  for (const Spot& spot : {Spot{'q', 1, 2, 33, 5}, {'k', 0, 1, 40, 3}, {'v', 1, 0, 66, 31}}) {
    for (double x : {kNaN, kInf, -kInf}) {
      SCOPED_TRACE(host::text(spot.tensor, " holds ", x));
      BuiltProblem built(row, {.seed = test_seed()});
      const auto& tensor = spot.tensor == 'q' ? built.q : spot.tensor == 'k' ? built.k : built.v;
      tensor.set(spot.b, spot.h, spot.i, spot.d, x);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      EXPECT_TRUE(accepted(built));
      int changed = 0;
      built.o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        changed += !spot.reaches(b, h, i, d) && built.o.get(b, h, i, d) != plain.o.get(b, h, i, d);
      });
      EXPECT_EQ(changed, 0) << replay(row);
    }
  }
}

TEST_P(Edge, T4_SpecialValuesReachWhatSeesThemAndNothingElse) {
  for (const int64_t d : {64, 128})
    expect_special_values_stay(
        typed({.name = "special", .heads_q = 4, .s_q = 70, .s_kv = 70, .d_qk = d, .d_v = d}));
}

TEST_P(Edge, T4_SpecialValuesOfAdditiveScores) {
  expect_special_values_stay(typed({.name = "special",
                                    .heads_q = 4,
                                    .s_q = 70,
                                    .s_kv = 70,
                                    .d_qk = 16,
                                    .d_v = 32,
                                    .score = QKV_SCORE_ADDITIVE}));
}

// A NaN in the last row of a block of keys, and in the next block one key, whose value is huge:
// each is seen where it is, and nothing behind it, neither in its row nor below.
TEST_P(Edge, T4_SpecialValuesAtTheEdgeOfABlock) {
  for (const auto& [last, d_v] : {std::pair{31, 24}, {63, 40}, {127, 56}}) {
    for (const int bias : {kAbsent, kKeys}) {
      const Case row = typed({.name = "edge",
                              .batch = 1,
                              .heads_q = 1,
                              .heads_kv = 1,
                              .s_q = 20,
                              .s_kv = last + 2,
                              .d_qk = 64,
                              .d_v = d_v,
                              .inputs = {{kBias, bias}}});
      BuiltProblem built(row, {.seed = test_seed(), .fit = Memory::Fit::kExact});
      built.v.set(0, 0, last, 5, kNaN);
      built.v.set(0, 0, last + 1, 9, GetParam() == QKV_TYPE_F16 ? 0x1p14 : 0x1p110);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      EXPECT_TRUE(accepted(built)) << row;
    }
  }
}

// Values of fp16 and fp32 below their normal numbers, picked or averaged, arrive. (bf16 is left
// out: the bf16 dot products of x86 read its subnormal numbers as zero.)
TEST_P(Edge, T4_SubnormalValuesSurvive) {
  if (GetParam() == QKV_TYPE_BF16) return;
  const double tiny = ulp(GetParam(), 0);  // the smallest number
  const Case row = typed({.name = "subnormal", .s_q = 3, .s_kv = 66, .d_qk = 64, .d_v = 64});
  BuiltProblem built(row, {.seed = test_seed()});
  built.v.fill(0);
  built.v.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
    built.v.set(b, h, j, d, tiny * static_cast<double>(d + 1));
  });
  built.q.fill(0);
  ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
  built.o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    ASSERT_NEAR(built.o.get(b, h, i, d), tiny * static_cast<double>(d + 1), tiny) << d << '\n'
                                                                                  << replay(row);
    ASSERT_NE(built.o.get(b, h, i, d), 0) << d << '\n' << replay(row);
  });
}

// Subnormal fp16 inputs are ordinary numbers in fp32: a score of 2^-24 * 2^14 * 2^10 = 1.
TEST_P(Edge, T4_SubnormalKeysScore) {
  if (GetParam() != QKV_TYPE_F16) return;
  Case row = typed({.name = "subnormal_keys", .s_q = 2, .s_kv = 3});
  row.scale = 1024.0f;
  BuiltProblem built(row, {.seed = test_seed()});
  built.q.fill(0);
  built.k.fill(0);
  built.q.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    if (d == 0) built.q.set(b, h, i, d, 16384);
  });
  built.k.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
    if (d == 0) built.k.set(b, h, j, d, 0x1p-24);
  });
  ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
  built.lse.each([&](int64_t b, int64_t h, int64_t i, int64_t) {
    ASSERT_NEAR(built.lse.get(b, h, i, 0), 1 + std::log(3.0), 1e-5);
  });
}

// The largest values and products that the contract allows: sums that just do not overflow.
TEST_P(Edge, T29_LargestValuesAndProducts) {
  for (const int64_t d : {1, 64, 128}) {
    Case row = typed({.name = "largest", .s_q = 3, .s_kv = 64, .d_qk = d, .d_v = d});
    row.scale = 0x1p-120f;
    BuiltProblem built(row, {.seed = test_seed()});
    const bool f16 = GetParam() == QKV_TYPE_F16;
    const double v = f16 ? 65504 : 0x1p128 / 64 * (1 - 0x1p-8);
    const double qk = f16 ? 65504 : std::sqrt(0x1p127 / static_cast<double>(d));
    built.v.fill(v);
    built.q.fill(qk);
    built.k.fill(qk);
    ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
    const double dot = static_cast<double>(d) * built.q.get(0, 0, 0, 0) * built.k.get(0, 0, 0, 0);
    built.o.each([&](int64_t b, int64_t h, int64_t i, int64_t x) {
      ASSERT_EQ(built.o.get(b, h, i, x), built.v.get(b, h, 0, x)) << replay(row);
    });
    built.lse.each([&](int64_t b, int64_t h, int64_t i, int64_t) {
      ASSERT_NEAR(built.lse.get(b, h, i, 0), dot * 0x1p-120 + std::log(64), 1e-3) << replay(row);
    });
  }
}

// What the bias holds where causal mask or mask tensor hide does not count.
TEST_P(Edge, T4_TheBiasOfHiddenKeysIsNotLookedAt) {
  const Case row = typed({.name = "hidden_bias",
                          .s_q = 40,
                          .s_kv = 70,
                          .d_qk = 64,
                          .d_v = 64,
                          .causal = true,
                          .inputs = {{kMask, kAllAxes}, {kBias, kAllAxes}}});
  BuiltProblem built(row, {.seed = test_seed()});
  built[kBias].each([&](int64_t b, int64_t h, int64_t i, int64_t j) {
    const bool visible = row.in_pattern(b, i, j) && built[kMask].get(b, h, i, j) != 0;
    if (!visible) built[kBias].set(b, h, i, j, j % 2 == 0 ? kNaN : kInf);
  });
  ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
  EXPECT_TRUE(accepted(built)) << row;
}

// The largest and the smallest scale and softcap that are allowed: no score of 0 becomes NaN, no
// other one is lost.
TEST_P(Edge, T28_ExtremesOfScaleAndSoftcap) {
  struct Factors {
    float scale, softcap;
    double size;  // of the numbers in q and k
  };
  std::vector<Factors> rows = {{0x1p127f, 0, 0},        {-0x1p127f, 0, 0},      {0x1p-126f, 0, 0},
                               {0x1p127f, 1, 0},        {1, 0x1p100f, 1},       {1, 0x1p-100f, 1},
                               {0x1p27f, 0x1p-100f, 0}, {0x1p-26f, 0x1p100f, 0}};
  if (GetParam() != QKV_TYPE_F16) {
    rows.push_back({0x1p-126f, 0, 0x1p60});
    rows.push_back({0x1p100f, 0, 0x1p-50});
    rows.push_back({0x1p-100f, 0x1p-10f, 0x1p50});
  }
  for (const int64_t d : {64, 128}) {
    for (const Factors& factors : rows) {
      Case row = typed({.name = "extreme", .s_q = 3, .s_kv = 70, .d_qk = d, .d_v = d});
      row.scale = factors.scale;
      row.softcap = factors.softcap;
      BuiltProblem built(row, {.seed = test_seed()});
      for (const Tensor* tensor : {&built.q, &built.k})
        tensor->each([&](int64_t b, int64_t h, int64_t i, int64_t at) {
          tensor->set(b, h, i, at, factors.size * tensor->get(b, h, i, at));
        });
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
      EXPECT_TRUE(accepted(built)) << row << " size " << factors.size;
    }
  }
}

// 128 queries, one key, bottom-right: the last query alone sees it.
TEST_P(Edge, T5_RowsWithoutKeysAreZero) {
  const Case row = typed({.name = "blind", .s_q = 128, .s_kv = 1, .causal = true});
  BuiltProblem built(row, {.seed = test_seed()});
  ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error();
  int blind = 0;
  built.o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    const double got = built.o.get(b, h, i, d);
    if (i == 127) {
      ASSERT_EQ(got, built.v.get(b, h, 0, d));
      return;
    }
    blind += d == 0 ? 1 : 0;
    ASSERT_TRUE(got == 0 && !std::signbit(got)) << got;
    ASSERT_EQ(built.lse.get(b, h, i, 0), -kInf);
  });
  EXPECT_EQ(blind, 127 * 4);
}

// Every pattern of lengths {0, 1, T - 1, T, T + 1} over four batches, with different numbers of
// queries; no call hangs, reads a hidden key or leaves a row out. On slow devices two seeds in a
// row take half of them each.
TEST_P(Edge, T6_AllLengthPatterns) {
  constexpr int32_t kTile = 64;
  constexpr int32_t kLengths[] = {0, 1, kTile - 1, kTile, kTile + 1};
  constexpr int64_t kQueryCounts[] = {1, 2, kTile - 1, kTile + 1, 5};
  for (int pattern = 0; pattern < 625; ++pattern) {
    if (test_repeats() < 4 && static_cast<uint64_t>(pattern) / 2 % 2 != test_seed() % 2) continue;
    Case row = typed({.name = "lengths",
                      .batch = 4,
                      .heads_q = 1,
                      .heads_kv = 1,
                      .s_kv = kTile + 1,
                      .d_qk = 4,
                      .d_v = 4,
                      .causal = pattern % 2 == 0});
    row.s_q = kQueryCounts[pattern % 5];
    for (int digits = pattern, b = 0; b < 4; ++b, digits /= 5) {
      row.lengths.push_back(kLengths[digits % 5]);
    }
    BuiltProblem built(row, {.seed = test_seed(), .fill = kFills[pattern % 5]});
    {
      const Watchdog watchdog(10);
      ASSERT_EQ(built.run(), QKV_SUCCESS) << qkv_last_error() << '\n' << replay(row);
    }
    ASSERT_EQ(built.damage(), "") << replay(row);
    ASSERT_TRUE(accepted(built)) << "pattern " << pattern;
  }
}

// T13: under a fixed split size a query's results are the same bits in a batch, in a batch of its
// own with no padding behind its keys, and as the only query.
TEST_P(Edge, T13_RowsDoNotDependOnTheirBatch) {
  Case row = typed({.name = "batch",
                    .batch = 7,
                    .heads_q = 4,
                    .s_q = 20,
                    .s_kv = 200,
                    .d_qk = 16,
                    .d_v = 16,
                    .causal = true,
                    .lengths = {200, 129, 64, 20, 199, 127, 65},
                    .fixed_split = 64});
  for (const bool alibi : {false, true}) {
    if (alibi) row.inputs = {{kAlibi, kHeads}};
    BuiltProblem whole(row, {.seed = test_seed()});
    ASSERT_EQ(whole.run(), QKV_SUCCESS) << qkv_last_error();
    ASSERT_TRUE(accepted(whole));
    for (int64_t b = 0; b < row.batch; ++b) {
      for (const int64_t queries : {row.s_q, int64_t{1}}) {
        Case part = row;
        part.batch = 1;
        part.s_q = queries;
        part.s_kv = row.length(b);
        part.lengths = {};
        BuiltProblem alone(part, {.seed = test_seed()});
        const int64_t skipped = row.s_q - queries;
        for (const auto& [to, from, first] : {std::tuple{&alone.q, &whole.q, skipped},
                                              {&alone.k, &whole.k, int64_t{0}},
                                              {&alone.v, &whole.v, int64_t{0}}}) {
          to->each([&](int64_t, int64_t h, int64_t i, int64_t d) {
            to->set(0, h, i, d, from->get(b, h, first + i, d));
          });
        }
        if (alibi) copy_elements(whole[kAlibi], alone[kAlibi]);
        ASSERT_EQ(alone.run(), QKV_SUCCESS) << qkv_last_error();
        alone.o.each([&](int64_t, int64_t h, int64_t i, int64_t d) {
          ASSERT_EQ(alone.o.get(0, h, i, d), whole.o.get(b, h, skipped + i, d))
              << queries << " queries of batch " << b << ", head " << h;
        });
        alone.lse.each([&](int64_t, int64_t h, int64_t i, int64_t) {
          ASSERT_EQ(alone.lse.get(0, h, i, 0), whole.lse.get(b, h, skipped + i, 0))
              << queries << " queries of batch " << b << ", head " << h;
        });
      }
    }
  }
}

// The same in batches of the sizes that servers form: each of the first and of the last. On slow
// devices two seeds in a row take half of the types each.
TEST_P(Edge, T13_BatchesOfEverySize) {
  const bool is_odd = test_seed() % 2 == 1;
  if (test_repeats() < 4 && is_odd != (GetParam() == QKV_TYPE_F32)) return;
  const Case row = typed({.name = "batches",
                          .batch = 257,
                          .heads_q = 2,
                          .heads_kv = 1,
                          .s_q = 1,
                          .s_kv = 70,
                          .d_qk = 64,
                          .d_v = 64,
                          .lengths = {70, 0, 1, 64, 65, 7, 2},
                          .fixed_split = 64});
  BuiltProblem whole(row, {.seed = test_seed()});
  ASSERT_EQ(whole.run(), QKV_SUCCESS) << qkv_last_error();
  ASSERT_TRUE(accepted(whole));
  for (const int64_t batch : {1, 64}) {
    for (const int64_t first : {int64_t{0}, row.batch - batch}) {
      Case part = row;
      part.batch = batch;
      for (size_t b = 0; b < part.lengths.size(); ++b)
        part.lengths[b] = static_cast<int32_t>(row.length(first + static_cast<int64_t>(b)));
      BuiltProblem some(part, {.seed = test_seed()});
      for (const auto& [to, from] :
           {std::pair{&some.q, &whole.q}, {&some.k, &whole.k}, {&some.v, &whole.v}}) {
        to->each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
          to->set(b, h, i, d, from->get(first + b, h, i, d));
        });
      }
      ASSERT_EQ(some.run(), QKV_SUCCESS) << qkv_last_error();
      for (const auto& [at, want] : {std::pair{&some.o, &whole.o}, {&some.lse, &whole.lse}}) {
        at->each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
          ASSERT_EQ(at->get(b, h, i, d), want->get(first + b, h, i, d))
              << "batch " << first + b << " in a batch of " << batch << ", head " << h;
        });
      }
    }
  }
}

// Each tensor in turn at every distance from an aligned address, with rows of d, d + 1 and d + 8
// elements: right, or refused by name where an element itself would straddle.
TEST_P(Edge, T8_EveryAlignment) {
  const Case row = typed({.name = "alignment", .s_q = 9, .s_kv = 70, .d_qk = 64, .d_v = 64});
  const auto size = static_cast<size_t>(host::type_size(GetParam()));
  for (const TensorId id : {kQ, kK, kV, kO}) {
    const auto& [name, given] = std::pair{kTensors[id].name, kTensors[id].given};
    for (const size_t bytes : {2, 4, 8, 16, 32}) {
      for (const int64_t pad : {0, 1, 8}) {
        SCOPED_TRACE(host::text(name, " + ", bytes, " bytes, rows of d + ", pad));
        BuiltProblem built(row, {.seed = test_seed()});
        // A copy of the tensor with the wanted base and row stride, in memory of its own.
        const Tensor& from = built[id];
        const Shape shape{2, from.view.shape[1], from.view.shape[2], 64};
        Tensors memory({});
        const Tensor copy =
            memory.add(name, GetParam(), shape, strides_of(shape, kAsBhsd, {0, 0, pad}),
                       kTensors[id].use, bytes);
        if (id != kO) copy_elements(from, copy);
        built.upload();
        memory.upload();
        qkv_attention_desc desc = built.desc();
        desc.*given = copy.on_place();
        desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
        const qkv_status status = qkv_attention(&desc, nullptr);
        if (bytes % size != 0) {
          EXPECT_EQ(status, QKV_INVALID_ALIGNMENT);
          EXPECT_EQ(std::string(qkv_last_error()).rfind(std::string(name) + ".data", 0), 0u)
              << qkv_last_error();
          continue;
        }
        ASSERT_EQ(status, QKV_SUCCESS) << qkv_last_error();
        built.download();
        memory.download();
        EXPECT_EQ(memory.damage(), "");
        if (id == kO) copy_elements(copy, built.o);  // for the oracle to judge
        EXPECT_TRUE(accepted(built));
      }
    }
  }
}

}  // namespace
}  // namespace qkv::test
