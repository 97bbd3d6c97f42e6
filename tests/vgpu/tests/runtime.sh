#!/bin/bash
# runtime.sh DEVICE VGPU_RUN PLAIN COMPRESSED: the runtime test on one device: both fat binaries, two
# seeds; a fault that sticks; every N-th call failing without a crash or a hang.
set -u
device=$1 run=$2 plain=$3 compressed=$4
failures=0

expect() {  # expect STATUS TEXT COMMAND...
  local status=$1 text=$2 out
  shift 2
  out=$("$@" 2>&1)
  local got=$?
  if [ $got -ne "$status" ] || ! grep -q -- "$text" <<< "$out"; then
    echo "FAILED: $* : status $got, expected $status and '$text'"
    echo "$out" | tail -n 15
    failures=$((failures + 1))
  fi
}

# The test launches one kernel with too many threads and one with too much shared memory: these two
# findings, no others.
for program in "$plain" "$compressed"; do
  for seed in 1 2; do
    expect 99 '2 findings' "$run" --device "$device" --seed $seed -- "$program"
  done
done
for text in 'out-of-bounds: write of 4 bytes' 'PASSED.* 1 test'; do
  expect 99 "$text" "$run" --device "$device" -- "$plain" --gtest_also_run_disabled_tests \
    --gtest_filter='*FaultsStick'
done

expect 134 'the program was cut off, 1 findings' "$run" --device "$device" -- "$plain" \
  --gtest_also_run_disabled_tests --gtest_filter='*AbortsBehindAFinding'

# Defects of a program that only the runtime sees: each is found, exactly it, and its twin is clean.
pair() {  # pair NAME TEXT
  local run_pair=("$run" --device "$device" --seed 1 -- "$plain" --gtest_also_run_disabled_tests)
  expect 99 "$2" "${run_pair[@]}" --gtest_filter="Pairs.DISABLED_Broken$1"
  expect 99 ' 1 findings' "${run_pair[@]}" --gtest_filter="Pairs.DISABLED_Broken$1"
  expect 0 ' 0 findings' "${run_pair[@]}" --gtest_filter="Pairs.DISABLED_Clean$1"
}
pair UseAfterFree 'use-after-free: read of 4 bytes at .* freed before'
pair UseAfterFreeAsync 'use-after-free: read of 4 bytes at .* freed before'
pair SharedLimit 'shared-limit: 49156 bytes of dynamic and 0 of static shared memory; the kernel.s limit is 49152'
pair ThreadLimit 'thread-limit: 1025 threads per block, the device allows 1024'
pair LaunchBounds 'thread-limit: 65 threads per block, the kernel.s launch bounds allow 64'
if [ "$device" = h100 ]; then
  expect 0 'PASSED.* 1 test' "$run" --device "$device" -- "$plain" --gtest_also_run_disabled_tests \
    --gtest_filter='TensorMaps.DISABLED_NeedAContext'
  pair GridOrder 'grid-order: read of 4 bytes .* which the unfinished grid of .*writer.* writes'
fi

# Several devices: the same, and a kernel that uses the memory of a device that is no peer.
expect 99 '2 findings' "$run" --device "$device" --gpus 4 -- "$plain"
expect 99 'no peer of device 0' "$run" --device "$device" --gpus 2 -- "$plain" \
  --gtest_also_run_disabled_tests --gtest_filter='*StrangersDoNot'

# Options that make no sense, and a planted fault that no kernel has.
expect 2 "--seed takes a whole number, not '-1'" "$run" --seed -1 -- true
expect 2 "--plant trap:nosuch: nothing that the program loaded has such a kernel" "$run" \
  --device "$device" --plant trap:nosuch -- "$plain" --gtest_filter='*LaunchesAndCopies'
out=$("$run" --device "$device" --plant trap:3add -- "$plain" --gtest_filter='*LaunchesAndCopies' 2>&1)
if [ $? -ne 1 ] || grep -q -e --plant <<< "$out"; then
  echo "FAILED: a planted trap: $out"
  failures=$((failures + 1))
fi

# Who ends vgpu-run ends the program, whatever the signal.
number=$(mktemp)
for signal in TERM KILL; do
  : > "$number"
  "$run" --device "$device" -- sh -c 'echo $$ > "$0"; exec sleep 60' "$number" &
  runner=$!
  for _ in $(seq 100); do
    [ -s "$number" ] && break
    sleep 0.05
  done
  program=$(cat "$number")
  kill -$signal $runner
  wait $runner 2> /dev/null
  status=$?
  for _ in $(seq 100); do
    kill -0 "$program" 2> /dev/null || break
    sleep 0.05
  done
  if [ -z "$program" ] || kill -0 "$program" 2> /dev/null || [ $status -ne $((128 + $(kill -l $signal))) ]; then
    echo "FAILED: SIG$signal to vgpu-run: status $status, its program '$program' is still there"
    failures=$((failures + 1))
  fi
done
rm -f "$number"

# Whichever call fails, the program ends by itself, with a test failure or without.
filter='--gtest_filter=*LaunchesAndCopies:*GraphReplays*'
for n in $(seq 1 3 40); do
  VGPU_FAIL_CALL=$n timeout 60 "$run" --quiet --device "$device" -- "$plain" $filter \
    > /dev/null 2>&1
  status=$?
  if [ $status -gt 1 ] && [ $status -ne 99 ]; then
    echo "FAILED: with call $n failing, the program ends with status $status"
    failures=$((failures + 1))
  fi
done
exit $((failures != 0))
