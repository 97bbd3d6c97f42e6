// Every bad call gets a status and a message that names the field, what it holds and what is
// allowed; nothing is written. Every status of qkv.h is somewhere in these rows.
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "tests/support/elements.h"
#include "tests/support/full_problem.h"
#include "tests/support/refusals.h"

namespace qkv::test {
namespace {

std::vector<Refusal> all_refusals() {
  std::vector<Refusal> rows;
  for (auto group : {descriptor_refusals, call_refusals, device_refusals}) {
    for (Refusal& row : group()) rows.push_back(std::move(row));
  }
  return rows;
}

class Refuses : public testing::TestWithParam<Refusal> {};

TEST_P(Refuses, WithAReason) {
  const Refusal& row = GetParam();
  const auto [status, message] = row.call();
  EXPECT_EQ(status, row.status) << message;
  for (const std::string& part : row.says) {
    EXPECT_NE(message.find(part), std::string::npos) << "'" << part << "' is not in: " << message;
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, Refuses, testing::ValuesIn(all_refusals()),
                         [](const auto& row) { return row.param.name; });

// The enumerators of qkv_status, from the header itself.
std::set<qkv_status> statuses_of_the_header() {
  std::ifstream file(QKV_HEADER);
  std::stringstream text;
  text << file.rdbuf();
  const std::string all = text.str();
  const size_t end = all.find("Element type of a tensor");
  const std::string statuses = all.substr(0, end);
  const std::regex pattern("QKV_[A-Z_]+\\s*=\\s*([0-9]+)");
  std::set<qkv_status> found;
  for (std::sregex_iterator at(statuses.begin(), statuses.end(), pattern), last; at != last; ++at) {
    found.insert(std::stoi((*at)[1]));
  }
  return found;
}

TEST(Statuses, EveryOneIsReturnedByARow) {
  std::set<qkv_status> returned{QKV_SUCCESS};
  for (const Refusal& row : all_refusals()) returned.insert(row.status);
  std::set<qkv_status> declared = statuses_of_the_header();
  ASSERT_EQ(declared.size(), 27u);
  for (qkv_status only_a_class :
       {QKV_INVALID_ARGUMENT, QKV_UNSUPPORTED, QKV_RESOURCE, QKV_DEVICE_ERROR}) {
    declared.erase(only_a_class);
  }
  EXPECT_EQ(returned, declared);
}

TEST(Statuses, HaveNamesAndClasses) {
  for (qkv_status status : statuses_of_the_header()) {
    EXPECT_EQ(std::string(qkv_status_name(status)).rfind("QKV_", 0), 0u) << status;
    EXPECT_EQ(qkv_status_class(status), status / 1000 * 1000);
  }
  EXPECT_STREQ(qkv_status_name(QKV_INVALID_STRIDE), "QKV_INVALID_STRIDE");
  for (qkv_status none : {1, 999, 1099, -1, 6000}) {
    EXPECT_STREQ(qkv_status_name(none), "unknown status");
  }
}

TEST(LastError, StaysAfterSuccessAndIsReplacedByTheNextFailure) {
  FullProblem f;
  f.desc.softcap = -1;
  EXPECT_NE(qkv_attention(&f.desc, nullptr), QKV_SUCCESS);
  const std::string first = qkv_last_error();
  f.desc.softcap = 0;
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(qkv_last_error(), first);
  f.desc.score = 7;
  EXPECT_NE(qkv_attention(&f.desc, nullptr), QKV_SUCCESS);
  EXPECT_NE(qkv_last_error(), first);
}

TEST(Valid, ANewerStructThatAsksForNothingNew) {
  struct {
    qkv_attention_desc desc;
    int64_t later;
  } newer{};
  FullProblem f;
  newer.desc = f.desc;
  newer.desc.struct_size = sizeof newer;
  EXPECT_EQ(qkv_attention(&newer.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

TEST(Valid, AllOptionsAtOnce) {
  FullProblem f;
  f.use_everything();
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

TEST(Valid, SettingsWithoutEffectOfOlderCallers) {
  FullProblem f;
  f.as_0_1_0();
  ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  const FullProblem::Outputs plain = f.outputs();
  f.o.assign(f.o.size(), 7.0f);
  f.desc.scale = 0.5f;
  f.desc.offset = 3;
  f.desc.weights_mode = QKV_WEIGHTS_SCORES;
  f.desc.threads = -1, f.desc.top_k = 5;  // not theirs: not read
  ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(f.outputs(), plain);
}

TEST(Valid, SlopesOfOlderCallersByBatch) {
  FullProblem f;
  f.as_0_1_0();
  f.desc.alibi_slopes = contiguous(f.slope_data, QKV_TYPE_F32, {FullProblem::kB, 1, 1, 1});
  EXPECT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

TEST(Valid, SlopesOfEveryClearShape) {
  const auto attend = [](int64_t batch, int64_t heads, int64_t batch_stride, int64_t head_stride) {
    FullProblem f;
    f.slope_data.resize(static_cast<size_t>(FullProblem::kB * FullProblem::kHq));
    f.desc.alibi_slopes = contiguous(f.slope_data, QKV_TYPE_F32, {batch, heads, 1, 1});
    f.desc.alibi_slopes.stride[0] = batch_stride;
    f.desc.alibi_slopes.stride[1] = head_stride;
    return qkv_attention(&f.desc, nullptr);
  };
  constexpr int64_t kB = FullProblem::kB, kHq = FullProblem::kHq;
  EXPECT_EQ(attend(1, kHq, 0, 1), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(attend(kB, kHq, kHq, 1), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(attend(kB, kHq, 1, 0), QKV_SUCCESS) << "by batch, said clearly: " << qkv_last_error();
  EXPECT_EQ(attend(1, 1, 0, 0), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(attend(kB, 1, 0, 0), QKV_SUCCESS) << "one for all: " << qkv_last_error();
  EXPECT_EQ(attend(kB, 1, 1, 0), QKV_INVALID_SHAPE);
}

// By batch is by head where there is one head.
TEST(Valid, SlopesByBatchOfOneHead) {
  SmallProblem p({.batch = 2, .s_q = 2, .s_kv = 2});
  std::vector<float> slopes(2);
  p.desc.alibi_slopes = contiguous(slopes, QKV_TYPE_F32, {2, 1, 1, 1});
  p.desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  EXPECT_EQ(qkv_attention(&p.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

// NumPy gives zeros to arrays without elements.
TEST(Valid, StridesOfEmptyTensorsAreIgnored) {
  for (const int64_t stride : {int64_t{0}, int64_t{-7}, INT64_MAX, INT64_MIN}) {
    SmallProblem p({.batch = 2, .heads_q = 2, .heads_kv = 2, .s_q = 2, .s_kv = 0, .d_qk = 4});
    std::vector<float> none;
    std::vector<uint8_t> no_mask;
    p.desc.weights = p.desc.bias = contiguous(none, QKV_TYPE_F32, {2, 2, 2, 0});
    p.desc.mask = contiguous(no_mask, QKV_TYPE_BOOL, {2, 2, 2, 0});
    for (qkv_tensor* t : {&p.desc.k, &p.desc.v, &p.desc.weights, &p.desc.bias, &p.desc.mask})
      std::fill_n(t->stride, 4, stride);
    p.o.assign(p.o.size(), 7.0f);
    p.desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
    EXPECT_EQ(qkv_attention(&p.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(p.o, std::vector<float>(p.o.size(), 0.0f));
  }
  SmallProblem no_batch({.batch = 0, .heads_q = 2, .heads_kv = 2, .s_q = 2, .s_kv = 3, .d_qk = 4});
  for (qkv_tensor* t :
       {&no_batch.desc.q, &no_batch.desc.k, &no_batch.desc.v, &no_batch.desc.o, &no_batch.desc.lse})
    std::fill_n(t->stride, 4, 0);
  EXPECT_EQ(qkv_attention(&no_batch.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

TEST(Valid, StridesOfAxesOfOneElementAreIgnored) {
  SmallProblem p({});
  for (qkv_tensor* tensor : {&p.desc.q, &p.desc.k, &p.desc.v, &p.desc.o, &p.desc.lse}) {
    for (int64_t& stride : tensor->stride) stride = -7;
  }
  p.desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  EXPECT_EQ(qkv_attention(&p.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
}

TEST(Valid, NullDataOfEmptyTensors) {
  SmallProblem p({.s_q = 2, .s_kv = 0, .d_v = 3});
  p.desc.k.data = p.desc.v.data = nullptr;
  p.o.assign(6, 7.0f);
  p.desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  EXPECT_EQ(qkv_attention(&p.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(p.o, std::vector<float>(6, 0.0f));
}

// --- sizes: checked arithmetic against 128-bit arithmetic

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kRounds = 100'000;
#else
constexpr int kRounds = 1'000'000;
#endif

// A number near one where arithmetic breaks, or a small one.
int64_t hostile(Random& random) {
  constexpr int kPowers[] = {15, 16, 31, 32, 47, 48, 62, 63};
  if (random.bits() % 2 == 0) return random.integer(0, 5);
  const auto power = static_cast<Wide>(1) << kPowers[random.bits() % 8];
  const Wide x = power + random.integer(-2, 2);
  return x > INT64_MAX ? INT64_MAX : static_cast<int64_t>(x);
}

// Whether a tensor's extents, strides and span fit, by arithmetic that cannot overflow.
struct Fits {
  bool extents = true, strides = true, span = true, distinct = true;
};

Fits fits(const qkv_tensor& t, bool output) {
  Fits out;
  Wide last = 0;
  std::vector<std::pair<Wide, Wide>> axes;  // stride, reach
  bool empty = false;
  for (int axis = 0; axis < 4; ++axis) {
    const Wide n = t.shape[axis], stride = t.stride[axis];
    if (n < 0 || n > static_cast<Wide>(1) << 48) {
      out.extents = false;
      continue;
    }
    empty = empty || n == 0;
    if (n <= 1) continue;
    out.strides = out.strides && stride >= 0 && (axis != 3 || stride == 1);
    last += (n - 1) * stride;
    axes.emplace_back(stride, (n - 1) * stride);
  }
  if (empty) return {.extents = out.extents};
  out.span = (last + 1) * 4 <= INT64_MAX;
  if (!output) return out;
  std::sort(axes.begin(), axes.end());
  Wide reach = 0;
  for (const auto& [stride, extent] : axes) {
    out.distinct = out.distinct && stride > reach;
    reach += extent;
  }
  return out;
}

// A stride as often right as not: dense over `below`, or hostile.
int64_t some_stride(Random& random, Wide below) {
  const bool dense = random.bits() % 4 != 0 && below <= INT64_MAX;
  return dense ? static_cast<int64_t>(below) : hostile(random);
}

TEST(Sizes, T10_AreExactOrRefused) {
  Random random(0x5eed);
  int accepted = 0, too_large = 0;
  for (int round = 0; round < kRounds; ++round) {
    qkv_attention_desc desc;
    ASSERT_EQ(qkv_attention_desc_init(&desc, sizeof desc), QKV_SUCCESS);
    desc.device = QKV_DEVICE_CPU;
    const int64_t batch = hostile(random), heads = 1 + random.integer(0, 3), dim = hostile(random);
    const int64_t s_q = hostile(random), s_kv = hostile(random), d_v = hostile(random);
    qkv_tensor* tensors[] = {&desc.q, &desc.k, &desc.v, &desc.o};
    const int64_t shapes[4][4] = {{batch, heads, s_q, dim},
                                  {batch, heads, s_kv, dim},
                                  {batch, heads, s_kv, d_v},
                                  {batch, heads, s_q, d_v}};
    Fits all;
    bool no_dim = dim == 0 || d_v == 0;
    for (int n = 0; n < 4; ++n) {
      qkv_tensor& t = *tensors[n];
      t.type = QKV_TYPE_F32;
      Wide below = 1;
      for (int axis = 3; axis >= 0; --axis) {
        t.shape[axis] = shapes[n][axis];
        t.stride[axis] = axis == 3 ? 1 : some_stride(random, below);
        below = std::max<Wide>(below, static_cast<Wide>(t.stride[axis]) * t.shape[axis]);
        if (below > INT64_MAX) below = static_cast<Wide>(INT64_MAX) + 1;
      }
      const Fits one = fits(t, n == 3);
      all.extents = all.extents && one.extents;
      all.strides = all.strides && one.strides;
      all.span = all.span && one.span;
      all.distinct = all.distinct && one.distinct;
    }
    qkv_query_result result{};
    result.struct_size = sizeof result;
    const qkv_status status = qkv_query(&desc, &result);
    const bool valid = all.extents && all.strides && all.span && all.distinct && !no_dim;
    ASSERT_EQ(status == QKV_SUCCESS, valid) << qkv_last_error() << " in round " << round;
    if (status == QKV_INVALID_SIZE) {
      ASSERT_TRUE(!all.extents || !all.span) << qkv_last_error();
    } else if (status == QKV_INVALID_STRIDE) {
      ASSERT_TRUE(!all.strides || !all.distinct) << qkv_last_error();
    } else if (status == QKV_INVALID_SHAPE) {
      ASSERT_TRUE(no_dim) << qkv_last_error();
    } else {
      ASSERT_EQ(status, QKV_SUCCESS) << qkv_last_error();
    }
    accepted += status == QKV_SUCCESS;
    too_large += status == QKV_INVALID_SIZE;
  }
  EXPECT_GT(accepted, kRounds / 20);
  EXPECT_GT(too_large, kRounds / 20);
}

}  // namespace
}  // namespace qkv::test
