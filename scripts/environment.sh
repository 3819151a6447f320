# Sourced by run and test: the project's own virtual environment, made and kept up to date.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
fail() { echo "$1" >&2; exit 1; }

find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python3.10; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
            echo "$name"
            return
        fi
    done
    fail "python3 of version 3.10 or newer is needed: sudo apt install python3 python3-venv"
}

make_venv() {
    # pip comes last, so an environment that was interrupted half-way is made again.
    [[ -x $venv/bin/python && -x $venv/bin/pip ]] && return
    local python
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "Python's venv module is missing: sudo apt install python3-venv"
    echo "making $venv" >&2
    "$python" -m venv "$venv"
}

# keep_installed NAME KEY COMMAND...: runs the command unless it has run for this place, this KEY
# and these very packaging files before.
keep_installed() {
    local stamp=$venv/.installed-$1 key
    key="$root $2 $(cat -- "$root/pyproject.toml" "$root/setup.py" "$root/constraints.txt")"
    [[ -f $stamp && $(<"$stamp") == "$key" ]] && return
    shift 2
    "$@"
    printf '%s' "$key" >"$stamp"
}

pip_install() { "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check "$@"; }

# Numba checks only the file that a kernel is in, but compiles code of other files into it. So each
# state of kernels/, subfolders included, has a cache folder of its own.
use_kernel_cache() {
    local state
    state=$(cd -- "$root" && find kernels -name '*.py' -print0 2>/dev/null |
        LC_ALL=C sort -z | xargs -0 sha256sum -- | sha256sum) || true
    export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$venv/numba/${state:0:16}}
}
