#!/usr/bin/env bash
# Build the core in place: `tools/compile.sh PYTHON [FOLDER]`, quietly.
# A warning of Cython fails the build, and so does a "performance hint", which
# -Werror lets pass: each is a `noexcept` that is missing, and takes the GIL.
set -euo pipefail
python=$1
cd "${2:-.}"
mkdir -p build
log=build/compile.log

if ! "$python" setup.py build_ext --inplace --parallel "$(nproc)" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
if grep -E '^warning: |performance hint' "$log" >&2; then
    # What was translated with a warning must not pass for built the next time.
    find fastpath -name '*.c' -delete
    exit 1
fi
