#!/usr/bin/env bash
# same_bits.sh VGPU_RUN DEVICE PROGRAM: the pairwise cases with the same inputs under several schedules of the virtual
# GPU give the same bits; so do masks that hide blocks of keys, whether these are left out (on one multiprocessor) or not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export QKV_TEST_SEED=1 QKV_TEST_REPEATS=0
for seed in 1 2 3; do
  QKV_RESULT_HASHES=$folder/$seed "$1" --device "$2" --seed "$seed" --quiet -- "$3" --gtest_brief=1 \
    '--gtest_filter=*Contract*/pairwise_*'
  [[ $(wc -l <"$folder/$seed") -ge 40 ]] # results were recorded
  cmp "$folder/1" "$folder/$seed"
done
for sms in 1 132; do
  QKV_RESULT_HASHES=$folder/hidden-$sms "$1" --device h100 --sms $sms --seed 1 --quiet -- "$3" --gtest_brief=1 \
    '--gtest_filter=*Contract*/warpgroups*_hidden_*-*_hidden_many_*'
done
[[ $(wc -l <"$folder/hidden-1") -ge 10 ]]
cmp "$folder/hidden-1" "$folder/hidden-132"
printf '%d results, three schedules, the same bits\n' "$(wc -l <"$folder/1")"
