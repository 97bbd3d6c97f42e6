#!/usr/bin/env bash
# The ABI that qkv.h promises, kept in abi/: libqkv.abi (functions, structs, their layout; by abidw) and constants.txt.
# It is read from the header alone, hence the same on every machine and in every build; that the library exports these
# functions is what symbols_test says. T19 of the catalogue of risks.
# since/ has the header of each release: what is built against it must run with today's library.
#   abi.sh check [HEADER]     fails where HEADER differs from what is kept, and says in what
#   abi.sh since [HEADER]     fails where HEADER takes back what a release promised, and says what
#   abi.sh renew              keeps what the header promises now, unless it takes something back; `./dev abi`
#   abi.sh selftest           `check` and `since` catch planted faults
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly kept=$here/abi
own_header=$here/../../include/qkv/qkv.h
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for tool in abidw abidiff; do
  command -v "$tool" >/dev/null || {
    echo "skipped: $tool is missing (Debian package abigail-tools)"
    exit 77
  }
done

# describe HEADER DIR: writes libqkv.abi and constants.txt of a header.
describe() {
  local name names
  mkdir -p "$2"
  # A library whose functions do nothing has the header's ABI.
  cc -E -P "$1" >"$work/stub.c"
  perl -0pi -e 's/(__attribute__\(\(visibility\("default"\)\)\)[^;{]*);/$1 { __builtin_trap(); }/g' "$work/stub.c"
  (cd "$work" && cc -std=c99 -g -fPIC -shared -fvisibility=hidden "-fdebug-prefix-map=$work=." -Wl,-soname,libqkv.so.0 \
    -o libqkv.so.0 stub.c)
  abidw --no-architecture --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --drop-undefined-syms \
    --type-id-style hash --out-file "$2/libqkv.abi" "$work/libqkv.so.0"
  # Enumerations are unnamed in the header: no function's type leads abidw to them.
  names=$(grep -oE '^ *QKV_[A-Z0-9_]+ *=' "$1" | tr -d ' =')
  {
    printf '#include "%s"\n#include <stdio.h>\nint main(void) {\n' "$(realpath "$1")"
    for name in $names; do printf '  printf("%s %%lld\\n", (long long)%s);\n' "$name" "$name"; done
    printf '}\n'
  } >"$work/constants.c"
  cc -std=c99 -o "$work/constants" "$work/constants.c"
  "$work/constants" >"$2/constants.txt"
}

check() {
  local same=yes
  describe "$1" "$work/now"
  abidiff --no-architecture "$kept/libqkv.abi" "$work/now/libqkv.abi" || same=no
  diff -U 0 --label kept "$kept/constants.txt" --label now "$work/now/constants.txt" || same=no
  [[ $same == yes ]] || {
    echo 'qkv.h promises another ABI than tests/package/abi keeps. Additions: ./dev abi renews it. Anything removed or'
    echo 'changed breaks programs that are built already: only with a new SONAME.'
    return 1
  }
  printf '%d functions, %d constants as kept\n' "$(grep -c '<elf-symbol' "$kept/libqkv.abi")" \
    "$(wc -l <"$kept/constants.txt")"
}

# promises DIR: what programs rely on, a line each: constants, signatures, fields with offset and type, and the sizes of
# structs that cannot grow, because they do not begin with struct_size. Types are named by abidw's hash of their names.
promises() {
  awk '
    function attribute(name,  s) {
      s = $0
      if (!sub(".* " name "=\047", "", s)) return ""
      sub(/\047.*/, "", s)
      return s
    }
    /<class-decl / { struct = attribute("name"); size = attribute("size-in-bits"); fields = 0 }
    /<data-member / { offset = attribute("layout-offset-in-bits") }
    /<var-decl / && struct != "" {
      if (fields++ == 0 && attribute("name") != "struct_size") print "sizeof", struct, size
      print struct "." attribute("name"), offset, attribute("type-id")
    }
    /<\/class-decl>/ { struct = "" }
    /<typedef-decl / { print "typedef", attribute("name"), attribute("type-id") }
    /<function-decl / { signature = attribute("name") }
    /<parameter / { signature = signature " " attribute("type-id") }
    /<return / { print signature " returns " attribute("type-id") }' "$1/libqkv.abi"
  cat "$1/constants.txt"
}

since() {
  local release lost count=0
  describe "$1" "$work/today"
  for release in "$here"/since/*/; do
    describe "$release/qkv/qkv.h" "$work/release"
    lost=$(comm -23 <(promises "$work/release" | sort) <(promises "$work/today" | sort))
    [[ -z $lost ]] || {
      printf 'qkv.h takes back what %s promised, its programs would break:\n%s\n' "$(basename "$release")" "$lost"
      return 1
    }
    count=$((count + $(promises "$work/release" | wc -l)))
  done
  ((count > 0))
  printf '%d promises of earlier releases stand\n' "$count"
}

# plant WHAT PERL: a header changed so, as planted.h.
plant() {
  perl -0pe "$2" "$own_header" >"$work/planted.h"
  ! cmp -s "$own_header" "$work/planted.h" || { echo "NOT OK: nothing was planted: $1"; exit 1; }
}

# fails COMMAND WORDS WHAT: on the planted header, with these words.
fails() {
  if ("$1" "$work/planted.h") >"$work/output" 2>&1 || ! grep -q "$2" "$work/output"; then
    echo "NOT OK: missed by $1: $3"
    cat "$work/output"
    exit 1
  fi
}

# caught WHAT PERL: a change that breaks programs.
caught() {
  plant "$1" "$2"
  fails check 'promises another ABI' "$1"
  fails since 'takes back' "$1"
  echo "ok: caught: $1"
}

# noticed WHAT PERL: an addition. It has to be kept, and breaks nobody.
noticed() {
  plant "$1" "$2"
  fails check 'promises another ABI' "$1"
  (since "$work/planted.h") >"$work/output" 2>&1 || { echo "NOT OK: since: $1"; cat "$work/output"; exit 1; }
  echo "ok: noticed: $1"
}

# shellcheck disable=SC2016  # the dollars are perl's
case $1 in
  check) check "${2:-$own_header}" ;;
  since) since "${2:-$own_header}" ;;
  renew)
    since "$own_header"
    describe "$own_header" "$work/now"
    abidiff --no-architecture "$kept/libqkv.abi" "$work/now/libqkv.abi" || true
    mkdir -p "$kept"
    cp "$work/now/libqkv.abi" "$work/now/constants.txt" "$kept"
    ;;
  selftest)
    caught 'a function is gone' 's/QKV_API int32_t qkv_version\(void\);//'
    noticed 'a function is new' 's/(QKV_API int32_t qkv_version)/QKV_API int32_t qkv_planted(int);\n$1/'
    caught 'a parameter has another type' 's/qkv_device_query\(int32_t index/qkv_device_query(int64_t index/'
    caught 'a field moved' 's#(  float scale;[^\n]*\n)((?:  /\*\*(?:(?!\*/).)*\*/\n)?  float softcap;[^\n]*\n)#$2$1#s'
    caught 'a struct grew in its middle' 's/(void\* workspace;)/$1 int planted;/'
    caught 'a struct without struct_size grew' 's/(\} qkv_tensor;)/  int64_t planted;\n$1/'
    caught 'a field has another type' 's/float softcap;/int32_t softcap;/'
    noticed 'a struct grew at its end' 's/(\} qkv_attention_desc;)/  int64_t planted;\n$1/'
    caught 'a constant has another value' 's/QKV_TYPE_I32 = 6/QKV_TYPE_I32 = 9/'
    ;;
  *)
    echo "abi.sh: unknown command $1" >&2
    exit 2
    ;;
esac
