#!/bin/sh
# arrays_test.sh DRIVER LIBRARY: runs arrays.py with a Python that has the array library.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for python in ${QKV_PYTHON:-} python3 /usr/bin/python3; do
  if "$python" -c "import $2" >/dev/null 2>&1; then
    exec "$python" "$here/arrays.py" "$1" "$2"
  fi
done
echo "skipped: no Python here has $2"
exit 77
