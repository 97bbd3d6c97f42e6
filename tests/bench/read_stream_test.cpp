// The kernel that measures the memory's rate reads every byte once it is asked to: a word that is
// not zero is found wherever it stands, by any number of blocks. On the virtual GPU.
#include "bench/baselines/read_stream.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

namespace qkv::test {
namespace {

constexpr size_t kWords = 40000;  // 16-byte loads of 512 threads leave a rest
constexpr uint32_t kNothing = 0xabcdef01;

// What the kernel leaves where it writes what it found.
uint32_t found(const std::vector<uint32_t>& words, int blocks) {
  void *memory = nullptr, *sink = nullptr;
  const size_t bytes = words.size() * sizeof(uint32_t);
  EXPECT_EQ(cudaMalloc(&memory, bytes), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&sink, sizeof kNothing), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(memory, words.data(), bytes, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(sink, &kNothing, sizeof kNothing, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(bench::launch_read_stream(memory, bytes, sink, blocks, nullptr), 0);
  uint32_t out = 0;
  EXPECT_EQ(cudaMemcpy(&out, sink, sizeof out, cudaMemcpyDeviceToHost), cudaSuccess);
  (void)cudaFree(memory);
  (void)cudaFree(sink);
  return out;
}

TEST(ReadStream, FindsEveryWord) {
  std::vector<uint32_t> words(kWords);
  for (const int blocks : {1, 3, 8}) {
    EXPECT_EQ(found(words, blocks), kNothing) << blocks;
    for (const size_t at :
         {size_t{0}, size_t{3}, size_t{2047}, size_t{20001}, kWords - 5, kWords - 1}) {
      words[at] = 0x40;
      EXPECT_EQ(found(words, blocks), 0x40u) << "word " << at << ", " << blocks << " blocks";
      words[at] = 0;
    }
  }
}

}  // namespace
}  // namespace qkv::test
