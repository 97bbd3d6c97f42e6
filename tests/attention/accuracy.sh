#!/usr/bin/env bash
# accuracy.sh BUILD: runs the contract tests and prints what they measured as a Markdown table: per backend and type,
# over all cases with soft selection, the error of O against the fp64 oracle beside that of the textbook algorithm with
# the same roundings. The CUDA rows are the virtual GPU's, the H100 of its devices.
set -euo pipefail

build=$(cd "$1" && pwd)
figures=$(mktemp)
trap 'rm -f "$figures"' EXIT
export QKV_ACCURACY=$figures QKV_TEST_SEED=1 QKV_TEST_REPEATS=0
"$build/contract_test" --gtest_brief=1 '--gtest_filter=*Contract*' >/dev/null
if [[ -x $build/tests/vgpu/vgpu-run ]]; then
  "$build/tests/vgpu/vgpu-run" --device h100 --seed 1 --quiet -- "$build/virtual/gpu_contract_test" --gtest_brief=1 \
    '--gtest_filter=*Contract*-*/long_*' >/dev/null
fi

awk -F '\t' '
  {
    key = $1 "\t" $2
    ++results[key]
    squares[key] += $5
    lowp_squares[key] += $6
    relative = $7 > 0 ? $3 / $7 : 0
    if (relative > worst[key]) worst[key] = relative
    relative = $7 > 0 ? $4 / $7 : 0
    if (relative > lowp_worst[key]) lowp_worst[key] = relative
    if ($8 > lse[key]) lse[key] = $8
  }
  END {
    print "| backend | type | results | largest error of O | textbook | RMS error / textbook | largest error of LSE |"
    print "| --- | --- | --- | --- | --- | --- | --- |"
    split("cpu cuda", backends, " ")
    split("f32 f16 bf16", types, " ")
    for (b = 1; b <= 2; ++b)
      for (t = 1; t <= 3; ++t) {
        key = backends[b] "\t" types[t]
        if (!(key in results)) continue
        printf "| %s | %s | %d | %.1e | %.1e | %.2f | %.1e |\n", backends[b], types[t], results[key], worst[key],
               lowp_worst[key], sqrt(squares[key] / lowp_squares[key]), lse[key]
      }
  }' "$figures"
