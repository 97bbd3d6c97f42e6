// For tests of the program `qkv`: runs it as a child process, makes files for it, and computes what
// they should give.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "host/core/device.h"
#include "host/core/numeric.h"
#include "host/io/npy.h"
#include "host/io/safetensors.h"
#include "host/ops/attention/problem.h"
#include "host/ops/attention/reference/attention.h"
#include "qkv/qkv.hpp"

namespace qkv::cli_test {

namespace fs = std::filesystem;

// A folder that goes away with the object.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (fs::temp_directory_path() / "qkv_cli_test.XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

inline std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

struct Outcome {
  int code = -1;  // 128 + signal if a signal ended it
  std::string out, err;
};

// Runs the program. `environment` holds "NAME=value" beside the test's own. `stdout_path`, where
// not empty, takes standard output instead of Outcome::out.
inline Outcome run_program(const std::vector<std::string>& arguments,
                           const std::vector<std::string>& environment = {},
                           const std::string& stdout_path = "") {
  const TempFolder folder;
  const std::string out = stdout_path.empty() ? folder / "out" : stdout_path;
  const std::string err = folder / "err";
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
    for (std::string variable : environment) ::putenv(::strdup(variable.c_str()));
    std::vector<char*> argv{const_cast<char*>(QKV_PROGRAM)};
    for (const std::string& argument : arguments)
      argv.push_back(const_cast<char*>(argument.data()));
    argv.push_back(nullptr);
    ::execv(QKV_PROGRAM, argv.data());
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  Outcome outcome;
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (stdout_path.empty()) outcome.out = file_text(out);
  outcome.err = file_text(err);
  return outcome;
}

// --- Files

template <class T>
io::Array array(std::vector<int64_t> shape, const std::vector<T>& values) {
  io::Array out{*io::kDTypeOf<T>, std::move(shape), {}};
  const auto bytes = std::as_bytes(std::span(values));
  out.bytes.assign(bytes.begin(), bytes.end());
  return out;
}

inline int64_t product(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

inline std::vector<float> random_floats(const std::vector<int64_t>& shape, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<size_t>(product(shape)));
  for (float& x : out) x = normal(random);
  return out;
}

inline void save(const std::string& path, const io::Array& tensor) {
  io::save_npy(path, tensor.view());
}

inline std::vector<float> load_floats(const std::string& path, const std::vector<int64_t>& shape) {
  const io::Array tensor = io::load_npy(path);
  EXPECT_EQ(tensor.shape, shape) << path;
  const auto values = tensor.view().as<float>();
  return {values.begin(), values.end()};
}

// --- What should come out

inline reference::Result oracle(const Attention& problem) {
  Attention on_cpu = problem;
  on_cpu.device = Device::kCpu;
  const qkv_attention_desc desc = on_cpu.desc();
  host::attention::Problem checked;
  const host::Status status =
      host::attention::validate(&desc, host::Need::kShapes, host::cuda_runtime(), &checked);
  if (!status.ok()) throw std::runtime_error(status.reason());
  return reference::attention(checked);
}

inline void expect_close(const std::vector<float>& got, const std::vector<double>& want,
                         double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    const auto x = static_cast<double>(got[i]);
    if (std::isfinite(want[i])) {
      ASSERT_NEAR(x, want[i], tolerance) << what << "[" << i << "]";
    } else {
      ASSERT_EQ(x, want[i]) << what << "[" << i << "]";
    }
  }
}

}  // namespace qkv::cli_test
