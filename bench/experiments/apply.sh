#!/usr/bin/env bash
# apply.sh DIFF FOLDER FILE...: copies of the FILEs, which DIFF changes, into FOLDER, changed. Run in the project's root.
set -euo pipefail
diff=$1 folder=$2
shift 2
rm -rf "$folder"
for file in "$@"; do
  mkdir -p "$folder/${file%/*}"
  cp "$file" "$folder/$file"
done
# Without fuzz: a diff that is nearly right would test something that nobody wrote.
patch --directory="$folder" --strip=1 --fuzz=0 --no-backup-if-mismatch --silent <"$diff" || {
  echo "$diff no longer applies: carry it along, or take it out (bench/experiments/README.md)" >&2
  rm -rf "$folder"
  exit 1
}
