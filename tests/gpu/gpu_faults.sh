#!/bin/bash
# gpu_faults.sh VGPU_RUN DEVICE PROGRAM: the tests of T16 that end in a device fault, each in a process of its own. They
# must pass, and the virtual GPU must have seen the one trap.
set -u
run=$1 device=$2 program=$3
failures=0
for test in AnEarlierFaultIsReportedForGood AFaultBeforeTheFirstCallIsReported AFaultUnderWayIsNotOurs; do
  for seed in 1 2 3; do
    out=$("$run" --device "$device" --seed $seed -- "$program" --gtest_filter="T16_Errors.$test" 2>&1)
    status=$?
    if [ $status -ne 99 ] || ! grep -q 'PASSED.* 1 test\.' <<< "$out" || ! grep -q ' 1 findings' <<< "$out"; then
      echo "FAILED: $test, seed $seed: status $status"
      tail -n 20 <<< "$out"
      failures=$((failures + 1))
    fi
  done
done
exit $((failures != 0))
