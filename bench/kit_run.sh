#!/usr/bin/env bash
# Tests and measures qkv on this machine's GPU. Needs a driver; no network, no CUDA toolkit, no Python, but uses cuBLAS
# and PyTorch where they are installed.
#
#   ./run.sh [--quick] [--out DIR]
#
# --quick   fewer sizes and repetitions
# --out     where results go; default: results/ beside this script
#
# Exits with 0 if all tests passed and every output was right, 1 if not, 3 without a GPU, 64 for a wrong command line.
set -uo pipefail
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$kit/results
quick=no
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick) quick=yes ;;
    --out) out=${2:?--out needs a folder} && shift ;;
    *) sed -n '5,8p' "$0" && exit 64 ;;
  esac
  shift
done

if ! reason=$("$kit/attention_bench" --device cuda --size 512 --benchmark_list_tests 2>&1 >/dev/null); then
  echo "run.sh: nothing to test or measure: ${reason#attention_bench: }"
  exit 3
fi
mkdir -p "$out" || exit 64
failed=()

say() { printf '\n== %s\n' "$*"; }

if command -v nvidia-smi >/dev/null; then
  nvidia-smi >"$out/nvidia-smi.txt" 2>&1 && head -n 15 "$out/nvidia-smi.txt"
else
  echo "nvidia-smi is not here: the programs ask the driver's library themselves"
fi

# The benchmark looks for cuBLAS in the usual places; a Python environment may hold it elsewhere.
if [[ -z ${QKV_CUBLAS:-} ]] && command -v python3 >/dev/null; then
  folder=$(python3 -c '
import glob, sys
found = [f for p in sys.path for n in ("cu13", "cublas") for f in glob.glob(f"{p}/nvidia/{n}/lib/libcublas.so.1[23]")]
print(found[0].rpartition("/")[0] if found else "")' 2>/dev/null)
  toolkit=(/usr/local/cuda/lib64/libcublas.so.1[23])
  if [[ -n $folder && ! -e ${toolkit[0]} ]]; then
    export QKV_CUBLAS=$folder
    export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  fi
fi

# The oracle takes most of a contract test's time: a share of the tests for each core, each a process.
test_in_shares() {
  local program=$1 name=${1##*/} n share shares processes=() status=0
  shares=$(nproc 2>/dev/null || echo 4)
  for ((n = 0; n < shares; ++n)); do
    GTEST_TOTAL_SHARDS=$shares GTEST_SHARD_INDEX=$n OMP_NUM_THREADS=1 \
      "$program" --gtest_brief=1 --gtest_output="json:$work/$name-$n.json" >"$work/$name-$n.txt" 2>&1 &
    processes+=($!)
  done
  for share in "${processes[@]}"; do wait "$share" || status=1; done
  cat "$work/$name"-*.txt >"$out/$name.txt"
  grep -E '^\[  (PASSED|SKIPPED|FAILED)' "$out/$name.txt" | sed 's/ ([0-9]* ms)$//' | sort | uniq -c | tail -n 25
  return "$status"
}

# A test that ends in a device fault leaves a process without a device; and some ask how much memory is free.
test_one_by_one() {
  local program=$1 name=${1##*/} test status=0
  : >"$out/$name.txt"
  while read -r test; do
    "$program" --gtest_brief=1 --gtest_filter="$test" >"$work/one.txt" 2>&1 || { status=1 && cat "$work/one.txt"; }
    cat "$work/one.txt" >>"$out/$name.txt"
  done < <("$program" --gtest_list_tests | awk '/^[^ ]/ { suite = $1 } /^ / { print suite $1 }')
  grep -cE '^\[  PASSED  \] 1 test' "$out/$name.txt" | sed 's/$/ passed/'
  return "$status"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for program in "$kit"/tests/*; do
  [[ -x $program && ! -d $program ]] || continue
  name=${program##*/}
  say "test $name"
  case $name in
    gpu_contract_test) test_in_shares "$program" ;;
    gpu_runtime_test) test_one_by_one "$program" ;;
    *) "$program" 2>&1 | tail -n 25 ;;
  esac
  [[ $? == 0 ]] || failed+=("$name")
done

arguments=(--device cuda)
peer_arguments=()
if [[ $quick == yes ]]; then
  arguments+=(--type bf16 --size '1024,4096,16384' --benchmark_repetitions=3)
  peer_arguments+=(--type bf16 --size '1024,4096,16384' --repetitions 7)
fi
say "benchmark: qkv and cuBLAS"
"$kit/attention_bench" "${arguments[@]}" --benchmark_out="$out/attention.json" --tsv "$out/attention.tsv" ||
  failed+=("attention_bench")

say "benchmark: PyTorch's backends, one by one, and qkv on the same tensors"
if command -v python3 >/dev/null; then
  python3 "$kit/peers.py" --lib "$(echo "$kit"/lib/libqkv.so*)" "${peer_arguments[@]}" --json "$out/peers.json" \
    --tsv "$out/peers.tsv" || failed+=("peers.py")
else
  echo "python3 is not here: PyTorch's backends are not measured"
fi

say "all results"
tables=()
for file in "$out/attention.tsv" "$out/peers.tsv"; do [[ ! -s $file ]] || tables+=("$file"); done
[[ ${#tables[@]} == 0 ]] || awk -f "$kit/table.awk" "${tables[@]}" | tee "$out/table.txt"
sed -n 's/^# \(gpu\|cuda\|gemm\|git\)/\1/p' "$out/attention.tsv" 2>/dev/null
echo "written to $out"

if [[ ${#failed[@]} -gt 0 ]]; then
  say "FAILED: ${failed[*]}"
  exit 1
fi
