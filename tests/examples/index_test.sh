#!/bin/sh
# Examples stay short enough to read, and the README names each.
#   index_test.sh README
set -eu
readme=$1
cd "$(dirname "$0")"
faults=0
for file in *.c *.cpp; do
  lines=$(wc -l <"$file")
  if [ "$lines" -ge 60 ]; then
    echo "$file has $lines lines; under 60 are allowed"
    faults=1
  fi
  if ! grep -qF "(tests/examples/$file)" "$readme"; then
    echo "README.md does not list $file"
    faults=1
  fi
done
exit $faults
