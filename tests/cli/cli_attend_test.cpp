// `qkv attend` as a user meets it: results against the oracle, messages and exit codes of bad
// input, files that appear whole or not at all.
#include "tests/cli/cli_test.h"

#include <algorithm>
#include <map>
#include <sstream>

namespace qkv::cli_test {
namespace {

constexpr int64_t kB = 2, kHq = 4, kHkv = 2, kSq = 5, kSkv = 7, kD = 8, kDv = 6;

// [batch, seq, heads, dim] to the oracle's [batch, heads, seq, dim].
std::vector<float> heads_first(const std::vector<float>& in, int64_t b, int64_t s, int64_t h,
                               int64_t d) {
  std::vector<float> out;
  for (int64_t at = 0; at < b * h * s * d; ++at) {
    const int64_t x = at % d, i = at / d % s, head = at / (d * s) % h, batch = at / (d * s * h);
    out.push_back(in[static_cast<size_t>(((batch * s + i) * h + head) * d + x)]);
  }
  return out;
}

struct Refusal {
  std::vector<std::string> options;
  std::vector<std::string> words;  // that the message must hold
};

// Inputs of one problem, in files (bhsd) and in memory.
class AttendTest : public testing::Test {
 protected:
  AttendTest() {
    save_floats("q", {kB, kHq, kSq, kD}, 1);
    save_floats("k", {kB, kHkv, kSkv, kD}, 2);
    save_floats("v", {kB, kHkv, kSkv, kDv}, 3);
    save_floats("bias", {kHq, kSq, kSkv}, 4);
    save_floats("alibi", {kHq}, 5);
    save_floats("w", {kHq, kD}, 6);
    save(folder_ / "mask.npy", array<uint8_t>({kSq, kSkv}, mask_));
    save(folder_ / "lengths.npy", array<int64_t>({kB}, {7, 3}));
    problem_ = {.q = bhsd(data_["q"].data(), kB, kHq, kSq, kD),
                .k = bhsd(data_["k"].data(), kB, kHkv, kSkv, kD),
                .v = bhsd(data_["v"].data(), kB, kHkv, kSkv, kDv),
                .o = bhsd(o_.data(), kB, kHq, kSq, kDv)};
  }

  void save_floats(const std::string& name, const std::vector<int64_t>& shape, unsigned seed) {
    data_[name] = random_floats(shape, seed);
    save(folder_ / (name + ".npy"), array(shape, data_[name]));
  }

  std::vector<std::string> inputs() const {
    return {"attend",          "--layout", "bhsd",           "-q", folder_ / "q.npy", "-k",
            folder_ / "k.npy", "-v",       folder_ / "v.npy"};
  }

  Outcome attend(const std::vector<std::string>& more, std::vector<std::string> arguments) const {
    for (std::string argument : more) {
      if (argument.starts_with("@")) argument = folder_ / (argument.substr(1) + ".npy");
      arguments.push_back(argument);
    }
    return run_program(arguments);
  }

  // Runs with all outputs and --check; compares with the oracle of `problem`.
  void expect_oracle(const std::vector<std::string>& options, const Attention& problem,
                     double tolerance = 1e-5) {
    std::vector<std::string> more = options;
    const bool soft = problem.selection == Selection::kSoft;
    const bool top = problem.selection == Selection::kTopK;
    for (const std::string name : {"o", "lse", "weights", "index", "top-scores"}) {
      if ((name == "index" && soft) || (name == "top-scores" && !top)) continue;
      more.push_back("--" + name);
      more.push_back("@out_" + name);
    }
    more.push_back("--check");
    const Outcome outcome = attend(more, inputs());
    ASSERT_EQ(outcome.code, 0) << outcome.err << outcome.out;
    const reference::Result want = oracle(problem);
    expect_close(load_floats(folder_ / "out_o.npy", {kB, kHq, kSq, kDv}), want.o, tolerance, "o");
    expect_close(load_floats(folder_ / "out_lse.npy", {kB, kHq, kSq}), want.lse, tolerance, "lse");
    expect_close(load_floats(folder_ / "out_weights.npy", {kB, kHq, kSq, kSkv}), want.weights,
                 tolerance, "weights");
    if (soft) return;
    const io::Array index = io::load_npy(folder_ / "out_index.npy");
    const auto chosen = index.view().as<int64_t>();
    const std::vector<int64_t>& keys = top ? want.top : want.index;
    EXPECT_TRUE(std::equal(chosen.begin(), chosen.end(), keys.begin(), keys.end()));
    if (top)
      expect_close(load_floats(folder_ / "out_top-scores.npy", {kB, kHq, kSq, problem.top_k}),
                   want.top_scores, tolerance, "top-scores");
  }

  void expect_refused(const Outcome& outcome, const std::vector<std::string>& words) const {
    EXPECT_EQ(outcome.code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_TRUE(outcome.err.starts_with("qkv attend: "));
    for (const std::string& word : words) {
      EXPECT_NE(outcome.err.find(word), std::string::npos) << "not in the message: " << word;
    }
    EXPECT_FALSE(fs::exists(folder_.path() / "out.npy"));
  }

  TempFolder folder_;
  std::map<std::string, std::vector<float>> data_;
  std::vector<uint8_t> mask_ = [] {
    std::vector<uint8_t> out(kSq * kSkv);
    for (size_t i = 0; i < out.size(); ++i) out[i] = i % 3 != 0 && i / kSkv != 2;
    return out;
  }();
  std::vector<int32_t> lengths_{7, 3};
  std::vector<float> o_ = std::vector<float>(kB * kHq * kSq * kDv);
  std::vector<float> weights_ = std::vector<float>(kB * kHq * kSq * kSkv);
  Attention problem_;
};

TEST_F(AttendTest, EveryOptionMeansWhatTheContractSays) {
  const Tensor bias = strided(data_["bias"].data(), {1, kHq, kSq, kSkv}, {0, kSq * kSkv, kSkv, 1});
  const Tensor mask = strided(mask_.data(), {1, 1, kSq, kSkv}, {0, 0, kSkv, 1});
  const Tensor alibi = strided(data_["alibi"].data(), {1, kHq, 1, 1}, {0, 1, 0, 0});
  const Tensor w = strided(data_["w"].data(), {1, kHq, 1, kD}, {0, kD, 0, 1});
  const struct {
    std::vector<std::string> options;
    std::function<void(Attention*)> set;
  } cases[] = {
      {{}, [](Attention*) {}},
      {{"--causal"}, [](Attention* a) { a->causal = true; }},
      {{"--causal", "--align", "top-left"},
       [](Attention* a) {
         a->causal = true;
         a->alignment = Alignment::kTopLeft;
       }},
      {{"--causal", "--offset", "-1"},  // the first query sees no key
       [](Attention* a) {
         a->causal = true;
         a->alignment = Alignment::kExplicit;
         a->offset = -1;
       }},
      {{"--window", "2,-1"}, [](Attention* a) { a->window_left = 2; }},
      {{"--window", "-1,0"}, [](Attention* a) { a->window_right = 0; }},
      {{"--scale", "-0.25"}, [](Attention* a) { a->scale = -0.25f; }},
      {{"--softcap", "1.5"}, [](Attention* a) { a->softcap = 1.5f; }},
      {{"--bias", "@bias"}, [&](Attention* a) { a->bias = bias; }},
      {{"--mask", "@mask"}, [&](Attention* a) { a->mask = mask; }},
      {{"--alibi", "@alibi"}, [&](Attention* a) { a->alibi_slopes = alibi; }},
      {{"--lengths", "@lengths"},
       [&](Attention* a) { a->kv_lengths = per_batch(lengths_.data(), kB); }},
      {{"--score", "additive", "--additive-weight", "@w"},
       [&](Attention* a) {
         a->score = Score::kAdditive;
         a->additive_weight = w;
       }},
      {{"--threads", "1"}, [](Attention* a) { a->threads = 1; }},
      {{"--selection", "hard"}, [](Attention* a) { a->selection = Selection::kHard; }},
      {{"--selection", "hard", "--mask", "@mask", "--score", "additive", "--additive-weight", "@w"},
       [&](Attention* a) {
         a->selection = Selection::kHard;
         a->mask = mask;
         a->score = Score::kAdditive;
         a->additive_weight = w;
       }},
      {{"--selection", "top-k", "--top-k", "3"},
       [](Attention* a) { a->selection = Selection::kTopK, a->top_k = 3; }},
      {{"--selection", "top-k", "--top-k", "5", "--mask", "@mask"},  // more than some queries see
       [&](Attention* a) { a->selection = Selection::kTopK, a->top_k = 5, a->mask = mask; }},
      {{"--weights-mode", "scores"}, [](Attention* a) { a->weights_mode = WeightsMode::kScores; }},
      {{"--weights-mode", "softcapped", "--softcap", "2"},
       [](Attention* a) {
         a->weights_mode = WeightsMode::kSoftcapped;
         a->softcap = 2;
       }},
      {{"--weights-mode", "masked", "--causal", "--bias", "@bias"},
       [&](Attention* a) {
         a->weights_mode = WeightsMode::kMasked;
         a->causal = true;
         a->bias = bias;
       }},
  };
  for (const auto& row : cases) {
    std::string name = "options:";
    for (const std::string& option : row.options) name += " " + option;
    SCOPED_TRACE(name);
    Attention problem = problem_;
    problem.weights = bhsd(weights_.data(), kB, kHq, kSq, kSkv);
    row.set(&problem);
    expect_oracle(row.options, problem);
  }
}

TEST_F(AttendTest, ConvertsToNarrowTypes) {
  const reference::Result want = oracle(problem_);
  for (const char* type : {"f16", "bf16"}) {
    SCOPED_TRACE(type);
    const Outcome outcome = attend({"--type", type, "-o", "@o", "--check"}, inputs());
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const io::Array o = io::load_npy(folder_ / "o.npy");
    // .npy has no bf16: its values are written as f32.
    EXPECT_EQ(o.type, std::string(type) == "f16" ? io::DType::f16 : io::DType::f32);
    for (size_t i = 0; i < want.o.size(); ++i) {
      float value = 0;
      if (o.type == io::DType::f16) {
        host::Half half;
        std::memcpy(&half, o.bytes.data() + 2 * i, 2);
        value = host::to_float(half);
      } else {
        value = o.view().as<float>()[i];
      }
      ASSERT_NEAR(static_cast<double>(value), want.o[i], 0.05);
    }
  }
}

TEST_F(AttendTest, LayoutsAndRanksAgree) {
  const auto one = [&](const char* name, int64_t s, int64_t heads, int64_t d) {
    const std::string path = folder_ / name;
    save(path + ".npy", array({s, heads, d}, random_floats({s, heads, d}, 7)));
  };
  one("q3", kSq, kHq, kD);
  one("k3", kSkv, kHkv, kD);
  one("v3", kSkv, kHkv, kDv);
  const std::vector<float> q = random_floats({kSq, kHq, kD}, 7),
                           k = random_floats({kSkv, kHkv, kD}, 7),
                           v = random_floats({kSkv, kHkv, kDv}, 7);
  Attention problem{.q = bshd(q.data(), 1, kSq, kHq, kD),
                    .k = bshd(k.data(), 1, kSkv, kHkv, kD),
                    .v = bshd(v.data(), 1, kSkv, kHkv, kDv),
                    .o = bhsd(o_.data(), 1, kHq, kSq, kDv)};
  const std::vector<double> want = oracle(problem).o;  // heads first
  ASSERT_EQ(
      attend({"attend", "-q", "@q3", "-k", "@k3", "-v", "@v3", "-o", "@o", "--lse", "@lse"}, {})
          .code,
      0);
  const std::vector<float> got = load_floats(folder_ / "o.npy", {kSq, kHq, kDv});
  EXPECT_EQ(io::load_npy(folder_ / "lse.npy").shape, (std::vector<int64_t>{kHq, kSq}));
  expect_close(heads_first(got, 1, kSq, kHq, kDv), want, 1e-5, "o");
  save(folder_ / "q2.npy", array({kSq, kD}, random_floats({kSq, kD}, 8)));
  const Outcome two = attend(
      {"attend", "-q", "@q2", "-k", "@q2", "-v", "@q2", "-o", "@o", "--weights", "@w2", "--check"},
      {});
  ASSERT_EQ(two.code, 0) << two.err;
  EXPECT_EQ(io::load_npy(folder_ / "o.npy").shape, (std::vector<int64_t>{kSq, kD}));
  EXPECT_EQ(io::load_npy(folder_ / "w2.npy").shape, (std::vector<int64_t>{kSq, kSq}));
}

TEST_F(AttendTest, PackedInputIsTheSameAsThreeFiles) {
  const int64_t s = 6, hq = 4, hkv = 1, d = 8, heads = hq + 2 * hkv;
  const std::vector<float> packed = random_floats({kB, s, heads, d}, 9);
  save(folder_ / "packed.npy", array({kB, s, heads, d}, packed));
  save(folder_ / "five.npy", array({kB, s, 3, 2, d}, packed));
  const PackedQkv gqa = packed_qkv(packed.data(), kB, s, hq, hkv, d);
  const PackedQkv mha = packed_qkv(packed.data(), kB, s, 2, 2, d);
  std::vector<float> o(static_cast<size_t>(kB * s * hq * d));
  const struct {
    std::vector<std::string> options;
    const PackedQkv& tensors;
    int64_t heads;
  } cases[] = {{{"--qkv", "@packed", "--qkv-heads", "4,1"}, gqa, hq},
               {{"--qkv", "@packed"}, mha, 2},
               {{"--qkv", "@five"}, mha, 2}};
  for (const auto& row : cases) {
    std::vector<std::string> options{"attend"};
    options.insert(options.end(), row.options.begin(), row.options.end());
    options.insert(options.end(), {"-o", "@o", "--check"});
    const Outcome outcome = attend(options, {});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    const std::vector<double> want = oracle({.q = row.tensors.q,
                                             .k = row.tensors.k,
                                             .v = row.tensors.v,
                                             .o = bhsd(o.data(), kB, row.heads, s, d)})
                                         .o;
    const std::vector<float> got = load_floats(folder_ / "o.npy", {kB, s, row.heads, d});
    expect_close(heads_first(got, kB, s, row.heads, d), want, 1e-5, row.options.back());
  }
}

TEST_F(AttendTest, RealModelsOutputWithin1e5) {
  const std::string file = std::string(QKV_DATA_DIR) + "/minilm.safetensors:";
  const Outcome outcome =
      attend({"attend", "--layout", "bhsd", "-q", file + "sentence.q", "-k", file + "sentence.k",
              "-v", file + "sentence.v", "-o", "@o", "--weights", "@p"},
             {});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_NE(outcome.out.find("[batch, heads, seq, dim] = [1, 12, 16, 32]"), std::string::npos);
  const auto model = io::SafetensorsFile::open(std::string(QKV_DATA_DIR) + "/minilm.safetensors");
  for (const auto& [ours, theirs] : {std::pair{"o", "sentence.out"}, {"p", "sentence.probs"}}) {
    const io::View want = model.tensor(theirs);
    const auto values = want.as<float>();
    expect_close(load_floats(folder_ / (std::string(ours) + ".npy"), want.shape),
                 {values.begin(), values.end()}, 1e-5, theirs);
  }
}

TEST_F(AttendTest, BadInputIsRefusedWithItsReason) {
  save(folder_ / "whole.npy", array<int64_t>({2, 2}, {1, 2, 3, 4}));
  save(folder_ / "rank5.npy", array({1, 1, 1, 2, 2}, random_floats({4}, 1)));
  save(folder_ / "long.npy", array<int64_t>({kB}, {8, 3}));
  save(folder_ / "huge.npy", array<int64_t>({kB}, {int64_t{1} << 40, 3}));
  const std::string q = file_text(folder_ / "q.npy");
  write_text(folder_ / "cut.npy", q.substr(0, q.size() / 2));
  write_text(folder_ / "head.npy", q.substr(0, 20));
  write_text(folder_ / "empty.npy", "");
  const std::string model = std::string(QKV_DATA_DIR) + "/minilm.safetensors";
  const std::string cut = folder_ / "cut.safetensors";
  write_text(cut, file_text(model).substr(0, 5000));
  fs::create_directory(folder_.path() / "folder.npy");
  fs::create_symlink("to_be.npy", folder_ / "link_to_be.npy");

  const Refusal cases[] = {
      {{"--bias", "@cut"}, {"--bias", "cut.npy", "bytes"}},
      {{"--bias", "@head"}, {"--bias", "head.npy"}},
      {{"--bias", "@empty"}, {"--bias", "empty.npy"}},
      {{"--bias", "@none"}, {"--bias", "none.npy", "No such file"}},
      {{"--bias", "@folder"}, {"--bias", "not a regular file"}},
      {{"--bias", cut + ":sentence.q"}, {"--bias", "cut.safetensors"}},
      {{"--bias", model + ":sentence.x"}, {"--bias", "sentence.x", "sentence.out"}},
      {{"--bias", model}, {"--bias", "names no tensor", "nine.k"}},
      {{"--bias", "table.csv"}, {"--bias", "table.csv", "FILE.npy or FILE.safetensors:NAME"}},
      {{"--bias", "@whole"}, {"--bias", "i64", "allowed"}},
      {{"--bias", "@rank5"}, {"--bias", "rank 5", "[1, 1, 1, 2, 2]"}},
      {{"--bias", "@q"}, {"bias.shape", "it must be"}},
      {{"--mask", "@bias"}, {"--mask", "f32", "bool"}},
      {{"--lengths", "@bias"}, {"--lengths", "f32", "integer"}},
      {{"--lengths", "@whole"}, {"--lengths", "rank 2", "[batch]"}},
      {{"--lengths", "@long"}, {"kv_lengths[0] is 8", "7 keys"}},
      {{"--lengths", "@huge"}, {"--lengths[0]", "1099511627776", "32 bits"}},
      {{"--alibi", "@w"}, {"alibi_slopes.shape"}},
      {{"--additive-weight", "@w"}, {"additive_weight", "only additive scores"}},
      {{"--score", "additive"}, {"additive_weight", "absent"}},
      {{"--score", "cosine"}, {"--score", "cosine", "dot, additive"}},
      {{"--index", "@index"}, {"index", "only hard selection"}},
      {{"--selection", "top-k"}, {"top_k is 0", "1 to 128"}},
      {{"--top-k", "3"}, {"top_k is 3", "only QKV_SELECT_TOP_K"}},
      {{"--scale", "big"}, {"--scale", "big", "a finite number"}},
      {{"--scale", "inf"}, {"scale is inf", "finite"}},
      {{"--softcap", "-1"}, {"softcap is -1"}},
      {{"--window", "3"}, {"--window", "\"3\"", "LEFT,RIGHT"}},
      {{"--window", "-2,0"}, {"window_left is -2"}},
      {{"--align", "explicit"}, {"--offset is missing"}},
      {{"--align", "top-left", "--offset", "1"}, {"--offset", "--align is not explicit"}},
      {{"--weights-mode", "scores"}, {"weights_mode is 0", "weights is absent"}},
      {{"--device", "tpu"}, {"--device", "tpu", "cuda:N"}},
      {{"--threads", "-1"}, {"threads is -1"}},
      {{"--threads", "two"}, {"--threads", "two", "a number of threads"}},
      {{"--type", "f64"}, {"--type", "f64", "f32, f16, bf16"}},
      {{"--qkv", "@q"}, {"--qkv", "holds all three"}},
      {{"--qkv-heads", "2"}, {"--qkv-heads", "needs --qkv"}},
      {{"-o", "@same", "--lse", "@same"}, {"--o and --lse", "own file"}},
      {{"-o", "@to_be", "--lse", "@link_to_be"}, {"--o and --lse", "own file"}},
      {{"-o", "-"}, {"--o is -", "./-"}},
      {{"--lse", "-"}, {"--lse is -"}},
      {{"--unknown"}, {"--unknown", "qkv attend --help"}},
  };
  for (const auto& row : cases) {
    std::vector<std::string> options{"-o", "@out"};
    if (row.options[0] == "-o") options.clear();
    options.insert(options.end(), row.options.begin(), row.options.end());
    const Outcome outcome = attend(options, inputs());
    SCOPED_TRACE(row.options[0] + " " + row.options.back() + "\n" + outcome.err);
    expect_refused(outcome, row.words);
  }
}

TEST_F(AttendTest, BadMainTensorsAreRefused) {
  save(folder_ / "wide.npy", array<double>({2, 2}, {1, 2, 3, 4}));
  save(folder_ / "rank1.npy", array({4}, random_floats({4}, 1)));
  save(folder_ / "rank2.npy", array({2, 2}, random_floats({4}, 1)));
  save(folder_ / "heads.npy", array({kB, 3, kSkv, kD}, random_floats({kB, 3, kSkv, kD}, 1)));
  const Refusal cases[] = {
      {{"-q", "@q"}, {"--k is missing"}},
      {{"-q", "@lengths", "-k", "@k", "-v", "@v"}, {"--q holds i64", "f32, f16, bf16"}},
      {{"-q", "@wide", "-k", "@wide", "-v", "@wide"}, {"--q holds f64", "--type f32"}},
      {{"-q", "@rank1", "-k", "@k", "-v", "@v"}, {"--q has rank 1", "[seq, dim]"}},
      {{"-q", "@q", "-k", "@rank2", "-v", "@v"}, {"--k has rank 2", "rank 4"}},
      {{"-q", "@q", "-k", "@heads", "-v", "@v", "--layout", "bhsd"}, {"k.shape[1]", "divide"}},
      {{"-q", "@q", "-k", "@v", "-v", "@v", "--layout", "bhsd"}, {"k.shape[3] (dim) is 6", "8"}},
      {{"-q", "@q", "-k", "@k", "-v", "@v"}, {"shape"}},  // bhsd files read as bshd
      {{"--qkv", "@q", "--qkv-heads", "4"}, {"--qkv", "HQ + 2 HKV"}},
      {{"--qkv", "@rank2"}, {"--qkv has rank 2"}},
      {{"--qkv", "@q", "--layout", "bhsd"}, {"--layout is bhsd"}},
  };
  for (const auto& row : cases) {
    std::vector<std::string> options{"attend", "-o", "@out"};
    options.insert(options.end(), row.options.begin(), row.options.end());
    const Outcome outcome = attend(options, {});
    SCOPED_TRACE(row.options[1] + "\n" + outcome.err);
    expect_refused(outcome, row.words);
  }
}

TEST_F(AttendTest, OutputsAreWrittenAllOrNone) {
  write_text(folder_ / "o.npy", "old");
  const auto files = [&] {
    return std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator());
  };
  const auto before = files();
  for (const char* bad : {"/missing/lse.npy", "/folder.npy"}) {
    fs::create_directory(folder_.path() / "folder.npy");
    std::vector<std::string> options = inputs();
    options.insert(options.end(),
                   {"-o", folder_ / "o.npy", "--lse", folder_.path().string() + bad});
    const Outcome outcome = run_program(options);
    EXPECT_EQ(outcome.code, 1);
    EXPECT_NE(outcome.err.find(folder_.path().string() + bad + ":"), std::string::npos)
        << outcome.err;
    EXPECT_EQ(file_text(folder_ / "o.npy"), "old");
    fs::remove(folder_.path() / "folder.npy");
    EXPECT_EQ(files(), before);
  }
  ASSERT_EQ(attend({"-o", "/dev/null"}, inputs()).code, 0);
  EXPECT_FALSE(fs::is_regular_file("/dev/null"));
}

// As `>` does, also where what a link names is not there yet.
TEST_F(AttendTest, OutputsAreWrittenThroughLinks) {
  const std::string old = "old";
  write_text(folder_ / "there.npy", old);
  fs::create_symlink("there.npy", folder_ / "link.npy");
  fs::create_directory(folder_.path() / "far");
  fs::create_symlink("../new.npy", folder_ / "far/second.npy");
  fs::create_symlink("far/second.npy", folder_ / "first.npy");
  for (const auto& [link, file] : {std::pair{"link.npy", "there.npy"}, {"first.npy", "new.npy"}}) {
    const Outcome outcome = attend({"-o", folder_ / link}, inputs());
    ASSERT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_TRUE(fs::is_symlink(folder_ / link)) << link;
    EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(folder_ / file))) << file;
    EXPECT_NE(file_text(folder_ / file), old);
  }
  EXPECT_TRUE(fs::is_symlink(folder_ / "far/second.npy"));

  fs::create_symlink("circle.npy", folder_ / "circle.npy");
  const Outcome circle = attend({"-o", "@circle"}, inputs());
  EXPECT_EQ(circle.code, 2);
  EXPECT_NE(circle.err.find("Too many levels of symbolic links"), std::string::npos) << circle.err;
  EXPECT_TRUE(fs::is_symlink(folder_ / "circle.npy"));
}

// "time    1.25 ms (fastest of 5 runs, median 1.31 ms)" or "time    2.50 s (one run)".
TEST_F(AttendTest, TellsTheFastestRunAndTheMedian) {
  const Outcome outcome = attend({"-o", "/dev/null"}, inputs());
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const size_t at = outcome.out.find("time    ");
  ASSERT_NE(at, std::string::npos) << outcome.out;
  std::istringstream words(outcome.out.substr(at));
  const auto time = [&words] {
    double value = 0;
    std::string unit;
    words >> value >> unit;
    return value * (unit.starts_with("us") ? 1 : unit.starts_with("ms") ? 1e3 : 1e6);
  };
  std::string word;
  words >> word;
  const double fastest = time();
  EXPECT_GT(fastest, 0) << outcome.out;
  words >> word;
  if (word == "(one") {  // the machine is that busy
    EXPECT_GE(fastest, 200e3) << outcome.out;
    return;
  }
  int runs = 0;
  words >> word >> runs >> word >> word;
  EXPECT_GE(runs, 2) << outcome.out;
  EXPECT_LE(runs, 5) << outcome.out;
  EXPECT_GE(time(), fastest) << outcome.out;
}

}  // namespace
}  // namespace qkv::cli_test
