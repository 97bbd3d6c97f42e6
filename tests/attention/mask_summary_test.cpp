// mask_summary on the virtual GPU, launched alone: its bytes against those that a look at every
// element of the mask gives. Masks show one key each, so that one key or row more or less is seen.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <ostream>
#include <vector>

#include "kernels/attention/mask_summary/launch.h"
#include "kernels/core/forward_args.h"
#include "kernels/core/mask_summary.h"
#include "kernels/core/scheduler.h"

namespace qkv::test {
namespace {

using kernels::ForwardArgs;
using kernels::MaskSummary;
using kernels::TileSchedule;

constexpr unsigned char kUnwritten = 0xa5;

// A mask [batch, heads, s_q, s_kv], as many batches as there are elements to show.
struct Shape {
  const char* name;
  int32_t tile_q, tile_kv, heads, group, s_q, s_kv;
  int64_t row_bytes;            // of s_kv keys and what lies behind them
  int64_t col = 1, offset = 0;  // bytes to the next key; of the mask's begin in its memory
  bool by_head = false, by_row = true;
  bool counter = false;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name; }

template <class T>
class Device {
 public:
  explicit Device(const std::vector<T>& values) : size_(values.size()) {
    EXPECT_EQ(cudaMalloc(&data_, size_ * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  ~Device() { (void)cudaFree(data_); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  T* data() const { return static_cast<T*>(data_); }
  std::vector<T> values() const {
    std::vector<T> values(size_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return values;
  }

 private:
  size_t size_;
  void* data_ = nullptr;
};

class MaskSummaries : public testing::TestWithParam<Shape> {};

TEST_P(MaskSummaries, TellTheBlocksOfEachKey) {
  const Shape& shape = GetParam();
  const int32_t mask_heads = shape.by_head ? shape.heads : 1;
  const int32_t mask_rows = shape.by_row ? shape.s_q : 1;

  // Which element each batch shows: each key once, in each row the first and the last of each
  // block. The last batch shows none.
  struct Shown {
    int32_t head, row, key;
  };
  std::vector<Shown> shown;
  for (int32_t key = 0; key < shape.s_kv; ++key)
    shown.push_back({key % mask_heads, key * 7 % mask_rows, key});
  for (int32_t row = 0; row < mask_rows; ++row) {
    for (int32_t key = 0; key < shape.s_kv; key += shape.tile_kv) {
      const int32_t last = std::min(key + shape.tile_kv, shape.s_kv) - 1;
      shown.push_back({row % mask_heads, row, key});
      shown.push_back({(row + 1) % mask_heads, row, last});
    }
  }
  const auto batch = static_cast<int32_t>(shown.size()) + 1;

  ForwardArgs args;
  args.batch = batch;
  args.heads_q = shape.heads;
  args.s_q = shape.s_q;
  args.s_kv = shape.s_kv;
  args.mask.col = shape.col;
  args.mask.row = shape.by_row ? shape.row_bytes : 0;
  args.mask.head = shape.by_head ? mask_rows * shape.row_bytes : 0;
  args.mask.batch = int64_t{mask_heads} * mask_rows * shape.row_bytes;

  // What lies between the rows' keys would be seen too.
  std::vector<unsigned char> mask(static_cast<size_t>(shape.offset + batch * args.mask.batch), 1);
  const auto at = [&](int32_t b, int32_t head, int32_t row, int32_t key) -> unsigned char& {
    return mask[static_cast<size_t>(shape.offset + b * args.mask.batch + head * args.mask.head +
                                    row * args.mask.row + key * args.mask.col)];
  };
  for (int32_t b = 0; b < batch; ++b)
    for (int32_t head = 0; head < mask_heads; ++head)
      for (int32_t row = 0; row < mask_rows; ++row)
        for (int32_t key = 0; key < shape.s_kv; ++key) at(b, head, row, key) = 0;
  for (size_t b = 0; b < shown.size(); ++b)
    at(static_cast<int32_t>(b), shown[b].head, shown[b].row, shown[b].key) = 128;

  const TileSchedule schedule =
      kernels::tile_schedule(shape.tile_q, shape.tile_kv, batch, shape.heads,
                             shape.heads / shape.group, shape.s_q, shape.group);
  MaskSummary summary = mask_summary_of(args, schedule);
  const auto bytes = static_cast<size_t>(summary.bytes());
  const Device<unsigned char> device_mask(mask);
  const Device<unsigned char> visible(std::vector<unsigned char>(bytes + 8, kUnwritten));
  const Device<int32_t> counter({7, 8});
  args.mask.data = device_mask.data() + shape.offset;
  summary.visible = visible.data();
  ASSERT_EQ(kernels::launch_mask_summary(args, schedule, summary,
                                         shape.counter ? counter.data() : nullptr, nullptr),
            cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);

  std::vector<unsigned char> expected(bytes, 0);
  for (size_t b = 0; b < shown.size(); ++b) {
    const auto [head, row, key] = shown[b];
    const int32_t set = shape.by_head ? head / shape.group : 0;
    for (int32_t tile = 0; tile < summary.tiles; ++tile) {
      // A tile is looked through by queries, with all heads of its set.
      const int32_t first = tile * shape.tile_q / shape.group;
      const int32_t last =
          (std::min((tile + 1) * shape.tile_q, shape.s_q * shape.group) - 1) / shape.group;
      if (shape.by_row && (row < first || row > last)) continue;
      expected[static_cast<size_t>(static_cast<int64_t>(b) * summary.batch + set * summary.set +
                                   tile * summary.tile + key / shape.tile_kv)] = 1;
    }
  }
  const std::vector<unsigned char> written = visible.values();
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), written.begin()));
  for (size_t i = bytes; i < written.size(); ++i) EXPECT_EQ(written[i], kUnwritten);
  EXPECT_EQ(counter.values(), (std::vector<int32_t>{shape.counter ? 0 : 7, 8}));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, MaskSummaries,
    testing::Values(
        // Rows of 16-byte words whose last block ends with one, and in the midst of one.
        Shape{"words_of_16", 20, 48, 2, 1, 43, 112, 112},
        Shape{"words_of_16_and_keys", 32, 128, 1, 1, 43, 152, 176, 1, 16},
        // Words of 4 bytes, by rows' distance and by the mask's address: each of the four that a
        // lane has is a block's last one.
        Shape{"words_of_4", 34, 80, 2, 2, 43, 120, 124},
        Shape{"words_of_4_of_long_blocks", 32, 128, 1, 1, 43, 152, 156},
        Shape{"words_of_4_and_keys", 33, 48, 4, 2, 18, 75, 80, 1, 4, true},
        // Single keys: four for one of a row's lanes, and fewer than lanes in the last block.
        Shape{"keys", 17, 28, 1, 1, 35, 59, 63},
        Shape{"keys_apart", 16, 48, 3, 3, 17, 70, 160, 2, 0, true, true, true},
        // Without an axis.
        Shape{"no_rows", 20, 80, 2, 1, 43, 171, 176, 1, 0, true, false, true},
        Shape{"keys_alone", 20, 96, 2, 2, 43, 200, 200, 1, 8, false, false}),
    [](const testing::TestParamInfo<Shape>& shape) { return shape.param.name; });

TEST(MaskSummary, RefusesWhatAGridOrAWarpHasNoRoomFor) {
  ForwardArgs args;
  args.batch = args.heads_q = args.s_q = 1;
  const auto launched = [&](int32_t tile_kv) {
    const TileSchedule schedule = kernels::tile_schedule(64, tile_kv, 1, 1, 1, 1, 1);
    return kernels::launch_mask_summary(args, schedule, mask_summary_of(args, schedule), nullptr,
                                        nullptr);
  };
  EXPECT_EQ(launched(80), cudaErrorInvalidValue);  // no keys
  args.s_kv = 200;
  EXPECT_EQ(launched(136), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace qkv::test
