// How a projection is cut on the CPU: blocks of y, each a task, whose sums are made of pieces of
// the inputs' width.
#pragma once

#include <cstddef>
#include <cstdint>

#include "host/ops/project/problem.h"

namespace qkv::cpu::project {

using host::project::Problem;

// An axis in pieces of one size, but for a shorter last one.
struct Cut {
  int64_t whole = 0, piece = 0, count = 0;

  static Cut of(int64_t whole, int64_t piece) {
    return {whole, piece, (whole + piece - 1) / piece};
  }
  int64_t size(int64_t n) const { return n + 1 < count ? piece : whole - n * piece; }
  // 0: a piece as all, 1: the last one, where it is shorter.
  size_t kind(int64_t n) const { return size(n) == piece ? 0 : 1; }
};

// A pure function of the problem's shape, types and strides, the same on all machines; but for the
// number of threads, on which no result depends.
struct Policy {
  Cut rows, columns, depth;  // of the rows of all batches, of Out, of In
  // Whether x and weight are read where they lie, if this machine multiplies their type; else
  // copied piece by piece.
  bool x_as_it_is = false, weight_as_it_is = false;
  int32_t threads = 1;
  size_t workspace_bytes = 0;  // all threads together

  int64_t tasks() const { return rows.count * columns.count; }
};

// For at most so many threads.
Policy select_policy(const Problem& problem, int32_t threads);

// Elements between rows of x, where batches follow each other as rows do, and between rows of the
// weight as it lies.
int64_t x_pitch(const Problem& problem);
int64_t weight_pitch(const Problem& problem);

// What one thread works in, carved out of the caller's workspace.
struct Scratch {
  float* sums;         // [rows, columns]
  void* x;             // [rows, depth]
  void* weight;        // [columns, depth] or [depth, columns]
  float* bias;         // [columns]
  std::byte* product;  // oneDNN's own
  size_t bytes;        // of everything
};

// `base` is 256-byte aligned, or null to learn the size.
Scratch carve(std::byte* base, const Problem& problem, const Policy& policy);

}  // namespace qkv::cpu::project
