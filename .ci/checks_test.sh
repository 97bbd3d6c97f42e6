#!/usr/bin/env bash
# Tests the checks themselves: `./dev check` passes on clean sources and catches each planted fault; the flags that
# kernels are compiled with refuse one that spills.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
faults=0

# A project as small as the checks allow, clean.
plant_clean() {
  rm -rf "$work/project"
  mkdir -p "$work/project"/{host/{cpu,core,io,ops/{one,merge,layer},cli},include/qkv,kernels/{ptx,core,op/one,op/two},tests/vgpu}
  cd "$work/project"
  cp -r "$root/dev" "$root/.ci" "$root/.clang-format" .
  git init -q
  printf '#include "kernels/op/one/launch.h"\n#include "kernels/op/one/policy.h"\n' >host/plan.cpp
  printf 'inline void nop() { asm("nop;"); }\n' >kernels/ptx/nop.h
  printf '#include "kernels/ptx/nop.h"\n' >kernels/core/mask.h
  printf '#include "kernels/core/mask.h"\n#include "kernels/op/one/launch.h"\n' >kernels/op/one/kernel.cuh
  printf 'inline void also() { asm volatile("nop;"); }\n' >tests/vgpu/nop_test.cpp
}

# expect pass|fail TEXT: `./dev check` ends so, and its output contains TEXT.
expect() {
  local ended=pass
  ./dev check >"$work/output" 2>&1 || ended=fail
  if [[ $ended == "$1" ]] && grep -qF -- "$2" "$work/output"; then
    printf 'ok: %s\n' "$2"
  else
    printf 'NOT OK: %s, expected %s with: %s\n' "$ended" "$1" "$2"
    sed 's/^/  | /' "$work/output"
    faults=$((faults + 1))
  fi
}

# caught FILE LINE TEXT: LINE in FILE fails the check, with TEXT.
caught() {
  plant_clean
  printf '%s\n' "$2" >>"$1"
  expect fail "$3"
}

plant_clean
expect pass 'check include arrows'

caught host/plan.cpp 'int   x ;' 'host/plan.cpp: '
caught host/plan.cpp 'void f() { asm("nop"); }' 'host/plan.cpp:3:'
caught kernels/op/one/kernel.cuh 'inline void f() { asm volatile("nop;"); }' 'kernels/op/one/kernel.cuh:3:'
caught kernels/core/mask.h 'inline void f() { __asm__ __volatile__("nop;"); }' 'kernels/core/mask.h:2:'

caught host/plan.cpp '#include "kernels/core/score.cuh"' 'host/plan.cpp:3: includes kernels/core/score.cuh'
caught host/plan.cpp '#include "kernels/op/one/kernel.cuh"' 'host/plan.cpp:3: includes kernels/op/one/kernel.cuh'
caught host/ops/merge/op.cpp '#include "host/ops/attention/op.h"' 'host/ops/merge/op.cpp:1: includes host/ops/attention/op.h'
caught host/ops/layer/op.cpp '#include "host/ops/merge/op.h"' 'host/ops/layer/op.cpp:1: includes host/ops/merge/op.h'
caught host/cpu/tile.cpp '#include <kernels/ptx/nop.h>' 'host/cpu/tile.cpp:1: includes kernels/ptx/nop.h'
caught host/cpu/tile.cpp '#include "../../tests/cases.h"' 'host/cpu/tile.cpp:1: includes ../../tests/cases.h'
caught host/cpu/tile.cpp '#include "tests/cases.h"' 'host/cpu/tile.cpp:1: includes tests/cases.h'
caught host/cpu/tile.cpp '#include "host/verify/cases.h"' 'host/cpu/tile.cpp:1: includes host/verify/cases.h'
caught host/core/plan.cpp '#include "host/ops/one/op.h"' 'host/ops/one/op.h: host/core knows no op'
caught host/core/plan.cpp '#include "host/cli/attend.h"' 'host/cli/attend.h: host/core knows no op'
caught host/io/file.cpp '#include "host/core/status.h"' 'host/core/status.h: host/io stands alone'
caught host/ops/one/op.cpp '#include "host/cli/attend.h"' 'host/cli/attend.h: an op sees core alone'
caught host/ops/one/op.cpp '#include "host/ops/two/op.h"' 'host/ops/two/op.h: an op does not see another'
caught host/ops/one/op.cpp '#include "host/verify/cases.h"' 'the program and tests alone see host/verify'
caught host/ops/one/op.cpp '#include "bench/spec.h"' 'bench/spec.h: only the program sees bench/'
caught kernels/op/one/kernel.cuh '#include "host/problem.h"' 'kernels/op/one/kernel.cuh:3: includes host/problem.h'
caught kernels/op/one/kernel.cuh '#  include "kernels/op/two/kernel.cuh"' 'kernels/op/one/kernel.cuh:3: includes kernels/op/two/kernel.cuh'
caught kernels/core/mask.h '#include "kernels/op/one/launch.h"' 'kernels/core/mask.h:2: includes kernels/op/one/launch.h'
caught kernels/ptx/nop.h '#include "kernels/core/mask.h"' 'kernels/ptx/nop.h:2: includes kernels/core/mask.h'
caught include/qkv/qkv.h '#include "host/problem.h"' 'include/qkv/qkv.h:1: includes host/problem.h'
caught include/qkv/qkv.h '#include "kernels/op/one/policy.h"' 'include/qkv/qkv.h:1: includes kernels/op/one/policy.h'

caught kernels/op/one/kernel.cuh "$(yes '// A line.' | head -n 399)" 'kernels/op/one/kernel.cuh: 401 lines, at most 400'

# Without sources a check has nothing to say, and must not say that all is well.
rm -rf "$work/project"/{host,include,kernels,tests}
expect fail 'FAILED'

# The command that compiles the shipped kernels, up to the names of files; empty without CUDA.
kernel_command=$(sed -n 's/^ *"command": "\(.*\) -x cu -c .*qkv_kernel_[a-z0-9_]*\.dir.*/\1/p' \
  "$root/build/release/compile_commands.json" 2>/dev/null | head -n 1 | sed 's/\\"/"/g') || true

compile_kernel() {
  eval "$kernel_command" -x cu -c "$1" -o "$work/kernel.o" >>"$work/output" 2>&1
}

if [[ -n $kernel_command ]]; then
  : >"$work/output"
  printf '__global__ void k(float* p) { p[threadIdx.x] = 1; }\n' >"$work/clean.cu"
  cat >"$work/spills.cu" <<'EOF'
__global__ void k(float* p, int n) {
  float a[64];
  for (int i = 0; i < n; ++i) a[i % 64] = p[i];
  p[0] = a[n % 64];
}
EOF
  if compile_kernel "$work/clean.cu" && ! compile_kernel "$work/spills.cu" && grep -q 'ocal memory' "$work/output"; then
    printf 'ok: a kernel that needs local memory does not compile\n'
  else
    printf 'NOT OK: a kernel that needs local memory compiles, or a clean one does not\n'
    sed 's/^/  | /' "$work/output"
    faults=$((faults + 1))
  fi
else
  printf 'no CUDA in build/release: whether a spilling kernel is refused is not tested\n'
fi

# The compiler's launcher: fails where ptxas only mentions C75xx, else ends as the command does.
strict() {  # STATUS COMMAND...
  local status=0
  "$root/cmake/strict_ptxas.sh" "${@:2}" >"$work/output" 2>&1 || status=$?
  if ((status == $1)); then
    printf 'ok: strict_ptxas ends with %s\n' "$1"
  else
    printf 'NOT OK: strict_ptxas ends with %s, not %s, after: %s\n' "$status" "$1" "${*:2}"
    faults=$((faults + 1))
  fi
}
strict 0 echo 'ptxas info    : 0 bytes spill stores'
strict 1 echo 'ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized'
strict 7 bash -c 'exit 7'

# The shares of the virtual GPU's rows: three numbers in a row run each of ten tests once, wherever they begin.
shares_taken() {  # FIRST_NUMBER OFFSET
  local number
  for number in $(seq "$1" $(($1 + 2))); do
    # shellcheck disable=SC2016  # the dollars are the inner shell's
    QKV_TEST_SHARE=$number/3 "$root/tests/gpu/share.sh" "$2" bash -c '
      for test in {0..9}; do ((test % GTEST_TOTAL_SHARDS != GTEST_SHARD_INDEX)) || echo "$test"; done' | sed 1d
  done | sort -n | tr '\n' ' '
}
for first in 0 7 592704015; do
  if [[ $(shares_taken "$first" 4) == '0 1 2 3 4 5 6 7 8 9 ' ]]; then
    printf 'ok: three shares from %d on are all\n' "$first"
  else
    printf 'NOT OK: three shares from %d on are: %s\n' "$first" "$(shares_taken "$first" 4)"
    faults=$((faults + 1))
  fi
done
if QKV_TEST_SHARE=half "$root/tests/gpu/share.sh" 0 true 2>"$work/output"; then
  printf 'NOT OK: share.sh takes a QKV_TEST_SHARE that is none\n'
  faults=$((faults + 1))
fi

((faults == 0))
