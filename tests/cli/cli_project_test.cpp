// `qkv project`: weights of both orders, with and without bias and heads, from .npy and
// .safetensors; bad input is refused with code 2.
#include "tests/cli/cli_test.h"

namespace qkv::cli_test {
namespace {

constexpr int64_t kBatch = 2, kRows = 3, kIn = 5, kHeads = 2, kDim = 4, kOut = kHeads * kDim;

class ProjectTest : public testing::Test {
 protected:
  ProjectTest()
      : x_(random_floats({kBatch, kRows, kIn}, 1)),
        weight_(random_floats({kOut, kIn}, 2)),
        bias_(random_floats({kOut}, 3)) {
    save("x", {kBatch, kRows, kIn}, x_);
    save("w", {kOut, kIn}, weight_);
    save("b", {kOut}, bias_);
    std::vector<float> other;
    for (int64_t in = 0; in < kIn; ++in)
      for (int64_t out = 0; out < kOut; ++out) other.push_back(weight(out, in));
    save("w_in_out", {kIn, kOut}, other);
  }

  std::string file(const std::string& name) const { return folder_ / (name + ".npy"); }
  void save(const std::string& name, const std::vector<int64_t>& shape,
            const std::vector<float>& values) {
    cli_test::save(file(name), array(shape, values));
  }
  float weight(int64_t out, int64_t in) const {
    return weight_[static_cast<size_t>(out * kIn + in)];
  }

  Outcome project(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"project", "--device", "cpu"});
    return run_program(arguments);
  }

  // [batch, rows, out], or heads before rows.
  std::vector<double> expected(bool bias, bool heads_first = false) const {
    std::vector<double> y(static_cast<size_t>(kBatch * kRows * kOut));
    for (int64_t b = 0; b < kBatch; ++b)
      for (int64_t i = 0; i < kRows; ++i)
        for (int64_t out = 0; out < kOut; ++out) {
          double sum = bias ? bias_[static_cast<size_t>(out)] : 0;
          for (int64_t in = 0; in < kIn; ++in)
            sum += static_cast<double>(x_[static_cast<size_t>((b * kRows + i) * kIn + in)]) *
                   weight(out, in);
          const int64_t h = out / kDim, d = out % kDim;
          const int64_t at = heads_first ? ((b * kHeads + h) * kRows + i) * kDim + d
                                         : (b * kRows + i) * kOut + out;
          y[static_cast<size_t>(at)] = sum;
        }
    return y;
  }

  const TempFolder folder_;
  const std::vector<float> x_, weight_, bias_;
};

TEST_F(ProjectTest, TakesWeightsOfBothOrders) {
  for (const bool in_out : {false, true})
    for (const bool bias : {false, true}) {
      std::vector<std::string> arguments{"-x", file("x"), "-w", file(in_out ? "w_in_out" : "w"),
                                         "-y", file("y")};
      if (in_out) arguments.emplace_back("--in-out");
      if (bias) arguments.insert(arguments.end(), {"-b", file("b")});
      const Outcome outcome = project(arguments);
      ASSERT_EQ(outcome.code, 0) << outcome.err;
      expect_close(load_floats(file("y"), {kBatch, kRows, kOut}), expected(bias), 1e-5, "y");
      EXPECT_NE(outcome.out.find("2 sequences, 3 rows, 5 wide to 8 wide"), std::string::npos)
          << outcome.out;
      EXPECT_NE(outcome.out.find("cpu_project"), std::string::npos) << outcome.out;
    }
}

TEST_F(ProjectTest, WritesHeadsAsAttendReadsThem) {
  Outcome outcome = project(
      {"-x", file("x"), "-w", file("w"), "--heads", "2", "--layout", "bhsd", "-y", file("y")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  expect_close(load_floats(file("y"), {kBatch, kHeads, kRows, kDim}), expected(false, true), 1e-5,
               "y");
  outcome = run_program({"attend", "--device", "cpu", "--layout", "bhsd", "-q", file("y"), "-k",
                         file("y"), "-v", file("y"), "-o", file("o")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  // Heads side by side are one width again.
  outcome = project({"-x", file("x"), "-w", file("w"), "--heads", "2", "-y", file("y")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  save("back", {3, kOut}, random_floats({3, kOut}, 4));
  outcome = project({"-x", file("y"), "-w", file("back"), "-y", file("z")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(io::load_npy(file("z")).shape, (std::vector<int64_t>{kBatch, kRows, 3}));
}

TEST_F(ProjectTest, TakesWeightsByNameFromSafetensors) {
  const std::string path = folder_ / "model.safetensors";
  const io::Array w = array({kOut, kIn}, weight_), b = array({kOut}, bias_);
  io::save_safetensors(
      path, std::vector<io::NamedView>{{"q_proj.weight", w.view()}, {"q_proj.bias", b.view()}});
  const Outcome outcome = project({"-x", file("x"), "-w", path + ":q_proj.weight", "-b",
                                   path + ":q_proj.bias", "-y", file("y")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  expect_close(load_floats(file("y"), {kBatch, kRows, kOut}), expected(true), 1e-5, "y");
}

TEST_F(ProjectTest, RefusesBadInput) {
  save("vector", {kIn}, random_floats({kIn}, 5));
  save("narrow", {kOut, kIn - 1}, random_floats({kOut, kIn - 1}, 6));
  cli_test::save(file("doubles"), array<double>({1, 2}, {1, 2}));
  const struct {
    std::vector<std::string> arguments;
    const char* says;
  } rows[] = {
      {{"-x", file("vector"), "-w", file("w")}, "--x has shape [5]; allowed: [rows, in]"},
      {{"-x", file("doubles"), "-w", file("w")}, "--x holds f64; allowed: f32, f16, bf16"},
      {{"-x", file("x"), "-w", file("b")}, "--weight has shape [8]; allowed: [out, in]"},
      {{"-x", file("x"), "-w", file("w"), "-b", file("w")}, "--bias has shape"},
      {{"-x", file("x"), "-w", file("narrow")}, "weight.shape[3] (in) is 4; it must be 5"},
      {{"-x", file("x"), "-w", file("w"), "--heads", "3"},
       "--heads is 3; --weight has 8 rows, which it must divide"},
      {{"-x", file("x")}, "--weight"},
  };
  for (const auto& [arguments, says] : rows) {
    const Outcome outcome = project(arguments);
    EXPECT_EQ(outcome.code, 2) << says << outcome.err;
    EXPECT_NE(outcome.err.find(says), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace qkv::cli_test
