#include "host/verify/merge_parts.h"

#include <algorithm>
#include <cmath>

#include "host/core/status.h"
#include "host/verify/cases.h"

namespace qkv::verify {

Parts::Parts(int n, qkv_type part_type, qkv_type type, const Shape& shape,
             const BuildOptions& options)
    : memory_(options) {
  const Shape row{shape[0], shape[1], shape[2], 1};
  Random random(options.seed);
  for (int part = 0; part < n; ++part) {
    const bool heads_first = part % 2 == 0;
    const std::string name = host::text("_parts[", part, "]");
    Shape pad{};
    pad[heads_first ? 2 : 1] = part % 3;  // after each row
    o.push_back(memory_.add("o" + name, part_type, shape,
                            strides_of(shape, heads_first ? kAsBhsd : kAsBshd, pad), Use::kInput));
    lse.push_back(memory_.add("lse" + name, QKV_TYPE_F32, row,
                              strides_of(row, heads_first ? kAsBshd : kAsBhsd), Use::kInput));
    o.back().draw([&] { return random.normal(); });
    lse.back().draw([&] { return 5 * random.normal(); });
  }
  merged_o = memory_.add("o", type, shape, strides_of(shape, kAsBshd, {0, 3}), Use::kOutput);
  merged_lse = memory_.add("lse", QKV_TYPE_F32, row, strides_of(row, kAsBhsd), Use::kOutput);
}

qkv_status Parts::run(int into) {
  if (into >= 0) {
    merged_o = o[static_cast<size_t>(into)];
    merged_lse = lse[static_cast<size_t>(into)];
    merged_o.allow_writes(), merged_lse.allow_writes();
  }
  std::vector<qkv_tensor> o_views, lse_views;
  for (const Tensor& part : o) o_views.push_back(part.on_place());
  for (const Tensor& part : lse) lse_views.push_back(part.on_place());
  qkv_merge_desc desc;
  if (qkv_merge_desc_init(&desc, sizeof desc) != QKV_SUCCESS) return QKV_INTERNAL;
  desc.device = place().device();
  desc.device_index = place().index();
  desc.parts = static_cast<int32_t>(o.size());
  desc.o_parts = o_views.data();
  desc.lse_parts = lse_views.data();
  desc.o = merged_o.on_place();
  desc.lse = merged_lse.on_place();
  memory_.upload();
  const qkv_status status = qkv_merge(&desc, nullptr);
  memory_.download();
  return status;
}

std::vector<std::byte> Parts::output_bits() const {
  std::vector<std::byte> bits = merged_o.bits();
  const std::vector<std::byte> more = merged_lse.bits();
  bits.insert(bits.end(), more.begin(), more.end());
  return bits;
}

double Parts::lse64(int64_t b, int64_t h, int64_t i) const {
  double sum = 0;
  for (const Tensor& part : lse) sum += std::exp(part.get(b, h, i, 0));
  return std::log(sum);
}

Parts::Sum Parts::o64(int64_t b, int64_t h, int64_t i, int64_t d) const {
  const double whole = lse64(b, h, i);
  Sum sum{};
  for (size_t p = 0; p < o.size(); ++p) {
    const double x = std::exp(lse[p].get(b, h, i, 0) - whole) * o[p].get(b, h, i, d);
    sum.value += x, sum.size += std::abs(x);
  }
  return sum;
}

std::string MergeCase::name() const {
  return host::text("parts", parts, "_", type_label(part_type), "_", type_label(type));
}

std::vector<MergeCase> merge_cases() {
  constexpr qkv_type kTypes[] = {QKV_TYPE_F32, QKV_TYPE_F16, QKV_TYPE_BF16};
  std::vector<MergeCase> cases;
  for (const int parts : {1, 2, 3, 31, 32})
    for (const qkv_type part_type : kTypes)
      for (const qkv_type type : kTypes) cases.push_back({parts, part_type, type});
  return cases;
}

// Each weight errs by its exponential (2 ulp), the rounding of its exponent x (|x| exp(x) <= 0.37)
// and a product; sum and quotient add an ulp for each part and one more.
std::string merge_faults(const Parts& parts, qkv_type type, double* worst) {
  const auto n = static_cast<double>(parts.o.size());
  std::string wrong;
  const auto compare = [&](const char* name, const Shape& at, double got, double want,
                           double allowed) {
    const double quotient = std::abs(got - want) / allowed;
    *worst = std::max(*worst, std::isnan(quotient) ? kInf : quotient);
    if (quotient <= 1 || !wrong.empty()) return;
    wrong = host::text(name, "[", at[0], ", ", at[1], ", ", at[2], ", ", at[3], "] is ", got,
                       "; fp64 says ", want, ", ", allowed, " is allowed");
  };
  parts.merged_o.each([&](int64_t b, int64_t h, int64_t i, int64_t d) {
    const Parts::Sum o = parts.o64(b, h, i, d);
    compare("o", {b, h, i, d}, parts.merged_o.get(b, h, i, d), o.value,
            (2 * n + 12) * 0x1p-24 * o.size + ulp(type, o.value) / 2 * 1.001);
    if (d != 0) return;
    const double lse = parts.lse64(b, h, i);
    compare("lse", {b, h, i, d}, parts.merged_lse.get(b, h, i, 0), lse,
            (n + 6) * 0x1p-24 * (1 + std::abs(lse)));
  });
  return wrong;
}

}  // namespace qkv::verify
