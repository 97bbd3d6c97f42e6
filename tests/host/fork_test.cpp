// A process that forks after it has computed: the child computes too, and gets the same bits. T26
// of the catalogue of risks: OpenMP's threads stay in the parent, and waiting for them hangs.
#include <gtest/gtest.h>
#include <omp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "host/core/device.h"
#include "qkv/qkv.hpp"

namespace qkv::test {
namespace {

constexpr int64_t kBatch = 2, kHeads = 4, kSeq = 300, kDim = 64;
constexpr unsigned kSeconds = 20;  // a child that has not ended by then hangs

std::vector<float> random_floats(size_t count) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> out(count);
  for (float& x : out) x = normal(random);
  return out;
}

// Work for several threads, with and without products made before.
std::vector<float> attend(int64_t keys) {
  const size_t size = static_cast<size_t>(kBatch * kHeads * kSeq * kDim);
  const std::vector<float> in = random_floats(3 * size);
  std::vector<float> o(size);
  Attention call;
  call.q = bhsd(in.data(), kBatch, kHeads, kSeq, kDim);
  call.k = bhsd(in.data() + size, kBatch, kHeads, keys, kDim);
  call.v = bhsd(in.data() + 2 * size, kBatch, kHeads, keys, kDim);
  call.o = bhsd(o.data(), kBatch, kHeads, kSeq, kDim);
  attention(call);
  return o;
}

std::vector<float> merged() {
  const size_t size = static_cast<size_t>(kBatch * kHeads * kSeq * kDim);
  const std::vector<float> parts = random_floats(2 * size);
  const std::vector<float> lses(static_cast<size_t>(kBatch * kHeads * kSeq), 1.0f);
  std::vector<float> o(size);
  const std::vector<Tensor> o_parts{bhsd(parts.data(), kBatch, kHeads, kSeq, kDim),
                                    bhsd(parts.data() + size, kBatch, kHeads, kSeq, kDim)};
  const std::vector<Tensor> lse_parts(2, bhsd(lses.data(), kBatch, kHeads, kSeq, 1));
  merge(o_parts, lse_parts, bhsd(o.data(), kBatch, kHeads, kSeq, kDim));
  return o;
}

// By several threads, as attend().
std::vector<float> projected() {
  const std::vector<float> x = random_floats(static_cast<size_t>(kSeq * kDim)),
                           weight = random_floats(static_cast<size_t>(kSeq * kDim));
  std::vector<float> y(static_cast<size_t>(kSeq * kSeq));
  Projection call;
  call.x = bhsd(x.data(), 1, 1, kSeq, kDim);
  call.weight = out_in(weight.data(), kSeq, kDim);
  call.y = bhsd(y.data(), 1, 1, kSeq, kSeq);
  project(call);
  return y;
}

// The exit status of a child that runs `body`; the number of a signal that ended it, negative.
int in_child(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(kSeconds);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

class Fork : public testing::Test {
 protected:
  void SetUp() override { omp_set_num_threads(4); }
  void TearDown() override { omp_set_num_threads(threads_); }

 private:
  const int threads_ = omp_get_max_threads();
};

TEST_F(Fork, T26_AChildComputesWhatItsParentHasComputed) {
  const std::vector<float> before = attend(kSeq), other = attend(kSeq - 37), sum = merged(),
                           product = projected();
  ASSERT_EQ(host::cpu_threads(0), 4);
  EXPECT_EQ(in_child([&] {
              return attend(kSeq) == before && attend(kSeq - 37) == other && merged() == sum &&
                     projected() == product;
            }),
            0);
  EXPECT_EQ(attend(kSeq), before) << "in the parent, afterwards";
  EXPECT_EQ(host::cpu_threads(0), 4) << "in the parent, afterwards";
}

// The program's own OpenMP has made the team, of which qkv does not know.
TEST_F(Fork, T26_AChildDoesNotWaitForTheProgramsThreads) {
  int entered = 0;
#pragma omp parallel reduction(+ : entered)
  ++entered;
  ASSERT_EQ(entered, 4);
  EXPECT_EQ(in_child([] { return !attend(kSeq).empty() && !merged().empty(); }), 0);
}

TEST_F(Fork, T26_SoDoesAChildOfAChildAndAThreadInIt) {
  const std::vector<float> before = attend(kSeq);
  EXPECT_EQ(in_child([&] {
              bool same = false;
              std::thread([&] { same = attend(kSeq) == before; }).join();
              return same && in_child([&] { return attend(kSeq) == before; }) == 0;
            }),
            0);
}

TEST_F(Fork, T26_APlanOfTheParentRunsInTheChild) {
  const std::vector<float> in = random_floats(static_cast<size_t>(kSeq * kDim));
  std::vector<float> o(in.size());
  Attention call;
  call.q = call.k = call.v = bhsd(in.data(), 1, 1, kSeq, kDim);
  call.o = bhsd(o.data(), 1, 1, kSeq, kDim);
  const Plan plan(call);
  std::vector<std::byte> memory(plan.workspace_size() + 256);
  void* at = memory.data();
  size_t space = memory.size();
  ASSERT_NE(std::align(256, plan.workspace_size(), at, space), nullptr);
  plan.run(call, at, space);
  const std::vector<float> before = o;
  EXPECT_EQ(in_child([&] {
              o.assign(o.size(), 0.0f);
              plan.run(call, at, space);
              return o == before;
            }),
            0);
}

}  // namespace
}  // namespace qkv::test
