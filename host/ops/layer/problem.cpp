#include "host/ops/layer/problem.h"

#include <algorithm>
#include <string>
#include <vector>

#include "host/core/overlap.h"

namespace qkv::host::layer {
namespace {

constexpr qkv_layer_desc kDefaults{};
constexpr size_t kSizes[] = {sizeof(qkv_layer_desc)};

// Q, K, V and O as callers of the steps would give them.
struct Between {
  qkv_tensor q{}, k{}, v{}, o{};
  qkv_tensor qkv{};     // packed: the first three
  qkv_tensor o_rows{};  // o with its heads side by side
};

struct Sizes {
  qkv_type type = QKV_TYPE_NONE;
  int64_t batch = 0, heads_q = 0, heads_kv = 0, s_q = 0, s_kv = 0, d_qk = 0, d_v = 0;
};

Status check_options(const qkv_layer_desc& desc) {
  QKV_RETURN_IF_ERROR(check_enum("device", desc.device, QKV_DEVICE_CUDA));
  constexpr uint64_t kFlags = QKV_FLAG_ALLOW_ALLOCATION;
  QKV_REQUIRE((desc.flags & ~kFlags) == 0, QKV_INVALID_ENUM, "flags is ", desc.flags,
              "; only the bits ", kFlags, " are known");
  QKV_REQUIRE(desc.threads >= 0, QKV_INVALID_VALUE, "threads is ", desc.threads,
              "; it must be the most threads to use, or 0 for as many as OpenMP says");
  QKV_REQUIRE(desc.heads_q >= 1, QKV_INVALID_VALUE, "heads_q is ", desc.heads_q,
              "; at least 1 is needed");
  QKV_REQUIRE(desc.heads_kv >= 0 && (desc.heads_kv == 0 || desc.heads_q % desc.heads_kv == 0),
              QKV_INVALID_VALUE, "heads_kv is ", desc.heads_kv, "; it must divide heads_q, ",
              desc.heads_q, ", or be 0 for as many");
  return {};
}

Status check_absent(const char* name, const qkv_tensor& tensor, const char* why) {
  QKV_REQUIRE(tensor.type == QKV_TYPE_NONE && tensor.data == nullptr, QKV_INVALID_COMBINATION, name,
              " is set, but ", why);
  return {};
}

// Which tensors go together.
Status check_set(const qkv_layer_desc& desc) {
  if (desc.w_qkv.type == QKV_TYPE_NONE) {
    QKV_RETURN_IF_ERROR(check_presence("w_qkv", desc.w_qkv, false));
    QKV_RETURN_IF_ERROR(check_absent("bias_qkv", desc.bias_qkv, "w_qkv is absent"));
  } else {
    constexpr const char* kWhy = "so is w_qkv, which is for Q, K and V together";
    QKV_RETURN_IF_ERROR(check_absent("w_q", desc.w_q, kWhy));
    QKV_RETURN_IF_ERROR(check_absent("w_k", desc.w_k, kWhy));
    QKV_RETURN_IF_ERROR(check_absent("w_v", desc.w_v, kWhy));
    QKV_RETURN_IF_ERROR(check_absent("bias_q", desc.bias_q, kWhy));
    QKV_RETURN_IF_ERROR(check_absent("bias_k", desc.bias_k, kWhy));
    QKV_RETURN_IF_ERROR(check_absent("bias_v", desc.bias_v, kWhy));
    QKV_RETURN_IF_ERROR(
        check_absent("x_kv", desc.x_kv, "w_qkv is for self-attention; give w_q, w_k and w_v"));
  }
  if (desc.w_o.type != QKV_TYPE_NONE) return {};
  QKV_RETURN_IF_ERROR(check_presence("w_o", desc.w_o, false));
  return check_absent("bias_o", desc.bias_o, "w_o is absent");
}

// The dim of heads that are the rows of a weight.
Status dim_of(const char* name, const qkv_tensor& weight, const char* heads_name, int64_t heads,
              int64_t* dim) {
  QKV_RETURN_IF_ERROR(check_presence(name, weight, true));
  QKV_RETURN_IF_ERROR(check_extents(name, weight));
  QKV_REQUIRE(weight.shape[2] > 0 && weight.shape[2] % heads == 0, QKV_INVALID_SHAPE, name,
              ".shape[2] (out) is ", weight.shape[2], "; it must be a multiple of ", heads_name,
              ", ", heads, ", and not 0");
  *dim = weight.shape[2] / heads;
  return {};
}

Status check_sizes(const qkv_layer_desc& desc, Need need, Sizes* n) {
  QKV_RETURN_IF_ERROR(check_presence("x_q", desc.x_q, true));
  QKV_RETURN_IF_ERROR(check_extents("x_q", desc.x_q));
  n->type = desc.x_q.type;
  n->batch = desc.x_q.shape[0];
  n->s_q = n->s_kv = desc.x_q.shape[2];
  n->heads_q = desc.heads_q;
  n->heads_kv = desc.heads_kv == 0 ? desc.heads_q : desc.heads_kv;
  if (desc.x_kv.type != QKV_TYPE_NONE) {
    n->s_kv = desc.x_kv.shape[2];
    View unused;
    QKV_RETURN_IF_ERROR(check_tensor({"x_kv",
                                      {n->batch, 1, n->s_kv, desc.x_kv.shape[3]},
                                      {type_name(n->type), {n->type, n->type}},
                                      Use::kInput,
                                      Innermost::kOne,
                                      0},
                                     desc.x_kv, need, &unused));
  } else {
    QKV_RETURN_IF_ERROR(check_presence("x_kv", desc.x_kv, false));
  }
  if (desc.w_qkv.type != QKV_TYPE_NONE) {
    QKV_RETURN_IF_ERROR(dim_of("w_qkv", desc.w_qkv, "heads_q + 2 heads_kv",
                               n->heads_q + 2 * n->heads_kv, &n->d_qk));
    n->d_v = n->d_qk;
    return {};
  }
  QKV_RETURN_IF_ERROR(dim_of("w_q", desc.w_q, "heads_q", n->heads_q, &n->d_qk));
  return dim_of("w_v", desc.w_v, "heads_kv", n->heads_kv, &n->d_v);
}

// Puts a tensor of [batch, s, heads, dim] memory behind what *bytes already has.
Status add_buffer(const char* name, const Sizes& n, int64_t heads, int64_t s, int64_t dim,
                  size_t* bytes, qkv_tensor* out) {
  constexpr int64_t kMost = int64_t{1} << 60;
  int64_t row = 0, batch = 0, all = 0;
  const bool fits = !__builtin_mul_overflow(heads, dim, &row) &&
                    !__builtin_mul_overflow(s, row, &batch) &&
                    !__builtin_mul_overflow(n.batch, batch, &all) && all <= kMost / 8;
  QKV_REQUIRE(fits, QKV_INVALID_SIZE, name, ", [", n.batch, ", ", heads, ", ", s, ", ", dim,
              "], which lies in the workspace, has more than 2^57 elements");
  const size_t begin = aligned(*bytes);
  *bytes = begin + static_cast<size_t>(all * type_size(n.type));
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an offset, which no one reads from
  void* const at = reinterpret_cast<void*>(kNoWorkspace + begin);
  *out = {at, n.type, 0, {n.batch, heads, s, dim}, {batch, dim, row, 1}};
  return {};
}

// `heads` of a packed tensor's, from the one `first`.
qkv_tensor part_of(const qkv_tensor& packed, int64_t first, int64_t heads) {
  qkv_tensor part = packed;
  part.data =
      static_cast<std::byte*>(packed.data) + first * packed.shape[3] * type_size(packed.type);
  part.shape[1] = heads;
  return part;
}

Status lay_out(const qkv_layer_desc& desc, const Sizes& n, size_t* bytes, Between* at) {
  if (desc.w_qkv.type != QKV_TYPE_NONE) {
    QKV_RETURN_IF_ERROR(
        add_buffer("QKV", n, n.heads_q + 2 * n.heads_kv, n.s_q, n.d_qk, bytes, &at->qkv));
    at->q = part_of(at->qkv, 0, n.heads_q);
    at->k = part_of(at->qkv, n.heads_q, n.heads_kv);
    at->v = part_of(at->qkv, n.heads_q + n.heads_kv, n.heads_kv);
  } else {
    QKV_RETURN_IF_ERROR(add_buffer("Q", n, n.heads_q, n.s_q, n.d_qk, bytes, &at->q));
    QKV_RETURN_IF_ERROR(add_buffer("K", n, n.heads_kv, n.s_kv, n.d_qk, bytes, &at->k));
    QKV_RETURN_IF_ERROR(add_buffer("V", n, n.heads_kv, n.s_kv, n.d_v, bytes, &at->v));
  }
  if (desc.w_o.type == QKV_TYPE_NONE) {
    at->o = desc.y;
    return {};
  }
  QKV_RETURN_IF_ERROR(add_buffer("O", n, n.heads_q, n.s_q, n.d_v, bytes, &at->o));
  at->o_rows = at->o;
  at->o_rows.shape[1] = 1;
  at->o_rows.shape[3] = n.heads_q * n.d_v;
  return {};
}

Status check_products(const qkv_layer_desc& desc, const Between& at, Need need, Problem* p) {
  const qkv_tensor& x_kv = p->self ? desc.x_q : desc.x_kv;
  const char* const kv_name = p->self ? "x_q" : "x_kv";
  const auto check = [&](ProductId id, const project::Given& given) {
    return project::check_tensors(given, need, &p->products[id]);
  };
  if (p->packed) {
    QKV_RETURN_IF_ERROR(check(
        kProductQ,
        {{"x_q", desc.x_q}, {"w_qkv", desc.w_qkv}, {"bias_qkv", desc.bias_qkv}, {"QKV", at.qkv}}));
  } else {
    QKV_RETURN_IF_ERROR(check(
        kProductQ, {{"x_q", desc.x_q}, {"w_q", desc.w_q}, {"bias_q", desc.bias_q}, {"Q", at.q}}));
    QKV_RETURN_IF_ERROR(check(
        kProductK, {{kv_name, x_kv}, {"w_k", desc.w_k}, {"bias_k", desc.bias_k}, {"K", at.k}}));
    QKV_RETURN_IF_ERROR(check(
        kProductV, {{kv_name, x_kv}, {"w_v", desc.w_v}, {"bias_v", desc.bias_v}, {"V", at.v}}));
  }
  if (desc.w_o.type == QKV_TYPE_NONE) return {};
  return check(kProductY,
               {{"O", at.o_rows}, {"w_o", desc.w_o}, {"bias_o", desc.bias_o}, {"y", desc.y}});
}

// Without w_o.
Status check_y(const qkv_layer_desc& desc, const Sizes& n, Need need) {
  if (desc.w_o.type != QKV_TYPE_NONE) return {};
  QKV_RETURN_IF_ERROR(check_presence("y", desc.y, true));
  View unused;
  return check_tensor({"y",
                       {n.batch, n.heads_q, n.s_q, n.d_v},
                       {type_name(n.type), {n.type, n.type}},
                       Use::kOutput,
                       Innermost::kOne,
                       0},
                      desc.y, need, &unused);
}

// What the layer's own fields say.
Status check_untouched(const qkv_attention_desc& desc) {
  const auto refuse = [](const char* name) {
    return Status(QKV_INVALID_COMBINATION,
                  text("attention.", name,
                       " is set; it must stay as qkv_attention_desc_init left it: the layer's own "
                       "fields say it"));
  };
  for (const attention::TensorId id : attention::kRequired) {
    const qkv_tensor& tensor = desc.*attention::kTensors[id].given;
    if (tensor.type != QKV_TYPE_NONE || tensor.data != nullptr)
      return refuse(attention::kTensors[id].name);
  }
  if (desc.device != QKV_DEVICE_AUTO) return refuse("device");
  if (desc.device_index != 0) return refuse("device_index");
  if (desc.flags != 0) return refuse("flags");
  if (desc.workspace != nullptr) return refuse("workspace");
  if (desc.workspace_size != 0) return refuse("workspace_size");
  if (desc.threads != 0) return refuse("threads");
  return {};
}

Status check_attention(const qkv_attention_desc* given, const Between& at, Need need,
                       attention::Problem* p) {
  qkv_attention_desc defaults;
  QKV_RETURN_IF_ERROR(init_descriptor(attention::kAttentionForm, &defaults, sizeof defaults));
  Descriptor<qkv_attention_desc> read;
  QKV_RETURN_IF_ERROR(
      of_attention(read.read(attention::kAttentionForm, given == nullptr ? &defaults : given)));
  QKV_RETURN_IF_ERROR(check_untouched(*read));
  qkv_attention_desc desc = *read;
  desc.q = at.q;
  desc.k = at.k;
  desc.v = at.v;
  desc.o = at.o;
  return of_attention(attention::check_problem(desc, read.of_first_release(), need, p));
}

// On which device, in how many threads, with which workspace.
Status check_place(const qkv_layer_desc& desc, const CudaRuntime& cuda, Problem* p) {
  std::vector<Named> tensors;
  tensors.reserve(attention::kTensorCount + 13);
  each_tensor(*p, [&](const char* name, const View& view, bool) {
    tensors.push_back({name, view});
  });
  Placement placement;
  QKV_RETURN_IF_ERROR(check_device(desc.device, desc.device_index, tensors, cuda, &placement));
  QKV_REQUIRE(desc.workspace != nullptr || desc.workspace_size == 0, QKV_INVALID_NULL,
              "workspace is null, but workspace_size is ", desc.workspace_size);
  QKV_REQUIRE(reinterpret_cast<uintptr_t>(desc.workspace) % kBufferAlignment == 0,
              QKV_INVALID_ALIGNMENT, "workspace is not aligned to ", kBufferAlignment, " bytes");
  p->workspace = desc.workspace;
  p->workspace_size = desc.workspace_size;
  p->allow_allocation = (desc.flags & QKV_FLAG_ALLOW_ALLOCATION) != 0;
  const auto put = [&](AnyProblem* step) {
    step->device = placement.device;
    step->device_index = placement.index;
    step->threads = desc.threads;
  };
  put(p);
  put(&p->attention);
  for (project::Problem& product : p->products) put(&product);
  return {};
}

Status check_overlaps(const Problem& p) {
  std::vector<Placed> tensors;
  tensors.reserve(attention::kTensorCount + 13);
  each_tensor(p, [&](const char* name, const View& view, bool output) {
    tensors.push_back({name, view, output});
  });
  return check_apart(tensors);
}

}  // namespace

constinit const DescriptorForm kLayerForm{"qkv_layer_desc_init",
                                          kSizes,
                                          &kDefaults,
                                          "reserved0",
                                          offsetof(qkv_layer_desc, reserved0),
                                          true};

const char* attention_name(size_t id) {
  static const auto names = [] {
    std::array<std::string, attention::kTensorCount> out;
    for (size_t n = 0; n < out.size(); ++n)
      out[n] = text("attention.", attention::kTensors[n].name);
    return out;
  }();
  return names[id].c_str();
}

Status of_attention(const Status& status) {
  return status.ok() ? status : Status(status.code(), "attention." + status.reason());
}

void Problem::place(void* to) {
  const auto move = [&](View* view) {
    view->data =
        static_cast<std::byte*>(to) + (reinterpret_cast<uintptr_t>(view->data) - kNoWorkspace);
  };
  for (const ProductId id : {kProductQ, kProductK, kProductV})
    if (has(id)) move(&products[id].y);
  for (View* view : {&attention.q, &attention.k, &attention.v}) move(view);
  if (!has(kProductY)) return;
  move(&attention.o);
  move(&products[kProductY].x);
}

Status validate(const qkv_layer_desc* given, Need need, const CudaRuntime& cuda, Problem* p) {
  Descriptor<qkv_layer_desc> desc;
  QKV_RETURN_IF_ERROR(desc.read(kLayerForm, given));
  QKV_RETURN_IF_ERROR(check_options(*desc));
  QKV_RETURN_IF_ERROR(check_set(*desc));
  p->packed = desc->w_qkv.type != QKV_TYPE_NONE;
  p->self = desc->x_kv.type == QKV_TYPE_NONE;
  Sizes sizes;
  Between at;
  QKV_RETURN_IF_ERROR(check_sizes(*desc, need, &sizes));
  QKV_RETURN_IF_ERROR(lay_out(*desc, sizes, &p->buffer_bytes, &at));
  QKV_RETURN_IF_ERROR(check_products(*desc, at, need, p));
  QKV_RETURN_IF_ERROR(check_y(*desc, sizes, need));
  QKV_RETURN_IF_ERROR(check_attention(desc->attention, at, need, &p->attention));
  p->threads = desc->threads;
  // Plans and queries may come with any addresses.
  if (need == Need::kAddresses) QKV_RETURN_IF_ERROR(check_overlaps(*p));
  return check_place(*desc, cuda, p);
}

}  // namespace qkv::host::layer
