#include "host/ops/project/problem.h"

#include <array>
#include <cstddef>

#include "host/core/overlap.h"

namespace qkv::host::project {
namespace {

constexpr qkv_project_desc kDefaults{};
constexpr size_t kSizes[] = {sizeof(qkv_project_desc)};

// x, weight and y give the problem its sizes and type.
Status check_sizes(const Given& given, Problem* p) {
  for (const Given::Tensor& one : {given.x, given.weight, given.y}) {
    QKV_RETURN_IF_ERROR(check_presence(one.name, one.tensor, true));
    QKV_RETURN_IF_ERROR(check_extents(one.name, one.tensor));
  }
  const qkv_tensor &x = given.x.tensor, &y = given.y.tensor;
  QKV_REQUIRE(x.shape[3] >= 1, QKV_INVALID_SHAPE, given.x.name,
              ".shape[3] (in) is 0; at least 1 is needed");
  QKV_REQUIRE(y.shape[1] >= 1, QKV_INVALID_SHAPE, given.y.name,
              ".shape[1] (heads) is 0; at least 1 is needed");
  QKV_REQUIRE(y.shape[3] >= 1, QKV_INVALID_SHAPE, given.y.name,
              ".shape[3] (dim) is 0; at least 1 is needed");
  p->type = x.type;
  p->batch = x.shape[0];
  p->rows = x.shape[2];
  p->in = x.shape[3];
  p->heads = y.shape[1];
  p->dim = y.shape[3];
  // 2^48 of either at most: their product need not fit.
  const int64_t out = given.weight.tensor.shape[2];
  QKV_REQUIRE(out % p->heads == 0 && out / p->heads == p->dim, QKV_INVALID_SHAPE, given.weight.name,
              ".shape[2] (out) is ", out, "; it must be heads x dim of ", given.y.name, ", ",
              p->heads, " x ", p->dim);
  const bool is_float =
      p->type == QKV_TYPE_F32 || p->type == QKV_TYPE_F16 || p->type == QKV_TYPE_BF16;
  const qkv_type allowed = is_float ? p->type : QKV_TYPE_F32;
  return check_type(given.x.name, p->type, {"f32, f16, bf16", {allowed, allowed}});
}

Status check_weight(const char* name, const Problem& p) {
  const auto& stride = p.weight.stride;
  const bool one = p.in <= 1 || p.out() <= 1 || stride[2] == 1 || stride[3] == 1;
  QKV_REQUIRE(one, QKV_INVALID_STRIDE, name, ".stride is ", stride[2], " over out and ", stride[3],
              " over in; one of the two must be 1");
  return {};
}

Status check_flags(const qkv_project_desc& desc) {
  constexpr uint64_t kFlags = QKV_FLAG_ALLOW_ALLOCATION;
  QKV_REQUIRE((desc.flags & ~kFlags) == 0, QKV_INVALID_ENUM, "flags is ", desc.flags,
              "; only the bits ", kFlags, " are known");
  QKV_REQUIRE(desc.threads >= 0, QKV_INVALID_VALUE, "threads is ", desc.threads,
              "; it must be the most threads to use, or 0 for as many as OpenMP says");
  return {};
}

Status check_workspace(const qkv_project_desc& desc, Problem* p) {
  QKV_REQUIRE(desc.workspace != nullptr || desc.workspace_size == 0, QKV_INVALID_NULL,
              "workspace is null, but workspace_size is ", desc.workspace_size);
  QKV_REQUIRE(reinterpret_cast<uintptr_t>(desc.workspace) % 256 == 0, QKV_INVALID_ALIGNMENT,
              "workspace is not aligned to 256 bytes");
  p->workspace = desc.workspace;
  p->workspace_size = desc.workspace_size;
  p->allow_allocation = (desc.flags & QKV_FLAG_ALLOW_ALLOCATION) != 0;
  return {};
}

}  // namespace

constinit const DescriptorForm kProjectForm{"qkv_project_desc_init",
                                            kSizes,
                                            &kDefaults,
                                            "reserved0",
                                            offsetof(qkv_project_desc, reserved0),
                                            true};

Status check_tensors(const Given& given, Need need, Problem* p) {
  QKV_RETURN_IF_ERROR(check_sizes(given, p));
  const Types same{type_name(p->type), {p->type, p->type}};
  const auto check = [&](const Given::Tensor& one, const Shape& shape, Use use, Innermost innermost,
                         const char* last_axis, View* view) {
    return check_tensor({one.name, shape, same, use, innermost, 0, last_axis}, one.tensor, need,
                        view);
  };
  QKV_RETURN_IF_ERROR(
      check(given.x, {p->batch, 1, p->rows, p->in}, Use::kInput, Innermost::kOne, "in", &p->x));
  QKV_RETURN_IF_ERROR(
      check(given.weight, {1, 1, p->out(), p->in}, Use::kInput, Innermost::kAny, "in", &p->weight));
  QKV_RETURN_IF_ERROR(check_weight(given.weight.name, *p));
  QKV_RETURN_IF_ERROR(check_optional(
      {given.bias.name, {1, 1, 1, p->out()}, same, Use::kInput, Innermost::kOne, 0, "out"},
      given.bias.tensor, need, &p->bias));
  return check(given.y, {p->batch, p->heads, p->rows, p->dim}, Use::kOutput, Innermost::kOne, "dim",
               &p->y);
}

Status validate(const qkv_project_desc* given, Need need, const CudaRuntime& cuda, Problem* p) {
  Descriptor<qkv_project_desc> desc;
  QKV_RETURN_IF_ERROR(desc.read(kProjectForm, given));
  QKV_RETURN_IF_ERROR(check_enum("device", desc->device, QKV_DEVICE_CUDA));
  QKV_RETURN_IF_ERROR(check_flags(*desc));
  QKV_RETURN_IF_ERROR(check_tensors(
      {{"x", desc->x}, {"weight", desc->weight}, {"bias", desc->bias}, {"y", desc->y}}, need, p));
  p->threads = desc->threads;
  // Plans and queries may come with any addresses.
  if (need == Need::kAddresses)
    QKV_RETURN_IF_ERROR(check_apart(std::array<Placed, 4>{{{"x", p->x, false},
                                                           {"weight", p->weight, false},
                                                           {"bias", p->bias, false},
                                                           {"y", p->y, true}}}));
  Placement placement;
  QKV_RETURN_IF_ERROR(check_device(
      desc->device, desc->device_index,
      std::array<Named, 4>{{{"x", p->x}, {"weight", p->weight}, {"bias", p->bias}, {"y", p->y}}},
      cuda, &placement));
  p->device = placement.device;
  p->device_index = placement.index;
  return check_workspace(*desc, p);
}

}  // namespace qkv::host::project
