// The op project as the benchmark measures it: random x, weight and bias, projected by the library,
// checked against the same sums in fp64, beside OpenBLAS on the CPU.

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "bench/cuda_bench.h"
#include "bench/spec.h"
#include "bench/tensors.h"
#include "bench/workload.h"
#include "host/core/device.h"
#include "host/core/numeric.h"
#include "host/core/view.h"
#if QKV_BENCH_HAS_OPENBLAS
#include "bench/baselines/cpu_product.h"
#endif

namespace qkv::bench {
namespace {

// One of them for each field of the line
//   project:cpu:f16:b1:s512:in768:out2304:h36:bias:io:w=2304:x=393216.768:y=1179648.64.2304
struct ProjectSpec {
  qkv_device device = QKV_DEVICE_CPU;
  qkv_type type = QKV_TYPE_F32;
  int64_t batch = 1, rows = 512, in = 768, out = 768, heads = 1, threads = 0;
  bool bias = false, by_out = true;
  int64_t weight_pitch = 0;    // 0: contiguous
  std::array<int64_t, 2> x{};  // batch and row; zeros: contiguous
  std::array<int64_t, 3> y{};  // batch, head and row; zeros: [batch, rows, heads, dim]
  bool x_given = false, y_given = false;

  int64_t dim() const { return out / heads; }
  bool contiguous() const { return weight_pitch == 0 && !x_given && !y_given; }
};

// Extents and strides of x, weight, bias and y, without addresses.
struct ProjectViews {
  explicit ProjectViews(const ProjectSpec& s) {
    const int64_t pitch = s.weight_pitch != 0 ? s.weight_pitch : s.by_out ? s.in : s.out;
    const auto x_at = s.x_given ? s.x : std::array{s.rows * s.in, s.in};
    const auto y_at = s.y_given ? s.y : std::array{s.rows * s.out, s.dim(), s.out};
    x = {nullptr, s.type, 0, {s.batch, 1, s.rows, s.in}, {x_at[0], 0, x_at[1], 1}};
    weight = {nullptr,
              s.type,
              0,
              {1, 1, s.out, s.in},
              {0, 0, s.by_out ? pitch : 1, s.by_out ? 1 : pitch}};
    if (s.bias) bias = {nullptr, s.type, 0, {1, 1, 1, s.out}, {0, 0, 0, 1}};
    y = {nullptr, s.type, 0, {s.batch, s.heads, s.rows, s.dim()}, {y_at[0], y_at[1], y_at[2], 1}};
  }

  qkv_tensor x{}, weight{}, bias{}, y{};
};

size_t bytes_of(const qkv_tensor& t) {
  if (t.type == QKV_TYPE_NONE) return 0;
  int64_t last = 0;
  for (int axis = 0; axis < 4; ++axis) last += (t.shape[axis] - 1) * t.stride[axis];
  return static_cast<size_t>((last + 1) * host::type_size(t.type));
}

class ProjectTensors {
 public:
  explicit ProjectTensors(const ProjectSpec& s)
      : spec(s),
        views(s),
        x(bytes_of(views.x)),
        weight(bytes_of(views.weight)),
        bias(bytes_of(views.bias)),
        y(bytes_of(views.y)) {
    fill_random(x, spec.type, 1);
    fill_random(weight, spec.type, 2);
    if (spec.bias) fill_random(bias, spec.type, 3);
    poison();
  }

  void poison() const { std::memset(y.data(), 0xff, y.bytes()); }

  // In the order of described()'s addresses.
  std::vector<HostBuffer> buffers() const {
    return {{x.data(), x.bytes(), false},
            {weight.data(), weight.bytes(), false},
            {bias.data(), bias.bytes(), false},
            {y.data(), y.bytes(), true}};
  }

  const ProjectSpec spec;
  const ProjectViews views;
  const Buffer x, weight, bias, y;
};

constexpr const char* kFields =
    "cpu, cuda, f32, f16, bf16, b<n>, s<n>, in<n>, out<n>, h<n>, bias, io, w=<n>, x=<n>.<n>, "
    "y=<n>.<n>.<n>, threads=<n>";

template <class... Args>
[[noreturn]] void refuse(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  throw std::invalid_argument(out.str());
}

void require(qkv_status status) {
  if (status != QKV_SUCCESS) throw std::runtime_error(qkv_last_error());
}

// The call; the addresses are those of ProjectTensors::buffers().
qkv_project_desc described(const ProjectSpec& s, std::span<void* const> at) {
  const ProjectViews views(s);
  qkv_project_desc desc;
  require(qkv_project_desc_init(&desc, sizeof desc));
  desc.device = s.device;
  desc.threads = static_cast<int32_t>(s.threads);
  desc.x = views.x, desc.weight = views.weight, desc.bias = views.bias, desc.y = views.y;
  desc.x.data = at[0], desc.weight.data = at[1], desc.y.data = at[3];
  if (s.bias) desc.bias.data = at[2];
  return desc;
}

void run_project(const ProjectSpec& s, std::span<void* const> at, void* stream) {
  qkv_project_desc desc = described(s, at);
  desc.flags = QKV_FLAG_ALLOW_ALLOCATION;
  require(qkv_project(&desc, stream));
}

double flops_of(const ProjectSpec& s) {
  return 2.0 * static_cast<double>(s.batch * s.rows) * static_cast<double>(s.in) *
         static_cast<double>(s.out);
}

template <class Run>
double wall_seconds(Run&& run) {
  const auto start = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A contender that writes the tensors' own output.
class OnTensors : public Contender {
 public:
  explicit OnTensors(std::shared_ptr<const ProjectTensors> tensors) : tensors_(std::move(tensors)) {
    for (const HostBuffer& buffer : tensors_->buffers()) at_.push_back(buffer.data);
  }
  void poison() override { tensors_->poison(); }
  bool fetch() override { return true; }
  Measurement run() override {
    return {wall_seconds([this] { compute(); }), flops_of(tensors_->spec)};
  }

 protected:
  virtual void compute() = 0;
  const ProjectSpec& spec() const { return tensors_->spec; }
  const std::vector<void*>& at() const { return at_; }

 private:
  std::shared_ptr<const ProjectTensors> tensors_;
  std::vector<void*> at_;
};

// By a plan, with a workspace of its own.
class CpuProject : public OnTensors {
 public:
  explicit CpuProject(const std::shared_ptr<const ProjectTensors>& tensors)
      : OnTensors(tensors), desc_(described(spec(), at())) {
    qkv_plan* plan = nullptr;
    require(qkv_project_plan_create(&desc_, &plan));
    plan_.reset(plan);
    size_t bytes = 0;
    require(qkv_plan_workspace_size(plan, &bytes));
    workspace_ = Buffer(bytes);
    desc_.workspace = workspace_.data();
    desc_.workspace_size = bytes;
  }

 protected:
  void compute() override { require(qkv_project_plan_run(plan_.get(), &desc_, nullptr)); }

 private:
  struct Destroy {
    void operator()(qkv_plan* plan) const { qkv_plan_destroy(plan); }
  };
  qkv_project_desc desc_;
  std::unique_ptr<qkv_plan, Destroy> plan_;
  Buffer workspace_;
};

#if QKV_BENCH_HAS_OPENBLAS
class BlasProject : public OnTensors {
 public:
  explicit BlasProject(const std::shared_ptr<const ProjectTensors>& tensors)
      : OnTensors(tensors),
        product_{spec().type, spec().batch * spec().rows, spec().in, spec().out, spec().by_out,
                 spec().bias},
        workspace_(workspace_bytes(product_)),
        threads_(host::cpu_threads(static_cast<int32_t>(spec().threads))) {}

 protected:
  void compute() override {
    bench::run(product_, at()[0], at()[1], at()[2], at()[3], workspace_.data(), threads_);
  }

 private:
  PlainProduct product_;
  Buffer workspace_;
  int threads_;
};
#endif

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

// "1.2.3" into so many numbers.
void parse_strides(const std::string& text, const std::string& values, std::span<int64_t> out) {
  const char* at = values.data();
  const char* const end = at + values.size();
  for (size_t n = 0; n < out.size(); ++n) {
    if (n > 0 && (at == end || *at++ != '.')) at = nullptr;
    const auto [stop, error] = at == nullptr
                                   ? std::from_chars_result{nullptr, std::errc::invalid_argument}
                                   : std::from_chars(at, end, out[n]);
    if (error != std::errc() || out[n] < 0)
      refuse("problem field '", text, "' holds '", values, "'; allowed are ", out.size(),
             " whole numbers from 0 with points between them");
    at = stop;
  }
  if (at != end)
    refuse("problem field '", text, "' holds '", values, "'; allowed are ", out.size(), " strides");
}

// What is left out has ProjectSpec's default.
ProjectSpec parse_project(const std::string& line) {
  ProjectSpec spec;
  std::map<std::string, std::string> seen;
  const auto note = [&](const std::string& group, const std::string& text) {
    const auto [at, added] = seen.emplace(group, text);
    if (!added)
      refuse("problem field '", text, "' stands beside '", at->second, "'; allowed is one of them");
  };
  const std::map<std::string, int64_t*> extents{
      {"b", &spec.batch},         {"s", &spec.rows},  {"in", &spec.in},
      {"out", &spec.out},         {"h", &spec.heads}, {"w=", &spec.weight_pitch},
      {"threads=", &spec.threads}};
  std::istringstream in(line);
  std::string text;
  std::getline(in, text, ':');
  while (std::getline(in, text, ':')) {
    if (text == "cpu" || text == "cuda") {
      note("device", text);
      spec.device = parse_device(text);
    } else if (text == "f32" || text == "f16" || text == "bf16") {
      note("type", text);
      spec.type = parse_type(text);
    } else if (text == "bias" || text == "io") {
      note(text, text);
      (text == "bias" ? spec.bias : spec.by_out) = text == "bias";
    } else if (text.starts_with("x=")) {
      note("x", text);
      parse_strides(text, text.substr(2), spec.x);
      spec.x_given = true;
    } else if (text.starts_with("y=")) {
      note("y", text);
      parse_strides(text, text.substr(2), spec.y);
      spec.y_given = true;
    } else {
      const size_t digits = std::min(text.find_first_of("-0123456789"), text.size());
      const auto extent = extents.find(text.substr(0, digits));
      if (extent == extents.end())
        refuse("problem field '", text, "' is not known; allowed are ", kFields);
      note(extent->first, text);
      const char* const end = text.data() + text.size();
      const auto [at, error] = std::from_chars(text.data() + digits, end, *extent->second);
      constexpr int64_t kMost = int64_t{1} << 31;
      if (error != std::errc() || at != end || *extent->second < 1 || *extent->second > kMost)
        refuse("problem field '", text, "' holds '", text.substr(digits),
               "'; allowed is a whole number from 1 to ", kMost);
    }
  }
  if (spec.out % spec.heads != 0)
    refuse("problem fields out", spec.out, " and h", spec.heads, "; heads must divide out");
  return spec;
}

Subject subject_of(const ProjectSpec& s) {
  std::ostringstream options;
  options << "in" << s.in << "_out" << s.out;
  if (s.bias) options << "_bias";
  if (!s.by_out) options << "_io";
  if (!s.contiguous()) options << "_strided";
  if (s.threads > 0) options << "_threads=" << s.threads;
  std::ostringstream name;
  name << "project/" << device_name(s.device) << "/" << type_name(s.type) << "/b" << s.batch << "_s"
       << s.rows << "_h" << s.heads << "/" << options.str();
  std::ostringstream columns;
  columns << device_name(s.device) << "\t" << type_name(s.type) << "\t-\t" << s.dim() << "\t-\t"
          << s.batch << "\t" << s.heads << "\t-\t" << s.rows << "\t-";
  const double elements =
      static_cast<double>(s.batch * s.rows) * static_cast<double>(s.in + s.out) +
      static_cast<double>(s.in + (s.bias ? 1 : 0)) * static_cast<double>(s.out);
  Subject subject;
  subject.name = name.str();
  subject.columns = columns.str();
  subject.options = "project_" + options.str();
  subject.bytes = elements * static_cast<double>(host::type_size(s.type));
  return subject;
}

// Rows of y, all of a small problem and samples of a large one, against fp64: sums of n terms in
// fp32 err by at most 6 sqrt(n) 2^-24 of the sum of their sizes (tests/README.md), the result by
// half a unit of its type.
std::string check_project(const ProjectTensors& t) {
  const ProjectSpec& s = t.spec;
  constexpr int64_t kRows = 64;
  const int64_t rows = s.batch * s.rows, step = std::max<int64_t>(rows / kRows, 1);
  const double unit = s.type == QKV_TYPE_F32 ? 0x1p-24 : s.type == QKV_TYPE_F16 ? 0x1p-11 : 0x1p-8;
  const double sums = 6 * std::sqrt(static_cast<double>(s.in) + 1) * 0x1p-24;
  for (int64_t row = 0; row < rows; row += step)
    for (int64_t c = 0; c < s.out; ++c) {
      const int64_t b = row / s.rows, i = row % s.rows;
      double want = s.bias ? load(t.bias, s.type, c) : 0, size = std::abs(want);
      for (int64_t k = 0; k < s.in; ++k) {
        const double term =
            load(t.x, s.type, b * t.views.x.stride[0] + i * t.views.x.stride[2] + k) *
            load(t.weight, s.type, c * t.views.weight.stride[2] + k * t.views.weight.stride[3]);
        want += term, size += std::abs(term);
      }
      const double got = load(t.y, s.type,
                              b * t.views.y.stride[0] + c / s.dim() * t.views.y.stride[1] +
                                  i * t.views.y.stride[2] + c % s.dim());
      const double allowed = sums * size + unit * std::abs(want) * 1.001 + 0x1p-24;
      if (!(std::abs(got - want) <= allowed))
        return host::text("y[", row, "][", c, "] is ", got, ", the formula says ", want);
    }
  return {};
}

class ProjectWorkload : public Workload {
 public:
  explicit ProjectWorkload(const ProjectSpec& spec) : spec_(spec) {}

  Subject subject() const override { return subject_of(spec_); }
  qkv_device device() const override { return spec_.device; }
  qkv_type ceiling_type() const override { return spec_.type; }
  std::vector<Candidate> names(CudaBench*) const override { return candidates(nullptr, nullptr); }

  Ready ready(CudaBench* cuda) const override {
    const auto tensors = std::make_shared<const ProjectTensors>(spec_);
    return {candidates(cuda, tensors), [tensors](bool) { return check_project(*tensors); }};
  }

 private:
  std::vector<Candidate> candidates(CudaBench* cuda,
                                    const std::shared_ptr<const ProjectTensors>& tensors) const {
    const auto make = [spec = spec_, cuda, tensors]() -> std::unique_ptr<Contender> {
      if (spec.device == QKV_DEVICE_CPU) return std::make_unique<CpuProject>(tensors);
      return cuda->contender(
          tensors->buffers(),
          [spec](std::span<void* const> at, void* stream) { run_project(spec, at, stream); },
          flops_of(spec));
    };
    std::vector<Candidate> out{{kQkv, make}};
#if QKV_BENCH_HAS_OPENBLAS
    const auto blas = [tensors] { return std::make_unique<BlasProject>(tensors); };
    if (spec_.device == QKV_DEVICE_CPU)
      out.push_back(
          {kUnfused, blas, "", spec_.contiguous() ? "" : "x, weight or y is not contiguous"});
#endif
    return out;
  }

  ProjectSpec spec_;
};

}  // namespace

extern const Family project_family;
const Family project_family{
    "project",
    "  cpu cuda  f32 f16 bf16  the tensors' type\n"
    "  b<n> s<n> in<n> out<n>  batches, rows, widths\n"
    "  h<n>  bias  io          heads of y; whether there is a bias; weight as [in, out]\n"
    "  w=<n>                   elements from line to line of weight; default: contiguous\n"
    "  x=<b>.<s> y=<b>.<h>.<s> strides; default: contiguous, y as [batch, rows, heads, dim]\n"
    "  threads=<n>             of the CPU, at most\n",
    [](const std::string& line) -> std::unique_ptr<Workload> {
      return std::make_unique<ProjectWorkload>(parse_project(line));
    }};

}  // namespace qkv::bench
