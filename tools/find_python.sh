#!/usr/bin/env bash
# Print the first Python that can build and run this project: 3.11 or newer, with
# the venv module and the C headers. The first `python3` on PATH may be a shim, a
# build without headers or a Debian one whose venv is a package of its own; each
# is passed over. PYTHON=/path/to/python names one that must do.
set -euo pipefail

able='
import pathlib, sys, sysconfig
import ensurepip, venv
header = pathlib.Path(sysconfig.get_paths()["include"], "Python.h")
sys.exit(sys.version_info < (3, 11) or not header.is_file())
'
for name in ${PYTHON:-python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11}; do
    if path=$(command -v "$name") && "$path" -c "$able" 2>/dev/null; then
        echo "$path"
        exit 0
    fi
done
exit 1
