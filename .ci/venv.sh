#!/bin/sh
# Makes the virtual environment DIR unless it is there, and installs into it what pip is asked for:
#
#     .ci/venv.sh DIR PIP-INSTALL-ARGUMENTS…
#
# Takes $PYTHON, else the first Python >= 3.11 on PATH. pip's index and certificates are the user's own settings.
# Exit status 1, after one line that says what to do, when there is no such Python or it cannot make environments.
set -eu
dir=$1
shift

usable() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if usable "$name"; then
            echo "$name"
            return
        fi
    done
    echo "Python 3.11 or later is needed (looked for: ${PYTHON:-python3, python3.11 to python3.14}); set PYTHON=/path/to/it" >&2
    return 1
}

# Debian leaves ensurepip out of its python3; its package python3-venv brings it.
want_ensurepip() {
    if "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        return
    fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        echo "installing $package" >&2
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >&2
    fi
    if ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$1 cannot make virtual environments: install its venv package (Debian, Ubuntu: apt-get install python3-venv)" >&2
        return 1
    fi
}

if ! usable "$dir/bin/python"; then
    python=$(find_python)
    want_ensurepip "$python"
    rm -rf "$dir"
    "$python" -m venv "$dir"
fi
exec "$dir/bin/python" -m pip --disable-pip-version-check --no-input install --quiet "$@"
