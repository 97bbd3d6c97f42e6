// Two copies of the library in one process, as when two plugins bring their own: both compute, and
// neither sees the other's errors or plans. T19 of the catalogue of risks.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "qkv/qkv.h"

namespace qkv::test {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHeads = 2, kSeq = 70, kDim = 24;

// One copy, through its own symbols; no qkv function is linked into this program.
class Copy {
 public:
  explicit Copy(void* handle) : handle_(handle) {}

  template <class Function>
  Function* get(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(handle_, name));
  }

  std::string last_error() const { return get<decltype(qkv_last_error)>("qkv_last_error")(); }

  qkv_attention_desc desc(const std::vector<float>& in, std::vector<float>* o) const {
    qkv_attention_desc d;
    EXPECT_EQ(get<decltype(qkv_attention_desc_init)>("qkv_attention_desc_init")(&d, sizeof d),
              QKV_SUCCESS);
    const auto tensor = [](const float* data) {
      return qkv_tensor{const_cast<float*>(data),
                        QKV_TYPE_F32,
                        0,
                        {1, kHeads, kSeq, kDim},
                        {kHeads * kSeq * kDim, kSeq * kDim, kDim, 1}};
    };
    d.q = tensor(in.data());
    d.k = tensor(in.data() + 1);
    d.v = tensor(in.data() + 2);
    d.o = tensor(o->data());
    d.causal = 1;
    d.flags = QKV_FLAG_ALLOW_ALLOCATION;
    return d;
  }

  std::vector<float> compute(const std::vector<float>& in) const {
    std::vector<float> o(kHeads * kSeq * kDim, NAN);
    const qkv_attention_desc d = desc(in, &o);
    EXPECT_EQ(get<decltype(qkv_attention)>("qkv_attention")(&d, nullptr), QKV_SUCCESS)
        << last_error();
    return o;
  }

  // A call that is refused, for a reason with `head` in it.
  void fail(int64_t width) const {
    std::vector<float> memory(kHeads * kSeq * kDim + 2);
    qkv_attention_desc d = desc(memory, &memory);
    d.k.shape[3] = width;
    EXPECT_EQ(get<decltype(qkv_attention)>("qkv_attention")(&d, nullptr), QKV_INVALID_SHAPE);
  }

 private:
  void* handle_;
};

std::vector<float> input() {
  std::vector<float> in(kHeads * kSeq * kDim + 2);
  for (size_t n = 0; n < in.size(); ++n) in[n] = std::sin(static_cast<float>(n * n % 977));
  return in;
}

// Averages over the visible keys, whose weights are equal where all scores are.
void expect_prefix_means(const Copy& copy) {
  std::vector<float> in(kHeads * kSeq * kDim + 2, 1.0f);
  for (const float value : copy.compute(in)) EXPECT_NEAR(value, 1.0f, 1e-6f);
}

void expect_independent(const Copy& a, const Copy& b) {
  ASSERT_NE(a.get<void>("qkv_attention"), b.get<void>("qkv_attention"));
  const std::vector<float> in = input();
  const std::vector<float> first = a.compute(in);
  EXPECT_EQ(first, b.compute(in));
  EXPECT_EQ(first, a.compute(in));
  EXPECT_GT(std::fabs(first[5] - first[40]), 0.0f);
  expect_prefix_means(a);
  expect_prefix_means(b);

  EXPECT_EQ(a.last_error(), "");
  a.fail(kDim + 1);
  EXPECT_NE(a.last_error().find("is 25"), std::string::npos) << a.last_error();
  EXPECT_EQ(b.last_error(), "");
  b.fail(kDim + 2);
  EXPECT_NE(b.last_error().find("is 26"), std::string::npos) << b.last_error();
  EXPECT_NE(a.last_error().find("is 25"), std::string::npos) << a.last_error();

  std::vector<float> from_a, from_b;
  std::thread other([&] { from_b = b.compute(in); });
  from_a = a.compute(in);
  other.join();
  EXPECT_EQ(from_a, first);
  EXPECT_EQ(from_b, first);
}

TEST(TwoCopies, T19_UnderTwoNames) {
  const fs::path renamed =
      fs::temp_directory_path() / ("libqkv_copy_" + std::to_string(::getpid()) + ".so");
  fs::copy_file(QKV_LIBRARY, renamed, fs::copy_options::overwrite_existing);
  void* const a = dlopen(QKV_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(a, nullptr) << dlerror();
  void* const b = dlopen(renamed.c_str(), RTLD_NOW | RTLD_LOCAL);
  fs::remove(renamed);
  ASSERT_NE(b, nullptr) << dlerror();
  expect_independent(Copy(a), Copy(b));
}

// The first copy's symbols are there for all: the second must prefer its own.
TEST(TwoCopies, T19_FirstOneGlobal) {
  void* const a = dlopen(QKV_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
  ASSERT_NE(a, nullptr) << dlerror();
  const fs::path renamed =
      fs::temp_directory_path() / ("libqkv_other_" + std::to_string(::getpid()) + ".so");
  fs::copy_file(QKV_LIBRARY, renamed, fs::copy_options::overwrite_existing);
  void* const b = dlopen(renamed.c_str(), RTLD_NOW | RTLD_LOCAL);
  fs::remove(renamed);
  ASSERT_NE(b, nullptr) << dlerror();
  std::thread fresh([&] { expect_independent(Copy(a), Copy(b)); });  // its errors are still ""
  fresh.join();
}

// A namespace of its own: also the C library and OpenMP exist twice. Their pthread keys share
// slots, which GoogleTest does not survive: a child process does it and leaves at once.
TEST(TwoCopies, T19_InAnotherNamespace) {
  const auto child = [] {
    void* const a = dlopen(QKV_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    void* const b = dlmopen(LM_ID_NEWLM, QKV_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (a == nullptr || b == nullptr) _exit(2);
    const std::vector<float> in = input();
    const std::vector<float> first = Copy(a).compute(in);
    if (std::isnan(first.back()) || Copy(b).compute(in) != first) _exit(3);
    Copy(b).fail(kDim + 3);
    if (Copy(b).last_error().find("is 27") == std::string::npos) _exit(4);
    if (!Copy(a).last_error().empty()) _exit(5);
    _exit(0);
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // no threads of the other tests in the child
  EXPECT_EXIT(child(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace qkv::test
