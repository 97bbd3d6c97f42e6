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
[[ $(readelf -d "$work"/moved/lib*/libqkv.so | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p') == libqkv.so.0 ]]
! readelf -d "$work"/moved/lib*/libqkv.so | grep -E 'RPATH|RUNPATH'
"$source/tests/consumer/consumer_test.sh" "$work/moved"
