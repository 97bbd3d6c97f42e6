// Refusals of host/ops/attention/problem.cpp that depend on the descriptor alone.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/full_problem.h"
#include "tests/refusals.h"

namespace qkv::test {
namespace {

using F = FullProblem;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfF = std::numeric_limits<float>::infinity();
constexpr int64_t kHuge = int64_t{1} << 62;

// A descriptor with one thing wrong.
struct Edit {
  const char* name;
  qkv_status status;
  std::vector<std::string> says;
  void (*edit)(F&);
  bool addresses = false;  // wrong only where the addresses matter: not for plans and queries
};

// Addresses are no reason to refuse a plan or a query; everything else is, in the same words.
qkv_status refuse(const Edit& row) {
  F problem;
  row.edit(problem);
  const F::Outputs before = problem.outputs();
  const qkv_status status = qkv_attention(&problem.desc, nullptr);
  const std::string reason = qkv_last_error();
  EXPECT_EQ(problem.outputs(), before) << "outputs were written";
  if (row.addresses) return status;

  qkv_plan* plan = nullptr;
  EXPECT_EQ(qkv_plan_create(&problem.desc, &plan), status);
  EXPECT_EQ(plan, nullptr);
  EXPECT_EQ(qkv_last_error(), reason);
  qkv_query_result result{};
  result.struct_size = sizeof result;
  if (qkv_status_class(status) == QKV_INVALID_ARGUMENT) {
    EXPECT_EQ(qkv_query(&problem.desc, &result), status);
    EXPECT_EQ(qkv_last_error(), reason);
  } else {  // a valid question; the answer is no, and why
    EXPECT_EQ(qkv_query(&problem.desc, &result), QKV_SUCCESS);
    EXPECT_EQ(result.supported, 0);
    EXPECT_EQ(result.reasons, reason);
  }
  return status;
}

const Edit kEdits[] = {
    // struct_size
    {"struct_size_zero",
     QKV_INVALID_STRUCT_SIZE,
     {"struct_size is 0", "this library knows"},
     [](F& f) { f.desc.struct_size = 0; }},
    {"struct_size_short",
     QKV_INVALID_STRUCT_SIZE,
     {"struct_size is", "qkv_attention_desc_init"},
     [](F& f) { --f.desc.struct_size; }},
    {"struct_size_absurd",
     QKV_INVALID_STRUCT_SIZE,
     {"struct_size is 18446744073709551615"},
     [](F& f) { f.desc.struct_size = SIZE_MAX; }},
    // enumerations
    {"device_high", QKV_INVALID_ENUM, {"device is 3", "0 to 2"}, [](F& f) { f.desc.device = 3; }},
    {"device_negative", QKV_INVALID_ENUM, {"device is -1"}, [](F& f) { f.desc.device = -1; }},
    {"score", QKV_INVALID_ENUM, {"score is 2", "0 to 1"}, [](F& f) { f.desc.score = 2; }},
    {"selection", QKV_INVALID_ENUM, {"selection is 9"}, [](F& f) { f.desc.selection = 9; }},
    {"weights_mode",
     QKV_INVALID_ENUM,
     {"weights_mode is 4", "0 to 3"},
     [](F& f) { f.desc.weights_mode = 4; }},
    {"alignment", QKV_INVALID_ENUM, {"alignment is 3"}, [](F& f) { f.desc.alignment = 3; }},
    {"flags", QKV_INVALID_ENUM, {"flags is 2"}, [](F& f) { f.desc.flags = 2; }},
    {"type_unknown",
     QKV_INVALID_ENUM,
     {"k.type is 99", "no such type"},
     [](F& f) { f.desc.k.type = 99; }},
    {"type_negative", QKV_INVALID_ENUM, {"q.type is -1"}, [](F& f) { f.desc.q.type = -1; }},
    // reserved fields
    {"q_lengths",
     QKV_UNSUPPORTED_RESERVED,
     {"q_lengths is set", "reserved"},
     [](F& f) { f.desc.q_lengths = f.kv_lengths; }},
    {"q_offsets",
     QKV_UNSUPPORTED_RESERVED,
     {"q_offsets is set"},
     [](F& f) { f.desc.q_offsets = f.kv_lengths; }},
    {"kv_offsets",
     QKV_UNSUPPORTED_RESERVED,
     {"kv_offsets is set"},
     [](F& f) { f.desc.kv_offsets = f.kv_lengths; }},
    {"page_table",
     QKV_UNSUPPORTED_RESERVED,
     {"page_table is set"},
     [](F& f) { f.desc.page_table = f.kv_lengths; }},
    {"q_segments",
     QKV_UNSUPPORTED_RESERVED,
     {"q_segments is set"},
     [](F& f) { f.desc.q_segments = f.kv_lengths; }},
    {"kv_segments",
     QKV_UNSUPPORTED_RESERVED,
     {"kv_segments is set"},
     [](F& f) { f.desc.kv_segments = f.kv_lengths; }},
    {"block_mask",
     QKV_UNSUPPORTED_RESERVED,
     {"block_mask is set"},
     [](F& f) { f.desc.block_mask.data = f.mask_data.data(); }},
    {"sinks",
     QKV_UNSUPPORTED_RESERVED,
     {"sinks is set"},
     [](F& f) { f.desc.sinks.type = QKV_TYPE_F32; }},
    {"fixed_split_size",
     QKV_INVALID_VALUE,
     {"fixed_split_size is -64", "a number of keys, or 0 for none"},
     [](F& f) { f.desc.fixed_split_size = -64; }},
    {"type_e4m3",
     QKV_UNSUPPORTED_RESERVED,
     {"q.type is f8_e4m3", "f32, f16, bf16"},
     [](F& f) { f.desc.q.type = QKV_TYPE_F8_E4M3; }},
    {"type_e5m2",
     QKV_UNSUPPORTED_RESERVED,
     {"o.type is f8_e5m2"},
     [](F& f) { f.desc.o.type = QKV_TYPE_F8_E5M2; }},
    {"reserved0", QKV_INVALID_VALUE, {"reserved0 is 1"}, [](F& f) { f.desc.reserved0 = 1; }},
    {"tensor_reserved",
     QKV_INVALID_VALUE,
     {"v.reserved is 7", "must be 0"},
     [](F& f) { f.desc.v.reserved = 7; }},
    {"optional_tensor_reserved",
     QKV_INVALID_VALUE,
     {"bias.reserved is 1"},
     [](F& f) { f.desc.bias = f.bias, f.desc.bias.reserved = 1; }},
    // presence
    {"q_absent", QKV_INVALID_NULL, {"q is absent", "required"}, [](F& f) { f.desc.q = {}; }},
    {"k_absent", QKV_INVALID_NULL, {"k is absent"}, [](F& f) { f.desc.k = {}; }},
    {"v_absent", QKV_INVALID_NULL, {"v is absent"}, [](F& f) { f.desc.v = {}; }},
    {"o_absent", QKV_INVALID_NULL, {"o is absent"}, [](F& f) { f.desc.o = {}; }},
    {"data_without_type",
     QKV_INVALID_TYPE,
     {"mask.type is none", "data pointer is set"},
     [](F& f) { f.desc.mask.data = f.mask_data.data(); }},
    {"q_null",
     QKV_INVALID_NULL,
     {"q.data is null", "f32 [2, 4, 3, 8]"},
     [](F& f) { f.desc.q.data = nullptr; },
     true},
    {"o_null", QKV_INVALID_NULL, {"o.data is null"}, [](F& f) { f.desc.o.data = nullptr; }, true},
    {"weights_null",
     QKV_INVALID_NULL,
     {"weights.data is null"},
     [](F& f) { f.desc.weights = f.weights, f.desc.weights.data = nullptr; },
     true},
    {"kv_lengths_null",
     QKV_INVALID_NULL,
     {"kv_lengths.data is null"},
     [](F& f) { f.desc.kv_lengths = f.kv_lengths, f.desc.kv_lengths.data = nullptr; },
     true},
    // types
    {"q_integer",
     QKV_INVALID_TYPE,
     {"q.type is i32", "f32, f16, bf16"},
     [](F& f) { f.desc.q.type = QKV_TYPE_I32; }},
    {"k_differs",
     QKV_INVALID_TYPE,
     {"k.type is f16", "allowed: f32"},
     [](F& f) { f.desc.k.type = QKV_TYPE_F16; }},
    {"o_differs",
     QKV_INVALID_TYPE,
     {"o.type is bf16", "allowed: f32"},
     [](F& f) { f.desc.o.type = QKV_TYPE_BF16; }},
    {"lse_half",
     QKV_INVALID_TYPE,
     {"lse.type is f16", "allowed: f32"},
     [](F& f) { f.desc.lse.type = QKV_TYPE_F16; }},
    {"index_float",
     QKV_INVALID_TYPE,
     {"index.type is f32", "i32, i64"},
     [](F& f) { f.use_everything(), f.desc.index.type = QKV_TYPE_F32; }},
    {"index_narrow",
     QKV_INVALID_TYPE,
     {"index.type is i32", "3000000000 keys", "i64"},
     [](F& f) {
       f.desc.selection = QKV_SELECT_HARD, f.desc.index = f.index;
       f.desc.k.shape[2] = f.desc.v.shape[2] = 3000000000;
       f.desc.k.stride[2] = f.desc.v.stride[2] = 0;
     }},
    {"weights_wrong_half",
     QKV_INVALID_TYPE,
     {"weights.type is bf16", "allowed: f32"},
     [](F& f) { f.desc.weights = f.weights, f.desc.weights.type = QKV_TYPE_BF16; }},
    {"mask_float",
     QKV_INVALID_TYPE,
     {"mask.type is f32", "bool"},
     [](F& f) { f.desc.mask = f.bias; }},
    {"bias_bool",
     QKV_INVALID_TYPE,
     {"bias.type is bool", "f32"},
     [](F& f) { f.desc.bias = f.mask; }},
    {"slopes_half",
     QKV_INVALID_TYPE,
     {"alibi_slopes.type is f16"},
     [](F& f) { f.desc.alibi_slopes = f.alibi_slopes, f.desc.alibi_slopes.type = QKV_TYPE_F16; }},
    {"additive_half",
     QKV_INVALID_TYPE,
     {"additive_weight.type is f16"},
     [](F& f) { f.use_everything(), f.desc.additive_weight.type = QKV_TYPE_F16; }},
    {"lengths_long",
     QKV_INVALID_TYPE,
     {"kv_lengths.type is i64", "i32"},
     [](F& f) { f.desc.kv_lengths = f.kv_lengths, f.desc.kv_lengths.type = QKV_TYPE_I64; }},
    // shapes
    {"no_heads",
     QKV_INVALID_SHAPE,
     {"q.shape[1] (heads) is 0"},
     [](F& f) { f.desc.q.shape[1] = 0; }},
    {"no_kv_heads",
     QKV_INVALID_SHAPE,
     {"k.shape[1] (heads) is 0"},
     [](F& f) { f.desc.k.shape[1] = 0; }},
    {"no_dim", QKV_INVALID_SHAPE, {"v.shape[3] (dim) is 0"}, [](F& f) { f.desc.v.shape[3] = 0; }},
    {"heads_do_not_divide",
     QKV_INVALID_SHAPE,
     {"k.shape[1] (heads) is 3", "divide the 4 heads"},
     [](F& f) { f.desc.k.shape[1] = f.desc.v.shape[1] = 3; }},
    {"k_batch",
     QKV_INVALID_SHAPE,
     {"k.shape[0] (batch) is 1", "must be 2"},
     [](F& f) { f.desc.k.shape[0] = 1; }},
    {"k_dim",
     QKV_INVALID_SHAPE,
     {"k.shape[3] (dim) is 7", "must be 8"},
     [](F& f) { f.desc.k.shape[3] = 7; }},
    {"v_heads",
     QKV_INVALID_SHAPE,
     {"v.shape[1] (heads) is 1", "must be 2"},
     [](F& f) { f.desc.v.shape[1] = 1; }},
    {"v_seq",
     QKV_INVALID_SHAPE,
     {"v.shape[2] (seq) is 4", "must be 5"},
     [](F& f) { f.desc.v.shape[2] = 4; }},
    {"o_seq",
     QKV_INVALID_SHAPE,
     {"o.shape[2] (seq) is 4", "must be 3"},
     [](F& f) { f.desc.o.shape[2] = 4; }},
    {"o_dim",
     QKV_INVALID_SHAPE,
     {"o.shape[3] (dim) is 8", "must be 4"},
     [](F& f) { f.desc.o.shape[3] = 8; }},
    {"lse_dim",
     QKV_INVALID_SHAPE,
     {"lse.shape[3] (dim) is 2", "must be 1"},
     [](F& f) { f.desc.lse.shape[3] = 2; }},
    {"index_seq",
     QKV_INVALID_SHAPE,
     {"index.shape[2] (seq) is 1", "must be 3"},
     [](F& f) { f.use_everything(), f.desc.index.shape[2] = 1; }},
    {"weights_keys",
     QKV_INVALID_SHAPE,
     {"weights.shape[3] (dim) is 4", "must be 5"},
     [](F& f) { f.desc.weights = f.weights, f.desc.weights.shape[3] = 4; }},
    {"mask_heads",
     QKV_INVALID_SHAPE,
     {"mask.shape[1] (heads) is 2", "must be 4 or 1"},
     [](F& f) { f.desc.mask = f.mask, f.desc.mask.shape[1] = 2; }},
    {"bias_queries",
     QKV_INVALID_SHAPE,
     {"bias.shape[2] (seq) is 2", "must be 3 or 1"},
     [](F& f) { f.desc.bias = f.bias, f.desc.bias.shape[2] = 2; }},
    {"slopes_seq",
     QKV_INVALID_SHAPE,
     {"alibi_slopes.shape[2] (seq) is 3", "must be 1"},
     [](F& f) { f.desc.alibi_slopes = f.alibi_slopes, f.desc.alibi_slopes.shape[2] = 3; }},
    {"additive_dim",
     QKV_INVALID_SHAPE,
     {"additive_weight.shape[3] (dim) is 4", "must be 8"},
     [](F& f) { f.use_everything(), f.desc.additive_weight.shape[3] = 4; }},
    {"lengths_batch",
     QKV_INVALID_SHAPE,
     {"kv_lengths.shape[0] (batch) is 1", "must be 2"},
     [](F& f) { f.desc.kv_lengths = f.kv_lengths, f.desc.kv_lengths.shape[0] = 1; }},
    // sizes
    {"negative_extent",
     QKV_INVALID_SIZE,
     {"q.shape[2] is -3", "must not be negative"},
     [](F& f) { f.desc.q.shape[2] = -3; }},
    {"negative_mask_extent",
     QKV_INVALID_SIZE,
     {"mask.shape[0] is -1"},
     [](F& f) { f.desc.mask = f.mask, f.desc.mask.shape[0] = -1; }},
    {"extent_beyond_2_48",
     QKV_INVALID_SIZE,
     {"k.shape[2] is 281474976710657", "2^48"},
     [](F& f) { f.desc.k.shape[2] = (int64_t{1} << 48) + 1; }},
    {"span_beyond_2_63",
     QKV_INVALID_SIZE,
     {"k.stride[1] is 4611686018427387904", "2^63 elements"},
     [](F& f) { f.desc.k.stride[0] = kHuge, f.desc.k.stride[1] = kHuge; }},
    {"stride_product_beyond_2_63",
     QKV_INVALID_SIZE,
     {"q.stride[2] is 4611686018427387904"},
     [](F& f) { f.desc.q.stride[2] = kHuge; }},
    {"bytes_beyond_2_63",
     QKV_INVALID_SIZE,
     {"v spans more than 2^63 bytes"},
     [](F& f) { f.desc.v.stride[0] = kHuge; }},
    // strides
    {"negative_stride",
     QKV_INVALID_STRIDE,
     {"q.stride[1] is -24", "negative"},
     [](F& f) { f.desc.q.stride[1] = -24; }},
    {"innermost_q",
     QKV_INVALID_STRIDE,
     {"q.stride[3] is 2", "must be 1"},
     [](F& f) { f.desc.q.stride[3] = 2; }},
    {"innermost_v",
     QKV_INVALID_STRIDE,
     {"v.stride[3] is 0", "must be 1"},
     [](F& f) { f.desc.v.stride[3] = 0; }},
    {"innermost_weights",
     QKV_INVALID_STRIDE,
     {"weights.stride[3] is 3"},
     [](F& f) { f.desc.weights = f.weights, f.desc.weights.stride[3] = 3; }},
    {"innermost_additive",
     QKV_INVALID_STRIDE,
     {"additive_weight.stride[3] is 2"},
     [](F& f) { f.use_everything(), f.desc.additive_weight.stride[3] = 2; }},
    {"o_stride_zero",
     QKV_INVALID_STRIDE,
     {"o.stride[0] is 0", "must not overlap", "at least 1"},
     [](F& f) { f.desc.o.stride[0] = 0; }},
    {"o_rows_overlap",
     QKV_INVALID_STRIDE,
     {"o.stride[2] is 3", "at least 4"},
     [](F& f) { f.desc.o.stride[2] = 3; }},
    {"o_heads_overlap",
     QKV_INVALID_STRIDE,
     {"o.stride[1] is 11", "at least 12"},
     [](F& f) { f.desc.o.stride[1] = 11; }},
    {"lse_stride_zero",
     QKV_INVALID_STRIDE,
     {"lse.stride[2] is 0"},
     [](F& f) { f.desc.lse.stride[2] = 0; }},
    {"index_stride_zero",
     QKV_INVALID_STRIDE,
     {"index.stride[1] is 0"},
     [](F& f) { f.use_everything(), f.desc.index.stride[1] = 0; }},
    {"weights_overlap",
     QKV_INVALID_STRIDE,
     {"weights.stride[2] is 4", "at least 5"},
     [](F& f) { f.desc.weights = f.weights, f.desc.weights.stride[2] = 4; }},
    // alignment
    {"q_misaligned",
     QKV_INVALID_ALIGNMENT,
     {"q.data is not aligned", "4 bytes"},
     [](F& f) { f.desc.q.data = reinterpret_cast<std::byte*>(f.q.data()) + 2; }},
    {"lengths_misaligned",
     QKV_INVALID_ALIGNMENT,
     {"kv_lengths.data is not aligned"},
     [](F& f) {
       f.desc.kv_lengths = f.kv_lengths;
       f.desc.kv_lengths.data = reinterpret_cast<std::byte*>(f.length_data.data()) + 1;
     }},
    {"workspace_misaligned",
     QKV_INVALID_ALIGNMENT,
     {"workspace is not aligned to 256 bytes"},
     [](F& f) { f.desc.workspace = reinterpret_cast<void*>(uintptr_t{4096 + 128}); }},
    {"workspace_null_with_size",
     QKV_INVALID_NULL,
     {"workspace is null", "workspace_size is 64"},
     [](F& f) { f.desc.workspace_size = 64; }},
    // values
    {"scale_nan",
     QKV_INVALID_VALUE,
     {"scale is", "must be finite"},
     [](F& f) { f.desc.scale_set = 1, f.desc.scale = kNaN; }},
    {"scale_infinite",
     QKV_INVALID_VALUE,
     {"scale is inf"},
     [](F& f) { f.desc.scale_set = 1, f.desc.scale = kInfF; }},
    {"softcap_negative",
     QKV_INVALID_VALUE,
     {"softcap is -1", "0 for none"},
     [](F& f) { f.desc.softcap = -1; }},
    {"softcap_nan", QKV_INVALID_VALUE, {"softcap is"}, [](F& f) { f.desc.softcap = kNaN; }},
    {"offset_high",
     QKV_INVALID_VALUE,
     {"offset is 1152921504606846977", "2^60"},
     [](F& f) { f.desc.alignment = QKV_ALIGN_EXPLICIT, f.desc.offset = (int64_t{1} << 60) + 1; }},
    {"offset_low",
     QKV_INVALID_VALUE,
     {"offset is -9223372036854775808"},
     [](F& f) { f.desc.alignment = QKV_ALIGN_EXPLICIT, f.desc.offset = INT64_MIN; }},
    {"window_left",
     QKV_INVALID_VALUE,
     {"window_left is -2", "-1 for unbounded"},
     [](F& f) { f.desc.window_left = -2; }},
    {"window_right",
     QKV_INVALID_VALUE,
     {"window_right is 9223372036854775807", "2^60"},
     [](F& f) { f.desc.window_right = INT64_MAX; }},
    // combinations
    {"index_of_soft",
     QKV_INVALID_COMBINATION,
     {"index is set", "hard selection"},
     [](F& f) { f.desc.index = f.index; }},
    {"additive_without_weight",
     QKV_INVALID_COMBINATION,
     {"additive_weight is absent"},
     [](F& f) { f.desc.score = QKV_SCORE_ADDITIVE; }},
    {"weight_without_additive",
     QKV_INVALID_COMBINATION,
     {"additive_weight is set"},
     [](F& f) { f.desc.additive_weight = f.additive_weight; }},
};

}  // namespace

std::vector<Refusal> descriptor_refusals() {
  std::vector<Refusal> rows;
  for (const Edit& edit : kEdits) {
    rows.push_back({edit.name, edit.status, edit.says, [&edit] { return refuse(edit); }});
  }
  return rows;
}

}  // namespace qkv::test
