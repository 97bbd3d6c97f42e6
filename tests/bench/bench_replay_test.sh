#!/usr/bin/env bash
# The benchmark program replays full-featured problems: each is checked against the oracle, then timed, and it is the
# problem that the library saw.
#   bench_replay_test.sh ATTENTION_BENCH
set -uo pipefail
bench=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "FAIL: $*" && failed=1; }
flags=(--benchmark_repetitions=1 --benchmark_min_time=0.001 --no-ceiling)

# Each operation's, in its folder.
mapfile -t problems < <(cat "$(dirname "$0")"/../*/replay.txt)
((${#problems[@]} > 0)) || fail "no problems"
for problem in "${problems[@]}"; do
  if ! QKV_VERBOSE=repro "$bench" --problem "$problem" "${flags[@]}" --tsv "$work/result.tsv" >"$work/log" 2>&1; then
    fail "$problem" && cat "$work/log"
    continue
  fi
  # qkv's line of the table: implementation, ..., milliseconds in column 12.
  timed=$(awk -F '\t' '$1 == "qkv" && $12 > 0 { n++ } END { print n + 0 }' "$work/result.tsv")
  [[ $timed == 1 ]] || fail "$problem was not timed once: $(cat "$work/log")"
  grep -qxF "qkv:repro: attention_bench --problem $problem" "$work/log" ||
    fail "the library saw another problem than $problem: $(grep repro "$work/log")"
done

# Implementations that cannot do a problem say so instead of computing another.
"$bench" --problem fwd:cpu:bf16:d32:full:b3:hq2:hkv1:sq40:skv70:additive "${flags[@]}" >"$work/log" 2>&1
grep -q 'tile_products  *declined: additive scores' "$work/log" || fail "tile_products: $(cat "$work/log")"
for plain in causal full:hard causal:top-k=3; do
  "$bench" --problem "fwd:cpu:bf16:d64:$plain:b2:hq4:hkv2:sq64:skv96" "${flags[@]}" >"$work/log" 2>&1
  grep -q 'declined\|ERROR' "$work/log" && fail "a plain problem is declined: $(cat "$work/log")"
done

# A search stands beside its product alone, soft attention does not.
"$bench" --preset retrieval,retrieval-10,bahdanau --type f32 --size 64 "${flags[@]}" >"$work/log" 2>&1 ||
  fail "a search: $(cat "$work/log")"
[[ $(grep -c '^  product ' "$work/log") == 2 ]] || fail "the product alone: $(cat "$work/log")"
[[ $(grep -c '^  unfused .*[0-9]' "$work/log") == 3 ]] || fail "product and argmax: $(cat "$work/log")"

# Passes over all problems: a row's repetitions are those of all passes, and it is printed once.
passes() {  # passes and repetitions that are wanted, flags
  local want="$1 $2" got
  "$bench" --problem fwd:cpu:f32:d32:full:b1:hq1:hkv1:sq16:skv16 --problem fwd:cpu:f32:d32:full:b1:hq1:hkv1:sq8:skv8 \
    --no-ceiling --benchmark_min_time=0.001 --benchmark_out="$work/passes.json" "${@:3}" >"$work/log" 2>&1
  got=$(($(grep -c '^pass ' "$work/log") + 1))
  got+=" $(grep -A 3 '"run_name": "[^"]*s16"' "$work/passes.json" | grep -c '"run_type": "iteration"')"
  [[ $got == "$want" ]] || fail "passes and repetitions are $got, not $want: ${*:3}"
  [[ $(grep -c '^fwd\|^forward' "$work/log") == 2 ]] || fail "each problem is printed once: $(cat "$work/log")"
}
passes 5 5
passes 3 6 --passes 3 --benchmark_repetitions=2
passes 1 2 --benchmark_repetitions=2
"$bench" --passes 2 --benchmark_report_aggregates_only=true >"$work/log" 2>&1
grep -q 'must be 1' "$work/log" || fail "aggregates of passes are not refused: $(cat "$work/log")"

refuse() {  # line, text
  "$bench" --problem "$1" "${flags[@]}" >"$work/log" 2>&1
  [[ $? == 2 ]] || fail "$1 is not refused with 2"
  grep -qF -- "$2" "$work/log" || fail "$1: no '$2' in: $(cat "$work/log")"
}
refuse fwd:cpu:sq0 "'sq0' holds 0: there is nothing to time"
refuse fwd:cpu:mask=kq "'mask=kq'"
refuse bwd:cpu "problem starts with 'bwd'; it must start with fwd or layer or merge or project"
refuse layer:cpu:biases=oq "'biases=oq' holds 'oq'"
refuse layer:cpu:sq3:skv4 "without ekv they are one"
refuse merge:cpu:parts33 "'parts33' holds '33'; allowed is a whole number from 1 to 32"
refuse merge:cpu:f32:bf16 "'bf16' stands beside 'f32'"
refuse fwd:cpu:f32:d8:b1:h2:s4:o=0.0.0 "o.stride[1] is 0"

help=$("$bench" --help)
for field in additive softcap= top-left offset= left= right= mask= bias32= alibi lengths index64 weights32= split= o= parts to=; do
  grep -qF -- "$field" <<<"$help" || fail "--help does not name $field"
done
exit $failed
