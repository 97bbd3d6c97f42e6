#!/usr/bin/env bash
# Tests mutant_lines.py: it passes what is right, renews what has moved, refuses what it cannot find.
set -euo pipefail
tool=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/mutant_lines.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
faults=0

plant() {  # plant REFERENCE: a project with one kernel, whose mutants.md has this row
  rm -rf "${work:?}"/*
  mkdir -p "$work"/kernels/{core,one,two}
  printf 'int cut();\n' >"$work/kernels/core/mask.h"
  printf '\n' | tee "$work/kernels/core/launch.h" >"$work/kernels/two/launch.h"
  printf '%s\n' 'void f() {' '  sync();' '  if (a || b)' '    sync();' '}' '' 'void g() { sync(); }' \
    >"$work/kernels/one/kernel.cuh"
  printf '| source |\n| --- |\n| %s |\n' "$1" >"$work/kernels/one/mutants.md"
}

# expect STATUS TEXT ARGUMENT...: the tool ends so, and prints TEXT.
expect() {
  local status=0
  "$tool" --root "$work" "${@:3}" >"$work/output" 2>&1 || status=$?
  if [[ $status == "$1" && $(<"$work/output") == *"$2"* ]]; then
    printf 'ok: %s\n' "${2:-passes}"
  else
    printf 'NOT OK: status %s, expected %s with: %s\n' "$status" "$1" "$2"
    sed 's/^/  | /' "$work/output"
    faults=$((faults + 1))
  fi
}

renews() {  # renews REFERENCE RESULT
  plant "$1"
  expect 1 'stale' --check
  "$tool" --root "$work" --write
  if grep -qF -- "| $2 |" "$work/kernels/one/mutants.md"; then
    printf 'ok: %s\n' "$2"
  else
    printf 'NOT OK: expected %s in\n' "$2"
    sed 's/^/  | /' "$work/kernels/one/mutants.md"
    faults=$((faults + 1))
  fi
  expect 0 '' --check
}

# shellcheck disable=SC2016  # back quotes are Markdown's
{
  plant '`kernel.cuh:2, 4, 7` `sync();`, `mask.h:1` `int  cut()`'
  expect 0 '' --check

  renews '`kernel.cuh:` `sync();`' '`kernel.cuh:2, 4, 7` `sync();`'
  renews '`kernel.cuh:9` `if (a \|\| b) sync();`' '`kernel.cuh:3` `if (a \|\| b) sync();`'
  renews '`kernel.cuh:2` `sync();` in `void g()`' '`kernel.cuh:7` `sync();` in `void g()`'
  renews '`core/mask.h:2` `cut`' '`core/mask.h:1` `cut`'

  plant '`kernel.cuh:2` `wait();`'
  expect 1 'mutants.md:3: kernel.cuh: `wait();` is gone' --check
  expect 1 'is gone' --write
  plant '`kernel.cuh:2` `sync();` in `void h()`'
  expect 1 '`void h()` stands there 0 times' --check
  plant '`kernel.cuh:2` of f'
  expect 1 'no statement follows' --check
  plant '`policy.h:2` `x`'
  expect 1 '0 files are called so' --check
  plant '`launch.h:1` `x`'
  expect 1 '2 files are called so' --check
  rm "$work/kernels/one/mutants.md"
  expect 1 'no mutants.md' --check
}

((faults == 0))
