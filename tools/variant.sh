#!/usr/bin/env bash
# Build the core once more beside the ordinary one: `tools/variant.sh NAME PYTHON`,
# with FASTPATH_DEBUG or FASTPATH_SANITIZE set by the caller. build/NAME becomes a
# forest of links to the sources with build products of its own, so that tests run
# there meet that build, and an edit is seen by all.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
variant=build/$1
python=$root/$2

mkdir -p "$variant"
{
    printf '%s\n' pyproject.toml setup.py README.md
    find fastpath loadtests pyproxy tests tools -type f \
        ! -name '*.so' ! -name '*.c' ! -path 'fastpath/*.html' ! -path '*/__pycache__/*'
} | while read -r file; do
    mkdir -p "$variant/$(dirname "$file")"
    ln -sfn "$root/$file" "$variant/$file"
done
find "$variant" -xtype l -delete  # sources that are gone
tools/compile.sh "$python" "$variant"
