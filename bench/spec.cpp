#include "bench/spec.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "host/problem.h"

namespace qkv::bench {
namespace {

constexpr int64_t kMaxExtent = int64_t{1} << 31;

template <class... Args>
[[noreturn]] void refuse(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  throw std::invalid_argument(out.str());
}

// "hq8" is key "hq", value 8.
struct Field {
  std::string_view key;
  int64_t value = 0;
};

Field parse_field(std::string_view text) {
  const size_t digits = text.find_first_of("0123456789");
  if (digits == 0 || digits == std::string_view::npos) {
    refuse("problem field '", text, "' is none of cpu, cuda, f32, f16, bf16, causal, full, d<n>, ",
           "dv<n>, b<n>, h<n>, hq<n>, hkv<n>, s<n>, sq<n>, skv<n>");
  }
  Field field{text.substr(0, digits), 0};
  const std::string_view number = text.substr(digits);
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), field.value);
  if (error != std::errc{} || end != number.data() + number.size() || field.value < 1 ||
      field.value > kMaxExtent) {
    refuse("problem field '", text, "' must hold a whole number from 1 to 2^31");
  }
  return field;
}

void apply(const Field& field, Spec* spec) {
  const auto is = [&](std::string_view key) { return field.key == key; };
  if (is("d")) {
    spec->d_qk = spec->d_v = field.value;
  } else if (is("dv")) {
    spec->d_v = field.value;
  } else if (is("b")) {
    spec->batch = field.value;
  } else if (is("h")) {
    spec->heads_q = spec->heads_kv = field.value;
  } else if (is("hq")) {
    spec->heads_q = field.value;
  } else if (is("hkv")) {
    spec->heads_kv = field.value;
  } else if (is("s")) {
    spec->s_q = spec->s_kv = field.value;
  } else if (is("sq")) {
    spec->s_q = field.value;
  } else if (is("skv")) {
    spec->s_kv = field.value;
  } else {
    refuse("problem field '", field.key, field.value, "' has none of the keys d, dv, b, h, hq, ",
           "hkv, s, sq, skv");
  }
}

void apply(std::string_view word, Spec* spec) {
  if (word == "cpu" || word == "cuda") {
    spec->device = parse_device(std::string(word));
  } else if (word == "f32" || word == "f16" || word == "bf16") {
    spec->type = parse_type(std::string(word));
  } else if (word == "causal") {
    spec->causal = true;
  } else if (word == "full" || word == "none") {
    spec->causal = false;
  } else {
    apply(parse_field(word), spec);
  }
}

}  // namespace

const char* type_name(qkv_type type) {
  if (type == QKV_TYPE_F32) return "f32";
  return type == QKV_TYPE_F16 ? "f16" : "bf16";
}

const char* device_name(qkv_device device) { return device == QKV_DEVICE_CUDA ? "cuda" : "cpu"; }

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

std::string name(const Spec& s) {
  std::ostringstream out;
  out << "forward/" << device_name(s.device) << "/" << type_name(s.type) << "/d" << s.d_qk;
  if (s.d_v != s.d_qk) out << "_dv" << s.d_v;
  out << "/" << mask_name(s) << "/" << shape_name(s);
  return out.str();
}

std::string line(const Spec& s) {
  std::ostringstream out;
  out << "fwd:" << device_name(s.device) << ":" << type_name(s.type) << ":d" << s.d_qk;
  if (s.d_v != s.d_qk) out << ":dv" << s.d_v;
  out << ":" << mask_name(s) << ":b" << s.batch << ":hq" << s.heads_q << ":hkv" << s.heads_kv
      << ":sq" << s.s_q << ":skv" << s.s_kv;
  return out.str();
}

Spec parse(const std::string& line) {
  std::istringstream in(line);
  std::string word;
  std::getline(in, word, ':');
  if (word != "fwd") refuse("problem starts with '", word, "'; it must start with fwd");
  Spec spec;
  while (std::getline(in, word, ':')) apply(std::string_view(word), &spec);
  if (spec.heads_q % spec.heads_kv != 0) {
    refuse("problem has hq", spec.heads_q, " and hkv", spec.heads_kv, "; hkv must divide hq");
  }
  return spec;
}

double visible_pairs(const Spec& s) {
  double pairs = 0;
  if (!s.causal) {
    pairs = static_cast<double>(s.s_q) * static_cast<double>(s.s_kv);
  } else {
    for (int64_t i = 0; i < s.s_q; ++i) {
      pairs += static_cast<double>(std::clamp<int64_t>(i + s.s_kv - s.s_q + 1, 0, s.s_kv));
    }
  }
  return pairs * static_cast<double>(s.batch) * static_cast<double>(s.heads_q);
}

double flops(const Spec& s) { return 2 * visible_pairs(s) * static_cast<double>(s.d_qk + s.d_v); }

double compulsory_bytes(const Spec& s) {
  const auto rows = [&](int64_t heads, int64_t length, int64_t width) {
    return static_cast<double>(s.batch * heads) * static_cast<double>(length * width);
  };
  const double elements =
      rows(s.heads_q, s.s_q, s.d_qk + s.d_v) + rows(s.heads_kv, s.s_kv, s.d_qk + s.d_v);
  return elements * static_cast<double>(host::type_size(s.type));
}

}  // namespace qkv::bench
