#include "host/verify/merge_parts.h"

#include <algorithm>

#include "host/core/status.h"
#include "host/verify/cases.h"

namespace qkv::verify {

Array::Array(qkv_type type, Index shape, bool heads_first, int64_t padding)
    : shape_(shape), type_(type) {
  const int64_t row = shape[3] + padding;
  stride_ = heads_first ? Index{shape[1] * shape[2] * row, shape[2] * row, row, 1}
                        : Index{shape[2] * shape[1] * row, row, shape[1] * row, 1};
  image_.assign(static_cast<size_t>(shape[0] * shape[1] * shape[2] * row) *
                    static_cast<size_t>(host::type_size(type)),
                std::byte{0xa5});
  memory_ = std::make_unique<Memory>(image_.size(), Memory::Fit::kExact);
}

qkv_tensor Array::view() const {
  qkv_tensor t{memory_->address(), type_, 0, {}, {}};
  for (size_t axis = 0; axis < 4; ++axis)
    t.shape[axis] = shape_[axis], t.stride[axis] = stride_[axis];
  return t;
}

Parts::Parts(int n, qkv_type part_type, qkv_type type, Index shape, uint64_t seed) {
  const Index row{shape[0], shape[1], shape[2], 1};
  Random random(seed);
  for (int part = 0; part < n; ++part) {
    o.push_back(std::make_unique<Array>(part_type, shape, part % 2 == 0, part % 3));
    lse.push_back(std::make_unique<Array>(QKV_TYPE_F32, row, part % 2 == 1));
    o.back()->each([&](Index at) { o.back()->set(at, random.normal()); });
    lse.back()->each([&](Index at) { lse.back()->set(at, 5 * random.normal()); });
  }
  merged_o = std::make_unique<Array>(type, shape, false, 3);
  merged_lse = std::make_unique<Array>(QKV_TYPE_F32, row, true);
}

qkv_status Parts::run(int into) {
  std::vector<qkv_tensor> o_views, lse_views;
  for (auto& part : o) part->upload(), o_views.push_back(part->view());
  for (auto& part : lse) part->upload(), lse_views.push_back(part->view());
  merged_o->upload(), merged_lse->upload();
  Array& to_o = into < 0 ? *merged_o : *o[static_cast<size_t>(into)];
  Array& to_lse = into < 0 ? *merged_lse : *lse[static_cast<size_t>(into)];
  qkv_merge_desc desc;
  if (qkv_merge_desc_init(&desc, sizeof desc) != QKV_SUCCESS) return QKV_INTERNAL;
  desc.device = place().device();
  desc.device_index = place().index();
  desc.parts = static_cast<int32_t>(o.size());
  desc.o_parts = o_views.data();
  desc.lse_parts = lse_views.data();
  desc.o = to_o.view();
  desc.lse = to_lse.view();
  const qkv_status status = qkv_merge(&desc, nullptr);
  if (status == QKV_SUCCESS) to_o.download(), to_lse.download();
  return status;
}

double Parts::lse64(Index at) const {
  at[3] = 0;
  double sum = 0;
  for (const auto& part : lse) sum += std::exp(part->get(at));
  return std::log(sum);
}

Parts::Sum Parts::o64(Index at) const {
  const double whole = lse64(at);
  Sum sum{};
  for (size_t p = 0; p < o.size(); ++p) {
    const double x = std::exp(lse[p]->get({at[0], at[1], at[2], 0}) - whole) * o[p]->get(at);
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
  const auto compare = [&](const char* name, Index at, double got, double want, double allowed) {
    const double quotient = std::abs(got - want) / allowed;
    *worst = std::max(*worst, std::isnan(quotient) ? kInf : quotient);
    if (quotient <= 1 || !wrong.empty()) return;
    wrong = host::text(name, "[", at[0], ", ", at[1], ", ", at[2], ", ", at[3], "] is ", got,
                       "; fp64 says ", want, ", ", allowed, " is allowed");
  };
  parts.merged_o->each([&](Index at) {
    const Parts::Sum o = parts.o64(at);
    compare("o", at, parts.merged_o->get(at), o.value,
            (2 * n + 12) * 0x1p-24 * o.size + ulp(type, o.value) / 2 * 1.001);
    if (at[3] != 0) return;
    const double lse = parts.lse64(at);
    compare("lse", at, parts.merged_lse->get(at), lse, (n + 6) * 0x1p-24 * (1 + std::abs(lse)));
  });
  return wrong;
}

}  // namespace qkv::verify
