#!/usr/bin/env bash
# Stands for cicc in the toolkit of QKV_CUDA_FLAVOUR=12: runs CUDA 13's, whose PTX then says that it is CUDA 12.9's.
set -euo pipefail
"${BASH_SOURCE[0]%/*}/cicc13" "$@"
while (($# > 1)); do
  [[ $1 != -o || $2 != *.ptx ]] || sed -i 's/^\.version 9\..*/.version 8.7/' "$2"
  shift
done
