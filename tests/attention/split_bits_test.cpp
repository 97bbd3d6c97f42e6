// T13 under fixed_split_size: a query's results are the same bits among all queries of a call, in a
// chunk of them as in a chunked prefill, and alone as in decoding; whatever the mask.
#include <gtest/gtest.h>

#include <algorithm>
#include <tuple>

#include "tests/support/each_type.h"

namespace qkv::test {
namespace {

class SplitBits : public EachType {
 protected:
  // A problem with a fixed split size, a random window, length and diagonal.
  Case random_case(Random* random) const {
    Case row = typed({.name = "chunks", .batch = 1, .heads_q = 2, .heads_kv = 1});
    constexpr int64_t kDims[] = {1, 2, 40, 64, 128};
    constexpr int64_t kSplits[] = {1, 48, 64, 100, 512};
    const int64_t d = kDims[random->integer(0, 4)];
    row.dims(d, d).sizes(random->integer(1, 140), random->integer(1, 400));
    row.fixed_split = kSplits[random->integer(0, 4)];
    row.causal = random->integer(0, 1) == 0;
    row.shifted(random->integer(-20, 200));
    if (random->integer(0, 2) > 0) row.left = random->integer(0, 150);
    if (!row.causal && random->integer(0, 2) == 0) row.right = random->integer(0, 150);
    if (random->integer(0, 2) == 0)
      row.lengths = {static_cast<int32_t>(random->integer(0, row.s_kv))};
    if (random->integer(0, 3) == 0) row.inputs[kAlibi] = {.axes = kHeads};
    if (random->integer(0, 3) == 0) row.inputs[kBias] = {.axes = kHeads | kQueries | kKeys};
    return row;
  }
};
EACH_TYPE(SplitBits);

TEST_P(SplitBits, T13_ChunksOfQueries) {
  const int rounds = test_repeats() < 4 ? 12 : 40;  // slow devices have more seeds
  for (int round = 0; round < rounds; ++round) {
    Random random(test_seed() + static_cast<uint64_t>(round));
    const Case row = random_case(&random);
    BuiltProblem whole(row, {.seed = test_seed()});
    if (row.has(kAlibi)) {  // slopes whose products with distances have to be rounded
      whole[kAlibi].each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        whole[kAlibi].set(b, h, i, d, 0.0371 / static_cast<double>(h + 1));
      });
    }
    ASSERT_EQ(whole.run(), QKV_SUCCESS) << qkv_last_error() << '\n' << replay(row);
    ASSERT_TRUE(accepted(whole));
    for (const int64_t queries : {int64_t{1}, random.integer(1, row.s_q)}) {
      const int64_t first = random.integer(0, row.s_q - queries);
      Case part = row;
      part.s_q = queries;
      part.offset += first;
      BuiltProblem alone(part, {.seed = test_seed()});
      for (const auto& [id, from] : {std::tuple{kQ, first}, {kK, int64_t{0}}, {kV, int64_t{0}}}) {
        alone[id].each([&, from = from, id = id](int64_t b, int64_t h, int64_t i, int64_t d) {
          alone[id].set(b, h, i, d, whole[id].get(b, h, from + i, d));
        });
      }
      if (row.has(kAlibi)) {
        alone[kAlibi].each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
          alone[kAlibi].set(b, h, i, d, whole[kAlibi].get(b, h, i, d));
        });
      }
      if (row.has(kBias)) {
        alone[kBias].each([&](int64_t b, int64_t h, int64_t i, int64_t j) {
          alone[kBias].set(b, h, i, j, whole[kBias].get(b, h, first + i, j));
        });
      }
      ASSERT_EQ(alone.run(), QKV_SUCCESS) << qkv_last_error() << '\n' << replay(row);
      for (const TensorId id : {kO, kLse}) {
        alone[id].each([&, id = id](int64_t b, int64_t h, int64_t i, int64_t d) {
          ASSERT_EQ(alone[id].get(b, h, i, d), whole[id].get(b, h, first + i, d))
              << "query " << first + i << " of " << row.s_q << " in a chunk of " << queries
              << " from " << first << ", head " << h << '\n'
              << replay(row) << " round " << round;
        });
      }
    }
  }
}

}  // namespace
}  // namespace qkv::test
