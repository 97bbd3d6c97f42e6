#!/usr/bin/env bash
# The kit's run.sh on the virtual GPU, with tiny sizes: all stages; killed midway; with a stage that hangs.
#   kit_run_test.sh VGPU_RUN VIRTUAL      VIRTUAL: the folder of programs for the virtual GPU
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
vgpu=$1 virtual=$2
kit=$(mktemp -d)
trap 'rm -rf "$kit"' EXIT
failed=0
fail() { echo "FAIL: $*" && failed=1; }
now() { date +%s%3N; }

export QKV_CUDNN=/nowhere  # the machine's cannot run on a GPU that is not there

mkdir "$kit/tests"
cp "$root/bench/kit_run.sh" "$kit/run.sh"
cp "$root"/bench/{peers.py,peers_cpu.py,qkv_ctypes.py,table.awk} "$kit/"
echo 'a kit of the test' >"$kit/README.txt"
for program in attention_bench qkv tests/gpu_contract_test; do ln -s "$virtual/${program##*/}" "$kit/$program"; done

# run SECONDS OPTION...: to $kit/output; its status in $status, its milliseconds in $took
run() {
  local begin
  begin=$(now)
  "$vgpu" --quiet --device h100 -- "$kit/run.sh" --seconds "$1" --sizes tiny --out "$kit/results" "${@:2}" \
    >"$kit/output" 2>&1
  status=$?
  took=$(($(now) - begin))
}
within_budget() { ((took <= $1 * 1100)) || fail "$2 took $took ms of $1 s"; }
stage() {
  grep -q "^$1 .* s  $2" "$kit/results/stages.txt" || fail "stage $1 is not '$2': $(grep "^$1" "$kit/results/stages.txt")"
}
rows() { grep -vc '^#\|^implementation' "$kit/results/$1" 2>/dev/null; }

# All stages. A quiet machine needs a fifth of the time.
run 120
[[ $status == 0 ]] || fail "all stages: status $status"
within_budget 120 'a run of all stages'
for name in info verify headline experiments tests sweep; do stage "$name" 'done'; done
[[ $(rows headline-d128.tsv) == 4 ]] || fail "headline: $(rows headline-d128.tsv) rows of qkv and unfused, full and causal"
[[ $(rows headline-decode.tsv) == 4 ]] || fail "headline: $(rows headline-decode.tsv) rows of decoding"
grep -q 'cudnn  *declined: libcudnn was not found, see "cudnn" above' "$kit/results/headline.txt" &&
  grep -q '^# cudnn: libcudnn not found (QKV_CUDNN names it): /nowhere: ' "$kit/results/headline.txt" ||
  fail "headline does not say why cuDNN is not measured"
last=$(tail -n 60 "$kit/output")
for line in '^cuda/bf16/d128/causal/b1_h2_s128 +[0-9.]+ +[0-9.]+$' \
  '^cuda/bf16/d128/full/b1_hq4_hkv2_sq1_skv256 +[0-9.]+ +[0-9.]+$' \
  '^[1-9][0-9]* tests passed, 0 skipped, 0 FAILED, 0 had no time' '^== stages'; do
  grep -qE "$line" <<<"$last" || fail "the last 60 lines have no line like $line"
done
[[ $failed == 0 ]] || cat "$kit/output"

# A stage that hangs and does not end when asked to: it is killed, the rest goes on, within the time.
rm "$kit/tests/gpu_contract_test"
cat >"$kit/tests/gpu_contract_test" <<'HANGS'
#!/bin/sh
case $* in *list_tests*) printf 'Suite.\n  Hangs\n' && exit ;; esac
trap '' TERM
while :; do sleep 1; done
HANGS
chmod +x "$kit/tests/gpu_contract_test"
run 20 --from tests
within_budget 20 'a run with a stage that hangs'
stage tests 'cut: its time was over'
stage sweep 'done'
grep -q '^0 tests passed, 0 skipped, 0 FAILED, 1 had no time' "$kit/output" ||
  fail "the tests that had no time are not counted"
[[ -z $(pgrep -f "$kit/tests/gpu_contract_test") ]] || fail "the test that hangs still runs"
grep -qE '^cuda/bf16/d128/causal/b1_h2_s128 ' <<<"$(tail -n 60 "$kit/output")" ||
  fail "the headline of the run before is gone"

# Killed midway: what was measured is there, and is shown.
rm -rf "$kit/results"
"$vgpu" --quiet --device h100 -- "$kit/run.sh" --seconds 60 --sizes tiny --out "$kit/results" --from headline \
  >"$kit/output" 2>&1 &
pid=$!
for ((n = 0; n < 600; ++n)); do
  [[ $(rows headline-d128.tsv) -lt 2 ]] || break
  sleep 0.1
done
begin=$(now)
kill "$(pgrep -P "$pid")"
wait "$pid"
status=$?
[[ $status == 143 ]] || fail "killed: status $status"
(($(now) - begin < 5000)) || fail "killed, it took $(($(now) - begin)) ms to end"
(($(rows headline-d128.tsv) >= 2)) || fail "killed: no rows"
grep -qE '^cuda/bf16/d128/full/b1_h2_s128 ' "$kit/output" || fail "killed: no table"
grep -q '^interrupted$' "$kit/output" || fail "killed: it does not say so"
exit "$failed"
