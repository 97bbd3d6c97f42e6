#include "host/verify/probes.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "host/core/status.h"
#include "host/verify/built_problem.h"

namespace qkv::verify {
namespace {

// What the mask tensor of a built problem says; in_pattern() says the rest.
bool visible(const BuiltProblem& built, int64_t b, int64_t h, int64_t i, int64_t j) {
  const Case& row = built.row();
  if (!row.in_pattern(b, i, j)) return false;
  if (!built[kMask].present()) return true;
  const auto own = [&](int axis, int64_t at) {
    return (row.inputs[kMask].axes & axis) != 0 ? at : 0;
  };
  return built[kMask].get(own(kBatch, b), own(kHeads, h), own(kQueries, i), own(kKeys, j)) != 0;
}

template <class Visit>
void each_row(const Case& row, Visit&& visit) {
  for (int64_t b = 0; b < row.batch; ++b)
    for (int64_t h = 0; h < row.heads_q; ++h)
      for (int64_t i = 0; i < row.s_q; ++i) visit(b, h, i);
}

// Words of +-1, any two of which differ in at least 4 places.
std::vector<std::vector<double>> code_words(int64_t count, int64_t length, uint64_t seed) {
  Random random(seed);
  std::vector<std::vector<double>> words;
  while (static_cast<int64_t>(words.size()) < count) {
    std::vector<double> word(static_cast<size_t>(length));
    for (double& x : word) x = random.uniform() < 0.5 ? -1 : 1;
    const bool apart = std::all_of(words.begin(), words.end(), [&](const auto& other) {
      int distance = 0;
      for (size_t n = 0; n < word.size(); ++n) distance += word[n] != other[n];
      return distance >= 4;
    });
    if (apart) words.push_back(std::move(word));
  }
  return words;
}

// k_j = code(j), q_i = 16 code(pick(i)), scale 1: the picked key scores 16 d, every other one at
// least 32 * 4 less, and exp(-128) is 0 in fp32. The score is a power of two, so that no folding of
// the scale rounds it.
class Selection {
 public:
  Selection(const Case& row, uint64_t seed)
      : row_(row), built_(row, {.seed = seed}), random_(seed + 1) {
    while (length_ * 2 <= row.d_qk) length_ *= 2;
    words_ = code_words(row.s_kv, length_, seed);
    built_.k.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
      built_.k.set(b, h, j, d, at(word_of(b, h, j), d));
    });
    built_.poison_hidden_keys();
    each_row(row_, [&](int64_t b, int64_t h, int64_t i) { choose(b, h, i); });
  }

  std::string faults() {
    if (built_.run(Api::kPlan) != QKV_SUCCESS) return qkv_last_error();
    std::string wrong = built_.damage();
    size_t n = 0;
    each_row(row_, [&](int64_t b, int64_t h, int64_t i) {
      const int64_t key = picked_[n++];
      if (wrong.empty()) wrong = row_faults(b, h, i, key);
    });
    return wrong;
  }

 private:
  // Every kv head has its own key for a word.
  const std::vector<double>& word_of(int64_t b, int64_t h_kv, int64_t j) const {
    return words_[static_cast<size_t>((j + 5 * h_kv + 11 * b) % row_.s_kv)];
  }
  double at(const std::vector<double>& word, int64_t d) const {
    return d < length_ ? word[static_cast<size_t>(d)] : 0;
  }

  // The first key that the query sees, the last, any.
  int64_t pick(int64_t b, int64_t h, int64_t i) {
    std::vector<int64_t> keys;
    for (int64_t j = 0; j < row_.s_kv; ++j) {
      if (visible(built_, b, h, i, j)) keys.push_back(j);
    }
    if (keys.empty()) return -1;
    if (i % 3 == 0) return keys.front();
    if (i % 3 == 1) return keys.back();
    return keys[static_cast<size_t>(random_.integer(0, static_cast<int64_t>(keys.size()) - 1))];
  }

  void choose(int64_t b, int64_t h, int64_t i) {
    const int64_t key = pick(b, h, i);
    picked_.push_back(key);
    const bool shared = row_.layout == Layout::kSharedKv;  // the last word written is the key's
    const int64_t b_kv = shared ? 0 : b, h_kv = shared ? 0 : h / (row_.heads_q / row_.heads_kv);
    for (int64_t d = 0; d < row_.d_qk; ++d) {
      const double x = key < 0 ? 1 : at(word_of(b_kv, h_kv, key), d);
      built_.q.set(b, h, i, d, 16 * x);
    }
  }

  std::string row_faults(int64_t b, int64_t h, int64_t i, int64_t key) const {
    const int64_t h_kv = h / (row_.heads_q / row_.heads_kv);
    for (int64_t d = 0; d < row_.d_v; ++d) {
      const double want = key < 0 ? 0 : built_.v.get(b, h_kv, key, d);
      const double got = built_.o.get(b, h, i, d);
      if (got == want) continue;
      return host::text("o[", b, ", ", h, ", ", i, ", ", d, "] is ", got, "; key ", key, " has ",
                        want);
    }
    if (!built_.lse.present()) return {};
    const double want = key < 0 ? -kInf : 16.0 * static_cast<double>(length_);
    const double got = built_.lse.get(b, h, i, 0);
    if (got == want) return {};
    return host::text("lse[", b, ", ", h, ", ", i, "] is ", got, "; key ", key, " scores ", want);
  }

  Case row_;
  BuiltProblem built_;
  Random random_;
  int64_t length_ = 1;  // of the words
  std::vector<std::vector<double>> words_;
  std::vector<int64_t> picked_;  // keys, by row
};

// One-hot values of keys first to first + d_v.
std::string leak_faults(const Case& row, uint64_t seed, int64_t first) {
  BuiltProblem built(row, {.seed = seed, .fill = Fill::kMax});
  built.q.fill(0);
  built.v.each([&](int64_t b, int64_t h, int64_t j, int64_t d) {
    built.v.set(b, h, j, d, j == first + d ? 1 : 0);
  });
  built.poison_hidden_keys();
  if (built.run() != QKV_SUCCESS) return qkv_last_error();
  std::string wrong;
  each_row(row, [&](int64_t b, int64_t h, int64_t i) {
    int64_t n = 0;
    for (int64_t j = 0; j < row.s_kv; ++j) n += visible(built, b, h, i, j) ? 1 : 0;
    for (int64_t d = 0; d < row.d_v && first + d < row.s_kv && wrong.empty(); ++d) {
      const double got = built.o.get(b, h, i, d);
      const bool seen = visible(built, b, h, i, first + d);
      const double want = seen ? 1 / static_cast<double>(n) : 0;
      if (std::abs(got - want) <= (seen ? ulp(row.type, want) : 0)) continue;
      wrong = host::text("query ", i, " of head ", h, " of batch ", b, " takes ", got, " of key ",
                         first + d, ", not ", want);
    }
  });
  return wrong;
}

std::vector<Case> make_rows() {
  std::vector<Case> rows;
  const auto add = [&](const Case& row) {
    for (qkv_type type : {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16}) {
      Case typed = row;
      typed.type = type;
      typed.name += std::string("_") + type_label(type);
      rows.push_back(typed);
    }
  };
  const Case base{.s_q = 70, .s_kv = 70, .d_qk = 64, .d_v = 64};
  constexpr std::pair<Layout, const char*> kLayouts[] = {
      {Layout::kBshd, "bshd"},         {Layout::kBhsd, "bhsd"},
      {Layout::kSbhd, "sbhd"},         {Layout::kPacked, "packed"},
      {Layout::kPadded, "padded"},     {Layout::kOddPadded, "odd_padded"},
      {Layout::kSharedKv, "shared_kv"}};
  for (const auto& [layout, name] : kLayouts) {
    Case row = base;
    row.name = std::string("layout_") + name;
    row.layout = layout;
    row.heads_q = 4;
    row.lengths = {70, 66};
    if (layout == Layout::kSharedKv) row.lengths = {};
    add(row);
  }
  for (const auto& [heads_q, heads_kv] : {std::pair{1, 1}, {4, 4}, {6, 3}, {5, 1}, {12, 4}}) {
    Case row = base;
    row.name = "heads_" + std::to_string(heads_q) + "_" + std::to_string(heads_kv);
    row.heads_q = heads_q;
    row.heads_kv = heads_kv;
    row.s_q = 9;
    add(row);
  }
  for (const auto& [d_qk, d_v] :
       {std::pair{32, 16}, {40, 72}, {80, 96}, {96, 3}, {128, 128}, {256, 256}, {576, 512}}) {
    Case row = base;
    row.name = "dims_" + std::to_string(d_qk) + "_" + std::to_string(d_v);
    row.s_q = 20;
    row.d_qk = d_qk;
    row.d_v = d_v;
    add(row);
  }
  for (const auto& [s_q, s_kv] : {std::pair{1, 1},
                                  {1, 129},
                                  {65, 63},
                                  {63, 65},
                                  {129, 127},
                                  {3, 513},
                                  {130, 1},
                                  {64, 64},
                                  {48, 200}}) {
    Case row = base;
    row.name = "sizes_" + std::to_string(s_q) + "_" + std::to_string(s_kv);
    row.s_q = s_q;
    row.s_kv = s_kv;
    add(row);
    row.name += "_causal";
    row.causal = true;
    add(row);
    row.name += "_top_left_window";
    row.alignment = QKV_ALIGN_TOP_LEFT;
    row.left = 40;
    add(row);
  }
  const auto mask = [&](const char* name, auto&& change) {
    Case row = base;
    row.name = std::string("mask_") + name;
    row.s_kv = 133;
    change(row);
    add(row);
  };
  mask("window", [](Case& row) { row.left = 7, row.right = 66; });
  mask("window_lengths", [](Case& row) { row.left = 5, row.right = 0, row.lengths = {0, 129}; });
  mask("explicit",
       [](Case& row) { row.causal = true, row.alignment = QKV_ALIGN_EXPLICIT, row.offset = 60; });
  mask("explicit_negative",
       [](Case& row) { row.causal = true, row.alignment = QKV_ALIGN_EXPLICIT, row.offset = -9; });
  mask("causal_lengths", [](Case& row) { row.causal = true, row.lengths = {64, 1}; });
  mask("tensor", [](Case& row) { row.inputs = {{kMask, kAllAxes}}; });
  mask("tensor_keys", [](Case& row) {
    row.inputs = {{kMask, kKeys}}, row.broadcast_by_stride = true;
  });
  mask("tensor_causal_lengths", [](Case& row) {
    row.inputs = {{kMask, kBatch | kQueries | kKeys}}, row.causal = true, row.lengths = {133, 50};
  });
  return rows;
}

}  // namespace

const std::vector<Case>& probe_rows() {
  static const std::vector<Case> rows = make_rows();
  return rows;
}

std::string selection_faults(Case row, uint64_t seed) {
  row.scale = 1.0f;
  return Selection(row, seed).faults();
}

std::string leak_faults(const Case& row, uint64_t seed) {
  std::string wrong;
  for (int64_t first = 0; first < row.s_kv && wrong.empty(); first += row.d_v)
    wrong = leak_faults(row, seed, first);
  return wrong;
}

}  // namespace qkv::verify
