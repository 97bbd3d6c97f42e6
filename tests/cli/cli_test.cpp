// The program `qkv` as a user meets it: usage, info, explain and demo; attend has its own file.
#include "tests/cli/cli_test.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

namespace qkv::cli_test {
namespace {

TEST(ProgramTest, UsageAndExitCodes) {
  EXPECT_EQ(run_program({"--help"}).code, 0);
  EXPECT_EQ(run_program({"attend", "--help"}).code, 0);
  EXPECT_EQ(run_program({"--version"}).out.substr(0, 4), "qkv ");
  EXPECT_EQ(run_program({}).code, 2);
  EXPECT_EQ(run_program({"attention"}).code, 2);
  EXPECT_EQ(run_program({"demo", "--color", "blue"}).code, 2);
  EXPECT_EQ(run_program({"demo", "--speed", "huge"}).code, 2);
  EXPECT_EQ(run_program({"demo", "--device", "gpu"}).code, 2);
  EXPECT_NE(run_program({"demo", "--device", "cuda:63"}).code, 0);
  EXPECT_EQ(run_program({"info"}, {}, "/dev/full").code, 1);
}

TEST(ProgramTest, InfoNamesTheMachine) {
  const Outcome text = run_program({"info"});
  EXPECT_EQ(text.code, 0);
  for (const char* word : {"cpu_forward", "oneDNN", "thread", "CUDA"}) {
    EXPECT_NE(text.out.find(word), std::string::npos) << word;
  }
  const Outcome json = run_program({"info", "--json"});
  EXPECT_EQ(json.code, 0);
  EXPECT_TRUE(json.out.starts_with("{"));
  for (const char* key : {"\"version\"", "\"build\"", "\"cuda_runtime\"", "\"cpu\"", "\"isa\"",
                          "\"cuda_devices\"", "\"disabled\""}) {
    EXPECT_NE(json.out.find(key), std::string::npos) << key;
  }
}

TEST(ProgramTest, SaysWhatIsDisabled) {
  const std::vector<std::string> disable{"QKV_DISABLE=cpu_forward,cpu_foward"};
  const Outcome info = run_program({"info"}, disable);
  EXPECT_EQ(info.code, 0);
  for (const char* line : {"          disabled by QKV_DISABLE: cpu_forward\n",
                           "          no such kernel, named by QKV_DISABLE: cpu_foward\n"})
    EXPECT_NE(info.out.find(line), std::string::npos) << info.out;
  EXPECT_EQ(run_program({"info"}).out.find("QKV_DISABLE"), std::string::npos);
  const Outcome explained =
      run_program({"explain", "--device", "cpu", "--seq", "4", "--dim", "4"}, disable);
  EXPECT_EQ(explained.code, 1);
  EXPECT_NE(explained.out.find("cpu_forward: disabled by QKV_DISABLE"), std::string::npos)
      << explained.out;
}

TEST(ProgramTest, ExplainSaysWhatWouldRun) {
  const std::vector<std::string> shapes{"explain", "--device", "cpu",     "--seq", "64,128",
                                        "--dim",   "32",       "--heads", "8,2",   "--causal"};
  const Outcome plan = run_program(shapes);
  EXPECT_EQ(plan.code, 0) << plan.err;
  for (const char* word : {"cpu_forward", "heads 8/2, s_q 64, s_kv 128", "causal", "workspace"}) {
    EXPECT_NE(plan.out.find(word), std::string::npos) << word << "\n" << plan.out;
  }
  std::vector<std::string> with = shapes;
  with.insert(with.end(), {"--with", "mask,bias", "--json"});
  const Outcome json = run_program(with);
  EXPECT_EQ(json.code, 0) << json.err;
  EXPECT_NE(json.out.find("\"supported\": true"), std::string::npos) << json.out;

  const Outcome none =
      run_program({"explain", "--seq", "64", "--dim", "32", "--device", "cuda:63"});
  EXPECT_EQ(none.code, 1);
  EXPECT_NE(none.out.find("CUDA device"), std::string::npos) << none.out;

  for (const std::vector<std::string>& bad :
       {std::vector<std::string>{"explain"},
        {"explain", "--seq", "64"},
        {"explain", "--seq", "64", "--dim", "32", "-q", "q.npy"},
        {"explain", "--seq", "64", "--dim", "32", "--with", "sinks"},
        {"explain", "--seq", "-1", "--dim", "32"},
        {"explain", "--seq", "4611686018427387904,3", "--dim", "4611686018427387904"},
        {"explain", "--seq", "64", "--dim", "32", "--heads", "3,2"}}) {
    const Outcome outcome = run_program(bad);
    EXPECT_EQ(outcome.code, 2) << bad.back() << outcome.out;
    EXPECT_NE(outcome.err, "");
  }
}

// Of a GPU that is not there.
TEST(ProgramTest, ExplainSaysWhatWouldRunOnADeviceByName) {
  std::vector<std::string> decode{"explain", "--seq",  "1,65536", "--dim",    "128", "--heads",
                                  "64,8",    "--type", "bf16",    "--device", "h100"};
  const Outcome h100 = run_program(decode);
  EXPECT_EQ(h100.code, 0) << h100.err;
  for (const char* words :
       {"kernel      sm90_forward\n", "device      NVIDIA H100 80GB HBM3\n",
        "8 heads packed into a tile, 16 splits; predicted 1.0 waves, 97 % of all slots",
        "grid        128 blocks", "estimate    ", "nothing was run", "times the estimate"}) {
    EXPECT_NE(h100.out.find(words), std::string::npos) << words << "\n" << h100.out;
  }
  EXPECT_EQ(h100.out.find("was not measured"), std::string::npos) << h100.out;

  decode.back() = "RTX4090";
  decode.push_back("--json");
  const Outcome geforce = run_program(decode);
  EXPECT_EQ(geforce.code, 0) << geforce.err;
  const auto json = nlohmann::json::parse(geforce.out);
  EXPECT_EQ(json["device"], "rtx4090");
  EXPECT_EQ(json["kernel"], "sm80_forward");
  EXPECT_GT(json["estimate_microseconds"], 268.0) << "268 MB at 1008 GB/s";
  EXPECT_LT(json["estimate_microseconds"], 500.0);
  EXPECT_EQ(json["estimate_is_at_least"], false);

  const Outcome t4 =
      run_program({"explain", "--seq", "1024", "--dim", "64", "--type", "f16", "--device", "t4"});
  EXPECT_EQ(t4.code, 0) << t4.err;
  EXPECT_NE(t4.out.find("estimate    at least "), std::string::npos) << t4.out;
  EXPECT_NE(t4.out.find("simt_forward has no model"), std::string::npos) << t4.out;

  const Outcome old = run_program({"explain", "--seq", "64", "--dim", "64", "--device", "v100"});
  EXPECT_EQ(old.code, 1) << old.out;
  EXPECT_NE(old.out.find("needs sm_75 or newer"), std::string::npos) << old.out;
  const Outcome wrong =
      run_program({"explain", "--seq", "64", "--dim", "64", "--heads", "3,2", "--device", "h100"});
  EXPECT_EQ(wrong.code, 2) << wrong.out;
  const Outcome unknown =
      run_program({"explain", "--seq", "64", "--dim", "64", "--device", "h1000"});
  EXPECT_EQ(unknown.code, 2) << unknown.out;
  for (const char* words : {"h1000", "cuda:N", "a100", "rtx4090", "h200"})
    EXPECT_NE(unknown.err.find(words), std::string::npos) << words << "\n" << unknown.err;
}

// Characters of the longest line.
size_t longest_line(const std::string& text) {
  size_t longest = 0, now = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0u) == 0x80u) continue;
    now = c == '\n' ? 0 : now + 1;
    longest = std::max(longest, now);
  }
  return longest;
}

TEST(VerifyTest, TriesTheCpu) {
  const TempFolder folder;
  const std::string path = folder / "verify.json";
  const Outcome outcome =
      run_program({"verify", "--device", "cpu", "--seconds", "5", "--json", path});
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_NE(outcome.out.find("All passed"), std::string::npos) << outcome.out;
  const auto json = nlohmann::json::parse(file_text(path));
  EXPECT_EQ(json["passed"], true);
  std::set<std::string> names;
  for (const auto& kernel : json["kernels"]) {
    names.insert(kernel["kernel"]);
    const auto& trials = kernel["trials"];
    EXPECT_GT(trials["passed"], 0) << kernel;
    EXPECT_EQ(trials["of"], trials["passed"].get<int>() + trials["no_time"].get<int>()) << kernel;
    EXPECT_GT(kernel["error_over_allowed"], 0) << kernel;
    EXPECT_LE(kernel["error_over_allowed"], 1) << kernel;
    for (const auto& instance : kernel["instances"]) EXPECT_GT(instance["passed"], 0) << kernel;
  }
  EXPECT_EQ(names, (std::set<std::string>{"cpu_forward", "cpu_layer", "cpu_merge", "cpu_project"}));
  EXPECT_EQ(json["kernels"][0]["instances"].size(), 3);
}

// What a user keeps out of plans is what they suspect.
TEST(VerifyTest, VerifiesDisabledKernels) {
  const Outcome outcome =
      run_program({"verify", "--device", "cpu", "--seconds", "0", "--kernel", "cpu_forward"},
                  {"QKV_DISABLE=cpu_forward"});
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_NE(outcome.out.find("QKV_DISABLE is set"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("3/3"), std::string::npos) << outcome.out;
}

TEST(VerifyTest, RepeatsOneTrial) {
  const Outcome outcome = run_program({"verify", "--device", "cpu", "--kernel", "cpu_forward",
                                       "--trial", "leak/heads_5_1_bf16", "--seed", "7"});
  EXPECT_EQ(outcome.code, 0) << outcome.out << outcome.err;
  EXPECT_NE(outcome.out.find("1 of 1"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("seed 7"), std::string::npos) << outcome.out;
}

TEST(VerifyTest, WritesJsonToStandardOutput) {
  const Outcome outcome =
      run_program({"verify", "--device", "cpu", "--kernel", "cpu_forward", "--trial",
                   "leak/heads_5_1_bf16", "--seed", "18446744073709551615", "--json", "-"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  const auto json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["passed"], true);
  EXPECT_EQ(json["seed"], ~uint64_t{0});
  EXPECT_NE(outcome.err.find("All passed"), std::string::npos) << outcome.err;
}

TEST(VerifyTest, RefusesWhatItCannotTry) {
  for (const std::vector<std::string>& bad :
       {std::vector<std::string>{"verify", "--device", "gpu"},
        {"verify", "--device", "cpu", "--kernel", "cpu_merge", "--trial", "leak/heads_5_1_bf16"},
        {"verify", "--device", "cpu", "--seconds", "-1"},
        {"verify", "--device", "cpu", "--seconds", "nan"},
        {"verify", "--device", "cpu", "--watchdog", "nan"},
        {"verify", "--device", "cpu", "--json", "/nowhere/verify.json"}}) {
    const Outcome outcome = run_program(bad);
    EXPECT_EQ(outcome.code, 2) << outcome.out << outcome.err;
    EXPECT_NE(outcome.err.find("qkv verify: "), std::string::npos) << outcome.err;
  }
  const struct {
    const char *option, *value, *says;
  } rows[] = {
      {"--kernel", "nope", "--kernel is \"nope\"; allowed on cpu: cpu_forward, cpu_merge"},
      {"--kernel", "sm90_forward", "\"sm90_forward\"; allowed on cpu: cpu_forward, cpu_merge"},
      {"--trial", "contract/none", "--trial is \"contract/none\""},
      {"--seed", "-1", "--seed is \"-1\"; allowed: a whole number from 0 to 2^64 - 1"},
      {"--seed", "18446744073709551616", "--seed is \"18446744073709551616\""},
      {"--seed", "7x", "--seed is \"7x\""},
      {"--seed", "", "--seed is \"\""},
  };
  const TempFolder folder;
  for (const auto& row : rows) {
    const Outcome outcome = run_program(
        {"verify", "--device", "cpu", row.option, row.value, "--json", folder / "json"});
    EXPECT_EQ(outcome.code, 2) << row.value << outcome.out;
    EXPECT_EQ(outcome.out, "") << row.value;
    EXPECT_NE(outcome.err.find(row.says), std::string::npos) << outcome.err;
    EXPECT_FALSE(fs::exists(folder / "json")) << row.value;
  }
  EXPECT_EQ(run_program({"verify", "--device", "cuda:63"}).code, 1);
  EXPECT_EQ(run_program({"verify", "--help"}).out.find("--worker"), std::string::npos);
}

// Rows of the longest screen: from a headline, which is underlined, to the next one.
size_t longest_screen(const std::string& text) {
  size_t longest = 0, now = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line); ++now) {
    if (!line.starts_with("──")) continue;
    longest = std::max(longest, now - 2);  // a headline and the blank row above it are the next's
    now = 1;
  }
  return std::max(longest, now);
}

TEST(DemoTest, QuickRunShowsAllPartsAndPictures) {
  const TempFolder folder;
  const Outcome demo =
      run_program({"demo", "--quick", "--out", folder / "new/pictures"},
                  {"QKV_DATA_DIR=" QKV_DATA_DIR, "LC_ALL=C.UTF-8", "CUDA_VISIBLE_DEVICES="});
  ASSERT_EQ(demo.code, 0) << demo.err;
  for (const char* word :
       {"it → animal", "pirates looking for gold", "Treasure Island", "Among 100000 titles",
        "the ten best in", "\"I like NLP, a lot !\"", "384 x 9", "32 x 384", "q = W_q h + b_q",
        "9 x n  by  n x 1", "The whole layer in one call", "134 x 384", "w^T tanh(q + k)",
        "\"the 3rd of May 1979\"", "month  05   looks at \"May\"", "causal",
        "The GPU's part is missing", "./dev gpu-kit", "All checks passed"}) {
    EXPECT_NE(demo.out.find(word), std::string::npos) << word;
  }
  EXPECT_EQ(demo.out.find('\033'), std::string::npos);  // no colours into a file
  EXPECT_LE(longest_line(demo.out), 80u);
  EXPECT_LE(longest_screen(demo.out), 24u);
  for (const char* picture : {"sentence", "date_1", "date_2"}) {
    const std::string svg = file_text(folder / ("new/pictures/" + std::string(picture) + ".svg"));
    EXPECT_TRUE(svg.starts_with("<svg ")) << picture;
    EXPECT_TRUE(svg.ends_with("</svg>\n")) << picture;
    const char* label = picture[0] == 's' ? ">animal</text>" : ">M</text>";
    EXPECT_NE(svg.find(label), std::string::npos) << picture;
  }
}

constexpr const char* kDemoData[] = {"minilm.safetensors", "minilm_layer.safetensors",
                                     "books.safetensors", "dates.safetensors"};

// The demo's data, one tensor's numbers in it changed.
void write_changed_data(const TempFolder& folder, const std::string& name,
                        const std::string& changed) {
  const std::string data = std::string(QKV_DATA_DIR) + "/";
  for (const char* file : kDemoData) fs::copy(data + file, folder / file);
  const auto file = io::SafetensorsFile::open(data + name);
  std::vector<io::Array> arrays(file.size());
  std::vector<io::NamedView> views;
  size_t changes = 0;
  for (size_t i = 0; i < file.size(); ++i) {
    const io::View view = file.tensor(i);
    arrays[i] = {view.type, view.shape, {view.bytes.begin(), view.bytes.end()}};
    if (file.name(i) == changed) {  // 0.0115 in fp32, 1.06 in fp16
      std::fill(arrays[i].bytes.begin(), arrays[i].bytes.end(), std::byte{0x3c});
      ++changes;
    }
    views.push_back({file.name(i), arrays[i].view()});
  }
  ASSERT_EQ(changes, 1u) << changed;
  io::save_safetensors(folder / name, views, file.metadata());
}

TEST(DemoTest, FailsWhenTheResultIsNotTheModels) {
  const std::vector<std::pair<std::string, std::string>> changes{
      {"minilm.safetensors", "sentence.out"},
      {"minilm_layer.safetensors", "nine.out"},
      {"minilm_layer.safetensors", "nine.x"},
      {"minilm_layer.safetensors", "q_proj.weight"},
      {"minilm_layer.safetensors", "o_proj.bias"},
      {"minilm_layer.safetensors", "paragraph.y"},
      {"dates.safetensors", "w"},
      {"dates.safetensors", "date11.weights"},
      {"dates.safetensors", "date11.context"}};
  for (const auto& [file, tensor] : changes) {
    const TempFolder folder;
    write_changed_data(folder, file, tensor);
    const Outcome demo = run_program({"demo", "--speed", "tiny", "--device", "cpu", "--data",
                                      folder.path().string(), "--out", folder / "out"});
    EXPECT_EQ(demo.code, 1) << tensor;
    EXPECT_NE(demo.err.find("from the model's own"), std::string::npos) << tensor << demo.err;
  }
}

TEST(DemoTest, BadDataIsRefused) {
  const TempFolder folder;
  const std::vector<std::string> demo{"demo",  "--quick",     "--data", folder.path().string(),
                                      "--out", folder / "out"};
  for (const char* name : kDemoData) {
    const Outcome missing = run_program(demo);
    EXPECT_EQ(missing.code, 2);
    EXPECT_NE(missing.err.find("no " + std::string(name)), std::string::npos) << missing.err;
    fs::copy(std::string(QKV_DATA_DIR) + "/" + name, folder / name);
  }
  write_text(folder / "minilm.safetensors",
             file_text(folder / "minilm.safetensors").substr(0, 100000));
  EXPECT_EQ(run_program(demo).code, 2);
  write_text(folder / "file", "");
  const Outcome unwritable =
      run_program({"demo", "--quick", "--data", QKV_DATA_DIR, "--out", folder / "file"});
  EXPECT_EQ(unwritable.code, 1);
}

// It is part of every clone.
TEST(DemoTest, DataIsSmall) {
  const fs::path data = QKV_DATA_DIR;
  EXPECT_LE(fs::file_size(data / "dates.safetensors"), 300u * 1024);
  EXPECT_LE(fs::file_size(data / "minilm_layer.safetensors"), 3u * 1024 * 1024);
}

}  // namespace
}  // namespace qkv::cli_test
