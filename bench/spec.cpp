#include "bench/spec.h"

#include <algorithm>
#include <cstdio>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "host/ops/attention/problem.h"

namespace qkv::bench {
namespace {

using host::Shape;
using host::attention::Element;
using host::attention::kTensors;
using host::attention::TensorRow;
using host::attention::Word;

constexpr std::string_view kAxes = "bhqk";

// --- shapes and strides

bool there(const Spec& s, Part part) {
  return part <= kO || (part == kAdditive ? s.additive : s.given[part].there);
}

Shape shape(const Spec& s, Part part) {
  const TensorRow& row = kTensors[part];
  Shape out = host::attention::shape_of(row, host::attention::extents_of(s));
  if (row.kind == Word::kAxes) {
    for (size_t axis = 0; axis < 4; ++axis)
      if (s.given[part].axes.find(kAxes[axis]) == std::string::npos) out[axis] = 1;
  } else if ((row.broadcast & host::attention::kBroadcastBatch) != 0) {
    out[0] = 1;
  }
  return out;
}

qkv_type type(const Spec& s, Part part) {
  if (!there(s, part)) return QKV_TYPE_NONE;
  const auto element = kTensors[part].element;
  if (element == Element::kIndex) return s.given[part].index;
  if (element == Element::kWide && !s.given[part].wide) return s.type;
  return host::attention::types_of(element, s.type)[0];
}

int64_t times(int64_t a, int64_t b) {
  int64_t out = 0;
  if (__builtin_mul_overflow(a, b, &out))
    throw std::invalid_argument("problem has a tensor of more than 2^63 elements");
  return out;
}

Strides bhsd(const Shape& n) {
  const int64_t head = times(n[2], n[3]);
  return {times(n[1], head), head, n[3]};
}

Strides bshd(const Shape& n) {
  const int64_t row = times(n[1], n[3]);
  return {times(n[2], row), n[3], row};
}

// The stride of an axis of extent 1 says nothing.
bool same(const Shape& n, const Strides& a, const Strides& b) {
  return (n[0] == 1 || a.batch == b.batch) && (n[1] == 1 || a.head == b.head) &&
         (n[2] == 1 || a.row == b.row);
}

bool all_strides_are(const Spec& s, Strides (*layout)(const Shape&)) {
  for (const Part part : {kQ, kK, kV, kO}) {
    const Shape n = shape(s, part);
    if (!same(n, s.strides[part].value_or(bshd(n)), layout(n))) return false;
  }
  return true;
}

// --- the fields that options_name() and line() share

std::string number(double x) {
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.9g", x);
  return buffer.data();
}

std::vector<std::string> option_fields(const Spec& s) {
  std::vector<std::string> out;
  const auto add = [&](bool given, const std::string& field) {
    if (given) out.push_back(field);
  };
  add(s.additive, "additive");
  add(s.hard, "hard");
  add(s.top, "top-k=" + std::to_string(s.top_k));
  add(s.scale.has_value(), "scale=" + number(s.scale.value_or(0)));
  add(s.softcap > 0, "softcap=" + number(s.softcap));
  add(s.alignment == QKV_ALIGN_TOP_LEFT, "top-left");
  add(s.alignment == QKV_ALIGN_EXPLICIT, "offset=" + std::to_string(s.offset));
  add(s.left.has_value(), "left=" + std::to_string(s.left.value_or(0)));
  add(s.right.has_value(), "right=" + std::to_string(s.right.value_or(0)));
  for (size_t part = kO + 1; part < kParts; ++part) {
    const TensorRow& row = kTensors[part];
    const Spec::Given& given = s.given[part];
    const std::string word = row.word, equals = given.wide ? "32=" : "=";
    add(given.there && row.kind == Word::kPlain, word);
    add(given.there && row.kind == Word::kAxes, word + equals + given.axes);
    add(given.there && row.kind == Word::kInteger,
        word + (given.index == QKV_TYPE_I32 ? "32" : "64"));
    add(given.there && row.kind == Word::kMode, word + equals + std::to_string(s.weights_mode));
  }
  add(s.split > 0, "split=" + std::to_string(s.split));
  add(s.threads > 0, "threads=" + std::to_string(s.threads));
  return out;
}

std::vector<std::string> stride_fields(const Spec& s) {
  std::vector<std::string> out;
  for (const Part part : {kQ, kK, kV, kO}) {
    const auto& given = s.strides[part];
    const Shape n = shape(s, part);
    if (!given.has_value() || same(n, *given, bshd(n))) continue;
    std::ostringstream field;
    field << kTensors[part].word << "=" << given->batch << "." << given->head << "." << given->row;
    out.push_back(field.str());
  }
  return out;
}

std::string joined(const std::vector<std::string>& fields, char between) {
  std::string out;
  for (const std::string& field : fields)
    out += (out.empty() ? "" : std::string(1, between)) + field;
  return out;
}

}  // namespace

void set_bhsd(Spec* spec) {
  for (const Part part : {kQ, kK, kV, kO}) spec->strides[part] = bhsd(shape(*spec, part));
}

bool is_bhsd(const Spec& spec) { return all_strides_are(spec, bhsd); }

const char* type_name(qkv_type type) {
  if (type == QKV_TYPE_F32) return "f32";
  return type == QKV_TYPE_F16 ? "f16" : "bf16";
}

const char* device_name(qkv_device device) { return device == QKV_DEVICE_CUDA ? "cuda" : "cpu"; }

const char* mask_name(const Spec& spec) { return spec.causal ? "causal" : "full"; }

std::string shape_name(const Spec& s) {
  std::ostringstream out;
  out << "b" << s.batch;
  if (s.heads_q == s.heads_kv) {
    out << "_h" << s.heads_q;
  } else {
    out << "_hq" << s.heads_q << "_hkv" << s.heads_kv;
  }
  if (s.s_q == s.s_kv) {
    out << "_s" << s.s_q;
  } else {
    out << "_sq" << s.s_q << "_skv" << s.s_kv;
  }
  return out.str();
}

std::string options_name(const Spec& s) {
  std::vector<std::string> fields = option_fields(s);
  if (!is_bhsd(s)) {
    auto layout = stride_fields(s);
    if (layout.empty()) layout.emplace_back("bshd");
    fields.insert(fields.begin(), layout.begin(), layout.end());
  }
  return joined(fields, '_');
}

std::string name(const Spec& s) {
  std::ostringstream out;
  out << "forward/" << device_name(s.device) << "/" << type_name(s.type) << "/d" << s.d_qk;
  if (s.d_v != s.d_qk) out << "_dv" << s.d_v;
  out << "/" << mask_name(s) << "/" << shape_name(s);
  const std::string options = options_name(s);
  if (!options.empty()) out << "/" << options;
  return out.str();
}

std::string line(const Spec& s) {
  std::ostringstream out;
  out << "fwd:" << device_name(s.device) << ":" << type_name(s.type) << ":d" << s.d_qk;
  if (s.d_v != s.d_qk) out << ":dv" << s.d_v;
  out << ":" << mask_name(s) << ":b" << s.batch << ":hq" << s.heads_q << ":hkv" << s.heads_kv
      << ":sq" << s.s_q << ":skv" << s.s_kv;
  for (const auto& fields : {option_fields(s), stride_fields(s)}) {
    if (!fields.empty()) out << ":" << joined(fields, ':');
  }
  return out.str();
}

std::vector<std::string> fields_of(const TensorRow& row) {
  const std::string word = row.word;
  const auto with = [&](const char* value) {
    std::vector<std::string> out{word + value};
    if (row.element == Element::kWide) out.push_back(word + "32" + value);
    return out;
  };
  switch (row.kind) {
    case Word::kPlain:
      return {word};
    case Word::kInteger:
      return {word + "32", word + "64"};
    case Word::kAxes:
      return with("=<axes>");
    case Word::kMode:
      return with("=<0..3>");
    case Word::kNone:
      break;
  }
  return {};
}

qkv_tensor tensor(const Spec& s, Part part) {
  qkv_tensor out{};
  out.type = type(s, part);
  if (out.type == QKV_TYPE_NONE) return out;
  const Shape n = shape(s, part);
  Strides strides = part <= kO ? bshd(n) : bhsd(n);
  if (part <= kO) strides = s.strides[part].value_or(strides);
  std::copy(n.begin(), n.end(), out.shape);
  out.stride[0] = strides.batch;
  out.stride[1] = strides.head;
  out.stride[2] = strides.row;
  out.stride[3] = 1;
  return out;
}

int64_t kv_length(const Spec& s, int64_t batch) {
  if (!s.given[kLengths].there) return s.s_kv;
  const int64_t least = (s.s_kv + 1) / 2;
  return s.batch == 1 ? least : least + (s.s_kv - least) * batch / (s.batch - 1);
}

double visible_pairs(const Spec& s) {
  const int64_t left = s.left.value_or(host::attention::kUnbounded);
  const int64_t right = s.causal ? 0 : s.right.value_or(host::attention::kUnbounded);
  double pairs = 0;
  for (int64_t b = 0; b < (s.given[kLengths].there ? s.batch : 1); ++b) {
    const int64_t length = kv_length(s, b);
    const int64_t offset = s.alignment == QKV_ALIGN_BOTTOM_RIGHT ? length - s.s_q
                           : s.alignment == QKV_ALIGN_EXPLICIT   ? s.offset
                                                                 : 0;
    for (int64_t i = 0; i < s.s_q; ++i) {
      const int64_t begin = std::max<int64_t>(0, i + offset - left);
      const int64_t end = std::min(length, i + offset + right + 1);
      pairs += static_cast<double>(std::max<int64_t>(0, end - begin));
    }
  }
  if (!s.given[kLengths].there) pairs *= static_cast<double>(s.batch);
  return pairs * static_cast<double>(s.heads_q);
}

double flops(const Spec& s) {
  return 2 * visible_pairs(s) * static_cast<double>(s.hard || s.top ? s.d_qk : s.d_qk + s.d_v);
}

double compulsory_bytes(const Spec& s) {
  double bytes = 0;
  for (size_t part = 0; part < kParts; ++part) {
    const qkv_tensor t = tensor(s, static_cast<Part>(part));
    auto size = static_cast<double>(host::type_size(t.type));
    for (size_t axis = 0; axis < 4; ++axis)
      size *= t.stride[axis] == 0 ? 1.0 : static_cast<double>(t.shape[axis]);
    bytes += size;
  }
  return bytes;
}

}  // namespace qkv::bench
