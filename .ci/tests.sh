# Part of ./dev: runs the tests of a build and counts them.

passed=0
skipped=0
summary=()

# test_group BUILD GROUP CTEST_ARGUMENT...: runs a part of a build's tests; counts them, all in $tests_of_group.
test_group() {
  local build=$1 group=$2 report=$PWD/$logs/$1-$2.xml result text
  local -A count=([passed]=0 [failed]=0 [skipped]=0) reasons=()
  try "test $build, $group" ctest --test-dir "build/$build" --parallel "$jobs" --output-on-failure --no-tests=ignore \
    --output-junit "$report" "${@:3}"
  while IFS=$'\t' read -r result text; do
    count[$result]=$((count[$result] + 1))
    case $result in
      failed) failures+=("$build: $text") ;;
      skipped) reasons[$text]=$((${reasons[$text]:-0} + 1)) ;;
    esac
  done < <([[ ! -f $report ]] || read_report <"$report")
  # ctest itself may fail, or find a test's program missing.
  ((status == 0 || count[failed] > 0)) || failures+=("$build, $group: ctest")
  passed=$((passed + count[passed]))
  skipped=$((skipped + count[skipped]))
  summary+=("$(printf '  %-8s %-5s %5d passed %5d failed %5d skipped' "$build" "$group" "${count[passed]}" \
    "${count[failed]}" "${count[skipped]}")")
  for text in "${!reasons[@]}"; do
    summary+=("                 skipped ${reasons[$text]}: $text")
  done
  tests_of_group=$((count[passed] + count[failed] + count[skipped]))
}

# Reads ctest's JUnit report; prints a line for each test: passed, or failed and its name, or skipped and its reason.
read_report() {
  awk '
    function plain(s) {
      gsub(/&lt;/, "<", s); gsub(/&gt;/, ">", s); gsub(/&quot;/, "\"", s); gsub(/&apos;/, "\047", s)
      gsub(/&amp;/, "\\&", s); gsub(/\t/, " ", s)
      return s
    }
    function attribute(name,  s) {
      s = $0
      if (!sub(".*[ \t]" name "=\"", "", s)) return ""
      sub(/".*/, "", s)
      return plain(s)
    }
    /^\t<testcase / { name = attribute("name"); state = attribute("status"); reason = ""; output = 0; next }
    /^\t\t<skipped / { why = attribute("message"); next }
    /^\t\t<system-out>/ { output = 1; sub(/^\t\t<system-out>/, ""); first = $0 }
    output && take { reason = plain($0); take = 0 }
    # GoogleTest prints the place of GTEST_SKIP, then its message.
    output && reason == "" && /: Skipped$/ { take = 1 }
    /<\/system-out>$/ { output = 0; take = 0 }
    /^\t<\/testcase>/ {
      if (reason == "") { reason = plain(first); sub(/<\/system-out>$/, "", reason) }
      if (state == "run") print "passed\t"
      else if (state == "disabled") print "skipped\tdisabled: " name
      else if (state == "notrun" && why ~ /^SKIP_/) print "skipped\t" reason
      else print "failed\t" name
      why = ""; first = ""
    }'
}

share=  # which rows of the virtual GPU, in words

# take_share PARTS: of the contract's rows on the virtual GPU this run takes one of PARTS shares, as tests/gpu/share.sh says. The
# next commit takes the next one, so that PARTS commits in a row run all. QKV_TEST_SHARE in the environment prevails.
take_share() {
  local number why
  if [[ -n ${QKV_TEST_SHARE:-} ]]; then
    why='as the environment says'
  else
    if [[ $(git rev-parse --is-shallow-repository 2>/dev/null) == false ]] &&
      number=$(git rev-list --count --first-parent HEAD 2>/dev/null); then
      why="commit $(git rev-parse --short HEAD) is number $number"
    elif number=$(git rev-parse --short=8 HEAD 2>/dev/null); then
      number=$((16#$number))
      why='the hash of the commit: a shallow clone does not know its number'
    else
      number=$(($(date +%s) / 86400))
      why='the day: no commit is known'
    fi
    export QKV_TEST_SHARE=$number/$1
  fi
  share="QKV_TEST_SHARE=$QKV_TEST_SHARE of the contract's rows ($why)"
}

# By what the tests need; then those without such a label, should there be any.
test_release() {
  local label seen=0 all
  for label in cpu vgpu gpu; do
    test_group release "$label" --label-regex "^$label\$"
    seen=$((seen + tests_of_group))
    [[ $label != vgpu || $tests_of_group == 0 ]] || summary+=("                 $share")
  done
  all=$(ctest --test-dir build/release --show-only | sed -n 's/^Total Tests: //p')
  ((seen == all)) || test_group release other --label-exclude '^(cpu|vgpu|gpu)$'
}

# What CI runs beside the tests of the release build.
test_full() {
  check 'test the source checks' .ci/checks_test.sh
  # ./dev tidy looks at all of it, with the one check that takes a third of the time.
  check 'clang-tidy over half of host/' tidy host build/release 2 --checks=-performance-unnecessary-value-param
  # Every other test; the next commit takes the others.
  test_sanitized asan tests cpu --tests-information "$((${QKV_TEST_SHARE%/*} % 2 + 1)),,2"
  test_sanitized tsan tests tsan
  test_sanitized fuzz tests/fuzz fuzz
  ! has_cuda || build release attention_experiments
  ! has_cuda || test_flavour12_kernel
  ! has_cuda || test_vgpu
}

# QKV_CUDA_FLAVOUR=12 in CI: one kernel, the next commit takes the next one. What its assembler warns of (spills, serialised
# wgmma) is an error of the build.
test_flavour12_kernel() {
  if ! need_cuda12; then
    summary+=('  kit      skipped: CUDA 12.9 is not there and could not be fetched')
    return
  fi
  local kernels=(kernels/*/*/instances.inc) kernel
  kernel=${kernels[$((${QKV_TEST_SHARE%/*} % ${#kernels[@]}))]#kernels/}
  kernel=${kernel%/instances.inc}
  configure kit
  build kit "qkv_kernel_${kernel/\//_}"
}

# QKV_CUDA_FLAVOUR=12: its kernels as its assembler makes them (registers, local memory, main loops), and the contract on
# the virtual GPU, against CUDA 12's runtime. All kernels are compiled once more for it: that is `./dev test --full`.
test_flavour12() {
  if ! need_cuda12; then
    summary+=('  kit      skipped: CUDA 12.9 is not there and could not be fetched')
    return
  fi
  configure kit
  build kit resources_test gpu_contract_test_virtual vgpu-run
  test_group kit cpu --tests-regex '^resources_test\.'
  ((tests_of_group > 0)) || failures+=('kit: no test of its machine code was found')
  test_group kit vgpu --tests-regex '^vgpu_contract_(h100|a100|t4)_1$'
  ((tests_of_group == 3)) || failures+=('kit: its rows of the virtual GPU were not found')
}

# The virtual GPU, which needs CUDA, as the project of its own that it is. clang-tidy over it is not in here yet: ./dev
# tidy lists what has to be mended first.
test_vgpu() {
  configure vgpu-asan -S tests/vgpu
  build vgpu-asan
  test_group vgpu-asan vgpu
}

# test_sanitized PRESET FOLDER LABEL CTEST_ARGUMENT...: builds what FOLDER needs, no more, and runs its tests with LABEL.
test_sanitized() {
  configure "$1"
  build "$1" "$2/all"
  test_group "$1" "$3" --label-regex "^$3\$" "${@:4}"
}

# conclude STATUS: the last words of `./dev test`. The closing line stands alone, for machines; a failed step counts as
# a failed test, so that the line and the exit status agree.
conclude() {
  ((passed > 0)) || failures+=('no test passed')
  (($1 == 0 || ${#failures[@]} > 0)) || failures+=("stopped with status $1")
  ((${#summary[@]} == 0)) || printf '\nTests\n%s\n' "$(printf '%s\n' "${summary[@]}")"
  ((${#failures[@]} == 0)) || printf '\nFAILED\n%s\n' "$(printf '  %s\n' "${failures[@]}")"
  printf '\nlogs in %s; %s in all\n' "$logs" "$(duration $SECONDS)"
  printf '%d passed, %d failed, %d skipped\n' "$passed" "${#failures[@]}" "$skipped"
  ((${#failures[@]} == 0)) || exit 1
}
