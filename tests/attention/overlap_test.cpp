// T27: tensors of a call that share memory. What shares elements is refused, what lies in the gaps
// of another tensor is not; O may stand in Q's place.
#include "host/core/overlap.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/support/elements.h"
#include "tests/support/fake_cuda.h"
#include "tests/support/full_problem.h"

namespace qkv::test {
namespace {

using host::Overlap;
using host::View;

// --- the decision itself

// A view at a made-up address.
View at(uintptr_t address, const Shape& shape, const Shape& stride, qkv_type type = QKV_TYPE_F16) {
  return {reinterpret_cast<void*>(address), type, shape, stride};
}

std::set<uintptr_t> bytes_of(const View& view) {
  std::set<uintptr_t> bytes;
  const int64_t size = host::type_size(view.type);
  for (int64_t b = 0; b < view.shape[0]; ++b)
    for (int64_t h = 0; h < view.shape[1]; ++h)
      for (int64_t i = 0; i < view.shape[2]; ++i)
        for (int64_t d = 0; d < view.shape[3]; ++d)
          for (int64_t n = 0; n < size; ++n)
            bytes.insert(reinterpret_cast<uintptr_t>(view.data) +
                         static_cast<uintptr_t>(view.offset(b, h, i, d) * size + n));
  return bytes;
}

TEST(T27_Overlap, IsWhatAListOfAllBytesSays) {
  Random random(0x0ef1ab);
  constexpr std::array kTypes{QKV_TYPE_BOOL, QKV_TYPE_F16, QKV_TYPE_F32, QKV_TYPE_I64};
  const auto view = [&](uintptr_t address) {
    View out = at(address, {}, {}, kTypes[random.bits() % kTypes.size()]);
    for (size_t axis = 0; axis < 4; ++axis) {
      out.shape[axis] = random.bits() % 16 == 0 ? 0 : random.integer(1, 4);
      out.stride[axis] = random.integer(0, random.bits() % 2 == 0 ? 3 : 40);
    }
    return out;
  };
  int shared = 0, apart = 0;
  for (int round = 0; round < 5000; ++round) {
    const View a = view(4096), b = view(4096 + static_cast<uintptr_t>(random.integer(0, 200)));
    const std::set<uintptr_t> in_a = bytes_of(a), in_b = bytes_of(b);
    const bool meet =
        std::any_of(in_b.begin(), in_b.end(), [&](uintptr_t byte) { return in_a.contains(byte); });
    const Overlap wanted = meet ? Overlap::kSome : Overlap::kNone;
    ASSERT_EQ(host::overlap(a, b), wanted) << "round " << round;
    ASSERT_EQ(host::overlap(b, a), wanted) << "round " << round;
    shared += meet ? 1 : 0;
    // Apart although their ranges meet: what the search is for.
    apart += !meet && host::ByteRange(a).meets(host::ByteRange(b)) ? 1 : 0;
  }
  EXPECT_GT(shared, 250);
  EXPECT_GT(apart, 250);
}

// Layouts of real size: the tensors' ranges meet, their elements do not; one row or one element
// further on they do.
TEST(T27_Overlap, TellsSlotsOfABufferApart) {
  constexpr int64_t kB = 64, kH = 32, kS = 131072, kD = 128;
  constexpr uintptr_t kBase = uintptr_t{1} << 40;
  struct Row {
    const char* name;
    View a, b;
    uintptr_t touch;  // bytes by which b moves to share elements with a
  };
  const Shape whole{kB, kH, kS, kD};
  const auto bytes = [](int64_t elements) { return static_cast<uintptr_t>(2 * elements); };
  const Shape of_four{kS * 4 * kH * kD, kD, 4 * kH * kD, 1};      // [B, S, 4, H, D]
  const Shape by_head{kH * kS * 2 * kD, kS * 2 * kD, 2 * kD, 1};  // [B, H, S, 2, D]
  const Shape halves{2 * kH * kS * kD, kS * kD, kD, 1};           // [B, 2, H, S, D]
  const Shape halves_bshd{2 * kH * kS * kD, kD, kH * kD, 1};      // [B, 2, S, H, D]
  const Shape padded{kH * kS * 136, kS * 136, 136, 1};            // rows of 128 in 136
  const Row rows[] = {
      {"a slot between others", at(kBase, whole, of_four),
       at(kBase + bytes(3 * kH * kD), whole, of_four), bytes(kD)},
      {"every other row", at(kBase, whole, by_head), at(kBase + bytes(kD), whole, by_head), 2},
      {"half of each batch", at(kBase, whole, halves),
       at(kBase + bytes(kH * kS * kD), whole, halves), bytes(kH * kS * kD)},
      {"halves of other layouts", at(kBase, whole, halves),
       at(kBase + bytes(kH * kS * kD), whole, halves_bshd), 2},
      {"few heads beside many", at(kBase, {kB, 4, kS, kD}, of_four),
       at(kBase + bytes(kH * kD), whole, of_four), bytes(3 * kH * kD)},
      {"numbers in the padding", at(kBase, whole, padded),
       at(kBase + bytes(kD), {kB, kH, kS, 1}, {kH * kS * 68, kS * 68, 68, 0}, QKV_TYPE_F32),
       bytes(8)},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    EXPECT_TRUE(host::ByteRange(row.a).meets(host::ByteRange(row.b)));
    EXPECT_EQ(host::overlap(row.a, row.b), Overlap::kNone);
    View touching = row.b;
    touching.data = static_cast<std::byte*>(touching.data) + row.touch;
    EXPECT_EQ(host::overlap(row.a, touching), Overlap::kSome);
  }
}

// Strides that nobody has: no answer, but in no time, and a wrong one never.
TEST(T27_Overlap, GivesUpInBoundedTime) {
  constexpr int64_t kN = 1 << 16;
  const View a = at(uintptr_t{1} << 40, {kN, kN, kN, 1}, {1000003, 999983, 15485863, 0});
  const View b = at((uintptr_t{1} << 40) + 2, {kN, kN, kN, 1}, {2000014, 1999966, 30971726, 0});
  EXPECT_NE(host::overlap(a, b), Overlap::kNone);
}

// --- calls

using F = FullProblem;

struct Row {
  const char* name;
  std::function<void(F&)> edit;
  const char* says;  // "" if the call is right
};

// A tensor whose rows lie `width` floats apart in `memory`, behind each other by heads.
qkv_tensor slot(std::vector<float>& memory, size_t first, const Shape& shape, int64_t width) {
  qkv_tensor out = contiguous(memory, QKV_TYPE_F32, shape);
  out.data = memory.data() + first;
  out.stride[1] = width;
  out.stride[2] = shape[1] * width;
  out.stride[0] = shape[2] * shape[1] * width;
  return out;
}

void expect(const Row& row) {
  SCOPED_TRACE(row.name);
  F f;
  row.edit(f);
  const F::Outputs before = f.outputs();
  const qkv_status status = qkv_attention(&f.desc, nullptr);
  if (*row.says == '\0') {
    EXPECT_EQ(status, QKV_SUCCESS) << qkv_last_error();
    return;
  }
  EXPECT_EQ(status, QKV_INVALID_OVERLAP);
  EXPECT_NE(std::string(qkv_last_error()).find(row.says), std::string::npos) << qkv_last_error();
  EXPECT_EQ(f.outputs(), before);
}

TEST(T27_Aliases, OutputsThatShareElementsAreRefused) {
  std::vector<float> memory(1 << 20);
  const Shape q_shape{F::kB, F::kHq, F::kSq, F::kDqk}, o_shape{F::kB, F::kHq, F::kSq, F::kDv};
  const Row rows[] = {
      {"o in v", [](F& f) { f.desc.o.data = f.v.data(); }, "o shares elements with v"},
      {"o at v's last element", [](F& f) { f.desc.o.data = &f.v.back(); },
       "o shares elements with v"},
      {"o in k", [](F& f) { f.desc.o.data = f.k.data(); }, "o shares elements with k"},
      {"o in q, but narrower", [](F& f) { f.desc.o.data = f.q.data(); },
       "o shares elements with q; it may stand exactly in its place"},
      {"lse in o", [](F& f) { f.desc.lse.data = f.o.data(); }, "o shares elements with lse"},
      {"lse in q", [](F& f) { f.desc.lse.data = f.q.data(); }, "lse shares elements with q"},
      {"weights in bias",
       [](F& f) {
         f.desc.bias = f.bias, f.desc.weights = f.weights;
         f.desc.weights.data = f.desc.bias.data;
       },
       "weights shares elements with bias"},
      {"weights in o",
       [&](F& f) {
         f.desc.weights = f.weights;
         f.desc.weights.data = f.desc.o.data = memory.data();
       },
       "o shares elements with weights"},
      {"o in a mask",
       [&](F& f) {
         f.desc.mask = f.mask;
         f.desc.mask.data = memory.data() + 1, f.desc.o.data = memory.data();
       },
       "o shares elements with mask"},
      {"index in lengths",
       [](F& f) {
         f.use_everything();
         f.desc.kv_lengths.data = f.index_data.data() + 3;
       },
       "index shares elements with kv_lengths"},
      {"o between the rows of q, one too far",
       [&](F& f) {
         f.desc.q = slot(memory, 0, q_shape, F::kDqk + F::kDv);
         f.desc.o = slot(memory, F::kDqk - 1, o_shape, F::kDqk + F::kDv);
       },
       "o shares elements with q"},
      {"o between the rows of q",
       [&](F& f) {
         f.desc.q = slot(memory, 0, q_shape, F::kDqk + F::kDv);
         f.desc.o = slot(memory, F::kDqk, o_shape, F::kDqk + F::kDv);
       },
       ""},
      {"inputs may share", [](F& f) { f.desc.k.data = f.desc.q.data; }, ""},
      {"a row of one key, for all: in o",
       [&](F& f) {
         f.desc.bias = f.bias;
         f.desc.bias.stride[0] = f.desc.bias.stride[1] = f.desc.bias.stride[2] = 0;
         f.desc.bias.data = f.o.data() + 7;
       },
       "o shares elements with bias"},
      {"workspace in k",
       [&](F& f) {
         f.desc.flags = 0;
         const auto base = reinterpret_cast<uintptr_t>(memory.data());
         auto* const aligned = memory.data() + ((base + 255) / 256 * 256 - base) / sizeof(float);
         f.desc.workspace = aligned;
         f.desc.workspace_size = (memory.size() - 64) * sizeof(float);
         f.desc.k.data = aligned + 5;
       },
       "shares memory with k"},
  };
  for (const Row& row : rows) expect(row);
}

// The addresses of a plan or a query say nothing of the run's.
TEST(T27_Aliases, PlansAndQueriesMayHaveAnyAddresses) {
  F f;
  f.desc.o.data = f.v.data();
  qkv_query_result result{};
  result.struct_size = sizeof result;
  EXPECT_EQ(qkv_query(&f.desc, &result), QKV_SUCCESS);
  EXPECT_EQ(result.supported, 1);
  qkv_plan* plan = nullptr;
  ASSERT_EQ(qkv_plan_create(&f.desc, &plan), QKV_SUCCESS) << qkv_last_error();
  EXPECT_EQ(qkv_plan_run(plan, &f.desc, nullptr), QKV_INVALID_OVERLAP);
  f.desc.o.data = f.o.data();
  EXPECT_EQ(qkv_plan_run(plan, &f.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
  qkv_plan_destroy(plan);
}

// The CPU reads Q for the weights once more: in place as well, and to the same bits.
TEST(T27_Aliases, QInPlaceWithWeightsOnTheCpu) {
  constexpr int64_t kRows = 64, kDim = 16;  // of whole tiles, which are read where they are
  const auto run = [](qkv_selection selection, qkv_weights_mode mode, bool in_place) {
    SmallProblem p(
        {.heads_q = 2, .heads_kv = 2, .s_q = kRows, .s_kv = 100, .d_qk = kDim, .d_v = kDim});
    Random random(27);
    for (auto* data : {&p.q, &p.k, &p.v})
      for (float& x : *data) x = static_cast<float>(random.normal());
    std::vector<float> weights(2 * kRows * 100, 7.0f);
    p.desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
    p.desc.selection = selection;
    if (selection == QKV_SELECT_TOP_K) p.desc.top_k = 5;
    p.desc.weights = contiguous(weights, QKV_TYPE_F32, {1, 2, kRows, 100});
    p.desc.weights_mode = mode;
    if (in_place) p.desc.o.data = p.q.data();
    EXPECT_EQ(qkv_attention(&p.desc, nullptr), QKV_SUCCESS) << qkv_last_error();
    return std::array{in_place ? p.q : p.o, p.lse, weights};
  };
  for (const qkv_selection selection : {QKV_SELECT_SOFT, QKV_SELECT_HARD, QKV_SELECT_TOP_K})
    for (qkv_weights_mode mode = 0; mode < 4; ++mode)
      EXPECT_EQ(run(selection, mode, true), run(selection, mode, false))
          << "selection " << selection << ", mode " << mode;
}

// On a GPU simt_general alone reads Q again after O: told by what it is asked for.
TEST(T27_Aliases, QInPlaceOnAGpuWhereTheKernelReadsQFirst) {
  FakeCuda cuda({fake_device(90)});
  cuda.map_everything(0);
  const auto run = [&](qkv_type type, int64_t dim, const char* kernel, auto&& edit) {
    SCOPED_TRACE(kernel);
    qkv_attention_desc d;
    ASSERT_EQ(qkv_attention_desc_init(&d, sizeof d), QKV_SUCCESS);
    d.device = QKV_DEVICE_CUDA;
    d.flags = QKV_FLAG_ALLOW_ALLOCATION;
    uintptr_t address = uintptr_t{1} << 32;
    for (qkv_tensor* t : {&d.q, &d.k, &d.v, &d.o}) {
      *t = {reinterpret_cast<void*>(address), type, 0, {1, 2, 64, dim}, {0, 64 * dim, dim, 1}};
      address += uintptr_t{1} << 28;
    }
    d.o = d.q;
    edit(d);
    const size_t before = cuda.launches().size();
    const qkv_status status = qkv_attention(&d, nullptr);
    if (*kernel == '\0') {
      EXPECT_EQ(status, QKV_INVALID_OVERLAP);
      EXPECT_EQ(std::string(qkv_last_error()).rfind("o is in q's place, and simt_general ", 0), 0)
          << qkv_last_error();
      EXPECT_EQ(cuda.launches().size(), before);
      return;
    }
    ASSERT_EQ(status, QKV_SUCCESS) << qkv_last_error();
    EXPECT_EQ(cuda.launches().back().kernel, kernel);
  };
  const auto nothing = [](qkv_attention_desc&) {};
  const auto hard = [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD; };
  const auto additive = [](qkv_attention_desc& d) {
    d.score = QKV_SCORE_ADDITIVE;
    d.additive_weight = {
        reinterpret_cast<void*>(uintptr_t{1} << 41), QKV_TYPE_F32, 0, {1, 1, 1, 64}, {0, 0, 0, 1}};
  };
  const auto weights = [](qkv_attention_desc& d) {
    d.weights = {reinterpret_cast<void*>(uintptr_t{1} << 40),
                 QKV_TYPE_F32,
                 0,
                 {1, 2, 64, 64},
                 {0, 64 * 64, 64, 1}};
  };
  const auto softcap = [](qkv_attention_desc& d) { d.softcap = 5; };
  run(QKV_TYPE_F16, 128, "sm90_forward", nothing);
  run(QKV_TYPE_F16, 64, "sm80_forward",
      [](qkv_attention_desc& d) { d.scale = -1, d.scale_set = 1; });
  run(QKV_TYPE_F16, 512, "sm90_wide", nothing);
  run(QKV_TYPE_F32, 64, "sm80_tf32x3", nothing);
  run(QKV_TYPE_F32, 500, "simt_forward", nothing);
  run(QKV_TYPE_F16, 64, "sm90_hard", hard);
  run(QKV_TYPE_F16, 64, "sm80_hard",
      [](qkv_attention_desc& d) { d.selection = QKV_SELECT_HARD, d.softcap = 5; });
  run(QKV_TYPE_F32, 64, "sm80_tf32x3_hard", hard);
  run(QKV_TYPE_F16, 64, "sm80_top_k",
      [](qkv_attention_desc& d) { d.selection = QKV_SELECT_TOP_K, d.top_k = 3; });
  run(QKV_TYPE_F16, 64, "sm80_additive", additive);
  run(QKV_TYPE_F32, 64, "simt_additive", additive);
  run(QKV_TYPE_F32, 500, "simt_general", hard);
  run(QKV_TYPE_F32, 500, "simt_general",
      [](qkv_attention_desc& d) { d.selection = QKV_SELECT_TOP_K, d.top_k = 3; });
  run(QKV_TYPE_F32, 127, "simt_general", softcap);
  run(QKV_TYPE_F32, 129, "", softcap);
  run(QKV_TYPE_F32, 64, "", weights);
}

}  // namespace
}  // namespace qkv::test
