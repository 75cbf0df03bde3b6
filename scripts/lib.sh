# Shared by the scripts: where we are, which packages, how to install them. Sourced, not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

runtime_packages=(g++ cmake ninja-build ccache pkg-config libhwy-dev nlohmann-json3-dev libcli11-dev libfmt-dev
  libsentencepiece-dev libpcre2-dev libxxhash-dev libdnnl-dev liblzma-dev zlib1g-dev libzstd-dev libutf8proc-dev
  libedit-dev libboost-dev)
# libtorch-dev pulls no fast BLAS: without this one float32 products run at 5 GFLOP/s.
workshop_packages=(libtorch-dev libopenblas0-pthread)
test_packages=(libgtest-dev libgmock-dev libbenchmark-dev xz-utils)
check_packages=(clang-format-14 clang-14 libclang-rt-14-dev)

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
[ -t 2 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '== %s\n' "$*" >&2; }

# install PACKAGE…: installs those that are missing, on Debian and its kin; elsewhere says what is needed.
install() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || { echo "needs these Debian packages, or their like: ${missing[*]}" >&2; exit 2; }
  say "installing ${missing[*]}"
  local sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# configure PRESET [OPTION…]: only where the build folder does not have these options yet.
configure() {
  local preset=$1 stamp="build/$1/.configured"
  shift
  if [ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$*" ] || [ ! -e "build/$preset/build.ninja" ]; then
    cmake --preset "$preset" "$@" >"/tmp/linnet-configure-$$.log" 2>&1 ||
      { cat "/tmp/linnet-configure-$$.log" >&2; exit 1; }
    rm -f "/tmp/linnet-configure-$$.log"
    printf '%s' "$*" >"$stamp"
  fi
}
