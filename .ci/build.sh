# Part of ./dev: builds, each a step.

# configure PRESET CMAKE_ARGUMENT...
configure() {
  local preset=$1 arguments=("${@:2}") language
  if command -v ccache >/dev/null; then
    # Every clone shares the cache: paths relative to the root, compilers known by content.
    export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_COMPILERCHECK=content
    for language in C CXX CUDA; do
      arguments+=("-DCMAKE_${language}_COMPILER_LAUNCHER=ccache")
    done
  fi
  step "configure $preset" cmake --preset "$preset" "${arguments[@]}"
}

# build PRESET [TARGET...]
build() {
  local preset=$1
  shift
  step "build $preset${1:+: $*}" cmake --build "build/$preset" --parallel "$jobs" ${1:+--target "$@"}
}

# configure_release CMAKE_ARGUMENT...
configure_release() {
  need_cuda
  configure release "-DQKV_CUDA=$cuda_mode" "$@"
  sed -n 's/^-- qkv: /      /p' "$log"
}

# A demo or a benchmark needs a part only, but takes nothing out of a build that has more.
configure_part() {
  local only=()
  [[ -f build/release/build.ninja ]] || only=(-DQKV_BUILD_TESTS=OFF -DQKV_BUILD_BENCH=OFF)
  configure_release "${only[@]}" "$@"
}
