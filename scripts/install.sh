#!/usr/bin/env bash
# Makes the virtual environment named by the first argument and installs Holdfast there with every development tool, pinned.
# uv is used where it is installed (seconds instead of half a minute); plain venv and pip do the same. Running it again is safe.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

python_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3 python3.12 python3.13 python3.14 python; do
        if command -v "$candidate" >/dev/null 2>&1 && python_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
}

python=$(find_python)
if [ ! -x "$venv/bin/python" ] || ! python_new_enough "$venv/bin/python"; then
    rm -rf "$venv"
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --python "${python:-3.11}" "$venv"
    elif [ -z "$python" ]; then
        echo "Holdfast needs Python 3.11 or newer, and none was found." >&2
        echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python), or install uv, or set PYTHON=/path/to/python3." >&2
        exit 1
    elif ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        echo "$python cannot make virtual environments here. On Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    fi
fi

if command -v uv >/dev/null 2>&1; then
    export VIRTUAL_ENV="$PWD/$venv"
    case $venv in /*) VIRTUAL_ENV=$venv ;; esac
    uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.txt
    uv pip install --quiet --no-deps --no-build-isolation -e .
else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
"$venv/bin/python" -m compileall -q src || true # only for a quicker first start

if ! "$venv/bin/python" -c 'import holdfast._native' 2>/dev/null; then
    echo "note: no C compiler was usable, so data is cut by slower Python code and passwords take longer to check (see README)." >&2
fi
