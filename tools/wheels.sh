#!/usr/bin/env bash
# Build wheels into wheelhouse/: `tools/wheels.sh PYTHON`. With a container engine,
# cibuildwheel makes and tests all of them; without one, a plain wheel for this
# Python and this C library is made and tested in a virtual environment of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1

if engine=$(tools/container_engine.sh); then
    "$python" -m pip install --quiet --group wheels
    CIBW_CONTAINER_ENGINE=$engine "$python" -m cibuildwheel --platform linux
    exit
fi
echo "building one wheel, for this Python only" >&2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir wheelhouse .
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install --quiet --disable-pip-version-check wheelhouse/*.whl
(cd "$scratch" && venv/bin/python "$OLDPWD/tools/smoke.py")
ls -l wheelhouse
