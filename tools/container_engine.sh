#!/usr/bin/env bash
# Print the container engine that answers here; a client without one does not count.
set -euo pipefail
for engine in podman docker; do
    if command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1; then
        echo "$engine"
        exit 0
    fi
done
echo "no container engine answers here (podman or docker)" >&2
exit 1
