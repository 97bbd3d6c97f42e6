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
kib=$(du -sk --apparent-size "$kit" | cut -f 1)
((kib <= 55 * 1024)) || fail "the kit holds $((kib / 1024)) MiB, more than 55"
# Without a GPU, as on any machine here. It unpacks what is packed.
CUDA_VISIBLE_DEVICES='' "$kit/run.sh" --out "$kit/none" >"$kit/run.txt"
status=$?
[[ $status == 3 ]] || fail "run.sh without a GPU: status $status, $(cat "$kit/run.txt")"
for wrong in "--seconds 5" "--seconds ten" "--from start" "--sizes huge" "--out"; do
  # shellcheck disable=SC2086
  "$kit/run.sh" $wrong >/dev/null
  [[ $? == 64 ]] || fail "run.sh $wrong is taken"
done
env -i "$kit/attention_bench" --help >/dev/null || fail "attention_bench does not start"
env -i "$kit/qkv" info | grep -q '^CUDA .*built for' || fail "qkv info does not start, or is built without CUDA"
for program in gpu_contract_test gpu_runtime_test; do
  tests=$(env -i "$kit/tests/$program" --gtest_list_tests)
  [[ $tests == *$'\n  '* ]] || fail "$program lists no tests"
done

# row IMPLEMENTATION TFLOPS: as attention_bench and peers.py write them.
row() { printf '%s\tforward\tbf16\t128\t128\tcausal\t1\t16\t16\t8192\t8192\t0\t%s\n' "$1" "$2"; }
row qkv 512 >"$kit/ours.tsv"
{ row torch_fa2 480.25 && row torch_cudnn 0.5; } >"$kit/peers.tsv"
table=$(awk -f "$kit/table.awk" "$kit/ours.tsv" "$kit/peers.tsv" | tr -s ' ')
want='TFLOP/s qkv torch_fa2 torch_cudnn
forward/bf16/d128/causal/b1_h16_s8192 512.0 480.2 0.500'
[[ $table == "$want" ]] || fail "the table is"$'\n'"$table"

exit "$failed"
