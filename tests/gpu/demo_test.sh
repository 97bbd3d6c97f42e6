#!/usr/bin/env bash
# The demo on the virtual GPU: differences from the model on CPU and GPU, and the GPU's throughput.
#   demo_test.sh VGPU_RUN DEVICE PROGRAM KERNEL      KERNEL: what times part 5 on this device
set -uo pipefail
run=$1 device=$2 program=$3 kernel=$4
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=0
fail() { echo "FAIL: $*" && failed=1; }

# demo OPTION...: into $out/text
demo() {
  "$run" --quiet --device "$device" -- "$program" demo --speed tiny --color never --out "$out/pictures" "$@" >"$out/text" 2>&1
}

demo || fail "status $?"
grep -q '^All checks passed' "$out/text" || fail "it does not say that all checks passed"
grep -q 'tokens CPU fp32 CPU fp16 CPU bf16 GPU fp32 GPU fp16 GPU bf16$' "$out/text" || fail "no column for the GPU"
# Three texts, six differences each: none is 0, fp32 within 1e-5, fp16 within 2e-3, bf16 within 2e-2.
awk '/^  "/ && NF > 7 && $(NF - 5) ~ /e-/ {
       ++rows
       for (n = 0; n < 6; ++n) {
         limit = n % 3 == 0 ? 1e-5 : n % 3 == 1 ? 2e-3 : 2e-2
         d = $(NF - 5 + n)
         if (d !~ /^[0-9]\.[0-9]e-[0-9][0-9]$/ || d + 0 <= 0 || d + 0 > limit) bad = 1
       }
     }
     END { exit rows != 3 || bad }' "$out/text" || fail "differences from the model"
grep -qE '^  GPU kernels: fp32 [a-z0-9_]+, fp16 [a-z0-9_]+, bf16 [a-z0-9_]+\.$' "$out/text" || fail "no names of kernels"
[[ $(LC_ALL=C.UTF-8 wc -L <"$out/text") -le 80 ]] || fail "a line of more than 80 columns"
grep -q '^  The weights below are the GPU' "$out/text" || fail "the weights are not the GPU's"
count=$(tr '\n' ' ' <"$out/text" |
  grep -oE 'Largest difference from fp64: CPU [0-9.e-]+ \(cpu_forward\), GPU [0-9.e-]+ \(' | wc -l)
[[ $count == 3 ]] || fail "$count of parts 2 to 4 compare CPU and GPU"
count=$(grep -cE '^  .* [0-9]{4}-[0-9]{2}-[0-9]{2}( +[0-9.]+e-[0-9]+){2}$' "$out/text")
[[ $count == 12 ]] || fail "$count of 12 dates are held to the model on CPU and GPU"
count=$(grep -cE '^  (paragraph|sentence|nine) .* x 384( +[0-9.]+e-[0-9]+){2}$' "$out/text")
[[ $count == 3 ]] || fail "$count of 3 layers are held to the model on CPU and GPU"
# S, mask, qkv, unfused, ratio, share of GEMM, kernel.
table() { awk -v kernel="$kernel" -v unfused="$1" '
  function finite(x) { return x ~ /^[0-9]+(\.[0-9]+)?(e[-+][0-9]+)?$/ && x + 0 > 0 }
  $7 == kernel && ($2 == "none" || $2 == "causal") {
    ++rows
    sub(/x$/, "", $5); sub(/%$/, "", $6)
    if (!finite($3)) bad = 1
    if (unfused == "yes" && !(finite($4) && finite($5) && $6 ~ /^[0-9]+$/)) bad = 1
    if (unfused == "no" && ($4 $5 $6) != "---") bad = 1
  }
  END { exit rows != 2 || bad }' "$out/text"; }
table yes || fail "the table of throughput"
grep -q 'GFLOP/s' "$out/text" || fail "the CPU's table is missing"
[[ $failed == 0 ]] || sed 's/^/  /' "$out/text"

QKV_CUBLAS=$out/nowhere QKV_CUBLASLT=$out/nowhere demo || fail "without cuBLAS: status $?"
tr '\n' ' ' <"$out/text" | grep -q 'GPU: QKV_UNSUPPORTED_KERNEL: .*cuBLASLt' || fail "it does not say that cuBLASLt is missing"
tr '\n' ' ' <"$out/text" | grep -q 'cuBLAS, to compare with, was not found' || fail "it does not say that cuBLAS is missing"
table no || fail "the table without cuBLAS"

demo --device cpu || fail "--device cpu: status $?"
! grep -qE 'GPU|TFLOP' "$out/text" || fail "--device cpu: there is a GPU's part"
! demo --device cuda:7 || fail "--device cuda:7 is taken"
grep -q '^qkv demo: .*device' "$out/text" || fail "--device cuda:7: $(head -n 1 "$out/text")"
exit "$failed"
