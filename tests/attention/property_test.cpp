// Random problems against the oracle, random damage against the validation. A failure shrinks to a
// small case and prints RC_PARAMS="reproduce=...": set it and run the test again.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstring>

#include "host/ops/attention/problem.h"
#include "tests/support/full_problem.h"
#include "tests/support/verify.h"

namespace qkv::verify {

void showValue(Fill fill, std::ostream& out) { out << "fill " << static_cast<int>(fill); }
void showValue(Memory::Fit fit, std::ostream& out) {
  out << (fit == Memory::Fit::kExact ? "exact fit" : "guard bytes");
}
void showValue(Api api, std::ostream& out) { out << (api == Api::kPlan ? "plan" : "one-shot"); }

}  // namespace qkv::verify

namespace qkv::test {
namespace {

using rc::gen::element;
using rc::gen::inRange;
using rc::gen::just;
using rc::gen::set;
using rc::gen::weightedOneOf;

// Every optional input of the table, there or not, on any axes. What goes with another option
// stays out.
rc::Gen<Inputs> inputs() {
  const auto axes = weightedOneOf<int>({{2, just(kAbsent)}, {1, inRange(0, kAllAxes + 1)}});
  const auto input = rc::gen::build<Inputs::Input>(
      set(&Inputs::Input::axes, axes), set(&Inputs::Input::f32, rc::gen::arbitrary<bool>()));
  const auto all = rc::gen::container<std::vector<Inputs::Input>>(kTensorCount, input);
  return rc::gen::map(all, [](const std::vector<Inputs::Input>& drawn) {
    Inputs some;
    for (size_t id = 0; id < kTensorCount; ++id)
      if (is_free_input(static_cast<TensorId>(id))) some[static_cast<TensorId>(id)] = drawn[id];
    int& slopes = some[kAlibi].axes;  // of batches alone there are none
    if (slopes != kAbsent && (slopes & kBatch) != 0) slopes |= kHeads;
    return some;
  });
}

rc::Gen<int64_t> window() {
  return weightedOneOf<int64_t>(
      {{3, just<int64_t>(-1)}, {2, inRange<int64_t>(0, 30)}, {1, just(int64_t{1} << 60)}});
}

// Any valid problem, small. What depends on other fields is set right afterwards.
rc::Gen<Case> any_case() {
  const auto built = rc::gen::build<Case>(
      set(&Case::name, just(std::string("random"))),
      set(&Case::type, element<qkv_type>(QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16)),
      set(&Case::batch, inRange<int64_t>(0, 4)), set(&Case::heads_q, inRange<int64_t>(1, 4)),
      set(&Case::heads_kv, inRange<int64_t>(1, 4)), set(&Case::s_q, inRange<int64_t>(0, 40)),
      set(&Case::s_kv,
          weightedOneOf<int64_t>({{4, inRange<int64_t>(0, 70)}, {1, inRange<int64_t>(100, 700)}})),
      set(&Case::d_qk, inRange<int64_t>(1, 70)), set(&Case::d_v, inRange<int64_t>(1, 70)),
      set(&Case::layout,
          element(Layout::kBshd, Layout::kBhsd, Layout::kSbhd, Layout::kPacked, Layout::kPadded,
                  Layout::kOddPadded, Layout::kSharedKv, Layout::kRepeatedKv)),
      set(&Case::misalign, inRange<int64_t>(0, 9)),
      set(&Case::score, element<qkv_score>(QKV_SCORE_DOT, QKV_SCORE_ADDITIVE)),
      set(&Case::selection,
          element<qkv_selection>(QKV_SELECT_SOFT, QKV_SELECT_HARD, QKV_SELECT_TOP_K)),
      set(&Case::top_k, weightedOneOf<int64_t>({{2, inRange<int64_t>(1, 12)},
                                                {1, inRange<int64_t>(1, QKV_TOP_K_MAX + 1)}})),
      set(&Case::top_scores, rc::gen::arbitrary<bool>()),
      set(&Case::scale, element<std::optional<float>>(std::nullopt, 0.0f, 1.0f, -0.7f, 2.5f)),
      set(&Case::softcap, element(0.0f, 0.0f, 1.0f, 20.0f)),
      set(&Case::causal, rc::gen::arbitrary<bool>()),
      set(&Case::alignment,
          element<qkv_alignment>(QKV_ALIGN_BOTTOM_RIGHT, QKV_ALIGN_TOP_LEFT, QKV_ALIGN_EXPLICIT)),
      set(&Case::offset, inRange<int64_t>(-50, 50)), set(&Case::left, window()),
      set(&Case::right, window()), set(&Case::inputs, inputs()),
      set(&Case::broadcast_by_stride, rc::gen::arbitrary<bool>()),
      set(&Case::lengths,
          rc::gen::resize(4, rc::gen::container<std::vector<int32_t>>(inRange<int32_t>(0, 701)))),
      set(&Case::lse, rc::gen::arbitrary<bool>()),
      set(&Case::index, element<qkv_type>(QKV_TYPE_NONE, QKV_TYPE_I32, QKV_TYPE_I64)),
      set(&Case::weights,
          element<qkv_type>(QKV_TYPE_NONE, QKV_TYPE_NONE, QKV_TYPE_F32, QKV_TYPE_BF16)),
      set(&Case::weights_mode, inRange<qkv_weights_mode>(0, 4)));
  return rc::gen::map(built, [](Case row) {
    row.heads_q *= row.heads_kv;
    if (row.layout == Layout::kPacked) row.s_kv = row.s_q, row.d_v = row.d_qk;
    if (row.selection == QKV_SELECT_SOFT) row.index = QKV_TYPE_NONE;
    if (row.selection != QKV_SELECT_TOP_K) {
      row.top_k = 1, row.top_scores = false;
    } else if (row.index == QKV_TYPE_NONE) {
      row.index = QKV_TYPE_I32;  // judges near ties
    }
    if (row.weights == QKV_TYPE_BF16) row.weights = row.type;
    for (int32_t& length : row.lengths) length %= static_cast<int32_t>(row.s_kv + 1);
    return row;
  });
}

RC_GTEST_PROP(Property, RandomProblemsMatchTheOracle, ()) {
  const Case row = *any_case();
  const auto seed = *rc::gen::arbitrary<uint32_t>();
  const Fill fill =
      *element(Fill::kZero, Fill::kNaN, Fill::kPositiveInf, Fill::kNegativeInf, Fill::kMax);
  const auto fit = *element(Memory::Fit::kRoomy, Memory::Fit::kExact);
  RC_CLASSIFY(row.selection == QKV_SELECT_HARD, "hard");
  RC_CLASSIFY(row.selection == QKV_SELECT_TOP_K, "top-k");
  RC_CLASSIFY(row.score == QKV_SCORE_ADDITIVE, "additive");
  RC_CLASSIFY(row.weights != QKV_TYPE_NONE, "weights");
  BuiltProblem built(row, {.seed = seed, .fill = fill, .fit = fit});
  const qkv_status status = built.run(*element(Api::kOneShot, Api::kPlan));
  if (status != QKV_SUCCESS) RC_FAIL(std::string(qkv_last_error()) + "\n" + describe(row));
  RC_ASSERT(built.damage() == "");
  const auto verdict = accepted(built);
  if (!verdict) RC_FAIL(verdict.message());
}

// Few queries of many heads over a long cache: heads that share a tile, products of few rows, keys
// in parts. The result is the oracle's, bit for bit the same on any number of threads.
rc::Gen<Case> decode_case() {
  return rc::gen::mapcat(any_case(), [](Case row) {
    return rc::gen::build<Case>(
        just(row), set(&Case::batch, inRange<int64_t>(1, 3)),
        set(&Case::heads_q, rc::gen::map(inRange<int64_t>(1, 13),
                                         [row](int64_t group) { return group * row.heads_kv; })),
        set(&Case::s_q, inRange<int64_t>(1, 9)), set(&Case::s_kv, inRange<int64_t>(900, 4000)),
        set(&Case::layout, element(Layout::kBshd, Layout::kBhsd, Layout::kOddPadded)),
        set(&Case::score, just<qkv_score>(QKV_SCORE_DOT)),
        set(&Case::weights, just<qkv_type>(QKV_TYPE_NONE)),
        set(&Case::lengths,
            rc::gen::resize(2, rc::gen::container<std::vector<int32_t>>(inRange(0, 901)))));
  });
}

RC_GTEST_PROP(Property, DecodeMatchesTheOracleOnAnyNumberOfThreads, ()) {
  const Case row = *decode_case();
  const auto seed = *rc::gen::arbitrary<uint32_t>();
  place().set_threads(1);
  BuiltProblem built(row, {.seed = seed, .fill = Fill::kNaN, .fit = Memory::Fit::kExact});
  if (built.run(Api::kPlan) != QKV_SUCCESS) RC_FAIL(qkv_last_error() + ("\n" + describe(row)));
  RC_ASSERT(built.damage() == "");
  const auto verdict = accepted(built);
  if (!verdict) RC_FAIL(verdict.message());
  place().set_threads(*inRange(2, 6));
  BuiltProblem again(row, {.seed = seed, .fill = Fill::kZero});
  const qkv_status status = again.run(Api::kOneShot);
  place().set_threads(0);
  RC_ASSERT(status == QKV_SUCCESS);
  const bool same = again.output_bits() == built.output_bits();
  RC_ASSERT(same);
}

// A field of the descriptor that is no address, as its offset and size.
struct Field {
  size_t offset, size;
};

std::vector<Field> fields() {
  std::vector<Field> all;
  const auto add = [&](size_t offset, size_t size) { all.push_back({offset, size}); };
  const qkv_attention_desc desc{};
  const auto add_tensor = [&](const qkv_tensor& tensor) {
    const auto at = static_cast<size_t>(reinterpret_cast<const char*>(&tensor) -
                                        reinterpret_cast<const char*>(&desc));
    add(at + offsetof(qkv_tensor, type), 4);
    add(at + offsetof(qkv_tensor, reserved), 4);
    for (size_t n = 0; n < 8; ++n) add(at + offsetof(qkv_tensor, shape) + 8 * n, 8);
  };
  for (const host::attention::TensorRow& row : host::attention::kTensors)
    add_tensor(desc.*row.given);
  add_tensor(desc.sinks);
  add_tensor(desc.page_table);
#define QKV_TEST_FIELD(name) \
  add(offsetof(qkv_attention_desc, name), sizeof(qkv_attention_desc::name));
  QKV_TEST_FIELD(device)
  QKV_TEST_FIELD(device_index)
  QKV_TEST_FIELD(score)
  QKV_TEST_FIELD(selection)
  QKV_TEST_FIELD(weights_mode)
  QKV_TEST_FIELD(scale_set)
  QKV_TEST_FIELD(scale)
  QKV_TEST_FIELD(softcap)
  QKV_TEST_FIELD(causal)
  QKV_TEST_FIELD(alignment)
  QKV_TEST_FIELD(reserved0)
  QKV_TEST_FIELD(offset)
  QKV_TEST_FIELD(window_left)
  QKV_TEST_FIELD(window_right)
  QKV_TEST_FIELD(fixed_split_size)
  QKV_TEST_FIELD(flags)
  QKV_TEST_FIELD(workspace_size)
  QKV_TEST_FIELD(threads)
  QKV_TEST_FIELD(top_k)
#undef QKV_TEST_FIELD
  return all;
}

// Words put over the fields of a valid descriptor. Whatever comes out, plans and queries, which
// read no data, answer; and what they call invalid, a run refuses without writing.
RC_GTEST_PROP(Property, DamagedDescriptorsAreRefused, ()) {
  static const std::vector<Field> all = fields();
  FullProblem f;
  if (*rc::gen::arbitrary<bool>()) f.use_everything();
  f.desc.flags = 0;
  const auto damage = *rc::gen::container<std::vector<std::pair<size_t, int64_t>>>(
      rc::gen::pair(inRange<size_t>(0, all.size()),
                    rc::gen::oneOf(rc::gen::arbitrary<int64_t>(), inRange<int64_t>(-3, 12),
                                   element(INT64_MAX, INT64_MIN, int64_t{1} << 31, int64_t{1} << 32,
                                           int64_t{1} << 48, int64_t{1} << 62))));
  for (const auto& [field, word] : damage) {
    std::memcpy(reinterpret_cast<char*>(&f.desc) + all[field].offset, &word, all[field].size);
  }
  const FullProblem::Outputs before = f.outputs();
  qkv_query_result result{};
  result.struct_size = sizeof result;
  const qkv_status asked = qkv_query(&f.desc, &result);
  RC_ASSERT(asked == QKV_SUCCESS || qkv_status_class(asked) == QKV_INVALID_ARGUMENT);
  RC_CLASSIFY(asked == QKV_SUCCESS, "still valid");
  if (asked == QKV_SUCCESS && result.supported != 0) return;  // strides are trusted: not run

  const std::string reason = asked == QKV_SUCCESS ? result.reasons : qkv_last_error();
  RC_ASSERT(!reason.empty());
  const qkv_status status = qkv_attention(&f.desc, nullptr);
  const qkv_status its_class = qkv_status_class(status);
  RC_ASSERT(its_class == QKV_INVALID_ARGUMENT || its_class == QKV_UNSUPPORTED ||
            status == QKV_DEVICE_ERROR_NONE);
  RC_ASSERT(f.outputs() == before);
  qkv_plan* plan = nullptr;
  const qkv_status planned = qkv_plan_create(&f.desc, &plan);
  RC_ASSERT(planned == status);
  const bool no_plan = plan == nullptr;
  RC_ASSERT(no_plan);
}

}  // namespace
}  // namespace qkv::test
