#!/usr/bin/env bash
# Draws a result file as an SVG: throughput over sequence length, one panel for each element type.
#   bench/plot.sh RESULT.tsv [OUT.svg] [cpu|cuda]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [[ $# -lt 1 || ! -r $1 ]]; then
  echo "usage: plot.sh RESULT.tsv [OUT.svg] [cpu|cuda]; RESULT.tsv comes from attention_bench --tsv" >&2
  exit 64
fi
if ! command -v gnuplot >/dev/null; then
  echo "plot.sh: gnuplot is missing (Debian package gnuplot-nox)" >&2
  exit 69
fi
file=$1
out=${2:-${file%.tsv}.svg}
results=$(grep -v '^#' "$file" | tail -n +2)
device=${3:-$(cut -f 2 <<<"$results" | tail -n 1)}
results=$(awk -F '\t' -v device="$device" '$2 == device' <<<"$results")
if [[ -z $results ]]; then
  echo "plot.sh: $file has no result of device $device" >&2
  exit 65
fi

fact() { sed -n "s/^# $1: //p" "$file" | head -n 1; }
in_order() { awk '!seen[$0]++' | paste -s -d ' '; }
types=$(cut -f 3 <<<"$results" | in_order)
names=$(cut -f 1 <<<"$results" | grep -vx tile_products | in_order)
lengths=$(cut -f 11 <<<"$results" | sort -nu | paste -s -d ' ')
dim=$(cut -f 4 <<<"$results" | head -n 1)
heads=$(cut -f 8 <<<"$results" | head -n 1)
heads_kv=$(cut -f 9 <<<"$results" | head -n 1)
batches=$(cut -f 7 <<<"$results" | sort -nu | wc -l)
shape="head dim $dim, $heads heads"
[[ $heads == "$heads_kv" ]] || shape="head dim $dim, $heads query and $heads_kv key heads"
if [[ $batches == 1 ]]; then
  shape+=", batch $(cut -f 7 <<<"$results" | head -n 1)"
else
  shape+=", $(awk -F '\t' '{ print $7 * $10; exit }' <<<"$results") tokens"
fi
if [[ $device == cpu ]]; then
  machine="$(fact cpu), $(fact threads) threads"
  ceiling="ceiling (oneDNN)"
else
  machine="$(fact gpu), driver $(fact gpu_driver), $(fact gpu_sm_clock_under_load) under load"
  ceiling="ceiling (cuBLAS)"
fi
machine+=", commit $(fact git_id)"
gnuplot -e "file='$file'; out='$out'; device='$device'; types='$types'; names='$names'" \
        -e "shape='$shape'; lengths='$lengths'; machine='${machine//_/\\_}'; ceiling='$ceiling'" "$here/plot.gp"
echo "$out"
