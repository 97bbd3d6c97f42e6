// cpu_project: blocks of y by oneDNN's products, sums in fp32, on host memory.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>

#include "host/core/cpu/convert.h"
#include "host/core/cpu/lanes.h"
#include "host/core/cpu/product.h"
#include "host/core/plan.h"
#include "host/ops/project/cpu/policy.h"
#include "host/ops/project/op.h"

namespace qkv::cpu::project {
namespace {

// What one array of products holds: the first piece of a sum overwrites, others add; the last one
// may be shorter.
enum Step : size_t { kFirst, kNext, kLast, kSteps };

template <class T>
using ByBlock =
    std::array<std::array<std::array<T, kSteps>, 2>, 2>;  // [rows' kind][columns'][step]

// How the factors reach a product.
struct Factors {
  bool bf16 = false;  // as they are; else fp32
  bool copy_x = false, copy_weight = false;

  Factors() = default;
  Factors(const Problem& p, const Policy& policy)
      : bf16(p.type == QKV_TYPE_BF16 && has_bf16_products()) {
    const bool multiplied = bf16 || p.type == QKV_TYPE_F32;
    copy_x = !multiplied || !policy.x_as_it_is;
    copy_weight = !multiplied || !policy.weight_as_it_is;
  }
};

// Generated code for all of a problem's blocks.
struct Code {
  Factors factors;
  ByBlock<Product> products;

  Code(const Problem& p, const Policy& policy) : factors(p, policy) {
    const OneThread one_thread;
    for (const int64_t row : {int64_t{0}, policy.rows.count - 1})
      for (const int64_t column : {int64_t{0}, policy.columns.count - 1}) {
        auto& made = products[policy.rows.kind(row)][policy.columns.kind(column)];
        if (made[kFirst]) continue;
        const auto product = [&](int64_t piece, Into into) {
          return one(p, policy.rows.size(row), policy.columns.size(column),
                     policy.depth.size(piece), into);
        };
        made[kFirst] = product(0, Into::kOverwrite);
        if (policy.depth.count > 2) made[kNext] = product(1, Into::kAdd);
        if (policy.depth.count > 1) made[kLast] = product(policy.depth.count - 1, Into::kAdd);
      }
  }

 private:
  Product one(const Problem& p, int64_t m, int64_t n, int64_t k, Into into) const {
    const auto type = factors.bf16 ? dnnl_bf16 : dnnl_f32;
    const bool by_out = p.weight_by_out();
    // A matrix of one line has no pitch.
    const auto pitch = [](bool copied, int64_t lines, int64_t as_it_is) {
      return copied || lines == 1 ? 0 : as_it_is;
    };
    const Matrix x{m, k, type, false, pitch(factors.copy_x, m, x_pitch(p))};
    const Matrix weight{k, n, type, by_out,
                        pitch(factors.copy_weight, by_out ? n : k, weight_pitch(p))};
    return {x, weight, into};
  }
};

// What one thread needs to call oneDNN.
struct Lane {
  Owned<dnnl_stream> stream = make_stream();
  ByBlock<Operands> operands;

  explicit Lane(const Code& code) {
    for (size_t row = 0; row < 2; ++row)
      for (size_t column = 0; column < 2; ++column)
        for (size_t step = 0; step < kSteps; ++step)
          if (const Product& product = code.products[row][column][step])
            operands[row][column][step] = Operands(product);
  }
};

struct CpuPlan : host::KernelPlan {
  Policy policy;
  std::unique_ptr<const Code> code;
  Lanes<Lane> lanes;

  std::unique_ptr<Lane> make_lane() const { return std::make_unique<Lane>(*code); }

  std::string text() const override {
    return host::text_line("blocks", policy.rows.piece, " rows x ", policy.columns.piece,
                           " columns, inputs in pieces of ", policy.depth.piece) +
           host::text_line("tasks", policy.tasks(), " on ", policy.threads, " threads");
  }
};

// One thread's work.
class Worker {
 public:
  Worker(const Problem& p, const CpuPlan& plan, const Lane& lane, const Scratch& scratch)
      : p_(p), cut_(plan.policy), code_(*plan.code), lane_(lane), scratch_(scratch) {}

  // A block of y; false if oneDNN failed. Blocks of the same columns follow each other, so that
  // their part of the weight stays in the cache.
  bool compute(int64_t task) {
    const int64_t row = task % cut_.rows.count, column = task / cut_.rows.count;
    row_ = row * cut_.rows.piece;
    rows_ = cut_.rows.size(row);
    column_ = column * cut_.columns.piece;
    columns_ = cut_.columns.size(column);
    const size_t rows_kind = cut_.rows.kind(row), columns_kind = cut_.columns.kind(column);
    for (int64_t piece = 0; piece < cut_.depth.count; ++piece) {
      const size_t step = piece == 0 ? kFirst : piece + 1 < cut_.depth.count ? kNext : kLast;
      const int64_t from = piece * cut_.depth.piece, depth = cut_.depth.size(piece);
      if (!execute(code_.products[rows_kind][columns_kind][step],
                   lane_.operands[rows_kind][columns_kind][step], lane_.stream.get(),
                   x(from, depth), weight(from, depth), scratch_.sums, scratch_.product))
        return false;
    }
    finish();
    return true;
  }

 private:
  const std::byte* at(const host::View& view, int64_t offset) const {
    return static_cast<const std::byte*>(view.data) + offset * host::type_size(p_.type);
  }

  // The address of row `row` of all batches.
  const std::byte* x_row(int64_t row, int64_t from) const {
    return at(p_.x, p_.x.offset(row / p_.rows, 0, row % p_.rows, from));
  }

  // Columns [from, from + depth) of the block's rows.
  const void* x(int64_t from, int64_t depth) const {
    if (!code_.factors.copy_x) return x_row(row_, from);
    for (int64_t r = 0; r < rows_; ++r) copy(x_row(row_ + r, from), depth, scratch_.x, r);
    return scratch_.x;
  }

  // The same columns of the block's rows of the weight, in the weight's own order.
  const void* weight(int64_t from, int64_t depth) const {
    const bool by_out = p_.weight_by_out();
    const auto source = [&](int64_t out, int64_t in) {
      return at(p_.weight, p_.weight.offset(0, 0, out, in));
    };
    if (!code_.factors.copy_weight) return source(column_, from);
    const int64_t lines = by_out ? columns_ : depth, width = by_out ? depth : columns_;
    for (int64_t line = 0; line < lines; ++line)
      copy(by_out ? source(column_ + line, from) : source(column_, from + line), width,
           scratch_.weight, line);
    return scratch_.weight;
  }

  // A line of a factor to line `line` of a dense copy, as a product takes it.
  void copy(const std::byte* from, int64_t width, void* to, int64_t line) const {
    if (code_.factors.bf16)
      std::memcpy(static_cast<uint16_t*>(to) + line * width, from,
                  static_cast<size_t>(width) * sizeof(uint16_t));
    else
      to_float(from, p_.type, 1, width, static_cast<float*>(to) + line * width);
  }

  // y of the block: the bias joins the sums in fp32, which are then rounded once.
  void finish() {
    if (p_.bias.present())
      to_float(at(p_.bias, column_ * p_.bias.stride[3]), p_.type, 1, columns_, scratch_.bias);
    for (int64_t r = 0; r < rows_; ++r) {
      float* const sums = scratch_.sums + r * columns_;
      if (p_.bias.present())
        for (int64_t c = 0; c < columns_; ++c) sums[c] += scratch_.bias[c];
      store(row_ + r, sums);
    }
  }

  // A row's columns, head by head.
  void store(int64_t row, const float* sums) const {
    const bool together = p_.heads == 1 || p_.y.stride[1] == p_.dim;
    for (int64_t c = 0; c < columns_;) {
      const int64_t h = (column_ + c) / p_.dim, d = (column_ + c) % p_.dim;
      const int64_t width = together ? columns_ : std::min(columns_ - c, p_.dim - d);
      const int64_t offset = p_.y.offset(row / p_.rows, h, row % p_.rows, d);
      from_float(sums + c, width,
                 static_cast<std::byte*>(p_.y.data) + offset * host::type_size(p_.type), p_.type,
                 1);
      c += width;
    }
  }

  const Problem& p_;
  const Policy& cut_;
  const Code& code_;
  const Lane& lane_;
  const Scratch scratch_;
  int64_t row_ = 0, rows_ = 0, column_ = 0, columns_ = 0;
};

std::string decline(const Problem&, const host::DeviceInfo&) { return {}; }

void plan(const Problem& p, const host::DeviceInfo& device, CpuPlan* plan) {
  plan->policy = select_policy(p, device.threads);
  plan->workspace_bytes = plan->policy.workspace_bytes;
}

host::Status prepare(const Problem& p, const host::CudaRuntime&, CpuPlan* plan) try {
  if (p.empty()) return {};
  QKV_RETURN_IF_ERROR(require_onednn());
  plan->code = std::make_unique<Code>(p, plan->policy);
  plan->lanes.reserve(plan->policy.threads, [&] { return plan->make_lane(); });
  return {};
} catch (const Refusal& refusal) {
  return as_status(refusal, "a product of a projection");
} catch (const std::bad_alloc&) {
  return host::Status(QKV_RESOURCE_OUT_OF_MEMORY, "no host memory for the products' code");
}

host::Status launch(const Problem& p, const CpuPlan& plan, const host::CudaRuntime&,
                    const host::Run& run) {
  const Policy& policy = plan.policy;
  const size_t bytes = policy.workspace_bytes / static_cast<size_t>(policy.threads);
  const int32_t threads = std::min(policy.threads, host::cpu_threads(p.threads));
  std::atomic<int64_t> next{0};
  std::atomic<size_t> entered{0};  // a program's omp_get_thread_num() need not be OpenMP's
  std::atomic<bool> no_lane{false}, failed{false};
#pragma omp parallel num_threads(threads)
  {
    // A region of one thread does not count as parallel: oneDNN would use all others, and sum up in
    // another order.
    const OneThread one_thread;
    const size_t thread = entered++;
    if (const auto lane = plan.lanes.borrow([&] { return plan.make_lane(); })) {
      auto* const base = static_cast<std::byte*>(run.workspace) + thread * bytes;
      Worker worker(p, plan, *lane, carve(base, p, policy));
      for (int64_t task = next++; task < policy.tasks() && !failed; task = next++)
        if (!worker.compute(task)) failed = true;
    } else {
      no_lane = true;
    }
  }
  QKV_REQUIRE(!failed, QKV_INTERNAL, "oneDNN failed to run a product of a projection");
  QKV_REQUIRE(!no_lane || next >= policy.tasks(), QKV_RESOURCE_OUT_OF_MEMORY,
              "no host memory for oneDNN's streams");
  return {};
}

}  // namespace
}  // namespace qkv::cpu::project

namespace qkv::host::project {

constexpr Kernel kCpuProject =
    kernel_of<Problem, cpu::project::CpuPlan, cpu::project::decline, cpu::project::plan,
              cpu::project::prepare, cpu::project::launch>("cpu_project", QKV_DEVICE_CPU);

}  // namespace qkv::host::project
