// qkv_merge: parts of one attention problem over disjoint sets of keys, merged into the whole. Runs
// where the linked place computes.
#include "host/verify/merge_parts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "tests/support/verify.h"

namespace qkv::test {
namespace {

class Merge : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = place().missing(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

constexpr qkv_type kTypes[] = {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16};

TEST_F(Merge, WeighsPartsByTheirLse) {
  for (const MergeCase& row : merge_cases()) {
    Parts parts(row.parts, row.part_type, row.type, row.shape(), test_seed());
    ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
    double worst = 0;
    ASSERT_EQ(merge_faults(parts, row.type, &worst), "") << row.name();
    ASSERT_LE(worst, 1) << row.name();
  }
}

// A part without keys changes no bit, wherever it stands and whatever its O holds.
TEST_F(Merge, EmptyPartsChangeNothing) {
  for (const qkv_type type : kTypes)
    for (const int n : {2, 3, 32}) {
      Parts parts(n, type, type, {2, 2, 7, 40}, test_seed());
      const auto full = [&](Index at) { return static_cast<size_t>((at[2] + at[1]) % n); };
      for (size_t p = 0; p < parts.o.size(); ++p) {
        parts.lse[p]->each([&](Index at) {
          if (p != full(at)) parts.lse[p]->set(at, -kInf);
        });
        parts.o[p]->each([&](Index at) {
          if (p != full(at)) parts.o[p]->set(at, p % 2 == 0 ? std::nan("") : kInf);
          if (p == full(at) && at[3] == 1) parts.o[p]->set(at, -0.0);
        });
      }
      ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
      parts.merged_o->each([&](Index at) {
        const Index row{at[0], at[1], at[2], 0};
        const double got = parts.merged_o->get(at), want = parts.o[full(at)]->get(at);
        ASSERT_EQ(got, want);
        ASSERT_EQ(std::signbit(got), std::signbit(want));
        ASSERT_EQ(parts.merged_lse->get(row), parts.lse[full(at)]->get(row));
      });
    }
}

TEST_F(Merge, NoKeysAtAll) {
  Parts parts(3, QKV_TYPE_F16, QKV_TYPE_F32, {1, 2, 3, 33}, test_seed());
  for (auto& part : parts.lse) part->each([&](Index at) { part->set(at, -kInf); });
  for (auto& part : parts.o) part->each([&](Index at) { part->set(at, std::nan("")); });
  ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
  parts.merged_o->each([&](Index at) {
    ASSERT_EQ(parts.merged_o->get(at), 0);
    ASSERT_FALSE(std::signbit(parts.merged_o->get(at)));
    ASSERT_EQ(parts.merged_lse->get({at[0], at[1], at[2], 0}), -kInf);
  });
}

TEST_F(Merge, NanStaysInItsRow) {
  Parts parts(3, QKV_TYPE_F32, QKV_TYPE_F32, {1, 2, 4, 8}, test_seed());
  parts.lse[1]->set({0, 1, 2, 0}, std::nan(""));
  parts.o[2]->set({0, 0, 3, 5}, std::nan(""));
  ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
  parts.merged_o->each([&](Index at) {
    const bool row = at[1] == 1 && at[2] == 2, one = at[1] == 0 && at[2] == 3 && at[3] == 5;
    ASSERT_EQ(std::isnan(parts.merged_o->get(at)), row || one);
    ASSERT_EQ(std::isnan(parts.merged_lse->get({at[0], at[1], at[2], 0})), row);
  });
}

TEST_F(Merge, InPlaceIsTheSame) {
  for (const int into : {0, 2}) {
    Parts apart(3, QKV_TYPE_BF16, QKV_TYPE_BF16, {2, 3, 9, 72}, test_seed());
    Parts in_place(3, QKV_TYPE_BF16, QKV_TYPE_BF16, {2, 3, 9, 72}, test_seed());
    ASSERT_EQ(apart.run(), QKV_SUCCESS) << qkv_last_error();
    ASSERT_EQ(in_place.run(into), QKV_SUCCESS) << qkv_last_error();
    const auto at = static_cast<size_t>(into);
    apart.merged_o->each([&](Index i) {
      ASSERT_EQ(in_place.o[at]->get(i), apart.merged_o->get(i));
      const Index row{i[0], i[1], i[2], 0};
      ASSERT_EQ(in_place.lse[at]->get(row), apart.merged_lse->get(row));
    });
  }
}

// Padding between the rows keeps what it held.
TEST_F(Merge, WritesNothingElse) {
  Parts parts(2, QKV_TYPE_F32, QKV_TYPE_F16, {2, 2, 3, 5}, test_seed());
  ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
  const auto& bytes = parts.merged_o->bytes();
  for (size_t row = 0; row < 12; ++row)
    for (size_t byte = 10; byte < 16; ++byte) ASSERT_EQ(bytes[row * 16 + byte], std::byte{0xa5});
}

// Attention over all keys against attention over three runs of them, merged: both sides err by a
// few ulp of numbers below 4.
TEST_F(Merge, RestoresTheWholeFromASplit) {
  const int64_t s_kv = 150, cuts[] = {0, 20, 90, 150};
  const Index q_shape{2, 4, 33, 48}, kv_shape{2, 2, s_kv, 48}, row_shape{2, 4, 33, 1};
  Array q(QKV_TYPE_F32, q_shape, false), k(QKV_TYPE_F32, kv_shape, false),
      v(QKV_TYPE_F32, kv_shape, false), whole(QKV_TYPE_F32, q_shape, false),
      whole_lse(QKV_TYPE_F32, row_shape, true);
  Random random(test_seed());
  for (Array* input : {&q, &k, &v}) {
    input->each([&](Index at) { input->set(at, random.normal()); });
    input->upload();
  }
  const auto attend = [&](int64_t first, int64_t last, Array* o, Array* lse) {
    qkv_attention_desc desc;
    ASSERT_EQ(qkv_attention_desc_init(&desc, sizeof desc), QKV_SUCCESS);
    desc.device = place().device();
    desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
    desc.q = q.view(), desc.k = k.view(), desc.v = v.view(), desc.o = o->view();
    desc.lse = lse->view();
    for (qkv_tensor* t : {&desc.k, &desc.v}) {
      t->data = static_cast<float*>(t->data) + first * t->stride[2];
      t->shape[2] = last - first;
    }
    ASSERT_EQ(qkv_attention(&desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    o->download(), lse->download();
  };
  attend(0, s_kv, &whole, &whole_lse);
  Parts parts(3, QKV_TYPE_F32, QKV_TYPE_F32, q_shape, test_seed());
  for (size_t p = 0; p < 3; ++p) attend(cuts[p], cuts[p + 1], parts.o[p].get(), parts.lse[p].get());
  ASSERT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
  whole.each([&](Index at) {
    ASSERT_NEAR(parts.merged_o->get(at), whole.get(at), 2e-6);
    const Index row{at[0], at[1], at[2], 0};
    ASSERT_NEAR(parts.merged_lse->get(row), whole_lse.get(row), 4e-6);
  });
}

TEST_F(Merge, NothingToMerge) {
  Parts parts(2, QKV_TYPE_F32, QKV_TYPE_F32, {2, 3, 0, 8}, test_seed());
  EXPECT_EQ(parts.run(), QKV_SUCCESS) << qkv_last_error();
}

TEST_F(Merge, RefusesWithAReason) {
  Array part(QKV_TYPE_F16, {1, 2, 3, 8}, false), part_lse(QKV_TYPE_F32, {1, 2, 3, 1}, false),
      out(QKV_TYPE_F32, {1, 2, 3, 8}, false);
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
    std::fill_n(o_parts, 33, part.view());
    std::fill_n(lse_parts, 33, part_lse.view());
    qkv_merge_desc desc;
    ASSERT_EQ(qkv_merge_desc_init(&desc, sizeof desc), QKV_SUCCESS);
    desc.device = place().device();
    desc.parts = 2;
    desc.o_parts = o_parts;
    desc.lse_parts = lse_parts;
    desc.o = out.view();
    row.edit(desc, o_parts, lse_parts);
    EXPECT_EQ(qkv_merge(&desc, nullptr), row.status) << row.says;
    EXPECT_NE(std::string(qkv_last_error()).find(row.says), std::string::npos) << qkv_last_error();
  }
  EXPECT_EQ(qkv_merge(nullptr, nullptr), QKV_INVALID_NULL);
  EXPECT_EQ(qkv_merge_desc_init(nullptr, 8), QKV_INVALID_NULL);
}

}  // namespace
}  // namespace qkv::test
