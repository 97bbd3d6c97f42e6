#!/usr/bin/env bash
# The folder for GPU machines: it fills within its limit, its programs start from it alone, and its table has a column
# for each implementation.
#   gpu_kit_test.sh BUILD
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
kit=$(mktemp -d)
trap 'rm -rf "$kit"' EXIT
failed=0
fail() { echo "FAIL: $*" && failed=1; }

"$root/bench/gpu_kit.sh" "$1" "$kit" || exit 1
env -i "$kit/attention_bench" --help >/dev/null || fail "attention_bench does not start"
for program in gpu_contract_test gpu_runtime_test; do
  tests=$(env -i "$kit/tests/$program" --gtest_list_tests)
  [[ $tests == *$'\n  '* ]] || fail "$program lists no tests"
done

# row IMPLEMENTATION TFLOPS: as attention_bench and peers.py write them.
row() { printf '%s\tforward\tbf16\t128\t128\tcausal\t1\t16\t16\t8192\t8192\t0\t%s\n' "$1" "$2"; }
row qkv 512 >"$kit/ours.tsv"
{ row torch_flash 480.25 && row torch_cudnn 0.5; } >"$kit/peers.tsv"
table=$(awk -f "$kit/table.awk" "$kit/ours.tsv" "$kit/peers.tsv" | tr -s ' ')
want='TFLOP/s qkv torch_flash torch_cudnn
forward/bf16/d128/causal/b1_h16_s8192 512.0 480.2 0.500'
[[ $table == "$want" ]] || fail "the table is"$'\n'"$table"

exit "$failed"
