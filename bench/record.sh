#!/usr/bin/env bash
# Makes a result worth keeping: results/<date>-<device>-<machine>.json, .tsv and .svg, as results/README.md says.
#   bench/record.sh BUILD [cpu|cuda] [ARGUMENTS OF attention_bench]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ $# -ge 1 && -x $1/attention_bench ]] || { echo "usage: record.sh BUILD [cpu|cuda] [ARGUMENTS]" >&2 && exit 64; }
build=$1
device=${2:-cpu}
shift $(($# > 1 ? 2 : 1))

# Another program at work spoils a CPU measurement.
read -r load _ </proc/loadavg
if [[ $device == cpu ]] && awk -v load="$load" 'BEGIN { exit !(load > 0.7) }'; then
  echo "record.sh: the load average is $load; wait until the machine is quiet (below 0.7)" >&2
  exit 75
fi
if [[ -n $(git -C "$here" status --porcelain --untracked-files=no) ]]; then
  echo "record.sh: commit first: a result must name the commit that it comes from" >&2
  exit 65
fi

cmake --build "$build" --target attention_bench >/dev/null  # so that it knows this commit

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/attention_bench" --device "$device" --benchmark_report_aggregates_only=true \
  --benchmark_out="$work/result.json" --tsv "$work/result.tsv" "$@"
fact() { sed -n "s/^# $1: //p" "$work/result.tsv"; }
case $device in
  cpu) machine="$(fact cpu | sed 's/ (.*//') $(fact cores) cores" ;;
  *) machine=$(fact gpu) ;;
esac
name=$(date +%F)-$device-$(tr '[:upper:]' '[:lower:]' <<<"$machine" | tr -cs 'a-z0-9\n' -)
for kind in json tsv; do mv "$work/result.$kind" "$here/results/$name.$kind"; done
"$here/plot.sh" "$here/results/$name.tsv"
