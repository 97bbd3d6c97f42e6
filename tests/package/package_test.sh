#!/usr/bin/env bash
# The Debian packages and the static library: built as the README says, unpacked, used by a stranger's programs.
#   package_test.sh SOURCE BUILD VERSION CMAKE_ARGUMENT...     BUILD: a folder of its own, kept between runs
set -euo pipefail
source=$1 build=$2 version=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  printf 'package_test: %s\n' "$*" >&2
  exit 1
}

# quietly COMMAND...: its output only if it fails.
quietly() {
  "$@" >"$work/log" 2>&1 || {
    cat "$work/log"
    fail "$*"
  }
}

# make_library CMAKE_ARGUMENT...
make_library() {
  quietly cmake -S "$source" -B "$build" -DCMAKE_INSTALL_PREFIX=/usr -DQKV_BUILD_PROGRAM=OFF -DQKV_BUILD_TESTS=OFF \
    -DQKV_BUILD_BENCH=OFF "$@"
  quietly cmake --build "$build" --parallel 2
}

for tool in cpack dpkg-deb dpkg-shlibdeps file; do
  command -v "$tool" >/dev/null || {
    echo "skipped: $tool is missing"
    exit 77
  }
done

# --- Debian packages
make_library -DBUILD_SHARED_LIBS=ON "$@"
rm -rf "$build/package"/*.deb
(cd "$build" && quietly cpack -G DEB)
architecture=$(dpkg --print-architecture)
library=$build/package/libqkv0_${version}_$architecture.deb
development=$build/package/libqkv-dev_${version}_$architecture.deb

# has PACKAGE FIELD REGEX
has() {
  local value
  value=$(dpkg-deb -f "$1" "$2")
  [[ $value =~ ^($3)$ ]] || fail "${1##*/}: $2 is '$value', expected $3"
}
has "$library" Package libqkv0
has "$library" Version "${version//./\\.}"
has "$library" Section libs
has "$library" Maintainer '.+ <.+@.+>'
has "$library" Architecture "$architecture"
for needed in libc6 libdnnl2 libgomp1 'libstdc\+\+6'; do
  has "$library" Depends "(.*, )?$needed( \(>= [^)]*\))?(, .*)?"
done
[[ $(dpkg-deb -f "$library" Depends) != *cu* ]] || fail "the package depends on CUDA: $(dpkg-deb -f "$library" Depends)"
has "$development" Package libqkv-dev
has "$development" Version "${version//./\\.}"
has "$development" Section libdevel
has "$development" Depends "libqkv0 \(= ${version//./\\.}\)"

# files PACKAGE: what it holds, without folders.
files() { dpkg-deb -c "$1" | awk '$1 !~ /^d/ { print $6 }' | sed 's/^\.//' | sort; }
lib=/usr/lib/$(gcc -print-multiarch)
expected_library=$(printf '%s\n' "$lib/libqkv.so.0" "$lib/libqkv.so.$version" | sort)
expected_development=$(printf '%s\n' /usr/include/qkv/{dlpack.hpp,qkv.h,qkv.hpp} "$lib/libqkv.so" \
  "$lib/pkgconfig/qkv.pc" "$lib"/cmake/qkv/qkv{Config,ConfigVersion,Targets,Targets-release}.cmake \
  /usr/share/doc/qkv/LICENSE | sort)
diff <(echo "$expected_library") <(files "$library") || fail 'the library package holds other files'
diff <(echo "$expected_development") <(files "$development") || fail 'the development package holds other files'
dpkg-deb --ctrl-tarfile "$library" | tar -xO ./shlibs | grep -q '^libqkv 0 libqkv0' || fail 'no shlibs'

dpkg -x "$library" "$work/root"
dpkg -x "$development" "$work/root"
readelf -S "$work/root$lib/libqkv.so.0" | grep -q '\.symtab' && fail 'the packaged library is not stripped'
"$source/tests/consumer/consumer_test.sh" "$work/root/usr"

# --- static library: the same objects
make_library -DBUILD_SHARED_LIBS=OFF "$@"
quietly cmake --install "$build" --prefix "$work/static"
"$source/tests/consumer/consumer_test.sh" "$work/static"
flags=$(PKG_CONFIG_PATH=$(dirname "$(find "$work/static" -name qkv.pc)") pkg-config --static --libs-only-l --libs-only-L qkv)
# shellcheck disable=SC2086  # flags are words
"$source/tests/package/interposed_test.sh" "$source" "$(find "$work/static" -name libqkv.a)" \
  "$(sed -n 's/^QKV_DNNL_LIBRARY:FILEPATH=//p' "$build/CMakeCache.txt")" ${flags/-lqkv/}
