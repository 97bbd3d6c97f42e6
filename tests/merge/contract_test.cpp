// qkv_merge: parts of one attention problem over disjoint sets of keys, merged into the whole. Runs
// where the linked place computes.
#include "host/verify/merge_parts.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/support/verify.h"

namespace qkv::test {
namespace {

// Of this process's seed; a run damages nothing.
class Parts : public verify::Parts {
 public:
  using Fit = Memory::Fit;

  Parts(int n, qkv_type part_type, qkv_type type, const Shape& shape,
        const BuildOptions& options = {.fit = Fit::kExact})
      : verify::Parts(n, part_type, type, shape, seeded(options)) {}

  qkv_status run(int into = -1) {
    const qkv_status status = verify::Parts::run(into);
    EXPECT_EQ(damage(), "");
    return status;
  }

 private:
  static BuildOptions seeded(BuildOptions options) {
    options.seed = test_seed();
    return options;
  }
};

class Merge : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = place().missing(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

constexpr qkv_type kTypes[] = {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16};

TEST_F(Merge, WeighsPartsByTheirLse) {
  for (const MergeCase& one : merge_cases()) {
    const Parts::Fit fit = one.part_type == one.type ? Parts::Fit::kRoomy : Parts::Fit::kExact;
    Parts parts(one.parts, one.part_type, one.type, one.shape(), {.fit = fit});
    ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
    double worst = 0;
    ASSERT_EQ(merge_faults(parts, one.type, &worst), "") << one.name();
  }
}

// A part without keys changes no bit, wherever it stands and whatever its O holds.
TEST_F(Merge, EmptyPartsChangeNothing) {
  for (const qkv_type type : kTypes)
    for (const int n : {2, 3, 32}) {
      Parts parts(n, type, type, {2, 2, 7, 40});
      const auto full = [&](int64_t h, int64_t i) { return static_cast<size_t>((i + h) % n); };
      for (size_t p = 0; p < parts.o.size(); ++p) {
        const Tensor &o = parts.o[p], &lse = parts.lse[p];
        lse.each([&](int64_t b, int64_t h, int64_t i, int64_t) {
          if (p != full(h, i)) lse.set(b, h, i, 0, -kInf);
        });
        o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
          if (p != full(h, i)) o.set(b, h, i, d, p % 2 == 0 ? std::nan("") : kInf);
          if (p == full(h, i) && d == 1) o.set(b, h, i, d, -0.0);
        });
      }
      ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
      parts.merged_o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
        const size_t p = full(h, i);
        const double got = parts.merged_o.get(b, h, i, d), want = parts.o[p].get(b, h, i, d);
        ASSERT_EQ(got, want);
        ASSERT_EQ(std::signbit(got), std::signbit(want));
        ASSERT_EQ(parts.merged_lse.get(b, h, i, 0), parts.lse[p].get(b, h, i, 0));
      });
    }
}

TEST_F(Merge, NoKeysAtAll) {
  Parts parts(3, QKV_TYPE_F16, QKV_TYPE_F32, {1, 2, 3, 33});
  for (const Tensor& part : parts.lse) part.fill(-kInf);
  for (const Tensor& part : parts.o) part.fill(std::nan(""));
  ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
  parts.merged_o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    ASSERT_EQ(parts.merged_o.get(b, h, i, d), 0);
    ASSERT_FALSE(std::signbit(parts.merged_o.get(b, h, i, d)));
    ASSERT_EQ(parts.merged_lse.get(b, h, i, 0), -kInf);
  });
}

TEST_F(Merge, NanStaysInItsRow) {
  Parts parts(3, QKV_TYPE_F32, QKV_TYPE_F32, {1, 2, 4, 8});
  parts.lse[1].set(0, 1, 2, 0, std::nan(""));
  parts.o[2].set(0, 0, 3, 5, std::nan(""));
  ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
  parts.merged_o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    const bool row = h == 1 && i == 2, one = h == 0 && i == 3 && d == 5;
    ASSERT_EQ(std::isnan(parts.merged_o.get(b, h, i, d)), row || one);
    ASSERT_EQ(std::isnan(parts.merged_lse.get(b, h, i, 0)), row);
  });
}

TEST_F(Merge, InPlaceIsTheSame) {
  for (const int into : {0, 2}) {
    Parts apart(3, QKV_TYPE_BF16, QKV_TYPE_BF16, {2, 3, 9, 72});
    Parts in_place(3, QKV_TYPE_BF16, QKV_TYPE_BF16, {2, 3, 9, 72});
    ASSERT_EQ(apart.run(), QKV_SUCCESS) << qkv_last_error();
    ASSERT_EQ(in_place.run(into), QKV_SUCCESS) << qkv_last_error();
    ASSERT_EQ(in_place.merged_o.bits(), apart.merged_o.bits());
    ASSERT_EQ(in_place.merged_lse.bits(), apart.merged_lse.bits());
  }
}

// Parts, guards and the padding between the rows keep what they held, as run() says; and the
// result is the same whatever the outputs held and whatever lies between the rows of the parts.
TEST_F(Merge, WritesNothingElse) {
  std::vector<std::byte> first;
  for (const Fill fill : kFills) {
    const auto poison = static_cast<unsigned char>(fill == Fill::kNaN ? 0xa5 : 0xff);
    Parts parts(3, QKV_TYPE_F32, QKV_TYPE_F16, {2, 2, 3, 5}, {.fill = fill, .poison = poison});
    ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
    if (first.empty()) first = parts.merged_o.bits();
    EXPECT_EQ(parts.merged_o.bits(), first);
  }
}

// Attention over all keys against attention over three runs of them, merged: both sides err by a
// few ulp of numbers below 4.
TEST_F(Merge, RestoresTheWholeFromASplit) {
  const int64_t s_kv = 150, cuts[] = {0, 20, 90, 150};
  const Shape q_shape{2, 4, 33, 48}, kv_shape{2, 2, s_kv, 48};
  Parts whole(1, QKV_TYPE_F32, QKV_TYPE_F32, q_shape),
      parts(3, QKV_TYPE_F32, QKV_TYPE_F32, q_shape);
  Tensors memory({.fit = Memory::Fit::kExact});
  const auto input = [&](const char* name, const Shape& shape) {
    return memory.add(name, QKV_TYPE_F32, shape, strides_of(shape, kAsBshd), Use::kInput);
  };
  const Tensor q = input("q", q_shape), k = input("k", kv_shape), v = input("v", kv_shape);
  Random random(test_seed());
  for (const Tensor& tensor : {q, k, v}) tensor.draw([&] { return random.normal(); });
  memory.upload();
  const auto attend = [&](int64_t first, int64_t last, const Tensor& o, const Tensor& lse) {
    qkv_attention_desc desc;
    ASSERT_EQ(qkv_attention_desc_init(&desc, sizeof desc), QKV_SUCCESS);
    desc.device = place().device();
    desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
    desc.q = q.on_place(), desc.k = k.on_place(), desc.v = v.on_place();
    desc.o = o.on_place(), desc.lse = lse.on_place();
    for (qkv_tensor* t : {&desc.k, &desc.v}) {
      t->data = static_cast<float*>(t->data) + first * t->stride[2];
      t->shape[2] = last - first;
    }
    ASSERT_EQ(qkv_attention(&desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  };
  attend(0, s_kv, whole.o[0], whole.lse[0]);
  whole.download();
  for (size_t p = 0; p < 3; ++p) attend(cuts[p], cuts[p + 1], parts.o[p], parts.lse[p]);
  parts.download();
  ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
  whole.o[0].each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    ASSERT_NEAR(parts.merged_o.get(b, h, i, d), whole.o[0].get(b, h, i, d), 2e-6);
    ASSERT_NEAR(parts.merged_lse.get(b, h, i, 0), whole.lse[0].get(b, h, i, 0), 4e-6);
  });
}

TEST_F(Merge, NothingToMerge) {
  Parts parts(2, QKV_TYPE_F32, QKV_TYPE_F32, {2, 3, 0, 8});
  EXPECT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
}

TEST_F(Merge, RefusesWithAReason) {
  Parts parts(1, QKV_TYPE_F16, QKV_TYPE_F32, {1, 2, 3, 8});
  const struct {
    qkv_status status;
    const char* says;
    void (*edit)(qkv_merge_desc& d, qkv_tensor* o, qkv_tensor* lse);
  } rows[] = {
      {QKV_INVALID_STRUCT_SIZE, "call qkv_merge_desc_init first",
       [](auto& d, auto*, auto*) { d.struct_size = 8; }},
      {QKV_INVALID_VALUE, "parts is 0; allowed: 1 to 32",
       [](auto& d, auto*, auto*) { d.parts = 0; }},
      {QKV_INVALID_VALUE, "parts is 33", [](auto& d, auto*, auto*) { d.parts = 33; }},
      {QKV_INVALID_VALUE, "reserved is 1", [](auto& d, auto*, auto*) { d.reserved = 1; }},
      {QKV_INVALID_NULL, "o_parts is null", [](auto& d, auto*, auto*) { d.o_parts = nullptr; }},
      {QKV_INVALID_NULL, "lse_parts is null", [](auto& d, auto*, auto*) { d.lse_parts = nullptr; }},
      {QKV_INVALID_NULL, "o_parts[1].data is null",
       [](auto&, auto* o, auto*) { o[1].data = nullptr; }},
      {QKV_INVALID_TYPE, "o_parts[0].type is i32",
       [](auto&, auto* o, auto*) { o[0].type = QKV_TYPE_I32; }},
      {QKV_INVALID_TYPE, "o_parts[1].type is bf16; allowed: f16",
       [](auto&, auto* o, auto*) { o[1].type = QKV_TYPE_BF16; }},
      {QKV_INVALID_TYPE, "lse_parts[0].type is f16; allowed: f32",
       [](auto&, auto*, auto* lse) { lse[0].type = QKV_TYPE_F16; }},
      {QKV_INVALID_SHAPE, "lse_parts[1].shape[2] (seq) is 2; it must be 3",
       [](auto&, auto*, auto* lse) { lse[1].shape[2] = 2; }},
      {QKV_INVALID_SHAPE, "o.shape[3] (dim) is 7; it must be 8",
       [](auto& d, auto*, auto*) { d.o.shape[3] = 7; }},
      {QKV_INVALID_STRIDE, "o_parts[0].stride[3] is 2",
       [](auto&, auto* o, auto*) { o[0].stride[3] = 2; }},
      {QKV_INVALID_STRIDE, "elements of an output must not overlap",
       [](auto& d, auto*, auto*) { d.o.stride[1] = 0; }},
      {QKV_INVALID_NULL, "o is absent", [](auto& d, auto*, auto*) { d.o = {}; }},
      {QKV_INVALID_ENUM, "device is 7", [](auto& d, auto*, auto*) { d.device = 7; }},
  };
  for (const auto& row : rows) {
    qkv_tensor o_parts[33], lse_parts[33];
    std::fill_n(o_parts, 33, parts.o[0].on_place());
    std::fill_n(lse_parts, 33, parts.lse[0].on_place());
    qkv_merge_desc desc;
    ASSERT_EQ(qkv_merge_desc_init(&desc, sizeof desc), QKV_SUCCESS);
    desc.device = place().device();
    desc.parts = 2;
    desc.o_parts = o_parts;
    desc.lse_parts = lse_parts;
    desc.o = parts.merged_o.on_place();
    row.edit(desc, o_parts, lse_parts);
    EXPECT_EQ(qkv_merge(&desc, nullptr), row.status) << row.says;
    EXPECT_NE(std::string(qkv_last_error()).find(row.says), std::string::npos) << qkv_last_error();
  }
  EXPECT_EQ(qkv_merge(nullptr, nullptr), QKV_INVALID_NULL);
  EXPECT_EQ(qkv_merge_desc_init(nullptr, 8), QKV_INVALID_NULL);
}

}  // namespace
}  // namespace qkv::test
