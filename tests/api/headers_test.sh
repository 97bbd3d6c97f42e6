#!/usr/bin/env bash
# Which languages the headers ask for: qkv.h any C and C++, qkv.hpp and dlpack.hpp C++17, with one error before that.
#   headers_test.sh INCLUDE
set -euo pipefail
include=$1
output=$(mktemp)
trap 'rm -f "$output"' EXIT

# compile COMPILER STANDARD HEADER
compile() {
  local language=c
  [[ $1 == cc ]] || language=c++
  echo "#include \"qkv/$3\"" | "$1" "-std=$2" -Wall -Wextra -Werror -fsyntax-only "-I$include" -x "$language" - 2>"$output"
}

for standard in c90 c99 c11; do compile cc "$standard" qkv.h || { cat "$output"; exit 1; }; done
for standard in c++98 c++11 c++14 c++17 c++20; do
  compile c++ "$standard" qkv.h || { cat "$output"; exit 1; }
  for header in qkv.hpp dlpack.hpp; do
    if [[ $standard == c++17 || $standard == c++20 ]]; then
      compile c++ "$standard" "$header" || { cat "$output"; exit 1; }
    elif compile c++ "$standard" "$header" || [[ $(grep -c ' error: ' "$output") != 1 ]] || ! grep -q 'needs C++17' "$output"; then
      echo "headers_test: $header in $standard should fail with one error that asks for C++17:"
      cat "$output"
      exit 1
    fi
  done
done
echo 'qkv.h compiles as C90 and C++98, qkv.hpp and dlpack.hpp as C++17'
