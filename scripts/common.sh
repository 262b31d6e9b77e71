# shellcheck shell=sh
# What the scripts share; read by `.`, from the repository's root.

# A step that takes a while is announced, on the error stream: the output is the program's own.
say() {
    printf '== %s\n' "$*" >&2
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The program that `cargo build --release` and `cargo test --release` leave.
# shellcheck disable=SC2034  # used by the scripts that read this one
KERAUNOS="${CARGO_TARGET_DIR:-target}/release/keraunos"

# Models stay in the project unless the user keeps them elsewhere. Absolute, because tests and
# benches run from folders of their own.
KERAUNOS_HOME="${KERAUNOS_HOME:-$PWD/models}"
export KERAUNOS_HOME

# Without a desktop session Mesa's device chooser prints lines that begin with "error:" though nothing
# is wrong; keraunos chooses by itself.
if [ -z "${XDG_RUNTIME_DIR:-}" ]; then
    NODEVICE_SELECT=1
    export NODEVICE_SELECT
fi

# Installs Debian packages: install_packages REASON PACKAGE...
install_packages() {
    reason=$1
    shift
    command -v apt-get >/dev/null 2>&1 ||
        fail "$reason; install what your system calls: $*"
    if [ "$(id -u)" -eq 0 ]; then
        root=
    elif command -v sudo >/dev/null 2>&1; then
        root=sudo
    else
        fail "$reason, and no sudo; as root run: apt-get install $*"
    fi
    say "$reason: installing $* with${root:+ $root} apt-get"
    # A fresh image has no package lists; where refreshing them fails the packages may still be had.
    $root apt-get update -q >&2 || say "apt-get update failed; trying with the lists there are"
    $root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@" >&2 ||
        fail "$reason, and apt-get could not install $*"
}

# Makes sure that pip can download wheels. It installs nothing of Python's into the system.
need_pip() {
    if ! python3 -m pip --version >/dev/null 2>&1; then
        install_packages "no python3 with pip" python3 python3-pip
    fi
}
