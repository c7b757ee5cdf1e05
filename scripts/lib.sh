# What the scripts share; sourced, from the project's folder.

say() { echo "$(basename "$0"): $*" >&2; }

# The words that run a command as root, in `as_root`; fails where there is no way to.
become_root() {
  as_root=()
  [ "$(id -u)" != 0 ] || return 0
  command -v sudo > /dev/null || return 1
  as_root=(sudo)
}

# apt_install PACKAGE...: installs them; where there is no root, says in one line what is missing, and fails.
apt_install() {
  local get="apt-get install --no-install-recommends $*"
  if ! command -v apt-get > /dev/null; then
    say "no apt here; missing, by Debian's names: $*"
    return 1
  fi
  if ! become_root; then
    say "neither root nor sudo; have root run: $get"
    return 1
  fi
  say "installing $*"
  # --no-remove: rather fail than take a program away that somebody uses.
  if ! { "${as_root[@]}" apt-get update -q >&2 &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --no-remove "$@" >&2; }; then
    say "apt failed, see its messages above: $get"
    return 1
  fi
}

# Is Debian's package $1 installed?
has_package() {
  dpkg-query -W -f '${db:Status-Status}\n' "$1" 2> /dev/null | grep -qx installed
}

# Can seigh's Python package be built for the Python $1? Its torch must bring the headers and library for Python, as PyPI's do.
serves_package() {
  "$1" - 2> /dev/null << 'PYTHON'
import os, sys, torch
folder = os.path.dirname(torch.__file__)
sys.exit(not all(os.path.exists(os.path.join(folder, part)) for part in ("lib/libtorch_python.so", "include/torch/csrc/utils/pybind.h")))
PYTHON
}

# configure PRESET PYTHON [-D...]: what is only for speed, and for the Python that brings libtorch, is set here and not in
# CMakeLists.txt.
configure() {
  local preset=$1 python=$2 options=()
  shift 2
  options+=("-DPython3_EXECUTABLE=$python")
  ! command -v ccache > /dev/null || options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  ! command -v ld.lld > /dev/null || options+=(-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=lld -DCMAKE_SHARED_LINKER_FLAGS=-fuse-ld=lld)
  cmake --preset "$preset" "${options[@]}" "$@" > /dev/null
}

# configure_program PYTHON [-D...]: the release build without the tests; those of a build folder that has them stay. As in
# scripts/test warnings are errors, so that the two share one build, but only of the compilers of Debian 12 and 13, which have
# none.
configure_program() {
  local python=$1
  shift
  if [ ! -f build/release/build.ninja ]; then
    set -- -DSEIGH_BUILD_TESTS=OFF "$@"
    case $("${CXX:-g++}" -dumpversion) in 12 | 14) set -- -DSEIGH_WERROR=ON "$@" ;; esac
  fi
  configure release "$python" "$@"
}
