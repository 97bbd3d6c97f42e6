#!/usr/bin/env bash
# Checks and measures qkv on this machine's GPU, in stages, within a given time. Needs a driver; no network, no CUDA
# toolkit, no Python, but uses cuBLAS and PyTorch where they are installed. At its first start it unpacks a library.
#
#   ./run.sh [--seconds N] [--from STAGE] [--sizes full|tiny] [--out DIR]
#
# --seconds  of all stages together, at least 10; default 420
# --from     info, verify, headline, experiments, tests or sweep: begins there, beside what --out already holds
# --sizes    tiny: so little that a GPU that is simulated is done in a minute; default full
# --out      where results go; default: results/ beside this script
#
# Exits with 0 if nothing failed in the time given, 1 if something did, 3 without a GPU, 64 for a wrong command line.
set -uo pipefail
kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly stages=(info verify headline experiments tests sweep)
readonly shares=(2 16 34 10 22 16)  # of the time; what a stage leaves goes to those after it
seconds=420 from=info sizes=full out=$kit/results stage=''

usage() {
  sed -n 's/^# \{0,1\}//; 5,12p' "$0"
  exit 64
}

while [[ $# -gt 0 ]]; do
  [[ $# -gt 1 ]] || usage
  case $1 in
    --seconds)
      [[ $2 =~ ^[1-9][0-9]{1,5}$ ]] || usage
      seconds=$2
      ;;
    --from)
      [[ $2 != *' '* && " ${stages[*]} " == *" $2 "* ]] || usage
      from=$2
      ;;
    --sizes)
      [[ $2 == full || $2 == tiny ]] || usage
      sizes=$2
      ;;
    --out) out=$2 ;;
    --stage) stage=$2 ;;  # the script's own: this process is that stage
    *) usage ;;
  esac
  shift 2
done
mkdir -p "$out" || usage
out=$(cd "$out" && pwd)

now() { date +%s%3N; }  # milliseconds
as_seconds() { printf '%d.%03d' "$(($1 / 1000))" "$(($1 % 1000))"; }

# --- the stages, each in a process of its own that may be killed at any time. They write files; tables are made of those.

# within PERCENT COMMAND...: a command of a stage, for at most so much of what is left of the stage's time. That the time
# was over is not a failure.
within() {
  local limit=$(((stage_end - $(now) - 300) * $1 / 100)) status
  ((limit >= 500)) || { echo "no time for ${2##*/}" && return 0; }
  timeout --foreground -k 1 "$(as_seconds "$limit")" "${@:2}" </dev/null
  status=$?
  ((status != 124 && status != 137)) || { echo "its time is over: ${2##*/}" && return 0; }
  return "$status"
}

bench() {
  within "$1" "$kit/attention_bench" --device cuda --tsv "$out/$2.tsv" --benchmark_out="$out/$2.json" "${@:3}" \
    "${tiny_bench[@]}"
}

peers() {
  command -v python3 >/dev/null || { echo "python3 is not here: PyTorch's backends are not measured" && return 0; }
  within "$1" python3 "$kit/peers.py" --lib "$(echo "$kit"/lib/libqkv.so*)" --tsv "$out/$2.tsv" --json "$out/$2.json" \
    "${@:3}" "${tiny_peers[@]}"
}

stage_info() {
  head -n 1 "$kit/README.txt"
  date -u '+%Y-%m-%d %H:%M UTC'
  if command -v nvidia-smi >/dev/null; then
    timeout --foreground 10 nvidia-smi | head -n 15
  else
    echo "nvidia-smi is not here: the programs ask the driver's library themselves"
  fi
  [[ ! -x $kit/qkv ]] || "$kit/qkv" info
  echo "cores: $(nproc), memory: $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
  echo "python3: $(command -v python3 || echo none)"
}

stage_verify() {
  if [[ ! -x $kit/qkv ]] || ! "$kit/qkv" --help | grep -q '^  verify '; then
    echo "this kit's qkv has no verify"
    return 0
  fi
  # The trial that runs when the time is over is finished: that may take seconds.
  local limit=$((stage_length * 8 / 10000)) options=()
  [[ $sizes == full ]] || { limit=1 && options=(--kernel simt_general); }
  "$kit/qkv" verify --device cuda:0 --seconds "$((limit > 1 ? limit : 1))" --json "$out/verify.json" "${options[@]}"
}

stage_headline() {
  # Without the other kernels of qkv: `sweep` has them.
  local only='--benchmark_filter=-/(simt|sm)[0-9a-z_]*$' bad=0
  local full=512,1024,2048,4096,8192,16384
  [[ $sizes == full ]] || full=128
  # Batches, query heads, key heads, keys of the two decode shapes.
  local decode=("16 32 8 8192" "1 32 8 32768") shape lines=()
  [[ $sizes == full ]] || decode=("1 4 2 256" "2 4 1 128")
  rm -f "$out"/headline-*
  bench 45 headline-d128 --type bf16 --dim 128 --size "$full" "$only" || bad=1
  peers 50 headline-peers-d128 --type bf16 --dim 128 --size "$full" || bad=1
  for shape in "${decode[@]}"; do
    local b hq hkv s
    read -r b hq hkv s <<<"$shape"
    # Contiguous [batch, heads, seq, dim], as everything else here.
    local one=$((hq * 128)).128.128 all=$((hkv * s * 128)).$((s * 128)).128
    lines+=(--problem "fwd:cuda:bf16:d128:full:b$b:hq$hq:hkv$hkv:sq1:skv$s:q=$one:k=$all:v=$all:o=$one")
  done
  bench 35 headline-decode "${lines[@]}" "$only" --no-ceiling || bad=1
  for shape in "${decode[@]}"; do
    read -r b hq hkv s <<<"$shape"
    peers 20 "headline-peers-decode-$s" --type bf16 --mask full --batch "$b" --heads "$hq" --heads-kv "$hkv" --queries 1 \
      --size "$s" || bad=1
  done
  bench 65 headline-d64 --type bf16 --dim 64 --size "$full" "$only" --no-ceiling || bad=1
  peers 100 headline-peers-d64 --type bf16 --dim 64 --size "$full" || bad=1
  return "$bad"
}

stage_experiments() {
  if [[ ! -x $kit/attention_experiments ]]; then
    echo "this kit has no experiments"
    return 0
  fi
  within 100 "$kit/attention_experiments" --json "$out/experiments.json"
}

# One test after another, each in a process: a test that ends in a device fault leaves a process without a device, and
# some ask how much memory is free.
test_one_by_one() {
  local name=${1##*/} test status=0
  while read -r test; do
    within 10 "$1" --gtest_filter="$test" >>"$out/tests-$name.log" 2>&1 || status=1
  done < <("$1" --gtest_list_tests | awk '/^[^ ]/ { suite = $1 } /^ / { print suite $1 }')
  return "$status"
}

# The oracle takes most of a contract test's time: a share of the tests for each core, each a process.
test_in_shards() {
  local name=${1##*/} n shards pids=() pid status=0
  shards=$(nproc)
  for ((n = 0; n < shards; ++n)); do
    GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$n OMP_NUM_THREADS=1 "$1" >"$out/tests-$name-$n.log" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  return "$status"
}

stage_tests() {
  local program name wrong=()
  rm -f "$out"/tests-*
  [[ $sizes == full ]] || export GTEST_FILTER='*Contract*/causal_top_left_*:T15*' QKV_TEST_REPEATS=1
  for program in "$kit"/tests/*; do
    [[ ! -x $program || ${program##*/} != gpu_* ]] || "$program" --gtest_list_tests | grep -c '^ '
  done >"$out/tests-total"
  # The contract test last: it takes all the time that there is.
  for program in "$kit"/tests/*; do
    name=${program##*/}
    [[ -x $program && $name != gpu_contract_test ]] || continue
    echo "$name"
    case $name in
      gpu_*) test_one_by_one "$program" ;;
      *) within 10 "$program" >"$out/example-$name.log" 2>&1 ;;
    esac || wrong+=("$name")
  done
  if [[ -x $kit/tests/gpu_contract_test ]]; then
    echo gpu_contract_test
    test_in_shards "$kit/tests/gpu_contract_test" || wrong+=(gpu_contract_test)
  fi
  [[ ${#wrong[@]} == 0 ]] || { echo "failed: ${wrong[*]}" && return 1; }
}

stage_sweep() {
  local bad=0 size=()
  rm -f "$out"/sweep*.tsv "$out"/sweep*.json
  [[ $sizes == full ]] || size=(--size 128 --mask causal)
  bench 75 sweep "${size[@]}" || bad=1
  peers 100 sweep-peers --type f16 "${size[@]}" || bad=1
  return "$bad"
}

if [[ -n $stage ]]; then
  stage_end=$QKV_KIT_END
  stage_length=$((stage_end - $(now)))
  tiny_bench=() tiny_peers=()
  if [[ $sizes == tiny ]]; then
    tiny_bench=(--batch 1 --heads 2 --no-ceiling --benchmark_repetitions=1 --benchmark_min_time=0.001)
    tiny_peers=(--repetitions 1)
  fi
  "stage_$stage"
  exit
fi

# --- the run

begin=$(now)
end=$((begin + seconds * 1000 - 1000 - seconds * 10))  # the tables take a moment
stage_pid=''
failed=no

say() { printf '\n== %s\n' "$*"; }

# What a stage has written since the last time.
show_new() {
  local size
  size=$(stat -c %s "$1")
  ((size > shown)) || return 0
  tail -c "+$((shown + 1))" "$1" | head -c "$((size - shown))"
  shown=$size
}

# run_stage NAME MILLISECONDS
run_stage() {
  local name=$1 log=$out/$1.txt started status took word
  started=$(now)
  say "$name: at most $(($2 / 1000)) s"
  # A second of its time is for those that do not end when asked to.
  QKV_KIT_END=$((started + $2 - 1000)) timeout -k 1 "$(as_seconds "$(($2 - 1000))")" \
    "$BASH" "$0" --stage "$name" --sizes "$sizes" --out "$out" >"$log" 2>&1 </dev/null &
  stage_pid=$!
  shown=0
  while kill -0 "$stage_pid" 2>/dev/null; do
    sleep 0.2
    show_new "$log"
  done
  wait "$stage_pid"
  status=$?
  kill -KILL -- "-$stage_pid" 2>/dev/null  # what it left behind: `timeout` was the leader of its processes
  stage_pid=''
  show_new "$log"
  took=$(($(now) - started))
  word='done'
  if ((status == 124 || status == 137)); then
    word='cut: its time was over'
    # These say themselves when they have used their time.
    [[ $name != info && $name != verify ]] || failed=yes
  elif ((status != 0)); then
    word=FAILED
    failed=yes
  fi
  printf '%-12s %6s s  %s\n' "$name" "$(as_seconds "$took")" "$word" >>"$out/stages.txt"
}

rate_table() {
  local files=()
  for file in "$@"; do [[ ! -s $file ]] || files+=("$file"); done
  [[ ${#files[@]} == 0 ]] || awk -f "$kit/table.awk" "${files[@]}"
}

tests_summary() {
  [[ -e $out/tests-total ]] || return 0
  local logs=("$out"/tests-*.log)
  [[ -e ${logs[0]} ]] || { echo "no test has run" && return 0; }
  awk -v total="$(awk '{ n += $1 } END { print n + 0 }' "$out/tests-total")" '
    /^\[       OK \] .*\([0-9]+ ms\)$/ { ++ok }
    /^\[  SKIPPED \] .*\([0-9]+ ms\)$/ { ++skipped }
    /^\[  FAILED  \] .*\([0-9]+ ms\)$/ { ++bad; if (bad <= 3) names = names "\n  " $0 }
    END {
      printf "%d tests passed, %d skipped, %d FAILED, %d had no time or ended the process%s\n", ok, skipped, bad,
        total - ok - skipped - bad, names
    }' "${logs[@]}"
}

# The last 60 lines of output, whatever happened.
tables() {
  local file
  {
    say "sweep"
    rate_table "$out/sweep.tsv" "$out/sweep-peers.tsv"
  } >"$out/table-sweep.txt" 2>&1
  {
    say "verify"
    tail -n 9 "$out/verify.txt"
    say "experiments"
    tail -n 7 "$out/experiments.txt"
    say "tests"
    tests_summary
    say "headline"
    rate_table "$out"/headline-*.tsv
    sed -n 's/^# \(gpu\|gpu_driver\|gemm_8192_bf16\|git\): /\1 /p' "$out/headline-d128.tsv" | paste -sd ';'
    say "stages ($(as_seconds $(($(now) - begin))) s of $seconds, written to $out)"
    cat "$out/stages.txt"
  } 2>/dev/null | cat -s | tail -n 60 >"$out/tables.txt"
  cat "$out/table-sweep.txt" "$out/tables.txt"
}

interrupted() {
  trap - TERM INT HUP
  [[ -z $stage_pid ]] || { kill -KILL -- "-$stage_pid" 2>/dev/null && wait "$stage_pid" 2>/dev/null; }
  echo "interrupted" >>"$out/stages.txt"
  tables
  exit 143
}
trap interrupted TERM INT HUP

for packed in "$kit"/*.gz "$kit"/lib/*.gz "$kit"/tests/*.gz; do
  [[ ! -e $packed ]] || gzip -df "$packed" || exit 1
done
if ! reason=$(timeout -k 1 "$((seconds / 4))" "$kit/attention_bench" --device cuda --size 512 --benchmark_list_tests \
  2>&1 >/dev/null); then
  echo "run.sh: nothing to check or measure: ${reason#attention_bench: }"
  exit 3
fi

# The benchmark looks for cuBLAS in the usual places; a Python environment may hold it elsewhere.
if [[ -z ${QKV_CUBLAS:-} ]] && command -v python3 >/dev/null; then
  folder=$(timeout 5 python3 -c '
import glob, sys
found = [f for p in sys.path for n in ("cu13", "cublas") for f in glob.glob(f"{p}/nvidia/{n}/lib/libcublas.so.1[23]")]
print(found[0].rpartition("/")[0] if found else "")' 2>/dev/null)
  toolkit=(/usr/local/cuda/lib64/libcublas.so.1[23])
  if [[ -n $folder && ! -e ${toolkit[0]} ]]; then
    export QKV_CUBLAS=$folder
    export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  fi
fi

# So it does for cuDNN.
if [[ -z ${QKV_CUDNN:-} ]] && command -v python3 >/dev/null; then
  folder=$(timeout 5 python3 -c '
import glob, sys
found = [f for p in sys.path for f in glob.glob(f"{p}/nvidia/cudnn/lib/libcudnn.so.9")]
print(found[0].rpartition("/")[0] if found else "")' 2>/dev/null)
  [[ -z $folder ]] || export QKV_CUDNN=$folder
fi

rm -f "$out/stages.txt"
started=no
for n in "${!stages[@]}"; do
  [[ ${stages[n]} != "$from" ]] || started=yes
  [[ $started == yes ]] || continue
  rest=0
  for ((m = n; m < ${#stages[@]}; ++m)); do rest=$((rest + shares[m])); done
  left=$((end - $(now)))
  limit=$((left * shares[n] / rest))
  ((limit >= 5000)) || limit=$((left < 5000 ? left : 5000))
  if ((limit < 2000)); then
    printf '%-12s           no time left\n' "${stages[n]}" >>"$out/stages.txt"
    continue
  fi
  run_stage "${stages[n]}" "$limit"
done
tables
[[ $failed == no ]]
