// parse(): a problem's line, field by field.
#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "bench/spec.h"

namespace qkv::bench {
namespace {

// All fields, for refusals.
std::string grammar() {
  std::string out =
      "cpu, cuda, f32, f16, bf16, full, causal, d<n>, dv<n>, b<n>, h<n>, hq<n>, hkv<n>, s<n>, "
      "sq<n>, skv<n>, additive, hard, top-k=<n>, scale=<x>, softcap=<x>, top-left, offset=<n>, "
      "left=<n>, "
      "right=<n>";
  for (const host::attention::TensorRow& row : host::attention::kTensors)
    for (const std::string& field : fields_of(row)) out += ", " + field;
  return out + ", split=<n>, threads=<n>, and q, k, v, o=<batch>.<head>.<row>";
}

constexpr int64_t kMaxExtent = int64_t{1} << 31;
constexpr int64_t kMaxBound = int64_t{1} << 60;  // of offset and window, as the library's
constexpr std::string_view kAxes = "bhqk";

template <class... Args>
[[noreturn]] void refuse(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  throw std::invalid_argument(out.str());
}

// One field as its user wrote it: "left=4" has key "left" and value "4".
struct Field {
  std::string text, key, value;

  [[noreturn]] void refuse_value(const char* allowed) const {
    refuse("problem field '", text, "' holds '", value, "'; allowed is ", allowed);
  }

  template <class Number>
  Number parsed(Number lowest, Number highest, const char* allowed) const {
    Number out{};
    const char* const end = value.data() + value.size();
    const auto [at, error] = std::from_chars(value.data(), end, out);
    const bool inside = out >= lowest && out <= highest;  // a NaN is not
    if (error != std::errc{} || at != end || !inside) refuse_value(allowed);
    return out;
  }

  std::string axes() const {
    size_t at = 0;
    for (const char axis : kAxes)
      if (at < value.size() && value[at] == axis) ++at;
    if (value != "1" && (value.empty() || at != value.size()))
      refuse_value("1 for none, or axes out of b, h, q, k in this order");
    return value;
  }

  Strides strides() const {
    constexpr const char* kAllowed =
        "three whole numbers from 0 on, the strides <batch>.<head>.<row>";
    std::array<int64_t, 3> out{};
    std::istringstream in(value);
    std::string part;
    size_t count = 0;
    for (; std::getline(in, part, '.'); ++count) {
      if (count == 3) refuse_value(kAllowed);
      const char* const end = part.data() + part.size();
      const auto [at, error] = std::from_chars(part.data(), end, out[count]);
      if (error != std::errc{} || at != end || out[count] < 0) refuse_value(kAllowed);
    }
    if (count != 3 || value.back() == '.') refuse_value(kAllowed);
    return {out[0], out[1], out[2]};
  }
};

// Fields of one group exclude each other, and each stands once.
struct Word {
  const char *text, *group;
  void (*set)(Spec*);
};

constexpr Word kWords[] = {
    {"cpu", "device", [](Spec* s) { s->device = QKV_DEVICE_CPU; }},
    {"cuda", "device", [](Spec* s) { s->device = QKV_DEVICE_CUDA; }},
    {"f32", "type", [](Spec* s) { s->type = QKV_TYPE_F32; }},
    {"f16", "type", [](Spec* s) { s->type = QKV_TYPE_F16; }},
    {"bf16", "type", [](Spec* s) { s->type = QKV_TYPE_BF16; }},
    {"full", "causal", [](Spec* s) { s->causal = false; }},
    {"none", "causal", [](Spec* s) { s->causal = false; }},
    {"causal", "causal", [](Spec* s) { s->causal = true; }},
    {"additive", "score", [](Spec* s) { s->additive = true; }},
    {"hard", "selection", [](Spec* s) { s->hard = true; }},
    {"top-left", "alignment", [](Spec* s) { s->alignment = QKV_ALIGN_TOP_LEFT; }},
};

constexpr float kLargest = std::numeric_limits<float>::max();

int64_t bound(const Field& field) {
  return field.parsed<int64_t>(0, kMaxBound, "a whole number from 0 to 2^60");
}

qkv_weights_mode mode(const Field& field) {
  return field.parsed<qkv_weights_mode>(QKV_WEIGHTS_SCORES, QKV_WEIGHTS_PROBABILITIES,
                                        "a mode from 0 to 3");
}

struct Option {
  const char *key, *group;
  void (*set)(const Field&, Spec*);
};

constexpr Option kOptions[] = {
    {"scale", "scale",
     [](const Field& f, Spec* s) { s->scale = f.parsed(-kLargest, kLargest, "a finite number"); }},
    {"softcap", "softcap",
     [](const Field& f, Spec* s) {
       s->softcap =
           f.parsed(std::numeric_limits<float>::denorm_min(), kLargest, "a finite number above 0");
     }},
    {"top-k", "selection",
     [](const Field& f, Spec* s) {
       s->top = true;
       s->top_k = f.parsed<int64_t>(1, QKV_TOP_K_MAX, "a whole number of keys from 1 to 128");
     }},
    {"offset", "alignment",
     [](const Field& f, Spec* s) {
       s->alignment = QKV_ALIGN_EXPLICIT;
       s->offset = f.parsed(-kMaxBound, kMaxBound, "a whole number from -2^60 to 2^60");
     }},
    {"left", "left", [](const Field& f, Spec* s) { s->left = bound(f); }},
    {"right", "right", [](const Field& f, Spec* s) { s->right = bound(f); }},
    {"split", "split",
     [](const Field& f, Spec* s) {
       s->split = f.parsed<int64_t>(1, INT64_MAX, "a whole number of keys from 1 to 2^63 - 1");
     }},
    {"threads", "threads",
     [](const Field& f, Spec* s) {
       s->threads = f.parsed<int32_t>(1, INT32_MAX, "a whole number from 1 to 2^31 - 1");
     }},
};

constexpr std::string_view kExtents[] = {"d", "dv", "b", "h", "hq", "hkv", "s", "sq", "skv"};

class Parser {
 public:
  void apply(const std::string& text) {
    if (!(is_word(text) || is_option(text) || is_tensor(text) || is_extent(text)))
      refuse("problem field '", text, "' is not known; allowed are ", grammar());
  }

  Spec finish() {
    Spec& s = spec_;
    s.d_qk = extent("d", s.d_qk);
    s.d_v = extent("dv", extent("d", s.d_v));
    s.batch = extent("b", s.batch);
    s.heads_q = extent("hq", extent("h", s.heads_q));
    s.heads_kv = extent("hkv", extent("h", s.heads_kv));
    s.s_q = extent("sq", extent("s", s.s_q));
    s.s_kv = extent("skv", extent("s", s.s_kv));
    if (s.heads_q % s.heads_kv != 0)
      refuse("problem has hq", s.heads_q, " and hkv", s.heads_kv, "; hkv must divide hq");
    if (s.given[kIndex].there && !s.hard && !s.top)
      refuse("problem field '", seen_["index"],
             "' asks for the index; it needs field 'hard' or 'top-k'");
    if (s.given[kTopScores].there && !s.top)
      refuse("problem field 'top-scores' asks for the best keys' scores; it needs field 'top-k'");
    if (s.given[kLengths].there && s.s_kv > INT32_MAX)
      refuse("problem field 'lengths' needs i32 lengths; skv", s.s_kv, " is more than 2^31 - 1");
    // One name for one problem.
    for (Spec::Given& given : s.given) given.wide &= s.type != QKV_TYPE_F32;
    return s;
  }

 private:
  void note(const std::string& group, const std::string& text) {
    const auto [at, added] = seen_.emplace(group, text);
    if (added) return;
    refuse("problem field '", text, "' stands beside '", at->second, "'; allowed is one of them");
  }

  bool is_word(const std::string& text) {
    for (const Word& word : kWords) {
      if (text != word.text) continue;
      note(word.group, text);
      word.set(&spec_);
      return true;
    }
    return false;
  }

  bool is_option(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) return false;
    const Field field{text, text.substr(0, equals), text.substr(equals + 1)};
    for (const Option& option : kOptions) {
      if (field.key != option.key) continue;
      note(option.group, text);
      option.set(field, &spec_);
      return true;
    }
    return false;
  }

  // A field that says that there is an optional tensor, or the strides of one that is always there.
  bool is_tensor(const std::string& text) {
    using host::attention::Element;
    using host::attention::Word;
    const size_t equals = std::min(text.find('='), text.size());
    const Field field{text, text.substr(0, equals), text.substr(std::min(equals + 1, text.size()))};
    const bool has_value = equals < text.size();
    for (size_t part = 0; part < kParts; ++part) {
      const host::attention::TensorRow& row = host::attention::kTensors[part];
      const std::string word = row.word;
      Spec::Given* const given = &spec_.given[part];
      if (part <= kO) {
        if (field.key != word || !has_value) continue;
        note(word, text);
        spec_.strides[part] = field.strides();
        return true;
      }
      const bool wide = row.element == Element::kWide && field.key == word + "32";
      switch (row.kind) {
        case Word::kPlain:
          if (text != word) continue;
          break;
        case Word::kInteger:
          if (text != word + "32" && text != word + "64") continue;
          given->index = text == word + "32" ? QKV_TYPE_I32 : QKV_TYPE_I64;
          break;
        case Word::kAxes:
        case Word::kMode:
          if ((field.key != word && !wide) || !has_value) continue;
          break;
        default:
          continue;
      }
      note(word, text);
      given->there = true;
      given->wide = wide;
      if (row.kind == Word::kAxes) given->axes = field.axes();
      if (row.kind == Word::kMode) spec_.weights_mode = mode(field);
      return true;
    }
    return false;
  }

  bool is_extent(const std::string& text) {
    const size_t digits =
        std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), text.size());
    const Field field{text, text.substr(0, digits), text.substr(digits)};
    if (std::find(std::begin(kExtents), std::end(kExtents), field.key) == std::end(kExtents))
      return false;
    if (field.value == "0")
      refuse("problem field '", text, "' holds 0: there is nothing to time; allowed is a whole ",
             "number from 1 to 2^31");
    note(field.key, text);
    extents_[field.key] = field.parsed<int64_t>(1, kMaxExtent, "a whole number from 1 to 2^31");
    return true;
  }

  int64_t extent(const char* key, int64_t otherwise) const {
    const auto at = extents_.find(key);
    return at == extents_.end() ? otherwise : at->second;
  }

  Spec spec_;
  std::map<std::string, int64_t> extents_;
  std::map<std::string, std::string> seen_;  // by group, the field that said it
};

}  // namespace

qkv_type parse_type(const std::string& text) {
  for (const qkv_type type : {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16}) {
    if (text == type_name(type)) return type;
  }
  refuse("type is '", text, "'; allowed are f32, f16, bf16");
}

qkv_device parse_device(const std::string& text) {
  for (const qkv_device device : {QKV_DEVICE_CPU, QKV_DEVICE_CUDA}) {
    if (text == device_name(device)) return device;
  }
  refuse("device is '", text, "'; allowed are cpu, cuda");
}

Spec parse(const std::string& line) {
  std::istringstream in(line);
  std::string word;
  std::getline(in, word, ':');
  if (word != "fwd") refuse("problem starts with '", word, "'; it must start with fwd");
  Parser parser;
  while (std::getline(in, word, ':')) parser.apply(word);
  return parser.finish();
}

}  // namespace qkv::bench
