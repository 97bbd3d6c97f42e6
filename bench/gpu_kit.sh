#!/usr/bin/env bash
# Fills a folder with all that a GPU machine without network needs: the program qkv, test and benchmark programs, the
# libraries they load, and run.sh.
#   bench/gpu_kit.sh BUILD DIR     BUILD: a build with CUDA and tests, as `./dev gpu-kit DIR` makes it; with
#                                  QKV_CUDA_FLAVOUR=12 (the default there) for drivers from 525 on, else from 580 on
set -euo pipefail
shopt -s inherit_errexit
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly limit_mib=55

die() {
  echo "gpu_kit.sh: $*" >&2
  exit 1
}

[[ $# == 2 ]] || die "usage: gpu_kit.sh BUILD DIR"
build=$1
kit=$2
for tool in patchelf ldd strip gzip; do
  command -v "$tool" >/dev/null || die "$tool is missing (Debian packages patchelf, libc-bin, binutils, gzip)"
done
for file in attention_bench_kit qkv_kit libqkv.so; do
  [[ -e $build/$file ]] || die "$build/$file is missing: build it first, with QKV_CUDA=on"
done
if [[ -d $kit && -n $(ls -A "$kit") && ! -e $kit/run.sh ]]; then
  die "$kit holds other things; name an empty folder"
fi
mkdir -p "$kit"
kit=$(cd "$kit" && pwd)
for old in run.sh peers.py peers_cpu.py qkv_ctypes.py table.awk README.txt attention_bench attention_experiments qkv tests lib; do
  rm -rf "${kit:?}/$old"
done
mkdir "$kit/tests" "$kit/lib"

# The programs gpu_* and example_* behind the tests that carry the label gpu.
gpu_tests() {
  [[ -e $build/CTestTestfile.cmake ]] || return 0
  ctest --test-dir "$build" -N -V -L '^gpu$' |
    sed -nE 's/^[0-9]*: Test command: "?([^" ]*\/(gpu|example)_[^" /]*).*/\1/p' | sort -u
}

# Libraries that every Linux with a GPU driver has, at least as new as the ones built with.
is_system() { [[ $1 =~ ^(ld-linux.*|linux-vdso|libc|libm|libdl|librt|libpthread|libresolv)\.so ]]; }

# Every library that a file loads, as paths.
libraries_of() {
  local listing
  listing=$(ldd "$1")
  ! grep -q 'not found' <<<"$listing" || die "$1: $(grep 'not found' <<<"$listing" | xargs)"
  awk '$2 == "=>" && $3 ~ /^\// { print $3 }' <<<"$listing"
}

copy_libraries() {
  local path
  while read -r path; do
    is_system "${path##*/}" || [[ -e $kit/lib/${path##*/} ]] || cp -L "$path" "$kit/lib/"
  done < <(libraries_of "$1")
}

# add_program FILE TO LIBRARIES: copies a program that finds its libraries in LIBRARIES, relative to itself.
add_program() {
  copy_libraries "$1"
  cp -L "$1" "$2"
  strip --strip-unneeded "$2"
  # The older DT_RPATH, which holds for libraries of libraries too and comes before LD_LIBRARY_PATH.
  patchelf --force-rpath --set-rpath "\$ORIGIN/$3" "$2"
}

add_program "$build/attention_bench_kit" "$kit/attention_bench" lib
add_program "$build/qkv_kit" "$kit/qkv" lib
[[ ! -x $build/attention_experiments ]] || add_program "$build/attention_experiments" "$kit/attention_experiments" lib
programs=$(gpu_tests)
[[ -n $programs ]] || echo "gpu_kit.sh: no test carries the label gpu in $build: the kit has benchmarks only"
while read -r program; do
  [[ -z $program ]] || add_program "$program" "$kit/tests/${program##*/}" ../lib
done <<<"$programs"
copy_libraries "$build/libqkv.so"
# ldd does not know that libqkv opens oneDNN.
dnnl=$(sed -n 's/^QKV_DNNL_LIBRARY:FILEPATH=//p' "$build/CMakeCache.txt")
cp -L "$dnnl" "$kit/lib/$(patchelf --print-soname "$dnnl")"
copy_libraries "$dnnl"
soname=$(patchelf --print-soname "$build/libqkv.so")  # for peers.py, and what the test programs ask for
cp -L "$build/libqkv.so" "$kit/lib/$soname"
strip --strip-unneeded "$kit/lib/$soname"
for library in "$kit"/lib/*; do patchelf --force-rpath --set-rpath "\$ORIGIN" "$library"; done

driver=580
! grep -q '^QKV_CUDA_FLAVOUR:STRING=12$' "$build/CMakeCache.txt" 2>/dev/null || driver=525
cp "$source_dir/kit_run.sh" "$kit/run.sh"
cp "$source_dir"/{peers.py,peers_cpu.py,qkv_ctypes.py,table.awk} "$kit/"
cat >"$kit/README.txt" <<EOF
qkv for a GPU machine without network; commit $(git -C "$source_dir" rev-parse --short=12 HEAD 2>/dev/null || echo unknown).

  ./run.sh [--seconds 420] [--from STAGE] [--out DIR]

In so many seconds: info, verify (every kernel against fp64), headline (qkv beside cuBLAS, taken from the machine's CUDA or
Python packages, and PyTorch's attention backends where PyTorch is installed), experiments, tests, sweep. Each stage has
its share of the time; results are written as they are measured. The last 60 lines that it prints are the tables. It
begins with unpacking the programs (*.gz), which start by themselves afterwards.

Needs $(uname -s) on $(uname -m) with glibc $(getconf GNU_LIBC_VERSION | cut -d ' ' -f 2) or newer, and an NVIDIA driver from $driver on.
EOF

# Nothing may come from outside but the system's own libraries.
while read -r file; do
  listing=$(env -i "$(command -v ldd)" "$file")
  ! grep -q 'not found' <<<"$listing" || die "$file: $(grep 'not found' <<<"$listing" | xargs)"
  while read -r path; do
    is_system "${path##*/}" || [[ $(realpath -s "$path") == "$kit"/* ]] || die "$file would load $path"
  done < <(awk '$2 == "=>" && $3 ~ /^\// { print $3 }' <<<"$listing")
done < <(
  find "$kit" -maxdepth 1 -type f -perm -100 ! -name run.sh ! -name '*.py'
  find "$kit/lib" "$kit/tests" -type f
)

# What is large travels packed; run.sh unpacks it when it starts for the first time. Kernels for older drivers are packed
# badly inside of the programs, which hold them three times over.
find "$kit" -size +1M -exec gzip -f {} +

kib=$(du -sk --apparent-size "$kit" | cut -f 1)
((kib <= limit_mib * 1024)) || die "$kit holds $((kib / 1024)) MiB, more than $limit_mib"
echo "$kit: $((kib / 1024)) MiB; run ./run.sh there"
