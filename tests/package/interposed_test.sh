#!/usr/bin/env bash
# A program may bring what libqkv uses too: another release of it, or functions of the same names. qkv computes as it does
# alone. T25 of the catalogue of risks. Functions that the programs bring end the process where qkv calls them.
#   interposed_test.sh SOURCE LIBRARY DNNL [LINK_FLAG...]      LIBRARY: libqkv.so, or libqkv.a with what it needs
#                                                              DNNL: the libdnnl.so that it opens
set -euo pipefail
source=$1 library=$2 dnnl=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# report OK WHAT [EXPECTED]
report() {
  if [[ $1 == yes ]]; then
    printf 'ok: %s\n' "$2"
  else
    printf 'NOT OK: %s%s\n' "$2" "${3:+, expected: $3}"
    sed 's/^/  | /' "$work/log"
    failed=1
  fi
}

# computes WHAT COMMAND...
computes() {
  local ok=yes
  env OMP_NUM_THREADS=4 "${@:2}" >"$work/log" 2>&1 || ok=no
  report "$ok" "$1"
}

# fails WHAT WORDS COMMAND...: with these words.
fails() {
  local ok=no
  env "${@:3}" >"$work/log" 2>&1 || { ! grep -q -e "$2" "$work/log" || ok=yes; }
  report "$ok" "$1" "$2"
}

# traps NAME...: C functions of these names.
traps() {
  printf '#include <stdio.h>\n#include <stdlib.h>\n'
  for name in "$@"; do
    # shellcheck disable=SC2028  # C's line break
    echo "void $name(void) { fputs(\"qkv calls the program's $name\\n\", stderr); _Exit(99); }"
  done
}

cc=(cc -std=gnu99 -w "-I$source/include" "-I$source/tests/consumer")
if [[ $library == *.a ]]; then
  links=("$library" "$@" -lm)
else
  libdir=$(cd "$(dirname "$library")" && pwd)
  links=("-L$libdir" "-Wl,-rpath,$libdir" -lqkv -lm)
fi
"${cc[@]}" -DLINKED -c "$source/tests/package/interposed.c" -o "$work/linked.o"

# program NAME FILE...: linked with libqkv and these; what they define is seen by all libraries.
program() { "${cc[@]}" -rdynamic -o "$work/$1" "$work/linked.o" "${@:2}" "${links[@]}"; }

# --- oneDNN: every function of it, in the program and in a library of another release
mapfile -t functions < <(nm -D --defined-only "$dnnl" | awk '$2 == "T" && $3 ~ /^dnnl_/ { print $3 }')
((${#functions[@]} > 100))
traps "${functions[@]}" >"$work/dnnl.c"
program own_onednn "$work/dnnl.c"
computes 'the program has functions of the names of oneDNN' "$work/own_onednn"
"${cc[@]}" -shared -fPIC -Wl,-soname,libdnnl.so.3 -o "$work/libdnnl.so.3" "$work/dnnl.c"
program with_onednn -Wl,--no-as-needed "$work/libdnnl.so.3" "-Wl,-rpath,$work"
computes 'the program is linked with another oneDNN' "$work/with_onednn"

program plain
computes 'another oneDNN is preloaded' "LD_PRELOAD=$work/libdnnl.so.3" "$work/plain"

# A oneDNN that cannot be opened is named; what does without it works.
mkdir "$work/broken"
: >"$work/broken/libdnnl.so.2"
fails 'oneDNN is missing' 'cpu_forward: oneDNN.*libdnnl\.so\.2' "LD_LIBRARY_PATH=$work/broken" "$work/plain"

# --- Highway: what a dispatch by its library would call
traps _ZN3hwy16SupportedTargetsEv _ZN3hwy15GetChosenTargetEv >"$work/hwy.c"
program own_highway "$work/hwy.c"
computes 'the program has functions of the names of Highway' "$work/own_highway"

# --- OpenMP: a program without it brings stand-ins; clang's programs bring another
cat >"$work/omp.c" <<'END'
int omp_get_thread_num(void) { return 0; }
int omp_get_num_threads(void) { return 1; }
int omp_in_parallel(void) { return 0; }
void omp_set_num_threads(int n) { (void)n; }
END
program own_openmp "$work/omp.c"
computes 'the program has stand-ins for functions of OpenMP' "$work/own_openmp"
for other in libomp.so.5 libiomp5.so; do
  ! ldconfig -p | grep -qF "$other" || computes "the program uses $other" "LD_PRELOAD=$other" "$work/plain"
done

# --- the C++ runtime's allocation
cat >"$work/new.cpp" <<'END'
#include <cstdlib>
#include <new>
// Memory of a heap of its own: what another one frees ends the process.
void* operator new(std::size_t n) {
  void* const at = std::malloc(n + 64);
  if (at == nullptr) throw std::bad_alloc();
  return static_cast<char*>(at) + 64;
}
void operator delete(void* at) noexcept {
  if (at != nullptr) std::free(static_cast<char*>(at) - 64);
}
void operator delete(void* at, std::size_t) noexcept { operator delete(at); }
END
c++ -c "$work/new.cpp" -o "$work/new.o"
program own_new "$work/new.o" -lstdc++
computes 'the program replaces operator new' "$work/own_new"

# --- CUDA: runtime, driver and cuBLAS
traps cudaGetDeviceCount cudaGetLastError cudaPeekAtLastError cudaPointerGetAttributes cudaRuntimeGetVersion \
  cudaDriverGetVersion cuInit cuGetProcAddress_v2 cuDeviceGetCount cublasCreate_v2 >"$work/cuda.c"
if [[ $library != *.a ]]; then
  program own_cuda "$work/cuda.c"
  computes 'the program has functions of the names of CUDA' "$work/own_cuda"
fi

# --- opened libraries: in the order that Python and plugins make
if [[ $library != *.a ]]; then
  "${cc[@]}" -o "$work/opens" "$source/tests/package/interposed.c" -ldl -lm
  computes 'another oneDNN is opened for all first' "$work/opens" "$work/libdnnl.so.3" "$library"
  computes "the system's oneDNN is opened for all first" "$work/opens" "$dnnl" "$library"
fi

exit "$failed"
