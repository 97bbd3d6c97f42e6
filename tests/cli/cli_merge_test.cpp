// `qkv merge`: what attend writes for two halves of the keys becomes what it writes for all of
// them; bad input is refused with code 2.
#include "tests/cli/cli_test.h"

namespace qkv::cli_test {
namespace {

constexpr int64_t kHeads = 3, kSq = 5, kKeys = 8, kD = 4;

class MergeTest : public testing::Test {
 protected:
  MergeTest() {
    save("q", {kHeads, kSq, kD}, 1, 0, kSq);
    for (const char* name : {"k", "v"}) {
      save(name, {kHeads, kKeys, kD}, 2, 0, kKeys);
      save(name + std::string("1"), {kHeads, kKeys, kD}, 2, 0, 3);
      save(name + std::string("2"), {kHeads, kKeys, kD}, 2, 3, kKeys);
    }
  }

  std::string file(const std::string& name) const { return folder_ / (name + ".npy"); }

  // Rows [begin, end) of every head of a random tensor.
  void save(const std::string& name, const std::vector<int64_t>& shape, unsigned seed,
            int64_t begin, int64_t end) {
    const std::vector<float> all = random_floats(shape, seed);
    std::vector<float> rows;
    for (int64_t h = 0; h < shape[0]; ++h) {
      const auto first = all.begin() + (h * shape[1] + begin) * shape[2];
      rows.insert(rows.end(), first, first + (end - begin) * shape[2]);
    }
    cli_test::save(file(name), array({shape[0], end - begin, shape[2]}, rows));
  }

  void attend(const std::string& part) {
    const Outcome outcome = run_program({"attend", "--device", "cpu", "--layout", "bhsd", "-q",
                                         file("q"), "-k", file("k" + part), "-v", file("v" + part),
                                         "-o", file("o" + part), "--lse", file("lse" + part)});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }

  Outcome merge(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"merge", "--device", "cpu"});
    return run_program(arguments);
  }

  std::vector<double> doubles(const std::string& name, const std::vector<int64_t>& shape) {
    const std::vector<float> floats = load_floats(file(name), shape);
    return {floats.begin(), floats.end()};
  }

  const TempFolder folder_;
};

TEST_F(MergeTest, HalvesBecomeTheWhole) {
  attend(""), attend("1"), attend("2");
  const Outcome outcome =
      merge({"--layout", "bhsd", "--o-parts", file("o1"), file("o2"), "--lse-parts", file("lse1"),
             file("lse2"), "-o", file("merged"), "--lse", file("merged_lse")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("cpu_merge on cpu"), std::string::npos) << outcome.out;
  expect_close(load_floats(file("merged"), {kHeads, kSq, kD}), doubles("o", {kHeads, kSq, kD}),
               1e-6, "o");
  expect_close(load_floats(file("merged_lse"), {kHeads, kSq}), doubles("lse", {kHeads, kSq}), 1e-6,
               "lse");
}

TEST_F(MergeTest, RefusesWhatCannotBeMerged) {
  attend("1"), attend("2");
  const struct {
    std::vector<std::string> arguments;
    const char* says;
  } rows[] = {
      {{"--o-parts", file("o1"), file("o2"), "--lse-parts", file("lse1")}, "names 2 files"},
      {{"--o-parts", file("o1"), "--lse-parts", file("o1")}, "has rank 3"},
      {{"--o-parts", file("k1"), file("k2"), "--lse-parts", file("lse1"), file("lse2")},
       "shape[2]"},
      {{"--o-parts", file("o1"), "--lse-parts", file("lse1"), "-o", "a", "--lse", "a"},
       "--o and --lse are both a"},
      {{"--o-parts", file("o1"), "--lse-parts", file("lse1"), "-o", folder_ / "x.npy", "--lse",
        folder_ / "./x.npy"},
       "--o and --lse are both"},
      {{"--o-parts", file("o1")}, "--lse-parts"},
  };
  for (const auto& [arguments, says] : rows) {
    const Outcome outcome = merge(arguments);
    EXPECT_EQ(outcome.code, 2) << says << outcome.err;
    EXPECT_NE(outcome.err.find(says), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace qkv::cli_test
