#include "host/verify/projection.h"

#include <algorithm>
#include <cmath>

#include "host/core/status.h"
#include "host/core/view.h"
#include "host/verify/cases.h"

namespace qkv::verify {
namespace {

using X = ProjectCase::X;
using Y = ProjectCase::Y;

Shape x_strides(const ProjectCase& one, const Shape& shape) {
  switch (one.x) {
    case X::kPadded:
      return strides_of(shape, kAsBhsd, {0, 0, 6});
    case X::kRowsFirst:
      return strides_of(shape, kAsSbhd);
    case X::kOneBatch:
    case X::kOneRow: {
      Shape stride = strides_of(shape, kAsBhsd);
      stride[one.x == X::kOneRow ? 2 : 0] = 0;
      return stride;
    }
    default:
      return strides_of(shape, kAsBhsd);
  }
}

Shape y_strides(const ProjectCase& one, const Shape& shape) {
  switch (one.y) {
    case Y::kPart:
      return strides_of(shape, kAsBshd, {0, 0, 2 * one.out()});
    case Y::kHeadsFirst:
      return strides_of(shape, kAsBhsd);
    case Y::kHeadsApart:
      return strides_of(shape, kAsBshd, {0, 5});
    default:
      return strides_of(shape, kAsBshd);
  }
}

// The rule of tolerance.h for sums in fp32: of n terms, whose sizes add up to `size`.
double fp32_bound(double n, double size) { return 6 * std::sqrt(n) * 0x1p-24 * size; }

struct Element {
  double exact = 0, size = 0;  // the sum in fp64, and that of its terms' sizes
  double textbook = 0;         // in fp32, rounded once
};

// The inputs as numbers, once.
struct Factors {
  explicit Factors(const Projection& p)
      : type(p.y.view.type),
        in(p.x.view.shape[3]),
        rows(p.x.view.shape[2]),
        x(p.x.dense()),
        weight(p.weight.dense()),
        bias(p.bias.dense()) {}

  Element element(int64_t b, int64_t i, int64_t out) const {
    const double* const row = x.data() + (b * rows + i) * in;
    const double* const column = weight.data() + out * in;
    Element e;
    float sum = 0;
    for (int64_t d = 0; d < in; ++d) {
      const double product = row[d] * column[d];
      e.exact += product, e.size += std::abs(product);
      sum += static_cast<float>(row[d]) * static_cast<float>(column[d]);
    }
    if (!bias.empty()) {
      const double added = bias[static_cast<size_t>(out)];
      e.exact += added, e.size += std::abs(added);
      sum += static_cast<float>(added);
    }
    e.textbook = round_to(type, sum);
    return e;
  }

  const qkv_type type;
  const int64_t in, rows;
  const std::vector<double> x, weight, bias;
};

// The same kind of number: NaN, one of the infinities, or finite.
bool same_kind(double a, double b) {
  return std::isfinite(a) ? std::isfinite(b) : std::isnan(a) ? std::isnan(b) : a == b;
}

}  // namespace

std::string ProjectCase::name() const {
  return host::text(label, by_out ? "_oi" : "_io", bias ? "_bias_" : "_", type_label(type));
}

double ProjectCase::work() const {
  return static_cast<double>(batch * rows) * static_cast<double>(in) * static_cast<double>(out());
}

std::vector<ProjectCase> project_cases() {
  std::vector<ProjectCase> rows;
  const auto add = [&](const char* label, const auto& change) {
    ProjectCase one{.label = label};
    change(one);
    rows.push_back(one);
  };
  add("plain", [](ProjectCase&) {});
  // Where memory has gaps, or is read more than once.
  add("x_padded", [](ProjectCase& c) { c.x = X::kPadded; });
  add("x_rows_first", [](ProjectCase& c) { c.x = X::kRowsFirst; });
  add("x_one_batch", [](ProjectCase& c) { c.x = X::kOneBatch; });
  add("x_one_row", [](ProjectCase& c) { c.x = X::kOneRow; });
  add("weight_padded", [](ProjectCase& c) { c.weight_gap = 3; });
  add("y_part", [](ProjectCase& c) { c.y = Y::kPart; });
  add("y_heads_first", [](ProjectCase& c) { c.y = Y::kHeadsFirst; });
  add("y_heads_apart", [](ProjectCase& c) { c.y = Y::kHeadsApart; });
  add("y_more_batches_than_heads", [](ProjectCase& c) {
    c.batch = 5, c.heads = 2;
    c.y = Y::kHeadsFirst;
  });
  add("misaligned", [](ProjectCase& c) {
    c.in = 64, c.dim = 16;
    c.y = Y::kHeadsFirst;
    c.shift = 1;
  });
  add("all_apart", [](ProjectCase& c) {
    c.x = X::kPadded, c.y = Y::kHeadsFirst;
    c.weight_gap = 10;
  });
  // Sizes: one of everything; a row for each batch, as decoding has; more than a block, and a piece
  // of the sum, of the CPU's kernel.
  add("one", [](ProjectCase& c) { c.batch = c.rows = c.in = c.heads = c.dim = 1; });
  add("one_in", [](ProjectCase& c) { c.in = 1; });
  add("one_out", [](ProjectCase& c) { c.heads = c.dim = 1; });
  add("narrow_heads", [](ProjectCase& c) {
    c.heads = 7, c.dim = 1;
    c.y = Y::kHeadsFirst;
  });
  add("decode",
      [](ProjectCase& c) { c.batch = 7, c.rows = 1, c.in = 96, c.heads = 4, c.dim = 24; });
  add("decode_padded", [](ProjectCase& c) {
    c.batch = 7, c.rows = 1;
    c.x = X::kPadded, c.y = Y::kPart;
  });
  add("long_sum", [](ProjectCase& c) { c.in = 1100, c.dim = 5; });
  add("blocks", [](ProjectCase& c) {
    c.batch = 1, c.rows = 151, c.in = 530, c.heads = 6, c.dim = 53;
    c.x = X::kPadded, c.y = Y::kHeadsApart;
  });

  std::vector<ProjectCase> out;
  for (const ProjectCase& row : rows)
    for (const qkv_type type : {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16})
      for (const bool by_out : {true, false})
        for (const bool bias : {true, false}) {
          // A bias and the weight's order meet where heads or nothing at all is special.
          if (by_out != bias && row.y == Y::kPlain && &row != &rows.front()) continue;
          ProjectCase one = row;
          one.type = type, one.by_out = by_out, one.bias = bias;
          out.push_back(one);
        }
  return out;
}

Projection::Projection(const ProjectCase& one, const BuildOptions& options) : memory_(options) {
  const Shape x_shape{one.batch, 1, one.rows, one.in}, w_shape{1, 1, one.out(), one.in};
  const Shape y_shape{one.batch, one.heads, one.rows, one.dim};
  const auto shift = static_cast<size_t>(one.shift * host::type_size(one.type));
  x = memory_.add("x", one.type, x_shape, x_strides(one, x_shape), Use::kInput, shift);
  const int64_t pitch = (one.by_out ? one.in : one.out()) + one.weight_gap;
  const Shape w_stride{0, 0, one.by_out ? pitch : 1, one.by_out ? 1 : pitch};
  weight = memory_.add("weight", one.type, w_shape, w_stride, Use::kInput, shift);
  if (one.bias)
    bias = memory_.add("bias", one.type, {1, 1, 1, one.out()}, {0, 0, 0, 1}, Use::kInput, shift);
  y = memory_.add("y", one.type, y_shape, y_strides(one, y_shape), Use::kOutput, shift);
  if (!options.contents) return;
  Random random(options.seed);
  for (const Tensor* tensor : {&x, &weight, &bias})
    if (tensor->present()) tensor->draw([&] { return random.normal(); });
}

qkv_project_desc Projection::desc() const {
  qkv_project_desc desc;
  (void)qkv_project_desc_init(&desc, sizeof desc);
  desc.device = place().device();
  desc.device_index = place().index();
  desc.threads = threads;
  desc.x = x.on_place();
  desc.weight = weight.on_place();
  if (bias.present()) desc.bias = bias.on_place();
  desc.y = y.on_place();
  return desc;
}

qkv_status Projection::run(bool by_plan) {
  qkv_project_desc call = desc();
  qkv_status status = QKV_SUCCESS;
  memory_.upload();
  if (by_plan) {
    qkv_plan* plan = nullptr;
    status = qkv_project_plan_create(&call, &plan);
    if (status == QKV_SUCCESS) status = qkv_plan_workspace_size(plan, &call.workspace_size);
    if (status == QKV_SUCCESS && call.workspace_size > 0)
      call.workspace = memory_.add_workspace(call.workspace_size);
    if (status == QKV_SUCCESS) status = qkv_project_plan_run(plan, &call, nullptr);
    qkv_plan_destroy(plan);
  } else {
    call.flags = QKV_FLAG_ALLOW_ALLOCATION;
    status = qkv_project(&call, nullptr);
  }
  memory_.download();
  return status;
}

// By the rules of tolerance.h that fit a sum: non-finite numbers where the oracle's, rounded, are;
// each element within what sums in fp32 and one rounding may do; and the largest error at most
// twice the textbook's, beyond an ulp and the rounding of one sum.
std::string project_faults(const Projection& p, double* worst) {
  const Factors inputs(p);
  const qkv_type type = inputs.type;
  const int64_t dim = p.y.view.shape[3];
  const double terms = static_cast<double>(inputs.in) + 1;
  std::string wrong;
  double largest_error = 0, textbook_error = 0, floor = 0;
  p.y.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    const Element e = inputs.element(b, i, h * dim + d);
    const double got = p.y.get(b, h, i, d), want = round_to(type, e.exact);
    const auto at = [&] { return host::text("y[", b, ", ", h, ", ", i, ", ", d, "] is ", got); };
    if (!same_kind(got, want)) {
      *worst = kInf;
      if (wrong.empty()) wrong = at() + host::text("; the oracle says ", want);
      return;
    }
    if (!std::isfinite(want)) return;
    const double error = std::abs(got - e.exact);
    const double allowed = fp32_bound(terms, e.size) + ulp(type, e.exact) / 2 * (1 + 0x1p-10);
    *worst = std::max(*worst, error / allowed);
    if (error > allowed && wrong.empty())
      wrong = at() + host::text("; fp64 says ", e.exact, ", ", allowed, " is allowed");
    largest_error = std::max(largest_error, error);
    textbook_error = std::max(textbook_error, std::abs(e.textbook - e.exact));
    floor = std::max(floor, ulp(type, e.exact) + fp32_bound(1, e.size));
  });
  const double allowed = 2 * textbook_error + floor;
  if (wrong.empty() && largest_error > allowed)
    wrong = host::text("y errs by ", largest_error, "; the textbook's sums by ", textbook_error,
                       ", ", allowed, " is allowed");
  return wrong;
}

}  // namespace qkv::verify
