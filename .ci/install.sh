# Part of ./dev: installing what is missing.

readonly build_packages=(
  g++ cmake ninja-build ccache libdnnl-dev libhwy-dev libopenblas-dev
  libcli11-dev libfmt-dev nlohmann-json3-dev
)
readonly test_packages=(
  git clang-format libgtest-dev librapidcheck-dev libzstd-dev
  pkg-config dpkg-dev file abigail-tools patchelf python3-numpy
)
readonly bench_packages=(libbenchmark-dev gnuplot-nox patch)
readonly full_packages=(clang clang-tidy libclang-rt-dev libomp-dev)

as_root=()  # prefix of commands that need root

# Fails where nobody can install anything.
become_root() {
  ((EUID != 0)) || return 0
  command -v sudo >/dev/null || return
  # On a terminal sudo may ask for a password, before its output goes to a log; elsewhere nobody would answer.
  if [[ -t 0 ]]; then sudo true; else sudo -n true 2>/dev/null; fi || return
  as_root=(sudo)
}

# need_packages NAME...: installs those of the Debian packages that are missing.
need_packages() {
  local name missing=()
  [[ ${QKV_INSTALL:-on} != off ]] || return 0
  command -v dpkg-query >/dev/null || {
    printf 'Not a Debian system; nothing is installed. Needed: %s\n' "$*"
    return 0
  }
  for name in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  ((${#missing[@]} > 0)) || return 0
  become_root || die "missing packages, and neither root nor sudo to install them. As root:
  apt-get install --no-install-recommends ${missing[*]}"
  step "install ${#missing[@]} Debian packages: ${missing[*]}" install_packages "${missing[@]}"
}

install_packages() {
  "${as_root[@]}" apt-get update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# The report page's layout is tested in a browser. Where there is none to be had, that test is skipped.
need_browser() {
  [[ ${QKV_INSTALL:-on} != off ]] && ! command -v chromium >/dev/null && command -v apt-get >/dev/null && become_root ||
    return 0
  local log_lines=1
  try 'install Chromium for the test of the report page' install_packages chromium
  ((status == 0)) || printf '      No Chromium here: report_page_test will be skipped.\n'
}

has_cuda() {
  [[ $cuda_mode != off && -n $(cmake -P cmake/find_nvcc.cmake) ]]
}

# Makes nvcc available if it is wanted and missing; without network the build goes on without CUDA.
need_cuda() {
  [[ $cuda_mode != off && ${QKV_INSTALL:-on} != off ]] && ! has_cuda || return 0
  [[ $(uname -sm) == 'Linux x86_64' || $(uname -sm) == 'Linux aarch64' ]] || return 0
  python3 -m pip --version >/dev/null 2>&1 || ! become_root || need_packages python3-pip
  local log_lines=1
  try 'fetch the CUDA compiler into .deps/cuda (about 530 MB, 850 MB unpacked)' fetch_cuda
  ((status == 0)) || [[ $cuda_mode == on ]] ||
    printf '      No nvcc here, and it could not be fetched: building WITHOUT CUDA, CPU only.\n'
}

fetch_cuda() {
  local library
  rm -rf .deps/wheels .deps/cuda
  python3 -m pip install --disable-pip-version-check --no-deps --only-binary :all: --no-cache-dir --retries 2 \
    --target .deps/wheels --requirement cmake/cuda-requirements.txt
  cd .deps/wheels/nvidia/cu13
  # What the toolkit has and its wheels lack: the folder nvcc links from, and names without version.
  ln -s lib lib64
  for library in lib/lib*.so.*; do
    ln -s "${library##*/}" "${library%%.so.*}.so"
  done
  cd - >/dev/null
  mv .deps/wheels/nvidia/cu13 .deps/cuda
  rm -rf .deps/wheels
}

# Makes what QKV_CUDA_FLAVOUR=12 needs beside nvcc available; false where it is missing and cannot be fetched.
need_cuda12() {
  [[ ! -d .deps/cuda12 ]] || return 0
  [[ ${QKV_INSTALL:-on} != off ]] || return 1
  python3 -m pip --version >/dev/null 2>&1 || ! become_root || need_packages python3-pip
  local log_lines=1
  try "fetch CUDA 12.9's assembler and runtime into .deps/cuda12 (44 MB, 104 MB unpacked)" fetch_cuda12
  ((status == 0))
}

fetch_cuda12() {
  rm -rf .deps/wheels12
  python3 -m pip install --disable-pip-version-check --no-deps --only-binary :all: --no-cache-dir --retries 2 \
    --target .deps/wheels12 --requirement cmake/cuda12-requirements.txt &&
    mv .deps/wheels12 .deps/cuda12
}

# Makes cuobjdump and nvdisasm available for bench/cycles; false where they are missing and cannot be fetched.
need_disassemblers() {
  [[ ! -d .deps/disassemblers ]] || return 0
  [[ ${QKV_INSTALL:-on} != off ]] || return 1
  python3 -m pip --version >/dev/null 2>&1 || ! become_root || need_packages python3-pip
  local log_lines=1
  try "fetch CUDA's disassemblers into .deps/disassemblers (6 MB)" fetch_disassemblers
  ((status == 0))
}

fetch_disassemblers() {
  rm -rf .deps/wheels-disassemblers
  python3 -m pip install --disable-pip-version-check --no-deps --only-binary :all: --no-cache-dir --retries 2 \
    --target .deps/wheels-disassemblers --requirement bench/cycles/requirements.txt &&
    mv .deps/wheels-disassemblers .deps/disassemblers
}

# Makes the Python packages that peers.py compares with available; false where they are missing and cannot be fetched.
need_peers() {
  [[ ! -x .deps/peers/bin/python3 ]] || return 0
  [[ ${QKV_INSTALL:-on} != off ]] || return 1
  python3 -c 'import ensurepip, venv' 2>/dev/null || ! become_root || need_packages python3-venv
  local log_lines=5
  printf 'PyTorch (with CUDA), ONNX Runtime and OpenVINO go into .deps/peers: 3.1 GB to fetch, 5.7 GB unpacked.\n'
  try 'fetch what qkv is compared with' fetch_peers
  ((status == 0))
}

fetch_peers() {
  rm -rf .deps/peers .deps/peers-new
  python3 -m venv .deps/peers-new
  .deps/peers-new/bin/python3 -m pip install --disable-pip-version-check --only-binary :all: --no-cache-dir \
    --retries 2 --requirement bench/peers-requirements.txt
  mv .deps/peers-new .deps/peers
}
