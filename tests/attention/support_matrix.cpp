// The README's table of what each kernel takes, made from the list of kernels and their own decline
// rules.
//
//   support_matrix                 prints it
//   support_matrix --check FILE    exit 1 unless FILE holds it
//   support_matrix --write FILE    puts it there
#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "host/core/plan.h"
#include "host/core/status.h"
#include "host/ops/attention/op.h"

namespace qkv::test {
namespace {

using host::DeviceInfo;
using host::View;
using host::attention::Problem;

constexpr std::string_view kBegin = "<!-- support matrix: ./dev readme -->\n";
constexpr std::string_view kEnd = "<!-- end of support matrix -->\n";

// Contiguous [batch, seq, heads, dim].
View bshd(qkv_type type, int64_t b, int64_t h, int64_t s, int64_t d) {
  return {nullptr, type, {b, h, s, d}, {s * h * d, d, h * d, 1}};
}

struct Sizes {
  qkv_type type = QKV_TYPE_F16;
  int64_t heads_q = 4, heads_kv = 4, s_q = 100, s_kv = 200, d_qk = 128, d_v = 128;
};

Problem problem(const Sizes& n) {
  Problem p;
  p.batch = 2, p.heads_q = n.heads_q, p.heads_kv = n.heads_kv;
  p.s_q = n.s_q, p.s_kv = n.s_kv, p.d_qk = n.d_qk, p.d_v = n.d_v;
  p.type = n.type;
  p.q = bshd(n.type, 2, n.heads_q, n.s_q, n.d_qk);
  p.k = bshd(n.type, 2, n.heads_kv, n.s_kv, n.d_qk);
  p.v = bshd(n.type, 2, n.heads_kv, n.s_kv, n.d_v);
  p.o = bshd(n.type, 2, n.heads_q, n.s_q, n.d_v);
  return p;
}

View pair(const Problem& p, qkv_type type) {
  return {nullptr, type, {2, p.heads_q, p.s_q, p.s_kv}, {0, 0, p.s_kv, 1}};
}

// With additive scores.
Problem in_additive(Problem p) {
  p.score = QKV_SCORE_ADDITIVE;
  p.additive_weight = {nullptr, QKV_TYPE_F32, {1, p.heads_q, 1, p.d_qk}, {0, p.d_qk, 0, 1}};
  return p;
}

// A row of the table: all of these problems; in fp32 for a kernel that computes in nothing else,
// unless the row is about types.
struct Row {
  const char* name;
  std::vector<std::function<Problem()>> problems;
  bool of_types = false, of_selection = false, of_dims = false, of_score = false;
};

template <class Edit>
std::function<Problem()> plain_with(Edit edit) {
  return [edit] {
    Problem p = problem({});
    edit(&p);
    return p;
  };
}

std::function<Problem()> sized(const Sizes& n) {
  return [n] { return problem(n); };
}

std::vector<Row> all_rows() {
  const auto edited = [](const char* name, auto... edits) {
    return Row{name, {plain_with(edits)...}};
  };
  std::vector<Row> rows;
  rows.push_back({"fp32", {sized({.type = QKV_TYPE_F32})}, true});
  rows.push_back({"fp16, bf16", {sized({}), sized({.type = QKV_TYPE_BF16})}, true});
  rows.push_back({"MHA, GQA, MQA", {sized({}), sized({.heads_kv = 2}), sized({.heads_kv = 1})}});
  const auto of_dims = [&](const char* name, const std::vector<std::function<Problem()>>& all) {
    rows.push_back({name, all, false, false, true});
  };
  of_dims("head dim 64", {sized({.d_qk = 64, .d_v = 64})});
  of_dims("head dim 128", {sized({})});
  of_dims("head dim 256", {sized({.d_qk = 256, .d_v = 256})});
  of_dims("head dim 512", {sized({.d_qk = 512, .d_v = 512})});
  of_dims("any head dim to 576, d_qk != d_v",
          {sized({.d_qk = 1, .d_v = 3}), sized({.d_qk = 192, .d_v = 128}),
           sized({.d_qk = 576, .d_v = 512}), sized({.d_qk = 77, .d_v = 575})});
  of_dims("wider heads", {sized({.d_qk = 1000, .d_v = 1000})});
  rows.push_back({"any lengths",
                  {sized({.s_q = 1, .s_kv = 1}), sized({.s_q = 1, .s_kv = 100003}),
                   sized({.s_q = 777, .s_kv = 77})}});
  rows.push_back({"no keys", {sized({.s_q = 77, .s_kv = 0})}});
  rows.push_back(edited("any strides and alignment", [](Problem* p) {
    p->q.data = reinterpret_cast<void*>(2);
    p->k.stride = {1, 7, 131, 1};
  }));
  rows.push_back(edited(
      "causal, window, any offset", [](Problem* p) { p->right = 0; },
      [](Problem* p) { p->left = 10, p->right = 5; },
      [](Problem* p) {
        p->right = 0, p->alignment = QKV_ALIGN_EXPLICIT, p->explicit_offset = -3;
      }));
  rows.push_back(edited("key lengths per batch", [](Problem* p) {
    p->kv_lengths = {nullptr, QKV_TYPE_I32, {2, 1, 1, 1}, {1, 0, 0, 0}};
  }));
  rows.push_back(
      edited("LSE", [](Problem* p) { p->lse = bshd(QKV_TYPE_F32, 2, p->heads_q, p->s_q, 1); }));
  rows.push_back(edited("softcap", [](Problem* p) { p->softcap = 30; }));
  rows.push_back(edited("boolean mask", [](Problem* p) { p->mask = pair(*p, QKV_TYPE_BOOL); }));
  rows.push_back(edited(
      "additive bias", [](Problem* p) { p->bias = pair(*p, QKV_TYPE_F32); },
      [](Problem* p) { p->bias = pair(*p, QKV_TYPE_F16); }));
  rows.push_back(edited("ALiBi", [](Problem* p) {
    p->alibi_slopes = {nullptr, QKV_TYPE_F32, {2, p->heads_q, 1, 1}, {0, 1, 0, 0}};
  }));
  rows.push_back({"scaled dot score", {sized({})}, false, false, false, true});
  rows.push_back(edited("additive score", [](Problem* p) { *p = in_additive(*p); }));
  rows.push_back({"soft selection", {sized({})}, false, true});
  rows.push_back(edited("hard selection, index", [](Problem* p) {
    p->selection = QKV_SELECT_HARD;
    p->index = bshd(QKV_TYPE_I64, 2, p->heads_q, p->s_q, 1);
  }));
  rows.back().of_selection = true;
  rows.push_back(edited("top-k selection, index, scores", [](Problem* p) {
    p->selection = QKV_SELECT_TOP_K, p->top_k = 10;
    p->index = bshd(QKV_TYPE_I64, 2, p->heads_q, p->s_q, 10);
    p->top_scores = bshd(QKV_TYPE_F32, 2, p->heads_q, p->s_q, 10);
  }));
  rows.back().of_selection = true;
  rows.push_back(
      edited("weights, four modes", [](Problem* p) { p->weights = pair(*p, QKV_TYPE_F32); }));
  return rows;
}

Problem in_fp32(Problem p) {
  p.type = QKV_TYPE_F32;
  for (View* view : {&p.q, &p.k, &p.v, &p.o}) view->type = QKV_TYPE_F32;
  if (p.bias.present()) p.bias.type = QKV_TYPE_F32;
  return p;
}

Problem in_hard(Problem p) {
  p.selection = QKV_SELECT_HARD;
  return p;
}

Problem in_top_k(Problem p) {
  p.selection = QKV_SELECT_TOP_K, p.top_k = 10;
  return p;
}

// With heads four times as wide.
Problem in_wide(Problem p) {
  p.d_qk *= 4, p.d_v *= 4;
  for (View* view : {&p.q, &p.k, &p.v, &p.o}) {
    view->shape[3] *= 4;
    for (size_t axis = 0; axis < 3; ++axis) view->stride[axis] *= 4;
  }
  return p;
}

DeviceInfo device_of(int32_t compute, int32_t smem_per_block) {
  DeviceInfo device;
  device.kind = QKV_DEVICE_CUDA;
  device.compute = compute;
  device.sm_count = 132;
  device.smem_per_block = smem_per_block;
  return device;
}

const DeviceInfo& h100() {
  static const DeviceInfo device = device_of(90, 227 << 10);
  return device;
}

// Whether the kernel takes the problem: here, or on sm_75, where plain CUDA cores take what they
// leave to tensor cores here.
bool takes(const host::Kernel& kernel, const Problem& p) {
  static const DeviceInfo turing = device_of(75, 64 << 10);
  return kernel.decline(p, h100()).empty() || kernel.decline(p, turing).empty();
}

bool is_fp32_only(const host::Kernel& kernel) {
  return !takes(kernel, problem({})) &&
         (takes(kernel, in_fp32(problem({}))) || takes(kernel, in_hard(in_fp32(problem({})))));
}

bool is_hard_only(const host::Kernel& kernel) {
  return !takes(kernel, problem({})) &&
         (takes(kernel, in_hard(problem({}))) || takes(kernel, in_hard(in_fp32(problem({})))));
}

bool is_top_k_only(const host::Kernel& kernel) {
  return !takes(kernel, problem({})) && takes(kernel, in_top_k(problem({})));
}

bool is_additive_only(const host::Kernel& kernel) {
  return !takes(kernel, problem({})) && takes(kernel, in_additive(problem({})));
}

bool is_wide_only(const host::Kernel& kernel) {
  return !takes(kernel, problem({})) && takes(kernel, in_wide(problem({})));
}

// The problem as the kernel has it: where types, score, selection or dims are not what is asked,
// its own.
Problem as_for(const host::Kernel& kernel, const Row& row, const Problem& p) {
  Problem own = !row.of_types && is_fp32_only(kernel) ? in_fp32(p) : p;
  if (!row.of_dims && is_wide_only(kernel)) own = in_wide(own);
  if (!row.of_score && is_additive_only(kernel)) own = in_additive(own);
  if (!row.of_selection && is_top_k_only(kernel)) own = in_top_k(own);
  return !row.of_selection && is_hard_only(kernel) ? in_hard(own) : own;
}

// The generations that a kernel takes a plain problem on.
std::string runs_on(const host::Kernel& kernel) {
  if (kernel.device == QKV_DEVICE_CPU) return "x86-64 and others, AVX-512 and AMX where there";
  const Problem plain = as_for(kernel, {}, problem({}));
  std::vector<std::string> taken;
  bool is_latest = false;
  for (const int32_t compute : {70, 75, 80, 86, 89, 90, 100, 120}) {
    const DeviceInfo device = device_of(compute, 99 << 10);
    is_latest =
        kernel.decline(plain, device).empty() ||
        (plain.score == QKV_SCORE_ADDITIVE && kernel.decline(in_fp32(plain), device).empty());
    if (is_latest) taken.push_back(host::text("sm_", compute));
  }
  if (taken.empty()) return "none";
  if (is_latest) return taken.front() + " and later";
  std::string all = taken.front();
  for (size_t n = 1; n < taken.size(); ++n) all += ", " + taken[n];
  return all;
}

std::string table() {
  std::string names = "|", rule = "| ---", where = "| runs on";
  for (const host::Kernel* kernel : host::attention::kOp.kernels) {
    names += host::text(" | `", kernel->name, "`");
    rule += " | ---";
    where += " | " + runs_on(*kernel);
  }
  std::string out = names + " |\n" + rule + " |\n" + where + " |\n";
  for (const Row& row : all_rows()) {
    out += host::text("| ", row.name);
    for (const host::Kernel* kernel : host::attention::kOp.kernels) {
      bool all = true;
      for (const auto& make : row.problems) all &= takes(*kernel, as_for(*kernel, row, make()));
      out += all ? " | yes" : " | -";
    }
    out += " |\n";
  }
  return out;
}

int run(int argc, char** argv) {
  const std::string wanted = table();
  if (argc != 3) {
    std::fputs(wanted.c_str(), stdout);
    return argc == 1 ? 0 : 2;
  }
  const std::string mode = argv[1], path = argv[2];
  std::ifstream in(path);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  const size_t begin = text.find(kBegin), end = text.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin) {
    std::fprintf(stderr, "%s has no place for the support matrix\n", path.c_str());
    return 1;
  }
  const size_t first = begin + kBegin.size();
  if (text.substr(first, end - first) == wanted) return 0;
  if (mode == "--check") {
    std::fprintf(stderr, "%s does not say what the kernels take; ./dev readme writes:\n%s",
                 path.c_str(), wanted.c_str());
    return 1;
  }
  text.replace(first, end - first, wanted);
  std::ofstream(path) << text;
  return 0;
}

}  // namespace
}  // namespace qkv::test

int main(int argc, char** argv) { return qkv::test::run(argc, argv); }
