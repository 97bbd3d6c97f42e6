#!/usr/bin/env bash
# vgpu_verify.sh VGPU_RUN PROGRAM DEVICE [all|faults]: `qkv verify` on the virtual GPU. all: every instance that the
# device can run passes. faults: a kernel that is wrong, hangs, traps or stores to nowhere is named, with a command that
# repeats it, and the other kernels pass.
set -u
run=$1 program=$2 device=$3 part=$4
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# The list's, and cublaslt and layer, which have no room in kernels/.
listed=$(($(cat "$root"/kernels/*/*/instances.inc | grep -c '^QKV_') + 2))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# verify PLANT ARGUMENT...: leaves output, JSON and status.
verify() {
  local plant=()
  [[ $1 == none ]] || plant=(--plant "$1")
  shift
  "$run" --device "$device" --seed 1 --quiet "${plant[@]}" -- "$program" verify --device cuda:0 --seed 7 \
    --json "$work/json" "$@" >"$work/out" 2>"$work/err"
  status=$?
}

# expect WHAT COMMAND...: the command succeeds.
expect() {
  local what=$1
  shift
  if "$@"; then
    printf 'ok: %s\n' "$what"
  else
    printf 'NOT OK: %s (status %s)\n' "$what" "$status"
    tail -n 30 "$work/out" | sed 's/^/  | /'
    tail -n 5 "$work/err" | sed 's/^/  2| /'
    failures=$((failures + 1))
  fi
}

# json EXPRESSION: true for the JSON as `r`, with `k` its kernels by name.
json() {
  # shellcheck disable=SC2317  # expect calls it
  python3 - "$work/json" "$1" <<'PYTHON'
import json, sys
r = json.load(open(sys.argv[1]))
k = {one["kernel"]: one for one in r["kernels"]}
sys.exit(0 if eval(sys.argv[2]) else 1)
PYTHON
}

all() {
  verify none --seconds 0 --watchdog 200
  cat "$work/out"
  expect 'all kernels pass' test "$status" -eq 0
  expect 'it says so' grep -q '^All passed' "$work/out"
  expect 'every instance that the device can run passed' \
    json 'all(i["passed"] > 0 and i["failed"] == 0 for one in k.values() for i in one["instances"].values())'
  expect 'all instances are there or for other devices' \
    json 'sum(len(one["instances"]) for one in k.values()) + len(r["not_for_this_device"]) == '"$listed"
  # hard_combine's cheapest trial has scores without rounding.
  expect 'errors were measured' \
    json 'all(0 <= one["error_over_allowed"] <= 1 and (one["error_over_allowed"] > 0 or name == "hard_combine") for name, one in k.items())'
  expect 'what was left out is counted' grep -q '^No time for [0-9]* trials' "$work/out"
  expect 'the counts add up' json \
    'all(t["of"] == t["passed"] + t["failed"] + t["no_time"] for one in k.values() for t in [one["trials"]])'
}

# planted FAULT WORDS ARGUMENT...: simt_forward has the fault; merge, behind it, passes.
planted() {
  local fault=$1 words=$2
  shift 2
  verify "$fault:simt_forward" --seconds 0 "$@" --kernel simt_forward
  expect "$fault: the exit code" test "$status" -eq 1
  expect "$fault: the kernel is named" grep -q '^FAILED simt_forward: .*/.* (simt_forward ' "$work/out"
  expect "$fault: in words" grep -qE "$words" "$work/out"
  expect "$fault: every instance is tried" json \
    'all(i["failed"] > 0 for i in k["simt_forward"]["instances"].values())'
  local repro
  repro=$(sed -n 's/^  repro: qkv verify //p' "$work/out" | head -n 1)
  expect "$fault: with a command" grep -q -- '--kernel simt_forward --trial [a-z]*/.* --seed 7' <<<"$repro"
  repro=${repro/--device cuda:0 /}
  repro=${repro/ --seed 7/}  # verify has these two
  # shellcheck disable=SC2086  # words of a command
  verify "$fault:simt_forward" $repro "$@"
  expect "$fault: which repeats it" grep -qE "$words" "$work/out"
  # shellcheck disable=SC2086
  verify none $repro --watchdog 100
  expect "$fault: and passes without it" test "$status" -eq 0
}

faults() {
  planted wrong 'the error .* exceeds|largest error|key [0-9]+ scores' --watchdog 100
  planted hang 'did not answer for 3 seconds: the kernel hangs' --watchdog 3
  planted trap 'unspecified launch failure' --watchdog 100
  planted address 'illegal memory access' --watchdog 100
  verify hang:merge --seconds 0 --watchdog 20
  expect 'a hang of one kernel: the others pass' json \
    'not k["merge"]["passed"] and all(one["passed"] for name, one in k.items() if name != "merge")'
}

case $part in
  all) all ;;
  faults) faults ;;
  *) exit 2 ;;
esac
exit $((failures != 0))
