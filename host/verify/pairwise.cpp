#include "host/verify/pairwise.h"

#include <array>
#include <functional>
#include <string>
#include <utility>

#include "host/verify/elements.h"

namespace qkv::verify {
namespace {

struct Option {
  const char* name;
  std::vector<std::function<void(Case&)>> values;
};

// The values of one field of a case.
template <class Field>
Option field(const char* name, Field Case::*member, std::vector<Field> values) {
  Option option{name, {}};
  for (const auto& listed : values) {
    const Field value = listed;
    option.values.emplace_back([member, value](Case& row) { row.*member = value; });
  }
  return option;
}

template <class Field>
Option two_fields(const char* name, Field Case::*first, Field Case::*second,
                  std::vector<std::pair<Field, Field>> values) {
  Option option{name, {}};
  for (const std::pair<Field, Field>& value : values)
    option.values.emplace_back(
        [=](Case& row) { row.*first = value.first, row.*second = value.second; });
  return option;
}

// The axes of an optional input.
Option input(const char* name, TensorId id, const std::vector<int>& axes) {
  Option option{name, {}};
  for (const int own : axes)
    option.values.emplace_back([=](Case& row) { row.inputs[id].axes = own; });
  return option;
}

// Sizes around the tiles of 32 and 64; the first of each option is the square one.
std::vector<Option> make_options() {
  std::vector<Option> options = {
      field<qkv_type>("type", &Case::type, {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16}),
      field<qkv_score>("score", &Case::score, {QKV_SCORE_DOT, QKV_SCORE_ADDITIVE}),
      {"selection",
       {[](Case&) {}, [](Case& row) { row.selection = QKV_SELECT_HARD; },
        [](Case& row) { row.selection = QKV_SELECT_TOP_K, row.top_k = 3; },
        [](Case& row) { row.selection = QKV_SELECT_TOP_K, row.top_k = 70; }}},
      field<Layout>("layout", &Case::layout,
                    {Layout::kBshd, Layout::kBhsd, Layout::kSbhd, Layout::kPacked, Layout::kPadded,
                     Layout::kOddPadded, Layout::kSharedKv, Layout::kRepeatedKv}),
      field<int64_t>("misalign", &Case::misalign, {0, 1}),
      two_fields<int64_t>("heads", &Case::heads_q, &Case::heads_kv, {{2, 2}, {4, 2}, {3, 1}}),
      two_fields<int64_t>("sizes", &Case::s_q, &Case::s_kv,
                          {{65, 65}, {33, 70}, {1, 129}, {67, 5}}),
      two_fields<int64_t>("dims", &Case::d_qk, &Case::d_v, {{32, 32}, {24, 72}, {65, 130}}),
      field<std::optional<float>>("scale", &Case::scale, {std::nullopt, -0.5f}),
      field<float>("softcap", &Case::softcap, {0, 2}),
      field<bool>("causal", &Case::causal, {false, true}),
      field<qkv_alignment>("alignment", &Case::alignment,
                           {QKV_ALIGN_BOTTOM_RIGHT, QKV_ALIGN_TOP_LEFT, QKV_ALIGN_EXPLICIT}),
      field<int64_t>("offset", &Case::offset, {0, 3}),
      two_fields<int64_t>("window", &Case::left, &Case::right, {{-1, -1}, {20, -1}, {9, 31}}),
      input("mask", kMask, {kAbsent, kAllAxes, kQueries | kKeys, kBatch | kKeys}),
      input("bias", kBias, {kAbsent, kAllAxes, kHeads | kKeys, kQueries}),
      {"bias type", {[](Case&) {}, [](Case& row) { row.inputs[kBias].f32 = true; }}},
      field<bool>("broadcast", &Case::broadcast_by_stride, {false, true}),
      input("alibi", kAlibi, {kAbsent, kHeads}),
      {"lengths",
       {[](Case&) {},
        [](Case& row) {
          row.lengths = {0, static_cast<int32_t>(row.s_kv)};
        },
        [](Case& row) {
          row.lengths = {static_cast<int32_t>(row.s_kv * 2 / 3), 1};
        }}},
      field<bool>("lse", &Case::lse, {true, false}),
      field<qkv_type>("index", &Case::index, {QKV_TYPE_NONE, QKV_TYPE_I32, QKV_TYPE_I64}),
      field<bool>("top scores", &Case::top_scores, {false, true}),
      {"weights",
       {[](Case&) {}, [](Case& row) { row.weights = QKV_TYPE_F32; },
        [](Case& row) { row.weights = row.type; }}},
      field<qkv_weights_mode>("weights mode", &Case::weights_mode,
                              {QKV_WEIGHTS_PROBABILITIES, QKV_WEIGHTS_SCORES,
                               QKV_WEIGHTS_SOFTCAPPED, QKV_WEIGHTS_MASKED}),
  };
  // What the table has besides: there or not.
  for (size_t at = 0; at < kTensorCount; ++at) {
    const auto id = static_cast<TensorId>(at);
    const bool is_above = id == kMask || id == kBias || id == kAlibi;
    if (is_free_input(id) && !is_above)
      options.push_back(input(host::attention::kTensors[id].word, id, {kAbsent, kAllAxes}));
  }
  return options;
}

const std::vector<Option>& all_options() {
  static const std::vector<Option> options = make_options();
  return options;
}

struct Value {
  size_t option, value;
};

size_t option_named(std::string_view name) {
  const auto& options = all_options();
  size_t at = 0;
  while (options[at].name != name) ++at;
  return at;
}

// What the contract, or a layout of the tests, forbids together.
class Rules {
 public:
  bool allow(Value a, Value b) const { return allow_ordered(a, b) && allow_ordered(b, a); }

 private:
  bool allow_ordered(Value a, Value b) const {
    const bool packed = a.option == layout_ && a.value == 3;
    if (packed && (b.option == sizes_ || b.option == dims_)) return b.value == 0;
    // Top-k selection is judged by its index.
    if (a.option == index_ && b.option == selection_)
      return a.value > 0 ? b.value > 0 : b.value < 2;
    if (a.option == top_scores_ && a.value > 0 && b.option == selection_) return b.value > 1;
    if (a.option == top_scores_ && a.value > 0 && b.option == index_) return b.value > 0;
    return true;
  }

  size_t layout_ = option_named("layout"), sizes_ = option_named("sizes"),
         dims_ = option_named("dims"), index_ = option_named("index"),
         selection_ = option_named("selection"), top_scores_ = option_named("top scores");
};

constexpr size_t kUnset = SIZE_MAX;

// Which pairs of values are still to meet.
class Uncovered {
 public:
  Uncovered() {
    size_t first = 0;
    for (const Option& option : all_options()) {
      first_.push_back(first);
      first += option.values.size();
    }
    count_ = first;
    open_.assign(count_ * count_, false);
    each_pair([&](Value a, Value b) {
      if (!rules_.allow(a, b)) return;
      at(a, b) = true;
      ++left_;
    });
  }

  size_t values() const { return count_; }
  size_t left() const { return left_; }
  const Rules& rules() const { return rules_; }

  // Open pairs of `value` with the values chosen so far.
  size_t gain(const std::vector<size_t>& chosen, Value value) {
    size_t n = 0;
    for (size_t o = 0; o < chosen.size(); ++o)
      if (o != value.option && chosen[o] != kUnset) n += at({o, chosen[o]}, value) ? 1 : 0;
    return n;
  }

  void cover(const std::vector<size_t>& chosen) {
    for (size_t a = 0; a < chosen.size(); ++a)
      for (size_t b = a + 1; b < chosen.size(); ++b) {
        auto open = at({a, chosen[a]}, {b, chosen[b]});
        left_ -= open ? 1 : 0;
        open = false;
      }
  }

  // Some open pair, the first in order.
  std::pair<Value, Value> first_open() {
    std::pair<Value, Value> found{};
    bool any = false;
    each_pair([&](Value a, Value b) {
      if (!any && at(a, b)) found = {a, b}, any = true;
    });
    return found;
  }

 private:
  template <class Visit>
  void each_pair(Visit&& visit) {
    const auto& options = all_options();
    for (size_t a = 0; a < options.size(); ++a)
      for (size_t b = a + 1; b < options.size(); ++b)
        for (size_t x = 0; x < options[a].values.size(); ++x)
          for (size_t y = 0; y < options[b].values.size(); ++y) visit(Value{a, x}, Value{b, y});
  }

  std::vector<bool>::reference at(Value a, Value b) {
    if (a.option > b.option) std::swap(a, b);
    return open_[(first_[a.option] + a.value) * count_ + first_[b.option] + b.value];
  }

  Rules rules_;
  std::vector<size_t> first_;
  std::vector<bool> open_;
  size_t count_ = 0, left_ = 0;
};

// A row that holds `seed` and, option by option in random order, the allowed value with the most
// open pairs.
std::vector<size_t> grow_row(Uncovered* uncovered, std::pair<Value, Value> seed, Random* random) {
  const auto& options = all_options();
  std::vector<size_t> chosen(options.size(), kUnset), order;
  chosen[seed.first.option] = seed.first.value;
  chosen[seed.second.option] = seed.second.value;
  for (size_t o = 0; o < options.size(); ++o)
    if (chosen[o] == kUnset)
      order.insert(order.begin() + random->integer(0, static_cast<int64_t>(order.size())), o);
  for (size_t o : order) {
    size_t best_gain = 0;
    for (size_t v = 0; v < options[o].values.size(); ++v) {
      bool allowed = true;
      for (size_t other = 0; other < options.size(); ++other)
        allowed &= chosen[other] == kUnset || other == o ||
                   uncovered->rules().allow({o, v}, {other, chosen[other]});
      if (!allowed) continue;
      const size_t gain = uncovered->gain(chosen, {o, v});
      if (chosen[o] == kUnset || gain > best_gain) chosen[o] = v, best_gain = gain;
    }
  }
  return chosen;
}

size_t row_gain(Uncovered* uncovered, const std::vector<size_t>& row) {
  size_t gain = 0;
  for (size_t o = 0; o < row.size(); ++o) gain += uncovered->gain(row, {o, row[o]});
  return gain;
}

Pairwise make_pairwise() {
  Uncovered uncovered;
  Pairwise result{{}, all_options().size(), uncovered.values(), uncovered.left(), 0};
  Random random(1);
  while (uncovered.left() > 0) {
    const auto seed = uncovered.first_open();
    std::vector<size_t> best;
    for (int attempt = 0; attempt < 20; ++attempt) {
      std::vector<size_t> row = grow_row(&uncovered, seed, &random);
      if (best.empty() || row_gain(&uncovered, row) > row_gain(&uncovered, best))
        best = std::move(row);
    }
    const size_t before = uncovered.left();
    uncovered.cover(best);
    if (uncovered.left() == before) break;
    Case row;
    for (size_t o = 0; o < best.size(); ++o) all_options()[o].values[best[o]](row);
    row.name = "pairwise_" + std::to_string(result.rows.size());
    result.rows.push_back(std::move(row));
  }
  result.missed = uncovered.left();
  return result;
}

}  // namespace

const Pairwise& pairwise() {
  static const Pairwise made = make_pairwise();
  return made;
}

}  // namespace qkv::verify
