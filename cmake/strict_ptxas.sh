#!/usr/bin/env bash
# strict_ptxas.sh COMMAND...: runs a compiler; fails too where ptxas only mentions that it has serialised wgmma or ignored
# setmaxnreg (C75xx), which no flag makes an error.
set -uo pipefail
output=$("$@" 2>&1)
status=$?
[[ -z $output ]] || printf '%s\n' "$output" >&2
[[ $output != *'(C75'* ]] || exit 1
exit "$status"
