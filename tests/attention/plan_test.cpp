// Plans are pure: for any device class, without a device. What is chosen, why the rest declined,
// how it prints, and which problems may share a plan.
#include "host/core/plan.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <array>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "host/core/plan_cache.h"
#include "host/ops/attention/cpu/attention.h"
#include "host/ops/merge/op.h"
#include "kernels/attention/simt_forward/policy.h"
#include "kernels/attention/sm80_forward/policy.h"
#include "kernels/attention/sm90_forward/policy.h"
#include "kernels/attention/sm90_wide/policy.h"
#include "tests/support/elements.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/full_problem.h"
#include "tests/support/plans.h"

namespace qkv::test {
namespace {

using host::DeviceInfo;
using host::Plan;
using host::PlanKey;
using host::attention::Problem;

// A problem of shapes alone, on cuda:0 of the fake runtime.
qkv_attention_desc shapes(int64_t batch, int64_t heads_q, int64_t heads_kv, int64_t s_q,
                          int64_t s_kv, int64_t d_qk, int64_t d_v) {
  qkv_attention_desc desc;
  EXPECT_EQ(qkv_attention_desc_init(&desc, sizeof desc), QKV_SUCCESS);
  desc.device = QKV_DEVICE_CUDA;
  // At most the largest number: sizes may be hostile.
  const auto times = [](int64_t a, int64_t b) {
    int64_t out = 0;
    return __builtin_mul_overflow(a, b, &out) ? std::numeric_limits<int64_t>::max() : out;
  };
  const auto tensor = [&](int64_t b, int64_t h, int64_t s, int64_t d) {
    const int64_t head = times(s, d);
    return qkv_tensor{nullptr, QKV_TYPE_F16, 0, {b, h, s, d}, {times(h, head), head, d, 1}};
  };
  desc.q = tensor(batch, heads_q, s_q, d_qk);
  desc.k = tensor(batch, heads_kv, s_kv, d_qk);
  desc.v = tensor(batch, heads_kv, s_kv, d_v);
  desc.o = tensor(batch, heads_q, s_q, d_v);
  return desc;
}

Problem problem_of(const qkv_attention_desc& desc) {
  Problem problem;
  const host::Status status =
      host::attention::validate(&desc, host::Need::kShapes, host::cuda_runtime(), &problem);
  EXPECT_TRUE(status.ok()) << status.reason();
  return problem;
}

// --- what is chosen

class PlanOn : public testing::TestWithParam<int32_t> {};

TEST_P(PlanOn, EveryWidth) {
  const FakeCuda cuda({fake_device(GetParam())});
  const DeviceInfo& device = cuda.devices[0];
  for (int64_t d_v : {1, 64, 65, 128, 129, 256, 257, 264, 512, 576}) {
    const Problem problem = problem_of(shapes(2, 6, 3, 1000, 777, 96, d_v));
    Plan plan;
    const host::Status status = make_plan(problem, device, &plan);
    ASSERT_TRUE(status.ok()) << status.reason();
    int32_t tile_q = 0, tile_kv = 0, threads = 0, smem = 48 * 1024;
    if (const kernels::Sm90Shape* shape =
            kernels::sm90_shape(96, d_v, kernels::Sm90Variant::kPlain);
        device.compute == 90 && d_v % 8 == 0 && shape != nullptr) {
      EXPECT_STREQ(plan.kernel->name, "sm90_forward");
      EXPECT_EQ(plan_tiles(plan).tile_q, shape->tile_q());
      EXPECT_EQ(plan_tiles(plan).tile_kv, shape->tile_kv);
      EXPECT_EQ(plan_tiles(plan).threads, shape->threads());
      EXPECT_EQ(plan_schedule(plan).blocks(), 2 * 6 * 8 * plan_schedule(plan).splits);
      EXPECT_EQ(plan_tiles(plan).blocks,
                std::min<int64_t>(plan_schedule(plan).blocks(), device.sm_count));
      EXPECT_LE(plan_tiles(plan).smem_bytes, device.smem_per_block);
      EXPECT_EQ(plan.workspace_bytes() > 0, plan_schedule(plan).splits > 1);
      continue;
    }
    if (device.compute == 90 && d_v % 8 == 0 && d_v > 256 && d_v <= 512) {
      // 1000 queries of a head, or 2000 rows of two: tiles of 128 rows, two blocks each.
      EXPECT_STREQ(plan.kernel->name, "sm90_wide");
      EXPECT_EQ(plan_tiles(plan).tile_q, 2 * kernels::kSm90WideRows);
      EXPECT_EQ(plan_tiles(plan).tile_kv, kernels::kSm90WideTileKv);
      EXPECT_EQ(plan_tiles(plan).threads, kernels::kSm90WideThreads);
      EXPECT_EQ(plan_tiles(plan).blocks, 2 * plan_schedule(plan).blocks());
      EXPECT_LE(plan_tiles(plan).smem_bytes, device.smem_per_block);
      EXPECT_EQ(plan.workspace_bytes() > 0, plan_schedule(plan).splits > 1);
      EXPECT_NE(plan.own->text().find("clusters    of 2 blocks"), std::string::npos)
          << plan.own->text();
      continue;
    }
    if (device.compute >= 80 && d_v % 8 == 0 && d_v <= 256) {
      EXPECT_STREQ(plan.kernel->name, "sm80_forward");
      const auto policy = kernels::sm80_forward_policy(
          static_cast<int32_t>(std::max<int64_t>(d_v, 96)), plan_variant(plan));
      EXPECT_GE(policy.max_dim, d_v);
      tile_q = policy.tile_q, tile_kv = policy.tile_kv, threads = 128;
      smem = device.smem_per_block;
    } else {
      EXPECT_STREQ(plan.kernel->name, "simt_forward");
      const auto policy = kernels::simt_forward_policy(static_cast<int32_t>(d_v));
      EXPECT_GE(policy.max_dim, d_v);
      tile_q = policy.tile_q, tile_kv = policy.tile_kv, threads = policy.threads;
    }
    EXPECT_EQ(plan_tiles(plan).tile_q, tile_q);
    EXPECT_EQ(plan_tiles(plan).tile_kv, tile_kv);
    EXPECT_EQ(plan_tiles(plan).threads, threads);
    const int32_t group = static_cast<int32_t>(plan_schedule(plan).group.divisor);
    EXPECT_TRUE(group == 1 || group == 2);
    EXPECT_EQ(plan_tiles(plan).blocks,
              2 * 6 / group * ((1000 * group + tile_q - 1) / tile_q) * plan_schedule(plan).splits);
    EXPECT_GT(plan_tiles(plan).smem_bytes, 0);
    EXPECT_LE(plan_tiles(plan).smem_bytes, smem);
    const int64_t floats = int64_t{2} * 6 * 1000 * plan_schedule(plan).splits * (d_v + 2);
    EXPECT_EQ(plan.workspace_bytes(), plan_schedule(plan).splits == 1
                                          ? 0u
                                          : static_cast<size_t>((floats * 4 + 255) / 256 * 256));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, PlanOn, testing::Values(75, 80, 86, 89, 90, 100, 120),
                         [](const auto& row) { return "sm_" + std::to_string(row.param); });

// Blocks of keys that a mask hides are looked for where the mask is read little for it, and where
// there is work enough for a launch more.
TEST(Plan, LooksThroughMasksWhereThatPays) {
  DeviceInfo device = fake_device(90);
  device.sm_count = 132;
  const FakeCuda cuda({device});
  struct Row {
    const char* name;
    int64_t batch, heads_q, heads_kv, s_q, s_kv;
    std::array<bool, 3> own;  // axes of the mask: batch, heads, queries
    int64_t bytes;            // of the summary; 0: none
  };
  constexpr Row kRows[] = {
      {"one for all heads", 1, 16, 16, 2048, 2048, {false, false, true}, 16 * 26},
      {"of 80 blocks of keys 79 and one key", 1, 16, 16, 2048, 6321, {false, false, true}, 16 * 80},
      {"too little work", 1, 16, 16, 1024, 2048, {false, false, true}, 0},
      {"one for four heads", 1, 4, 4, 8192, 8192, {false, false, true}, 64 * 103},
      {"one for three", 1, 3, 3, 8192, 8192, {false, false, true}, 0},
      {"each head its own", 1, 16, 16, 8192, 8192, {false, true, true}, 0},
      {"padding", 8, 4, 4, 2048, 2048, {true, false, false}, 8 * 26},
      {"one query, each head its own", 16, 32, 32, 1, 8192, {true, true, true}, 16 * 32 * 103},
  };
  for (const Row& row : kRows) {
    SCOPED_TRACE(row.name);
    auto desc = shapes(row.batch, row.heads_q, row.heads_kv, row.s_q, row.s_kv, 128, 128);
    const int64_t full[] = {row.batch, row.heads_q, row.s_q};
    desc.mask = {nullptr, QKV_TYPE_BOOL, 0, {1, 1, 1, row.s_kv}, {0, 0, 0, 1}};
    int64_t stride = row.s_kv;
    for (const size_t axis : {2, 1, 0}) {
      if (!row.own[axis]) continue;
      desc.mask.shape[axis] = full[axis], desc.mask.stride[axis] = stride;
      stride *= full[axis];
    }
    Plan plan;
    ASSERT_TRUE(make_plan(problem_of(desc), device, &plan).ok());
    ASSERT_STREQ(plan.kernel->name, "sm90_forward");
    EXPECT_EQ(plan.own->text().find("that the mask hides") != std::string::npos, row.bytes > 0)
        << plan.own->text();
    if (plan_schedule(plan).splits > 1) continue;  // with partial results beside it
    const bool fetches = row.bytes > 0 && plan_schedule(plan).blocks() > device.sm_count;
    EXPECT_EQ(plan.workspace_bytes(),
              static_cast<size_t>((fetches ? 256 : 0) + (row.bytes + 255) / 256 * 256));
  }
}

TEST(Plan, OnTheCpu) {
  FullProblem f;
  f.use_everything();
  const Problem problem = problem_of(f.desc);
  DeviceInfo device = host::cpu_device_info();
  device.threads = 2;
  Plan plan;
  ASSERT_TRUE(make_plan(problem, device, &plan).ok());
  EXPECT_STREQ(plan.kernel->name, "cpu_forward");
  const cpu::Policy policy = cpu::select_policy(problem, cpu::useful_threads(problem, 2));
  EXPECT_GT(policy.tile_q, 0);
  EXPECT_GT(policy.tile_kv, 0);
  EXPECT_GE(policy.threads, 1);
  EXPECT_LE(policy.threads, 2);
  EXPECT_GE(policy.tasks, 8) << "a task per head of each batch at least";
  EXPECT_EQ(plan.workspace_bytes(), policy.workspace_bytes);
  EXPECT_NE(plan.own->text().find(host::text(policy.tasks, " on ", policy.threads, " threads")),
            std::string::npos)
      << plan.own->text();
}

TEST(Plan, IsAFunctionOfItsArguments) {
  const FakeCuda cuda({fake_device(90)});
  const Problem problem = problem_of(shapes(2, 6, 3, 1000, 777, 96, 128));
  std::string first;
  for (int round = 0; round < 3; ++round) {
    Plan plan;
    ASSERT_TRUE(make_plan(problem, cuda.devices[0], &plan).ok());
    const std::string printed =
        host::plan_text(host::attention::kOp, plan, problem, cuda.devices[0]);
    if (round == 0) first = printed;
    EXPECT_EQ(printed, first);
  }
}

// --- why kernels decline

struct Decline {
  const char* name;
  const char* says;
  void (*edit)(qkv_attention_desc&);
  const char* then = "simt_general";  // the kernel that takes the problem; "" if none does
  int32_t compute = 89;
};

// The row's kernel takes the problem, in fp32 or as the row has it; `kernel` gave the row's reason,
// or none.
void expect_reason(const char* kernel, const Decline& row, int64_t dim = 64, bool f32 = false) {
  FakeCuda cuda({fake_device(row.compute)});
  cuda.map_everything(0);
  qkv_attention_desc desc = shapes(2, 4, 4, 100, 200, dim, dim);
  row.edit(desc);
  for (qkv_tensor* t : {&desc.q, &desc.k, &desc.v, &desc.o})
    if (f32) t->type = QKV_TYPE_F32;
  Plan plan;
  const host::Status status = make_plan(problem_of(desc), cuda.devices[0], &plan);
  if (*row.then == '\0') {
    EXPECT_EQ(status.code(), QKV_UNSUPPORTED_KERNEL);
  } else {
    ASSERT_TRUE(status.ok()) << status.reason();
    EXPECT_STREQ(plan.kernel->name, row.then);
  }
  const std::string line = host::text('\n', kernel, ": ", row.says);
  EXPECT_EQ(('\n' + plan.declined).find(line) != std::string::npos, *row.says != '\0')
      << plan.declined;
}

qkv_tensor pair_tensor(qkv_type type) {
  return {nullptr, type, 0, {2, 4, 100, 200}, {80000, 20000, 200, 1}};
}

void select_top(qkv_attention_desc& d) { d.selection = QKV_SELECT_TOP_K, d.top_k = 10; }

const Decline kDeclines[] = {
    {"old_device", "needs sm_75 or newer, the device is sm_70", [](qkv_attention_desc&) {}, "", 70},
    {"additive", "computes scaled dot scores only",
     [](qkv_attention_desc& d) {
       d = shapes(2, 4, 4, 100, 200, 64, 129);
       d.score = QKV_SCORE_ADDITIVE;
       d.additive_weight = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 64}, {0, 64, 0, 1}};
     }},
    {"hard", "computes soft selection only",
     [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD; }},
    {"top_k", "computes soft selection only", select_top},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"softcap", "has no softcap, softcap is 2.5", [](qkv_attention_desc& d) { d.softcap = 2.5f; }},
    {"mask", "takes no mask tensor",
     [](qkv_attention_desc& d) { d.mask = pair_tensor(QKV_TYPE_BOOL); }},
    {"bias", "takes no bias tensor",
     [](qkv_attention_desc& d) { d.bias = pair_tensor(QKV_TYPE_F32); }},
    {"alibi", "takes no alibi_slopes",
     [](qkv_attention_desc& d) {
       d.alibi_slopes = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 1}, {0, 1, 0, 0}};
     }},
    {"wide_qk", "takes dims up to 576, the widest here is 640",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 640, 64); }},
    {"wide_v", "takes dims up to 576, the widest here is 577",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 577); }},
    {"many_queries", "takes up to 2^31 - 1025 rows, there are 2147483648",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, int64_t{1} << 31, 8, 8, 8); }, ""},
    {"many_keys", "takes up to 2^31 - 1025 rows, there are 2147482624",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, INT32_MAX - 1023, 8, 8); }, ""},
    {"many_blocks", "needs more than 2^31 - 1 blocks",
     [](qkv_attention_desc& d) { d = shapes(65536, 65536, 1, 8, 8, 8, 8); }, ""},
    {"many_batches", "needs more than 2^31 - 1 blocks",
     [](qkv_attention_desc& d) { d = shapes(int64_t{1} << 31, 1, 1, 1, 1, 8, 8); }, ""},
};

class SimtForward : public testing::TestWithParam<Decline> {};

TEST_P(SimtForward, Declines) {
  const Decline& row = GetParam();
  const FakeCuda cuda({fake_device(row.compute)});
  qkv_attention_desc desc = shapes(2, 4, 4, 100, 200, 64, 64);
  row.edit(desc);
  for (qkv_tensor* t : {&desc.q, &desc.k, &desc.v, &desc.o}) t->type = QKV_TYPE_F32;
  qkv_query_result result{};
  result.struct_size = sizeof result;
  ASSERT_EQ(qkv_query(&desc, &result), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(result.supported, *row.then != '\0');
  EXPECT_STREQ(result.kernel, row.then);
  for (const char* kernel : {"simt_forward", "simt_general"}) {
    const bool declined = std::string_view(kernel) != row.then;
    const std::string line = host::text(kernel, ": ", row.says);
    EXPECT_EQ(std::string(result.reasons).find(line) != std::string::npos, declined)
        << line << "\n"
        << result.reasons;
  }
  EXPECT_TRUE(cuda.launches().empty());
}

class Sm80Forward : public testing::TestWithParam<Decline> {};

const Decline kSm80Declines[] = {
    {"old_device", "needs sm_80 or newer, the device is sm_75", [](qkv_attention_desc&) {},
     "simt_forward", 75},
    {"f32", "computes in fp16 and bf16 only",
     [](qkv_attention_desc& d) { d.q.type = d.k.type = d.v.type = d.o.type = QKV_TYPE_F32; },
     "simt_forward"},
    {"additive", "computes scaled dot scores only",
     [](qkv_attention_desc& d) {
       d.score = QKV_SCORE_ADDITIVE;
       d.additive_weight = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 64}, {0, 64, 0, 1}};
     },
     "sm80_additive"},
    {"hard", "computes soft selection only",
     [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD; }, "sm80_hard"},
    {"top_k", "computes soft selection only", select_top, "sm80_top_k"},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"odd_dim", "takes dims that are multiples of 8 up to 256, one here is 68",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 68); }, "simt_forward"},
    {"wide", "takes dims that are multiples of 8 up to 256, one here is 264",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 264, 64); }, "simt_forward"},
    {"stride", "needs strides that are multiples of 8, k.stride[2] is 260",
     [](qkv_attention_desc& d) { d.k.stride[2] = 260; }, "simt_forward"},
    {"address", "needs 16-byte aligned tensors, v.data is not",
     [](qkv_attention_desc& d) { d.v.data = reinterpret_cast<void*>(8); }, "simt_forward"},
    {"nothing", "", [](qkv_attention_desc&) {}, "sm80_forward"},
    {"rules", "",
     [](qkv_attention_desc& d) {
       d.softcap = 2, d.mask = pair_tensor(QKV_TYPE_BOOL), d.bias = pair_tensor(QKV_TYPE_F16);
     },
     "sm80_forward"},
};

TEST_P(Sm80Forward, Declines) { expect_reason("sm80_forward", GetParam()); }

class Sm90Forward : public testing::TestWithParam<Decline> {};

const Decline kSm90Declines[] = {
    {"old_device", "needs sm_90, the device is sm_89", [](qkv_attention_desc&) {}, "sm80_forward",
     89},
    {"new_device", "needs sm_90, the device is sm_100", [](qkv_attention_desc&) {}, "sm80_forward",
     100},
    {"f32", "computes in fp16 and bf16 only",
     [](qkv_attention_desc& d) { d.q.type = d.k.type = d.v.type = d.o.type = QKV_TYPE_F32; },
     "sm80_tf32x3"},
    {"additive", "computes scaled dot scores only",
     [](qkv_attention_desc& d) {
       d.score = QKV_SCORE_ADDITIVE;
       d.additive_weight = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 128}, {0, 128, 0, 1}};
     },
     "sm80_additive"},
    {"hard", "computes soft selection only",
     [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD; }, "sm90_hard"},
    {"top_k", "computes soft selection only", select_top, "sm80_top_k"},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"mask", "", [](qkv_attention_desc& d) { d.mask = pair_tensor(QKV_TYPE_BOOL); },
     "sm90_forward"},
    {"bias", "", [](qkv_attention_desc& d) { d.bias = pair_tensor(QKV_TYPE_F16); }, "sm90_forward"},
    {"alibi", "",
     [](qkv_attention_desc& d) {
       d.alibi_slopes = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 1}, {0, 1, 0, 0}};
     },
     "sm90_forward"},
    {"wide_alibi",
     "takes mask, bias, ALiBi and a softcap above 128 up to 192 dims of Q and 128 of V, here are "
     "128 and 136",
     [](qkv_attention_desc& d) {
       d = shapes(1, 4, 4, 8, 8, 128, 136);
       d.alibi_slopes = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 1}, {0, 1, 0, 0}};
     },
     "sm80_forward"},
    {"negative_scale", "needs a scale above 0, it is -2",
     [](qkv_attention_desc& d) { d.scale = -2, d.scale_set = 1; }, "sm80_forward"},
    {"odd_dim", "takes dims that are multiples of 8 up to 256, one here is 100",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 128, 100); }, "simt_forward"},
    {"wide", "takes dims that are multiples of 8 up to 256, one here is 264",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 264, 64); }, "sm90_wide"},
    {"no_keys", "needs keys, there are none",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 0, 128, 128); }, "sm80_forward"},
    {"stride", "needs strides that are multiples of 8, k.stride[2] is 516",
     [](qkv_attention_desc& d) { d.k.stride[2] = 516; }, "simt_forward"},
    {"broadcast", "needs strides above 0 and below 2^39, v.stride[1] is 0",
     [](qkv_attention_desc& d) { d.v.stride[1] = 0; }, "sm80_forward"},
    {"far", "needs strides above 0 and below 2^39, q.stride[0] is 549755813888",
     [](qkv_attention_desc& d) { d.q.stride[0] = int64_t{1} << 39; }, "sm80_forward"},
    {"address", "needs 16-byte aligned tensors, v.data is not",
     [](qkv_attention_desc& d) { d.v.data = reinterpret_cast<void*>(8); }, "simt_forward"},
    {"many_splits", "takes up to 1024 splits, fixed_split_size 64 makes 2048",
     [](qkv_attention_desc& d) {
       d = shapes(1, 1, 1, 1, 2048 * 128, 128, 128), d.fixed_split_size = 64;
     },
     ""},
    {"splits_beyond_32_bits", "takes up to 2^31 - 1025 rows, there are 4294967296",
     [](qkv_attention_desc& d) {
       d = shapes(1, 1, 1, 1, int64_t{1} << 32, 128, 128);
       d.fixed_split_size = int64_t{1} << 32;
     },
     ""},
    {"many_tiles", "takes up to 2^30 tiles, here are 1073872896",
     [](qkv_attention_desc& d) { d = shapes(16386, 65536, 1, 8, 8, 128, 128); }, "sm80_forward"},
    {"nothing", "", [](qkv_attention_desc&) {}, "sm90_forward"},
};

TEST_P(Sm90Forward, Declines) {
  Decline row = GetParam();
  if (!std::string_view(row.name).ends_with("_device")) row.compute = 90;
  expect_reason("sm90_forward", row, 128);
}

INSTANTIATE_TEST_SUITE_P(Reasons, Sm90Forward, testing::ValuesIn(kSm90Declines),
                         [](const auto& row) { return std::string(row.param.name); });

class Sm90Wide : public testing::TestWithParam<Decline> {};

const Decline kWideDeclines[] = {
    {"old_device", "needs sm_90, the device is sm_89", [](qkv_attention_desc&) {}, "simt_forward",
     89},
    {"new_device", "needs sm_90, the device is sm_100", [](qkv_attention_desc&) {}, "simt_forward",
     100},
    {"f32", "computes in fp16 and bf16 only",
     [](qkv_attention_desc& d) { d.q.type = d.k.type = d.v.type = d.o.type = QKV_TYPE_F32; },
     "simt_forward"},
    {"hard", "computes soft selection only",
     [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD; }},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"mask", "takes no mask tensor",
     [](qkv_attention_desc& d) { d.mask = pair_tensor(QKV_TYPE_BOOL); }},
    {"bias", "takes no bias tensor",
     [](qkv_attention_desc& d) { d.bias = pair_tensor(QKV_TYPE_F16); }},
    {"alibi", "takes no alibi_slopes",
     [](qkv_attention_desc& d) {
       d.alibi_slopes = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 1}, {0, 1, 0, 0}};
     }},
    {"negative_scale", "needs a scale above 0, it is -2",
     [](qkv_attention_desc& d) { d.scale = -2, d.scale_set = 1; }, "simt_forward"},
    {"odd_dim", "takes dims that are multiples of 8 up to 512, one here is 300",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 512, 300); }, "simt_forward"},
    {"wider", "takes dims that are multiples of 8 up to 512, one here is 520",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 520, 64); }, "simt_forward"},
    {"odd_narrow", "is for head dims above 256, the widest here is 256",
     [](qkv_attention_desc& d) {
       d = shapes(1, 1, 1, 8, 8, 256, 256), d.k.stride[1] = 0, d.v.stride[2] = 260;
     },
     "simt_forward"},
    {"no_keys", "needs keys, there are none",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 0, 512, 512); }, "simt_forward"},
    {"stride", "needs strides that are multiples of 8, k.stride[2] is 516",
     [](qkv_attention_desc& d) { d.k.stride[2] = 516; }, "simt_forward"},
    {"broadcast", "needs strides above 0 and below 2^39, v.stride[1] is 0",
     [](qkv_attention_desc& d) { d.v.stride[1] = 0; }, "simt_forward"},
    {"address", "needs 16-byte aligned tensors, v.data is not",
     [](qkv_attention_desc& d) { d.v.data = reinterpret_cast<void*>(8); }, "simt_forward"},
    {"many_splits", "takes up to 1024 splits, fixed_split_size 64 makes 2048",
     [](qkv_attention_desc& d) {
       d = shapes(1, 1, 1, 1, 2048 * 128, 512, 512), d.fixed_split_size = 64;
     },
     ""},
    {"many_blocks", "needs more than 2^31 - 1 blocks",
     [](qkv_attention_desc& d) { d = shapes(16384, 65536, 1, 8, 8, 512, 512); }, "simt_forward"},
    {"nothing", "", [](qkv_attention_desc&) {}, "sm90_wide"},
    {"wide_q", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 264, 8); }, "sm90_wide"},
    {"wide_v", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 8, 264); }, "sm90_wide"},
};

TEST_P(Sm90Wide, Declines) {
  Decline row = GetParam();
  if (!std::string_view(row.name).ends_with("_device")) row.compute = 90;
  expect_reason("sm90_wide", row, 512);
}

INSTANTIATE_TEST_SUITE_P(Reasons, Sm90Wide, testing::ValuesIn(kWideDeclines),
                         [](const auto& row) { return std::string(row.param.name); });

// A cluster has two tiles that share their keys; what fits one tile, as decode does, or a device of
// one multiprocessor, has none.
TEST(WidePlan, HasClustersWhereTilesShareKeys) {
  struct Row {
    int64_t heads_q, heads_kv, s_q;
    int32_t sms, tile_q;
  };
  for (const Row& row : {Row{8, 8, 4096, 132, 128}, Row{8, 8, 64, 132, 64}, Row{8, 8, 65, 132, 128},
                         Row{16, 2, 8, 132, 64}, Row{16, 2, 1, 132, 64}, Row{8, 8, 4096, 1, 64}}) {
    DeviceInfo device = fake_device(90);
    device.sm_count = row.sms;
    const FakeCuda cuda({device});
    Plan plan;
    const Problem p = problem_of(shapes(1, row.heads_q, row.heads_kv, row.s_q, 4096, 512, 512));
    ASSERT_TRUE(make_plan(p, device, &plan).ok());
    EXPECT_STREQ(plan.kernel->name, "sm90_wide");
    EXPECT_EQ(plan_tiles(plan).tile_q, row.tile_q) << row.s_q << " on " << row.sms;
  }
}

class Sm80Tf32x3 : public testing::TestWithParam<Decline> {};

const Decline kTf32x3Declines[] = {
    {"sm_75", "gains on sm_80 and sm_90 only, the device is sm_75", [](qkv_attention_desc&) {},
     "simt_forward", 75},
    {"sm_86", "gains on sm_80 and sm_90 only, the device is sm_86", [](qkv_attention_desc&) {},
     "simt_forward", 86},
    {"sm_89", "gains on sm_80 and sm_90 only, the device is sm_89", [](qkv_attention_desc&) {},
     "simt_forward", 89},
    {"sm_120", "gains on sm_80 and sm_90 only, the device is sm_120", [](qkv_attention_desc&) {},
     "simt_forward", 120},
    {"hard", "computes soft selection only",
     [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD; }, "sm80_tf32x3_hard", 90},
    {"top_k", "computes soft selection only", select_top, "simt_general", 90},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }, "simt_general", 90},
    {"odd_dim", "takes dims that are multiples of 4 up to 128, one here is 66",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 66); }, "simt_forward", 90},
    {"wide", "takes dims that are multiples of 4 up to 128, one here is 132",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 132, 64); }, "simt_forward", 90},
    {"padded", "gains where the dims fill two thirds of 64, here they are 40 and 44",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 40, 44); }, "simt_forward", 90},
    {"stride", "needs strides that are multiples of 4, k.stride[2] is 258",
     [](qkv_attention_desc& d) { d.k.stride[2] = 258; }, "simt_forward", 90},
    {"nothing", "", [](qkv_attention_desc&) {}, "sm80_tf32x3", 80},
    {"fills", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 40, 48); }, "sm80_tf32x3",
     90},
    {"rules", "",
     [](qkv_attention_desc& d) {
       d.softcap = 2, d.mask = pair_tensor(QKV_TYPE_BOOL), d.bias = pair_tensor(QKV_TYPE_F32);
     },
     "sm80_tf32x3", 90},
};

TEST_P(Sm80Tf32x3, Declines) { expect_reason("sm80_tf32x3", GetParam(), 64, true); }

class Sm80Hard : public testing::TestWithParam<Decline> {};

// Each row's problem has hard selection.
const Decline kHardDeclines[] = {
    {"old_device", "needs sm_80 or newer, the device is sm_75", [](qkv_attention_desc&) {},
     "simt_general", 75},
    {"f32", "computes in fp16 and bf16 only",
     [](qkv_attention_desc& d) { d.q.type = d.k.type = d.v.type = d.o.type = QKV_TYPE_F32; }},
    {"additive", "computes scaled dot scores only",
     [](qkv_attention_desc& d) {
       d.score = QKV_SCORE_ADDITIVE;
       d.additive_weight = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 64}, {0, 64, 0, 1}};
     }},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"odd_dim", "takes dims that are multiples of 8, d_qk up to 256, here they are 64 and 68",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 68); }},
    {"wide", "takes dims that are multiples of 8, d_qk up to 256, here they are 264 and 64",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 264, 64); }},
    {"stride", "needs strides that are multiples of 8, k.stride[2] is 260",
     [](qkv_attention_desc& d) { d.k.stride[2] = 260; }},
    {"address", "needs 16-byte aligned tensors, v.data is not",
     [](qkv_attention_desc& d) { d.v.data = reinterpret_cast<void*>(8); }},
    {"many_keys", "takes up to 2^31 - 1025 rows, there are 2147482624",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, INT32_MAX - 1023, 8, 8); }, ""},
    {"many_blocks", "needs more than 2^31 - 1 blocks",
     [](qkv_attention_desc& d) { d = shapes(65536, 65536, 1, 8, 8, 8, 8); }, ""},
    {"huge_v", "takes rows of V of less than 2 GiB, d_v is 1073741824",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, int64_t{1} << 30); },
     "simt_general"},
    {"nothing", "", [](qkv_attention_desc&) {}, "sm80_hard"},
    {"hopper_rules", "", [](qkv_attention_desc& d) { d.softcap = 2; }, "sm80_hard", 90},
    {"wide_v", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 2048); }, "sm80_hard"},
    // A maximum has no order: any size of splits is kept, however many that makes.
    {"many_splits", "",
     [](qkv_attention_desc& d) {
       d = shapes(1, 1, 1, 1, 2048 * 128, 128, 128), d.fixed_split_size = 64;
     },
     "sm80_hard"},
    {"rules", "",
     [](qkv_attention_desc& d) {
       d.softcap = 2, d.mask = pair_tensor(QKV_TYPE_BOOL), d.bias = pair_tensor(QKV_TYPE_F16);
     },
     "sm80_hard"},
};

TEST_P(Sm80Hard, Declines) {
  static const Decline* of_test = nullptr;
  of_test = &GetParam();
  Decline row = GetParam();
  row.edit = [](qkv_attention_desc& d) { of_test->edit(d), d.selection = QKV_SELECT_HARD; };
  expect_reason("sm80_hard", row);
}

class Sm80Tf32x3Hard : public testing::TestWithParam<Decline> {};

// Each row's problem has hard selection, in fp32.
const Decline kTf32x3HardDeclines[] = {
    {"sm_75", "gains on sm_80 and sm_90 only, the device is sm_75", [](qkv_attention_desc&) {},
     "simt_general", 75},
    {"sm_89", "gains on sm_80 and sm_90 only, the device is sm_89", [](qkv_attention_desc&) {},
     "simt_general", 89},
    {"sm_120", "gains on sm_80 and sm_90 only, the device is sm_120", [](qkv_attention_desc&) {},
     "simt_general", 120},
    {"additive", "computes scaled dot scores only",
     [](qkv_attention_desc& d) {
       d.score = QKV_SCORE_ADDITIVE;
       d.additive_weight = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 64}, {0, 64, 0, 1}};
     }},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"odd_dim", "takes dims that are multiples of 4, d_qk up to 256, here they are 64 and 66",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 66); }},
    {"wide", "takes dims that are multiples of 4, d_qk up to 256, here they are 260 and 64",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 260, 64); }},
    {"stride", "needs strides that are multiples of 4, k.stride[2] is 258",
     [](qkv_attention_desc& d) { d.k.stride[2] = 258; }},
    {"address", "needs 16-byte aligned tensors, v.data is not",
     [](qkv_attention_desc& d) { d.v.data = reinterpret_cast<void*>(8); }},
    {"many_keys", "takes up to 2^31 - 1025 rows, there are 2147482624",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, INT32_MAX - 1023, 8, 8); }, ""},
    {"huge_v", "takes rows of V of less than 2 GiB, d_v is 536870912",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, int64_t{1} << 29); },
     "simt_general"},
    {"nothing", "", [](qkv_attention_desc&) {}, "sm80_tf32x3_hard"},
    {"hopper", "", [](qkv_attention_desc&) {}, "sm80_tf32x3_hard", 90},
    {"narrow", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 4, 4); },
     "sm80_tf32x3_hard"},
    {"wide_v", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 256, 2048); },
     "sm80_tf32x3_hard"},
    {"many_splits", "",
     [](qkv_attention_desc& d) {
       d = shapes(1, 1, 1, 1, 2048 * 128, 128, 128), d.fixed_split_size = 64;
     },
     "sm80_tf32x3_hard"},
    {"rules", "",
     [](qkv_attention_desc& d) {
       d.softcap = 2, d.mask = pair_tensor(QKV_TYPE_BOOL), d.bias = pair_tensor(QKV_TYPE_F32);
     },
     "sm80_tf32x3_hard", 90},
};

TEST_P(Sm80Tf32x3Hard, Declines) {
  static const Decline* of_test = nullptr;
  of_test = &GetParam();
  Decline row = GetParam();
  row.edit = [](qkv_attention_desc& d) { of_test->edit(d), d.selection = QKV_SELECT_HARD; };
  if (row.compute == Decline{}.compute && !std::string_view(row.name).starts_with("sm_"))
    row.compute = 80;
  expect_reason("sm80_tf32x3_hard", row, 64, true);
}

class Sm90Hard : public testing::TestWithParam<Decline> {};

// Each row's problem has hard selection, 100 queries.
const Decline kSm90HardDeclines[] = {
    {"old_device", "needs sm_90, the device is sm_89", [](qkv_attention_desc&) {}, "sm80_hard", 89},
    {"new_device", "needs sm_90, the device is sm_100", [](qkv_attention_desc&) {}, "sm80_hard",
     100},
    {"f32", "computes in fp16 and bf16 only",
     [](qkv_attention_desc& d) { d.q.type = d.k.type = d.v.type = d.o.type = QKV_TYPE_F32; },
     "sm80_tf32x3_hard", 90},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }, "simt_general", 90},
    {"mask", "takes no mask tensor",
     [](qkv_attention_desc& d) { d.mask = pair_tensor(QKV_TYPE_BOOL); }, "sm80_hard", 90},
    {"softcap", "has no softcap, softcap is 2", [](qkv_attention_desc& d) { d.softcap = 2; },
     "sm80_hard", 90},
    {"odd_dim", "takes dims that are multiples of 8, d_qk up to 256, here they are 64 and 68",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 80, 8, 64, 68); }, "simt_general", 90},
    {"wide", "takes dims that are multiples of 8, d_qk up to 256, here they are 264 and 64",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 80, 8, 264, 64); }, "simt_general", 90},
    {"few_rows", "needs 64 query rows that share keys, here are 63",
     [](qkv_attention_desc& d) { d = shapes(9, 9, 9, 63, 8, 64, 64); }, "sm80_hard", 90},
    {"few_rows_group3", "needs 64 query rows that share keys, here are 63",
     [](qkv_attention_desc& d) { d = shapes(1, 3, 1, 63, 8, 64, 64); }, "sm80_hard", 90},
    {"enough_rows", "", [](qkv_attention_desc& d) { d = shapes(1, 8, 1, 8, 8, 64, 64); },
     "sm90_hard", 90},
    // A query's bits are the same among any number of others.
    {"few_rows_fixed", "",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 1, 8, 64, 64), d.fixed_split_size = 64; },
     "sm90_hard", 90},
    {"no_keys", "needs keys, there are none",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 80, 0, 64, 64); }, "sm80_hard", 90},
    {"stride", "needs strides above 0 and below 2^39, k.stride[1] is 0",
     [](qkv_attention_desc& d) { d.k.stride[1] = 0; }, "sm80_hard", 90},
    {"scale", "", [](qkv_attention_desc& d) { d.scale = -1, d.scale_set = 1; }, "sm90_hard", 90},
    {"wide_v", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 64, 8, 64, 2048); }, "sm90_hard",
     90},
};

TEST_P(Sm90Hard, Declines) {
  static const Decline* of_test = nullptr;
  of_test = &GetParam();
  Decline row = GetParam();
  row.edit = [](qkv_attention_desc& d) { of_test->edit(d), d.selection = QKV_SELECT_HARD; };
  expect_reason("sm90_hard", row);
}

INSTANTIATE_TEST_SUITE_P(Reasons, Sm90Hard, testing::ValuesIn(kSm90HardDeclines),
                         [](const auto& row) { return std::string(row.param.name); });

class Sm80Additive : public testing::TestWithParam<Decline> {};

// Each row's problem has additive scores. Of the kernels that take it instead simt_additive is
// asked before.
const Decline kAdditiveDeclines[] = {
    {"old_device", "needs sm_80 or newer, the device is sm_75", [](qkv_attention_desc&) {},
     "simt_additive", 75},
    {"f32", "computes in fp16 and bf16 only",
     [](qkv_attention_desc& d) { d.q.type = d.k.type = d.v.type = d.o.type = QKV_TYPE_F32; },
     "simt_additive"},
    {"hard", "computes soft selection only",
     [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD; }},
    {"top_k", "computes soft selection only", select_top, "simt_general"},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"odd_dim", "takes dims that are multiples of 8 up to 128, one here is 68",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 68); }, "simt_additive"},
    {"wide", "takes dims that are multiples of 8 up to 128, one here is 136",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 136); }},
    {"stride", "needs strides that are multiples of 8, k.stride[2] is 260",
     [](qkv_attention_desc& d) { d.k.stride[2] = 260; }, "simt_additive"},
    {"many_splits", "takes up to 1024 splits, fixed_split_size 128 makes 2048",
     [](qkv_attention_desc& d) {
       d = shapes(1, 1, 1, 1, 2048 * 128, 128, 128), d.fixed_split_size = 128;
     },
     ""},
    {"nothing", "", [](qkv_attention_desc&) {}, "sm80_additive"},
    {"hopper", "", [](qkv_attention_desc&) {}, "sm80_additive", 90},
    {"ada", "", [](qkv_attention_desc&) {}, "sm80_additive", 89},
    {"rules", "",
     [](qkv_attention_desc& d) {
       d.softcap = 2, d.mask = pair_tensor(QKV_TYPE_BOOL), d.bias = pair_tensor(QKV_TYPE_F16);
     },
     "sm80_additive"},
};

// A kernel's reason, and which kernel takes the row's problem with additive scores.
void expect_reason_of_additive(const host::Kernel& kernel, const Decline& row, bool f32) {
  FakeCuda cuda({fake_device(row.compute)});
  cuda.map_everything(0);
  qkv_attention_desc desc = shapes(2, 4, 4, 100, 200, 64, 64);
  row.edit(desc);
  for (qkv_tensor* t : {&desc.q, &desc.k, &desc.v, &desc.o})
    if (f32) t->type = QKV_TYPE_F32;
  const int64_t heads = desc.q.shape[1], dim = desc.q.shape[3];
  desc.score = QKV_SCORE_ADDITIVE;
  desc.additive_weight = {nullptr, QKV_TYPE_F32, 0, {1, heads, 1, dim}, {0, dim, 0, 1}};
  const auto problem = problem_of(desc);
  EXPECT_EQ(kernel.decline(problem, cuda.devices[0]), row.says);
  Plan plan;
  const host::Status status = make_plan(problem, cuda.devices[0], &plan);
  EXPECT_STREQ(status.ok() ? plan.kernel->name : "", row.then);
}

TEST_P(Sm80Additive, Declines) {
  expect_reason_of_additive(host::attention::kSm80Additive, GetParam(), false);
}

INSTANTIATE_TEST_SUITE_P(Reasons, Sm80Additive, testing::ValuesIn(kAdditiveDeclines),
                         [](const auto& row) { return std::string(row.param.name); });

class SimtAdditive : public testing::TestWithParam<Decline> {};

// Each row's problem has additive scores, and is in fp32.
const Decline kRationalDeclines[] = {
    {"hard", "computes soft selection only",
     [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD; }},
    {"top_k", "computes soft selection only", select_top},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"wide", "takes d_v up to 128, here it is 129",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 129); }},
    {"very_old_device", "needs sm_75 or newer, the device is sm_70", [](qkv_attention_desc&) {}, "",
     70},
    {"nothing", "", [](qkv_attention_desc&) {}, "simt_additive"},
    {"turing", "", [](qkv_attention_desc&) {}, "simt_additive", 75},
    {"hopper", "", [](qkv_attention_desc&) {}, "simt_additive", 90},
    {"odd_dims", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 1001, 7); },
     "simt_additive"},
    {"rules", "",
     [](qkv_attention_desc& d) {
       d.softcap = 2, d.mask = pair_tensor(QKV_TYPE_BOOL), d.bias = pair_tensor(QKV_TYPE_F32);
     },
     "simt_additive"},
};

TEST_P(SimtAdditive, Declines) {
  expect_reason_of_additive(host::attention::kSimtAdditive, GetParam(), true);
}

INSTANTIATE_TEST_SUITE_P(Reasons, SimtAdditive, testing::ValuesIn(kRationalDeclines),
                         [](const auto& row) { return std::string(row.param.name); });

// In 16-bit types tensor cores come first, but on cards whose tensor cores are slow, where there
// are tiles for all multiprocessors, and where they do not take the problem.
TEST(SimtAdditive16Bit, TakesWhatTensorCoresAreSlowFor) {
  struct Row {
    const char* name;
    int32_t compute;
    const char* device;
    int64_t s_q, dim, split;
    const char* takes;
  };
  constexpr Row kRows[] = {
      {"many tiles", 89, "NVIDIA GeForce RTX 4090", 512, 128, 0, "simt_additive"},
      {"of 64 dims", 120, "NVIDIA GeForce RTX 5090", 512, 64, 0, "simt_additive"},
      {"fast tensor cores", 89, "NVIDIA L4", 512, 128, 0, "sm80_additive"},
      {"faster ones", 80, "NVIDIA A100", 512, 128, 0, "sm80_additive"},
      {"a tile too few", 89, "NVIDIA GeForce RTX 4090", 448, 128, 0, "sm80_additive"},
      {"half of a tile", 89, "NVIDIA GeForce RTX 4090", 32, 128, 0, "sm80_additive"},
      {"fixed splits", 89, "NVIDIA GeForce RTX 4090", 512, 128, 64, "sm80_additive"},
      {"odd dims", 80, "NVIDIA A100", 512, 68, 0, "simt_additive"},
      {"no tensor cores of sm_80", 75, "Tesla T4", 1, 128, 0, "simt_additive"},
  };
  for (const Row& row : kRows) {
    DeviceInfo device = fake_device(row.compute);
    device.name = row.device;
    device.sm_count = 32;
    const int64_t batch = row.s_q == 32 ? 16 : 2;
    qkv_attention_desc desc = shapes(batch, 4, 4, row.s_q, 200, row.dim, row.dim);
    desc.score = QKV_SCORE_ADDITIVE;
    desc.additive_weight = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, row.dim}, {0, row.dim, 0, 1}};
    desc.fixed_split_size = row.split;
    const FakeCuda cuda({device});
    Plan plan;
    ASSERT_TRUE(make_plan(problem_of(desc), device, &plan).ok()) << row.name;
    EXPECT_STREQ(plan.kernel->name, row.takes) << row.name << "\n" << plan.declined;
    const bool tensor_cores = std::string_view(row.takes) == "sm80_additive";
    EXPECT_EQ(plan.declined.find("simt_additive: takes longer than sm80_additive here") !=
                  std::string::npos,
              tensor_cores)
        << row.name;
  }
}

class Sm80TopK : public testing::TestWithParam<Decline> {};

// Each row's problem has the ten best keys.
const Decline kTopKDeclines[] = {
    {"old_device", "needs sm_80 or newer, the device is sm_75", [](qkv_attention_desc&) {},
     "simt_general", 75},
    {"f32", "computes in fp16 and bf16 only",
     [](qkv_attention_desc& d) { d.q.type = d.k.type = d.v.type = d.o.type = QKV_TYPE_F32; }},
    {"additive", "computes scaled dot scores only",
     [](qkv_attention_desc& d) {
       d.score = QKV_SCORE_ADDITIVE;
       d.additive_weight = {nullptr, QKV_TYPE_F32, 0, {1, 4, 1, 64}, {0, 64, 0, 1}};
     }},
    {"weights", "does not write attention weights",
     [](qkv_attention_desc& d) { d.weights = pair_tensor(QKV_TYPE_F32); }},
    {"odd_dim", "takes dims that are multiples of 8, d_qk up to 256, here they are 64 and 68",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 68); }},
    {"wide", "takes dims that are multiples of 8, d_qk up to 256, here they are 264 and 64",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 264, 64); }},
    {"stride", "needs strides that are multiples of 8, k.stride[2] is 260",
     [](qkv_attention_desc& d) { d.k.stride[2] = 260; }},
    {"address", "needs 16-byte aligned tensors, v.data is not",
     [](qkv_attention_desc& d) { d.v.data = reinterpret_cast<void*>(8); }},
    {"many_keys", "takes up to 2^31 - 1025 rows, there are 2147482624",
     [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, INT32_MAX - 1023, 8, 8); }, ""},
    {"many_blocks", "needs more than 2^31 - 1 blocks",
     [](qkv_attention_desc& d) { d = shapes(65536, 65536, 1, 8, 8, 8, 8); }, ""},
    {"nothing", "", [](qkv_attention_desc&) {}, "sm80_top_k"},
    {"hopper", "", [](qkv_attention_desc&) {}, "sm80_top_k", 90},
    {"wide_v", "", [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 64, 2048); },
     "sm80_top_k"},
    // The best keys have no order of arrival: any size of splits is kept.
    {"many_splits", "",
     [](qkv_attention_desc& d) {
       d = shapes(1, 1, 1, 1, 2048 * 128, 128, 128), d.fixed_split_size = 64;
     },
     "sm80_top_k"},
    {"rules", "",
     [](qkv_attention_desc& d) {
       d.softcap = 2, d.mask = pair_tensor(QKV_TYPE_BOOL), d.bias = pair_tensor(QKV_TYPE_F16);
     },
     "sm80_top_k"},
};

void expect_of_top_k(const Decline& of_test, int32_t k) {
  static Decline edited;
  static int32_t top_k = 0;
  edited = of_test, top_k = k;
  Decline row = of_test;
  row.edit = [](qkv_attention_desc& d) {
    edited.edit(d), d.selection = QKV_SELECT_TOP_K, d.top_k = top_k;
  };
  expect_reason("sm80_top_k", row);
}

TEST_P(Sm80TopK, Declines) { expect_of_top_k(GetParam(), 10); }

// Lists in shared memory: of 128 rows, else of 64, else of none.
TEST(Sm80TopKLists, HaveRoom) {
  const auto wide = [](qkv_attention_desc& d) { d = shapes(1, 1, 1, 8, 8, 256, 64); };
  for (const int32_t compute : {80, 90})
    expect_of_top_k({"", "", wide, "sm80_top_k", compute}, 128);
  expect_of_top_k({"", "", wide, "sm80_top_k", 89}, 69);
  expect_of_top_k(
      {"", "needs 101888 bytes of shared memory for lists of 71 keys, a block has 101376", wide,
       "simt_general", 89},
      71);
}

TEST(Sm80HardAndTopK, DeclineEachOthers) {
  expect_reason("sm80_hard", {"top_k", "computes hard selection only", select_top, "sm80_top_k"});
  expect_reason("sm80_top_k", {"hard", "computes top-k selection only",
                               [](qkv_attention_desc& d) {
                                 d.selection = QKV_SELECT_HARD;
                                 d.weights = pair_tensor(QKV_TYPE_F32);
                               },
                               "simt_general"});
}

INSTANTIATE_TEST_SUITE_P(Reasons, Sm80TopK, testing::ValuesIn(kTopKDeclines),
                         [](const auto& row) { return std::string(row.param.name); });

INSTANTIATE_TEST_SUITE_P(Reasons, Sm80Hard, testing::ValuesIn(kHardDeclines),
                         [](const auto& row) { return std::string(row.param.name); });
INSTANTIATE_TEST_SUITE_P(Reasons, Sm80Tf32x3Hard, testing::ValuesIn(kTf32x3HardDeclines),
                         [](const auto& row) { return std::string(row.param.name); });
INSTANTIATE_TEST_SUITE_P(Reasons, Sm80Tf32x3, testing::ValuesIn(kTf32x3Declines),
                         [](const auto& row) { return std::string(row.param.name); });
INSTANTIATE_TEST_SUITE_P(Reasons, Sm80Forward, testing::ValuesIn(kSm80Declines),
                         [](const auto& row) { return std::string(row.param.name); });
INSTANTIATE_TEST_SUITE_P(Reasons, SimtForward, testing::ValuesIn(kDeclines),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(SimtForwardTakes, TheLargestProblemsItNames) {
  const FakeCuda cuda({fake_device(75)});
  for (const qkv_attention_desc& desc :
       {shapes(1, 1, 1, INT32_MAX - 1024, 1, 8, 8), shapes(1, 1, 1, 1, INT32_MAX - 1024, 8, 8),
        shapes(INT32_MAX, 1, 1, 1, 1, 8, 8), shapes(1, 1, 1, 1, 1, 576, 576)}) {
    qkv_query_result result{};
    result.struct_size = sizeof result;
    ASSERT_EQ(qkv_query(&desc, &result), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(result.supported, 1) << result.reasons;
    EXPECT_STREQ(result.kernel, "simt_forward");
  }
}

// T10, on devices: whatever the sizes, a plan or a refusal.
TEST(Plans, T10_OfHostileSizesAreMadeOrRefused) {
  FakeCuda cuda({fake_device(75), fake_device(80), fake_device(89), fake_device(90)});
  cuda.map_everything(0);
  Random random(0x5eed);
  const auto size = [&](int64_t least) {
    constexpr int kPowers[] = {5, 6, 7, 10, 15, 16, 24, 30, 31, 32, 33, 40, 47};
    if (random.bits() % 2 == 0) return random.integer(least, 300);
    return (int64_t{1} << kPowers[random.bits() % 13]) + random.integer(-2, 2);
  };
  int planned = 0, refused = 0;
  for (int round = 0; round < 20000; ++round) {
    const int64_t heads_kv = random.integer(1, 3), ratio = random.integer(1, 9);
    const int64_t dim = random.bits() % 8 == 0 ? size(1) : 8 * random.integer(1, 33);
    const int64_t d_v = random.bits() % 4 == 0 ? 8 * random.integer(1, 33) : dim;
    const int64_t batch = random.bits() % 8 == 0 ? size(0) : random.integer(0, 3);
    qkv_attention_desc desc = shapes(batch, heads_kv * ratio, heads_kv, size(0), size(0), dim, d_v);
    // Inputs may repeat: sizes need no memory.
    for (qkv_tensor* t : {&desc.q, &desc.k, &desc.v})
      t->stride[0] = t->stride[1] = t->stride[2] = 0;
    if (random.bits() % 2 == 0) desc.k.stride[2] = desc.v.stride[2] = 8 * random.integer(1, 40);
    if (random.bits() % 2 == 0) desc.fixed_split_size = size(1);
    if (random.bits() % 4 == 0) desc.softcap = 3;
    if (random.bits() % 4 == 0) desc.selection = QKV_SELECT_HARD;
    if (random.bits() % 4 == 0) {
      desc.selection = QKV_SELECT_TOP_K;
      desc.top_k = static_cast<int32_t>(random.integer(1, QKV_TOP_K_MAX));
    }
    desc.causal = random.bits() % 2 == 0;
    const qkv_type type = std::array{QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16}[random.bits() % 3];
    for (qkv_tensor* t : {&desc.q, &desc.k, &desc.v, &desc.o}) t->type = type;
    desc.device_index = static_cast<int32_t>(random.bits() % 4);
    for (qkv_tensor* t : {&desc.q, &desc.k, &desc.v, &desc.o}) t->data = nullptr;
    qkv_query_result result{};
    result.struct_size = sizeof result;
    if (qkv_query(&desc, &result) != QKV_SUCCESS) continue;
    ++(result.supported != 0 ? planned : refused);
  }
  EXPECT_GT(planned, 2000);
  EXPECT_GT(refused, 2000);
}

// One query over many keys is split: the query names the bytes, and nothing less will do.
class Splits : public testing::TestWithParam<std::pair<int, const char*>> {};

TEST_P(Splits, NeedTheirWorkspace) {
  const auto [compute, kernel] = GetParam();
  FakeCuda cuda({fake_device(compute)});
  cuda.map_everything(0);
  qkv_attention_desc desc = shapes(1, 8, 2, 1, 20000 + compute, 128, 128);  // plans are cached
  qkv_query_result result{};
  result.struct_size = sizeof result;
  ASSERT_EQ(qkv_query(&desc, &result), QKV_SUCCESS) << qkv_last_error();
  EXPECT_STREQ(result.kernel, kernel);
  ASSERT_GT(result.workspace_size, 0u);

  alignas(256) static std::byte memory[256];
  uintptr_t address = uintptr_t{1} << 40;  // which nobody reads
  for (qkv_tensor* t : {&desc.q, &desc.k, &desc.v, &desc.o})
    t->data = reinterpret_cast<void*>(address += uintptr_t{1} << 30);
  const std::string needed = host::text("needs ", result.workspace_size, " bytes");
  EXPECT_EQ(qkv_attention(&desc, nullptr), QKV_RESOURCE_WORKSPACE);
  EXPECT_NE(std::string(qkv_last_error()).find(needed), std::string::npos) << qkv_last_error();
  desc.workspace = memory;  // as little read
  desc.workspace_size = result.workspace_size - 1;
  EXPECT_EQ(qkv_attention(&desc, nullptr), QKV_RESOURCE_WORKSPACE);
  EXPECT_TRUE(cuda.launches().empty());
  desc.workspace_size = result.workspace_size;
  EXPECT_EQ(qkv_attention(&desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(cuda.launches().size(), 1u);
  EXPECT_EQ(cuda.launches()[0].workspace, desc.workspace);
}

INSTANTIATE_TEST_SUITE_P(Kernel, Splits,
                         testing::Values(std::pair(80, "sm80_forward"),
                                         std::pair(90, "sm90_forward")),
                         [](const auto& row) { return std::string(row.param.second); });

// --- text

TEST(PlanPrint, SaysWhatWillRun) {
  const FakeCuda cuda({fake_device(90)});
  qkv_attention_desc desc = shapes(2, 6, 3, 1000, 777, 96, 128);
  desc.causal = 1;
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&desc, &plan), QKV_SUCCESS) << qkv_last_error();
  size_t length = 0, workspace = 0;
  ASSERT_EQ(qkv_plan_workspace_size(plan, &workspace), QKV_SUCCESS);
  ASSERT_EQ(qkv_plan_print(plan, nullptr, 0, &length), QKV_SUCCESS);
  std::string text(length + 1, '#');
  ASSERT_EQ(qkv_plan_print(plan, text.data(), text.size(), nullptr), QKV_SUCCESS);
  EXPECT_EQ(text.find('\0'), length);
  for (const std::string& part :
       {std::string("sm90_forward"), std::string("NVIDIA H100 80GB HBM3"),
        std::string("batch 2, heads 6/3, s_q 1000, s_kv 777, d_qk 96, d_v 128, f16"),
        std::string("causal bottom-right"), host::text("workspace   ", workspace, " bytes"),
        std::string("cut         "), std::string(" waves, "),
        std::string("128 queries x 128 keys")}) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in\n" << text;
  }
  // Cut to what fits, never past it.
  std::string cut(10, '#');
  ASSERT_EQ(qkv_plan_print(plan, cut.data(), 6, &length), QKV_SUCCESS);
  EXPECT_EQ(cut, text.substr(0, 5) + '\0' + "####");
  EXPECT_EQ(length + 1, text.size());
  qkv_plan_destroy(plan);
}

TEST(PlanPrint, NamesTheMask) {
  const FakeCuda cuda({fake_device(90)});
  const auto mask_line = [&](auto&& edit) {
    qkv_attention_desc desc = shapes(1, 1, 1, 8, 8, 8, 8);
    edit(desc);
    const Problem problem = problem_of(desc);
    Plan plan;
    EXPECT_TRUE(make_plan(problem, cuda.devices[0], &plan).ok());
    const std::string all = host::plan_text(host::attention::kOp, plan, problem, cuda.devices[0]);
    const size_t at = all.find("mask ");
    return all.substr(at, all.find('\n', at) - at);
  };
  EXPECT_EQ(mask_line([](auto&) {}), "mask none");
  EXPECT_EQ(mask_line([](auto& d) { d.causal = 1; }), "mask causal bottom-right");
  EXPECT_EQ(mask_line([](auto& d) { d.causal = 1, d.alignment = QKV_ALIGN_TOP_LEFT; }),
            "mask causal top-left");
  EXPECT_EQ(mask_line([](auto& d) { d.window_left = 3, d.window_right = 4; }),
            "mask window(3, 4) bottom-right");
  EXPECT_EQ(mask_line([](auto& d) {
              d.window_right = 4, d.alignment = QKV_ALIGN_EXPLICIT, d.offset = -9;
            }),
            "mask window(inf, 4) offset -9");
}

TEST(PlanQuery, CutsLongReasons) {
  const FakeCuda cuda({fake_device(70)});
  const qkv_attention_desc desc = shapes(1, 1, 1, 8, 8, 8, 8);
  qkv_query_result result;
  std::memset(&result, 0x7f, sizeof result);
  result.struct_size = sizeof result;
  ASSERT_EQ(qkv_query(&desc, &result), QKV_SUCCESS);
  EXPECT_EQ(result.struct_size, sizeof result);
  EXPECT_EQ(result.supported, 0);
  EXPECT_EQ(result.reserved, 0);
  EXPECT_NE(std::memchr(result.reasons, 0, sizeof result.reasons), nullptr);
  EXPECT_NE(std::memchr(result.kernel, 0, sizeof result.kernel), nullptr);
}

// --- which problems share a plan

struct Difference {
  const char* name;
  bool same;  // the plan serves the changed problem too
  void (*edit)(FullProblem&);
};

const Difference kDifferences[] = {
    {"nothing", true, [](FullProblem&) {}},
    {"scale", true, [](FullProblem& f) { f.desc.scale_set = 1, f.desc.scale = 3; }},
    {"flags", true, [](FullProblem& f) { f.desc.flags = 0; }},
    {"stride_of_one", true, [](FullProblem& f) { f.desc.lse.stride[3] = 99; }},
    {"threads", true, [](FullProblem& f) { f.desc.threads = 1; }},
    {"window_of_causal", true, [](FullProblem& f) { f.desc.causal = 1, f.desc.window_right = 3; }},
    {"device", false, [](FullProblem& f) { f.desc.device = QKV_DEVICE_CUDA; }},
    {"selection", false, [](FullProblem& f) { f.desc.selection = QKV_SELECT_HARD; }},
    {"top_k", false, [](FullProblem& f) { f.select_top(3); }},
    {"score", false,
     [](FullProblem& f) {
       f.desc.score = QKV_SCORE_ADDITIVE, f.desc.additive_weight = f.additive_weight;
     }},
    {"softcap", false, [](FullProblem& f) { f.desc.softcap = 1; }},
    {"no_causal", false, [](FullProblem& f) { f.desc.causal = 0; }},
    {"alignment", false, [](FullProblem& f) { f.desc.alignment = QKV_ALIGN_TOP_LEFT; }},
    {"window", false, [](FullProblem& f) { f.desc.window_left = 0; }},
    {"no_lse", false, [](FullProblem& f) { f.desc.lse = {}; }},
    {"weights", false, [](FullProblem& f) { f.desc.weights = f.weights; }},
    {"mask", false, [](FullProblem& f) { f.desc.mask = f.mask; }},
    {"bias", false, [](FullProblem& f) { f.desc.bias = f.bias; }},
    {"alibi", false, [](FullProblem& f) { f.desc.alibi_slopes = f.alibi_slopes; }},
    {"lengths", false, [](FullProblem& f) { f.desc.kv_lengths = f.kv_lengths; }},
    {"type", false,
     [](FullProblem& f) {
       for (qkv_tensor* t : {&f.desc.q, &f.desc.k, &f.desc.v, &f.desc.o}) t->type = QKV_TYPE_BF16;
     }},
    {"fixed_split_size", false, [](FullProblem& f) { f.desc.fixed_split_size = 64; }},
    {"s_kv", false, [](FullProblem& f) { f.desc.k.shape[2] = f.desc.v.shape[2] = 4; }},
    {"stride", false, [](FullProblem& f) { f.desc.k.stride[1] = 0; }},
};

class SharedPlans : public testing::TestWithParam<Difference> {};

TEST_P(SharedPlans, ByShapeAndOptions) {
  FakeCuda cuda({fake_device(90)});
  FullProblem f;
  f.desc.causal = 1;
  const DeviceInfo device = host::cpu_device_info();
  const PlanKey before = plan_key(problem_of(f.desc), device);
  GetParam().edit(f);
  if (f.desc.device == QKV_DEVICE_CUDA) cuda.map_everything(0);
  const PlanKey after = plan_key(problem_of(f.desc), device);
  EXPECT_EQ(before == after, GetParam().same);
  EXPECT_EQ(before.serves(after), GetParam().same);
  if (GetParam().same) {
    EXPECT_EQ(before.hash(), after.hash());
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, SharedPlans, testing::ValuesIn(kDifferences),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(PlanKeys, TellWeightsModesApart) {
  FullProblem f;
  f.desc.weights = f.weights;
  const DeviceInfo device = host::cpu_device_info();
  const PlanKey before = plan_key(problem_of(f.desc), device);
  f.desc.weights_mode = QKV_WEIGHTS_SCORES;
  EXPECT_FALSE(before == plan_key(problem_of(f.desc), device));
}

TEST(PlanKeys, ServeAddressesOfTheirAlignmentOrBetter) {
  alignas(64) std::byte memory[4096];
  qkv_device device = QKV_DEVICE_CUDA;
  const auto key = [&](size_t shift, bool null = false) {
    FullProblem f;
    f.desc.q.data = null ? nullptr : memory + shift;
    Problem problem = problem_of(f.desc);
    problem.device = device;
    return plan_key(problem, host::cpu_device_info());
  };
  EXPECT_TRUE(key(4).serves(key(4)));
  EXPECT_TRUE(key(4).serves(key(8)));
  EXPECT_TRUE(key(4).serves(key(0)));
  EXPECT_FALSE(key(8).serves(key(4)));
  EXPECT_FALSE(key(16).serves(key(8)));
  EXPECT_TRUE(key(0, true).serves(key(16))) << "made for null: for aligned addresses";
  EXPECT_TRUE(key(16).serves(key(32))) << "beyond 16 bytes alignment does not matter";
  EXPECT_FALSE(key(0, true).serves(key(8)));
  device = QKV_DEVICE_CPU;
  EXPECT_TRUE(key(0, true) == key(4)) << "the CPU takes any";
}

TEST(PlanKeys, APlanForNullRunsOnUnalignedHostMemory) {
  SmallProblem f({.s_q = 3, .s_kv = 5, .d_qk = 8, .d_v = 8});
  for (size_t n = 0; n < f.q.size(); ++n) f.q[n] = f.k[n] = static_cast<float>(n % 5);
  for (size_t n = 0; n < f.v.size(); ++n) f.v[n] = static_cast<float>(n);
  f.desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  const std::vector<float> want = f.o;
  qkv_attention_desc shapes = f.desc;
  for (qkv_tensor* x : {&shapes.q, &shapes.k, &shapes.v, &shapes.o, &shapes.lse}) x->data = nullptr;
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&shapes, &plan), QKV_SUCCESS) << qkv_last_error();
  std::vector<float> q(f.q.size() + 1), k(f.k.size() + 1), v(f.v.size() + 1), o(f.o.size() + 1);
  std::ranges::copy(f.q, q.begin() + 1);
  std::ranges::copy(f.k, k.begin() + 1);
  std::ranges::copy(f.v, v.begin() + 1);
  f.desc.q.data = q.data() + 1, f.desc.k.data = k.data() + 1;
  f.desc.v.data = v.data() + 1, f.desc.o.data = o.data() + 1;
  EXPECT_EQ(qkv_plan_run(plan, &f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  qkv_plan_destroy(plan);
  EXPECT_TRUE(std::equal(want.begin(), want.end(), o.begin() + 1));
}

// The CPU's workspace is cut into shares, one for each thread.
TEST(PlanThreads, AreLimitedByTheDescriptor) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(4);
  const auto workspace = [](int32_t threads, int64_t queries = 512, int64_t keys = 512) {
    SmallProblem f(
        {.heads_q = 8, .heads_kv = 8, .s_q = queries, .s_kv = keys, .d_qk = 32, .d_v = 32});
    f.desc.threads = threads;
    qkv_query_result result{};
    result.struct_size = sizeof result;
    EXPECT_EQ(qkv_query(&f.desc, &result), QKV_SUCCESS) << qkv_last_error();
    return result.workspace_size;
  };
  const size_t share = workspace(1);
  EXPECT_GT(share, 0u);
  EXPECT_EQ(workspace(3), 3 * share);
  EXPECT_EQ(workspace(4), 4 * share);
  EXPECT_EQ(workspace(5), 4 * share) << "never more than OpenMP would use";
  EXPECT_EQ(workspace(INT32_MAX), 4 * share);
  EXPECT_EQ(workspace(0), 4 * share);
  EXPECT_EQ(workspace(0, 1, 64), workspace(1, 1, 64)) << "not worth waking a thread";
  EXPECT_GT(workspace(0, 1, 2048), workspace(1, 1, 2048)) << "worth it";
  omp_set_num_threads(before);
}

TEST(PlanThreads, ArePlannedApartAndRunTogether) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(4);
  FullProblem f;
  for (size_t n = 0; n < f.q.size(); ++n) f.q[n] = static_cast<float>(n % 7) - 3;
  for (size_t n = 0; n < f.v.size(); ++n) f.v[n] = static_cast<float>(n % 11);
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&f.desc, &plan), QKV_SUCCESS) << qkv_last_error();
  ASSERT_EQ(qkv_plan_run(plan, &f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  const FullProblem::Outputs want = f.outputs();
  for (const int32_t threads : {1, 2, 3, 4, 99}) {
    f.desc.threads = threads;
    f.o.assign(f.o.size(), 7.0f);
    ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(f.outputs(), want) << threads;
    f.o.assign(f.o.size(), 7.0f);
    ASSERT_EQ(qkv_plan_run(plan, &f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(f.outputs(), want) << threads;
  }
  qkv_plan_destroy(plan);
  omp_set_num_threads(before);
}

// What does not fit is an error, never left out.
TEST(PlanKeys, CannotBeOverrun) {
  const host::View view{nullptr, QKV_TYPE_F32, {1, 2, 3, 4}, {24, 12, 4, 1}};
  PlanKey words, tensors, both;
  for (size_t n = 0; n < PlanKey::kWords; ++n) words.add(static_cast<int64_t>(n));
  EXPECT_THROW(words.add(0), std::length_error);
  EXPECT_THROW(words.add(host::View{}), std::length_error);
  for (size_t n = 0; n < PlanKey::kTensors; ++n) tensors.add(view);
  EXPECT_THROW(tensors.add(host::View{}), std::length_error);
  for (size_t n = 0; n + PlanKey::kTensorWords <= PlanKey::kWords; ++n) both.add(0);
  EXPECT_THROW(
      {
        both.add(view);
        both.add(view);
      },
      std::length_error);
  EXPECT_NE(words.hash(), tensors.hash());
}

// Plans of different ops never meet in the cache.
TEST(PlanKeys, NameTheirOp) {
  const host::merge::Problem merge;
  const Problem attention;
  const DeviceInfo device = host::cpu_device_info();
  EXPECT_FALSE(host::plan_key(host::merge::kOp, merge, device) == plan_key(attention, device));
}

TEST(MergePlan, OnEveryDevice) {
  const FakeCuda cuda({fake_device(75)});
  host::merge::Problem problem;
  problem.parts = 3;
  problem.batch = 2, problem.heads = 4, problem.seq = 5, problem.dim = 64;
  for (const qkv_device device : {QKV_DEVICE_CPU, QKV_DEVICE_CUDA}) {
    problem.device = device;
    const DeviceInfo info = device == QKV_DEVICE_CPU ? host::cpu_device_info() : cuda.devices[0];
    Plan plan;
    ASSERT_TRUE(host::make_plan(host::merge::kOp, problem, info, &plan).ok());
    EXPECT_EQ(plan.workspace_bytes(), 0u);
    const std::string printed = host::plan_text(host::merge::kOp, plan, problem, info);
    EXPECT_NE(printed.find("3 parts, batch 2, heads 4, seq 5, dim 64"), std::string::npos)
        << printed;
    if (device == QKV_DEVICE_CUDA) {
      EXPECT_STREQ(plan.kernel->name, "merge");
      EXPECT_NE(printed.find("10 blocks of 128 threads"), std::string::npos) << printed;
    }
  }
  problem.batch = int64_t{1} << 32;
  Plan none;
  const host::Status status = host::make_plan(host::merge::kOp, problem, cuda.devices[0], &none);
  EXPECT_EQ(status.code(), QKV_UNSUPPORTED_KERNEL);
  EXPECT_NE(status.reason().find("merge: needs more than 2^31 - 1 blocks"), std::string::npos);
}

TEST(PlanRun, TakesTheScaleOfTheCall) {
  FullProblem f;
  for (size_t n = 0; n < f.q.size(); ++n) f.q[n] = static_cast<float>(n % 7) - 3;
  for (size_t n = 0; n < f.k.size(); ++n) f.k[n] = static_cast<float>(n % 5) - 2;
  for (size_t n = 0; n < f.v.size(); ++n) f.v[n] = static_cast<float>(n % 11);
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&f.desc, &plan), QKV_SUCCESS) << qkv_last_error();
  f.desc.scale_set = 1;
  f.desc.scale = 0.125f;
  ASSERT_EQ(qkv_attention(&f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  const std::vector<float> want = f.o;
  std::fill(f.o.begin(), f.o.end(), -1.0f);
  ASSERT_EQ(qkv_plan_run(plan, &f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(f.o, want);
  qkv_plan_destroy(plan);
}

TEST(PlanDestroy, OfNull) { qkv_plan_destroy(nullptr); }

}  // namespace
}  // namespace qkv::test
