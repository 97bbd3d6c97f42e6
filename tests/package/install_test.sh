#!/usr/bin/env bash
# What `cmake --install` puts down serves a stranger's programs, names no folder of this machine, and may be moved.
#   install_test.sh SOURCE BUILD
set -euo pipefail
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for component in runtime development; do
  cmake --install "$build" --prefix "$work/first" --component "$component" >/dev/null
done
mv "$work/first" "$work/moved"
# The build folder, as a rule inside of the source folder, is covered too.
if grep -rlF -e "$source" -e "$build" -e "$work" "$work/moved"; then
  echo 'install_test: these name a folder of this machine' >&2
  exit 1
fi
for header in qkv.h qkv.hpp dlpack.hpp; do cmp "$source/include/qkv/$header" "$work/moved/include/qkv/$header"; done
dynamic=$(readelf -d "$work"/moved/lib*/libqkv.so)
if ! grep -qF 'Library soname: [libqkv.so.0]' <<<"$dynamic" || grep -E 'RPATH|RUNPATH' <<<"$dynamic"; then
  echo 'install_test: libqkv.so has another SONAME than libqkv.so.0, or a path' >&2
  exit 1
fi
"$source/tests/consumer/consumer_test.sh" "$work/moved"

# The README's first program, built as the README says.
# shellcheck disable=SC2016  # backticks are Markdown's
sed -n '/^```cpp$/,/^```$/p' "$source/README.md" | sed '/^```/d' >"$work/first.cpp"
libdir=$(dirname "$(find "$work/moved" -name libqkv.so)")
export PKG_CONFIG_PATH=$libdir/pkgconfig LD_LIBRARY_PATH=$libdir
# shellcheck disable=SC2046  # flags are words
c++ -std=c++20 -o "$work/first" "$work/first.cpp" $(pkg-config --cflags --libs qkv)
[[ $("$work/first") == 'o[0] = 0.1' ]] || {
  echo "install_test: the README's first program says '$("$work/first")'" >&2
  exit 1
}
