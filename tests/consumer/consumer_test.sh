#!/usr/bin/env bash
# Builds the programs of this folder against an installed qkv and runs them where no CUDA library is on any path.
#   consumer_test.sh PREFIX     PREFIX: what `cmake --install --prefix` filled, or an unpacked package's /usr
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
prefix=$(cd "$1" && pwd)
cc=${CC:-cc}
cxx=${CXX:-c++}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  printf 'consumer_test: %s\n' "$*" >&2
  exit 1
}

libdir=$(dirname "$(find "$prefix" -name qkv.pc)")
libdir=$(dirname "$libdir")
[[ -f $libdir/pkgconfig/qkv.pc ]] || fail "no qkv.pc in $prefix"
static=()
[[ -e $libdir/libqkv.so ]] || static=(--static)

# The programs know no folder of the library: the loader gets it from the environment, as from ld.so.conf.
run() {
  env -i "LD_LIBRARY_PATH=$libdir" PATH=/usr/bin:/bin OMP_NUM_THREADS=2 "$@" || fail "$* failed"
}

# What a program loads: libqkv from the prefix, nothing of CUDA.
loads() {
  local listing
  listing=$(LD_LIBRARY_PATH=$libdir ldd "$1")
  ! grep -E 'libcud|libcublas|libnv|not found' <<<"$listing" || fail "$1 needs these"
  if [[ ${#static[@]} == 0 ]]; then
    grep -qF "libqkv.so.0 => $libdir/libqkv.so.0" <<<"$listing" || fail "$1 does not load $libdir/libqkv.so.0"
  else
    ! grep -F 'libqkv' <<<"$listing" || fail "$1 loads a shared libqkv"
  fi
}

command -v make >/dev/null || export CMAKE_GENERATOR=Ninja
echo 'find_package:'
cmake -S "$here" -B "$work/cmake" "-DCMAKE_PREFIX_PATH=$prefix" "-DCMAKE_C_COMPILER=$cc" "-DCMAKE_CXX_COMPILER=$cxx" \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_SKIP_RPATH=ON >"$work/log" 2>&1 || { cat "$work/log"; fail 'cmake'; }
cmake --build "$work/cmake" >"$work/log" 2>&1 || { cat "$work/log"; fail 'cmake --build'; }
for program in linked_cpp linked_cpp17 linked_cpp98 linked_c; do
  loads "$work/cmake/$program"
  run "$work/cmake/$program"
done

echo 'pkg-config:'
flags() { PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config "${static[@]}" "$@" qkv; }
# Installed into / or /usr it says no folder; here the prefix stands elsewhere.
[[ $(flags --variable=prefix) -ef $prefix ]] || fail "qkv.pc has the prefix $(flags --variable=prefix)"
# shellcheck disable=SC2046  # flags are words
"$cxx" -std=c++20 -Wall -Wextra -Werror -o "$work/linked_cpp" "$here/linked.cpp" $(flags --cflags --libs)
# shellcheck disable=SC2046
"$cc" -std=c99 -Wall -Wextra -Wpedantic -Werror -o "$work/linked_c" "$here/linked.c" $(flags --cflags --libs) -lm
for program in linked_cpp linked_c; do
  loads "$work/$program"
  run "$work/$program"
done

if [[ ${#static[@]} == 0 ]]; then
  echo 'dlopen:'
  "$cc" -std=c99 -Wall -Wextra -Werror -o "$work/dlopen" "$here/dlopen.c" "-I$prefix/include" -ldl -lm
  run "$work/dlopen"
fi
