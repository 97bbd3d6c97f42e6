// The unfused CPU baseline behind a C ABI, as libqkv_unfused.so: for peers.py, which times it
// beside packages of Python.
#include <cstddef>
#include <cstdint>

#include "bench/baselines/cpu_unfused.h"

// Contiguous tensors [batch, heads, seq, d]. peers_cpu.py has the same structure.
struct qkv_unfused {
  int32_t type;  // a qkv_type
  int32_t causal;
  int32_t threads;
  float scale;
  int64_t batch, heads_q, heads_kv, s_q, s_kv, d;
};

namespace {

qkv::bench::CpuUnfused of(const qkv_unfused& it) {
  qkv::bench::Unfused problem;
  problem.type = static_cast<qkv_type>(it.type);
  problem.batch = it.batch;
  problem.heads_q = it.heads_q;
  problem.heads_kv = it.heads_kv;
  problem.s_q = it.s_q;
  problem.s_kv = it.s_kv;
  problem.d_qk = problem.d_v = it.d;
  problem.scale = it.scale;
  problem.causal = it.causal != 0;
  return {problem, it.threads};
}

}  // namespace

#define QKV_UNFUSED_EXPORT extern "C" __attribute__((visibility("default")))

QKV_UNFUSED_EXPORT size_t qkv_unfused_workspace(const qkv_unfused* problem) {
  return of(*problem).workspace_bytes();
}

// `workspace` is 64-byte aligned.
QKV_UNFUSED_EXPORT void qkv_unfused_run(const qkv_unfused* problem, const void* q, const void* k,
                                        const void* v, void* o, void* workspace) {
  of(*problem).run(q, k, v, o, workspace);
}
