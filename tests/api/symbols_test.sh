#!/bin/sh
# libqkv.so exports the functions of qkv.h and nothing else, and loads where there is no CUDA: T19 of the catalogue of
# risks, as are abi_test and two_copies_test. What it asks of others are the C, C++ and OpenMP runtimes, each symbol with
# its version: nothing else that a program could bring too (T25).
#   symbols_test.sh LIBRARY HEADER
set -eu
library=$1 header=$2

declared=$(grep -o 'qkv_[a-z0-9_]*(' "$header" | tr -d '(' | sort -u |
  while read -r name; do grep -q "^QKV_API.*[ *]$name(" "$header" && echo "$name"; done)
exported=$(nm -D --defined-only "$library" | awk '{print $3}' | sort -u)
if [ "$declared" != "$exported" ]; then
  echo "declared in qkv.h, but not exported by $library, or the other way round:"
  printf '%s\n' "$declared" "$exported" | sort | uniq -u
  exit 1
fi

foreign=$(nm -D --undefined-only "$library" | awk '$1 != "w" { print $2 }' |
  grep -vE '@(GLIBC|GLIBCXX|CXXABI|GCC|GOMP|OMP)_' || true)
if [ -n "$foreign" ]; then
  echo "$library asks others for:" $foreign
  exit 1
fi

needed=$(readelf -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
for name in $needed; do
  case $name in
    libcudart* | libcuda.* | libcublas* | libnvrtc*)
      echo "$library needs $name"
      exit 1
      ;;
  esac
done
echo "$(echo "$exported" | wc -l) functions; needs:" $needed
