// The op merge as the benchmark measures it: parts of random O and LSE, merged by the library,
// checked against the same sum in fp64.

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "bench/cuda_bench.h"
#include "bench/spec.h"
#include "bench/tensors.h"
#include "bench/workload.h"
#include "host/core/numeric.h"
#include "host/core/view.h"

namespace qkv::bench {
namespace {

// Sizes as qkv_merge_desc has them, one of them for each field of the line
//   merge:cpu:f32:d128:b1:h8:s2048:parts4:to=bf16:lse
struct MergeSpec {
  qkv_device device = QKV_DEVICE_CPU;
  qkv_type from = QKV_TYPE_F32, to = QKV_TYPE_F32;  // of the parts, of O
  int64_t dim = 128, batch = 1, heads = 8, seq = 2048, parts = 4;
  bool lse = false;
};

// Contiguous [batch, heads, seq, dim]; one buffer for all parts' O, one for all parts' LSE.
class MergeTensors {
 public:
  explicit MergeTensors(const MergeSpec& s)
      : spec(s),
        rows(spec.batch * spec.heads * spec.seq),
        o_parts(bytes(spec.parts * rows * spec.dim, spec.from)),
        lse_parts(bytes(spec.parts * rows, QKV_TYPE_F32)),
        o(bytes(rows * spec.dim, spec.to)),
        lse(spec.lse ? bytes(rows, QKV_TYPE_F32) : 0) {
    fill_random(o_parts, spec.from, 1);
    fill_random(lse_parts, QKV_TYPE_F32, 2);
    poison();
  }

  void poison() const {
    std::memset(o.data(), 0xff, o.bytes());
    if (lse.bytes() > 0) std::memset(lse.data(), 0xff, lse.bytes());
  }

  // In the order of run_merge()'s addresses.
  std::vector<HostBuffer> buffers() const {
    return {{o_parts.data(), o_parts.bytes(), false},
            {lse_parts.data(), lse_parts.bytes(), false},
            {o.data(), o.bytes(), true},
            {lse.data(), lse.bytes(), true}};
  }

  const MergeSpec spec;
  const int64_t rows;
  const Buffer o_parts, lse_parts, o, lse;

 private:
  static size_t bytes(int64_t elements, qkv_type type) {
    return static_cast<size_t>(elements * host::type_size(type));
  }
};

constexpr const char* kFields =
    "cpu, cuda, f32, f16, bf16, d<n>, b<n>, h<n>, s<n>, parts<1..32>, to=<type>, lse";

template <class... Args>
[[noreturn]] void refuse(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  throw std::invalid_argument(out.str());
}

qkv_tensor tensor_at(void* data, qkv_type type, const MergeSpec& s, int64_t dim) {
  return {
      data, type, 0, {s.batch, s.heads, s.seq, dim}, {s.heads * s.seq * dim, s.seq * dim, dim, 1}};
}

// One call of the library; the addresses are those of MergeTensors::buffers().
void run_merge(const MergeSpec& s, std::span<void* const> at, void* stream) {
  const int64_t rows = s.batch * s.heads * s.seq;
  std::vector<qkv_tensor> o_parts, lse_parts;
  for (int64_t n = 0; n < s.parts; ++n) {
    o_parts.push_back(
        tensor_at(static_cast<std::byte*>(at[0]) + n * rows * s.dim * host::type_size(s.from),
                  s.from, s, s.dim));
    lse_parts.push_back(tensor_at(static_cast<float*>(at[1]) + n * rows, QKV_TYPE_F32, s, 1));
  }
  qkv_merge_desc desc;
  qkv_status status = qkv_merge_desc_init(&desc, sizeof desc);
  desc.device = s.device;
  desc.parts = static_cast<int32_t>(s.parts);
  desc.o_parts = o_parts.data();
  desc.lse_parts = lse_parts.data();
  desc.o = tensor_at(at[2], s.to, s, s.dim);
  if (s.lse) desc.lse = tensor_at(at[3], QKV_TYPE_F32, s, 1);
  if (status == QKV_SUCCESS) status = qkv_merge(&desc, stream);
  if (status != QKV_SUCCESS) throw std::runtime_error(qkv_last_error());
}

// A weight and a product for each element of a part, with the sum.
double flops_of(const MergeSpec& s) {
  return 2.0 * static_cast<double>(s.parts) * static_cast<double>(s.batch * s.heads) *
         static_cast<double>(s.seq) * static_cast<double>(s.dim);
}

class CpuMerge : public Contender {
 public:
  explicit CpuMerge(std::shared_ptr<const MergeTensors> tensors) : tensors_(std::move(tensors)) {
    for (const HostBuffer& buffer : tensors_->buffers()) at_.push_back(buffer.data);
  }
  void poison() override { tensors_->poison(); }
  bool fetch() override { return true; }
  Measurement run() override {
    const auto start = std::chrono::steady_clock::now();
    run_merge(tensors_->spec, at_, nullptr);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return {took.count(), flops_of(tensors_->spec)};
  }

 private:
  std::shared_ptr<const MergeTensors> tensors_;
  std::vector<void*> at_;
};

double load(const Buffer& buffer, qkv_type type, int64_t at) {
  switch (type) {
    case QKV_TYPE_F16:
      return to_float(static_cast<const host::Half*>(buffer.data())[at]);
    case QKV_TYPE_BF16:
      return to_float(static_cast<const host::Bfloat*>(buffer.data())[at]);
    default:
      return static_cast<double>(static_cast<const float*>(buffer.data())[at]);
  }
}

// What is left out has MergeSpec's default; `to`, the type of the parts.
MergeSpec parse_merge(const std::string& line) {
  MergeSpec spec;
  std::map<std::string, std::string> seen;
  const auto note = [&](const std::string& group, const std::string& text) {
    const auto [at, added] = seen.emplace(group, text);
    if (!added)
      refuse("problem field '", text, "' stands beside '", at->second, "'; allowed is one of them");
  };
  const struct {
    const char* key;
    int64_t* value;
    int64_t most;
  } extents[] = {{"d", &spec.dim, int64_t{1} << 31},
                 {"b", &spec.batch, int64_t{1} << 31},
                 {"h", &spec.heads, int64_t{1} << 31},
                 {"s", &spec.seq, int64_t{1} << 31},
                 {"parts", &spec.parts, QKV_MERGE_MAX_PARTS}};
  std::istringstream in(line);
  std::string text;
  std::getline(in, text, ':');
  while (std::getline(in, text, ':')) {
    if (text == "cpu" || text == "cuda") {
      note("device", text);
      spec.device = parse_device(text);
    } else if (text == "f32" || text == "f16" || text == "bf16") {
      note("type", text);
      spec.from = parse_type(text);
    } else if (text.starts_with("to=")) {
      note("to", text);
      spec.to = parse_type(text.substr(3));
    } else if (text == "lse") {
      note("lse", text);
      spec.lse = true;
    } else {
      const size_t digits = std::min(text.find_first_of("-0123456789"), text.size());
      const auto* extent = std::find_if(std::begin(extents), std::end(extents), [&](const auto& e) {
        return text.substr(0, digits) == e.key;
      });
      if (extent == std::end(extents))
        refuse("problem field '", text, "' is not known; allowed are ", kFields);
      note(extent->key, text);
      const char* const end = text.data() + text.size();
      const auto [at, error] = std::from_chars(text.data() + digits, end, *extent->value);
      if (error != std::errc() || at != end || *extent->value < 1 || *extent->value > extent->most)
        refuse("problem field '", text, "' holds '", text.substr(digits),
               "'; allowed is a whole number from 1 to ", extent->most);
    }
  }
  if (seen.count("to") == 0) spec.to = spec.from;
  return spec;
}

Subject subject_of(const MergeSpec& s) {
  Subject subject;
  std::string options = std::to_string(s.parts) + "_parts";
  if (s.to != s.from) options += std::string("_to_") + type_name(s.to);
  if (s.lse) options += "_lse";
  std::ostringstream name;
  name << "merge/" << device_name(s.device) << "/" << type_name(s.from) << "/d" << s.dim << "/b"
       << s.batch << "_h" << s.heads << "_s" << s.seq << "/" << options;
  subject.name = name.str();
  std::ostringstream columns;
  columns << device_name(s.device) << "\t" << type_name(s.from) << "\t-\t" << s.dim << "\t-\t"
          << s.batch << "\t" << s.heads << "\t-\t" << s.seq << "\t-";
  subject.columns = columns.str();
  subject.options = "merge_" + options;
  const auto rows = static_cast<double>(s.batch * s.heads) * static_cast<double>(s.seq);
  const auto dim = static_cast<double>(s.dim), parts = static_cast<double>(s.parts);
  subject.bytes = rows * (parts * (dim * static_cast<double>(host::type_size(s.from)) + 4) +
                          dim * static_cast<double>(host::type_size(s.to)) + (s.lse ? 4 : 0));
  return subject;
}

// Every row against the formula of qkv.h in fp64. fp32 weights err by some units of 2^-24, the
// result by half a unit of its type.
std::string check_merge(const MergeTensors& t) {
  const MergeSpec& s = t.spec;
  const double unit = s.to == QKV_TYPE_F32 ? 0x1p-20 : s.to == QKV_TYPE_F16 ? 0x1p-10 : 0x1p-7;
  for (int64_t row = 0; row < t.rows; ++row) {
    double best = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t n = 0; n < s.parts; ++n)
      best = std::max(best, load(t.lse_parts, QKV_TYPE_F32, n * t.rows + row));
    for (int64_t n = 0; n < s.parts; ++n)
      sum += std::exp(load(t.lse_parts, QKV_TYPE_F32, n * t.rows + row) - best);
    if (s.lse) {
      const double got = load(t.lse, QKV_TYPE_F32, row), want = best + std::log(sum);
      if (!(std::abs(got - want) <= 1e-5 * (1 + std::abs(want))))
        return host::text("LSE[", row, "] is ", got, ", the formula says ", want);
    }
    for (int64_t d = 0; d < s.dim; ++d) {
      double want = 0, largest = 0;
      for (int64_t n = 0; n < s.parts; ++n) {
        const double part = load(t.o_parts, s.from, (n * t.rows + row) * s.dim + d);
        want += std::exp(load(t.lse_parts, QKV_TYPE_F32, n * t.rows + row) - best) / sum * part;
        largest = std::max(largest, std::abs(part));
      }
      const double got = load(t.o, s.to, row * s.dim + d);
      if (!(std::abs(got - want) <= unit * largest))
        return host::text("O[", row, "][", d, "] is ", got, ", the formula says ", want);
    }
  }
  return {};
}

class MergeWorkload : public Workload {
 public:
  explicit MergeWorkload(const MergeSpec& spec) : spec_(spec) {}

  Subject subject() const override { return subject_of(spec_); }
  qkv_device device() const override { return spec_.device; }
  std::vector<Candidate> names(CudaBench*) const override { return {{kQkv, nullptr}}; }

  Ready ready(CudaBench* cuda) const override {
    const auto tensors = std::make_shared<const MergeTensors>(spec_);
    const auto make = [spec = spec_, cuda, tensors]() -> std::unique_ptr<Contender> {
      if (spec.device == QKV_DEVICE_CPU) return std::make_unique<CpuMerge>(tensors);
      return cuda->contender(
          tensors->buffers(),
          [spec](std::span<void* const> at, void* stream) { run_merge(spec, at, stream); },
          flops_of(spec));
    };
    return {{{kQkv, make}}, [tensors](bool) { return check_merge(*tensors); }};
  }

 private:
  MergeSpec spec_;
};

}  // namespace

extern const Family merge_family;
const Family merge_family{"merge",
                          "  cpu cuda  f32 f16 bf16  the parts' type\n"
                          "  d<n> b<n> h<n> s<n>     width, batches, heads, queries\n"
                          "  parts<1..32>  lse       parts; whether LSE is written\n"
                          "  to=<type>               of the output; default: the parts'\n",
                          [](const std::string& line) -> std::unique_ptr<Workload> {
                            return std::make_unique<MergeWorkload>(parse_merge(line));
                          }};

}  // namespace qkv::bench
