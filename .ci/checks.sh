# Part of ./dev: source checks. Each prints what is wrong and fails.

# The sources, tracked or new, that match git patterns. None is an error: a check of nothing proves nothing.
sources() {
  local name found=no
  while read -r name; do
    [[ -f $name ]] || continue
    printf '%s\n' "$name"
    found=yes
  done < <(git ls-files --cached --others --exclude-standard -- "$@" | sort -u)
  [[ $found == yes ]]
}

code() {
  sources '*.c' '*.h' '*.cpp' '*.hpp' '*.cu' '*.cuh' '*.inc'
}

format_is_clean() {
  local faults
  faults=$(code | xargs clang-format --dry-run -Werror 2>&1) && return
  grep -E ': (error|warning):' <<<"$faults" | cut -d: -f1 | sort | uniq -c | awk '{ print $2 ": " $1 }'
  printf './dev format rewrites them\n'
  return 1
}

# One wrapper per instruction, in one folder; the virtual GPU's tests may write PTX of their own.
asm_stands_in_ptx() {
  local files found
  local asm='\b(asm|__asm|__asm__)\b[[:space:]]*((volatile|__volatile__|goto|inline)[[:space:]]*)*[({]'
  files=$(code | grep -vE '^(kernels/ptx|tests/vgpu)/')
  found=$(xargs grep -nE "$asm" /dev/null <<<"$files") || true
  [[ -z $found ]] || {
    printf '%s\n' "$found"
    return 1
  }
}

# In host/: the program -> verify -> ops -> core, no op -> another but layer -> project, attention; all -> plain headers
# (.h) of kernels/core, the kernels' launch.h and policy.h; verify -> the list of instances. A kernel -> kernels/core ->
# ptx. Never back.
includes_point_one_way() {
  # shellcheck disable=SC2016  # the dollars are awk's
  local rules='
    function refuse(why) { printf "%s:%d: includes %s: %s\n", FILENAME, FNR, target, why; bad = 1 }
    !/^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]/ { next }
    {
      target = $0
      sub(/^[^"<]*["<]/, "", target)
      sub(/[">].*/, "", target)
      split(FILENAME, from, "/")
      split(target, to, "/")
    }
    target ~ /(^|\/)\.\.(\/|$)/ { refuse("write paths from the root"); next }
    to[1] == "tests" { refuse("the library does not see its tests"); next }
    to[1] == "bench" && FILENAME !~ /^host\/cli\// { refuse("only the program sees bench/"); next }
    to[1] == "host" && from[1] != "host" { refuse("only host/ sees host/"); next }
    to[1] == "host" && to[2] == "verify" && from[2] !~ /^(verify|cli)$/ {
      refuse("the program and tests alone see host/verify")
      next
    }
    to[1] == "host" && from[2] == "core" && to[2] != "core" { refuse("host/core knows no op"); next }
    to[1] == "host" && from[2] == "io" && to[2] != "io" { refuse("host/io stands alone"); next }
    to[1] == "host" && from[2] == "ops" && to[2] != "ops" && to[2] != "core" { refuse("an op sees core alone"); next }
    to[1] == "host" && from[2] == "ops" && to[2] == "ops" && to[3] != from[3] &&
      !(from[3] == "layer" && to[3] ~ /^(project|attention)$/) {
      refuse("an op does not see another; layer is made of project and attention")
      next
    }
    to[1] != "kernels" { next }
    from[1] == "include" { refuse("installed headers stand alone"); next }
    target == "kernels/kernels.inc" && from[1] == "host" && from[2] == "verify" { next }
    from[1] == "host" {
      if (target !~ /^kernels\/(core\/[a-z0-9_]+\.h|[a-z0-9_]+\/[a-z0-9_]+\/(launch|policy)\.h)$/)
        refuse("host/ sees core/*.h, launch.h and policy.h of kernels")
      next
    }
    target == "kernels/host_device.h" || to[2] "/" to[3] == from[2] "/" from[3] { next }
    to[2] == from[2] && to[2] ~ /^(core|ptx)$/ { next }
    from[2] == "ptx" { refuse("ptx/ is the lowest layer"); next }
    to[2] == "ptx" { next }
    from[2] == "core" { refuse("core/ sees ptx/ only"); next }
    to[2] != "core" { refuse("a kernel does not see another") }
    END { exit bad }'
  code | grep -E '^(include|host|kernels)/' | xargs awk "$rules"
}

# A kernel is read in one sitting.
kernels_are_short() {
  local bad
  bad=$(sources 'kernels/**/kernel.cuh' | xargs wc -l | awk '$1 > 400 && $2 != "total" { print $2 ": " $1 " lines, at most 400" }')
  [[ -z $bad ]] || {
    printf '%s\n' "$bad"
    return 1
  }
}

source_checks() {
  check 'check format' format_is_clean
  check 'check that asm stands in kernels/ptx only' asm_stands_in_ptx
  check 'check include arrows' includes_point_one_way
  check 'check that kernels are short' kernels_are_short
}

# tidy FOLDER BUILD PARTS [CLANG_TIDY_OPTION...]: one of PARTS shares of FOLDER's sources, without its tests; the next one
# with the next commit, as QKV_TEST_SHARE says.
tidy() {
  # The build is GCC's: its options that clang lacks, and what only clang calls a conversion, are no findings.
  sources "$1/*.cpp" ":!$1/tests/" | awk -v number="${QKV_TEST_SHARE:-0}" -v parts="$3" 'NR % parts == number % parts' |
    xargs -n 1 -P "$jobs" clang-tidy -p "$2" --quiet \
    --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-sign-conversion "${@:4}"
}

format_all() {
  code | xargs clang-format -i
}
