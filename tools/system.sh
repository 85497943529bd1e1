#!/usr/bin/env bash
# Check for what pip cannot bring, and bring it: `tools/system.sh build|test|bench`.
# As root on Debian or Ubuntu it installs what is missing; for anyone else it prints
# the one line to type. Only `build` must succeed: a test or a peer of the benchmark
# that misses its tool is skipped, with that reason.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()   # in words
packages=()  # of Debian

need() {  # need WORDS PACKAGES COMMAND...: COMMAND succeeds when it is there
    local words=$1 debian=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        missing+=("$words")
        read -ra debian <<<"$debian"
        packages+=("${debian[@]}")
    fi
}

compiles() {  # not only a compiler, but also the headers of the C library
    echo '#include <sys/epoll.h>' | "${CC:-cc}" -x c -fsyntax-only -
}

has_openssl() {  # headers of the one that would be linked, not 1.1
    printf '#include <openssl/ssl.h>\n#if OPENSSL_VERSION_MAJOR < 3\n#error old\n#endif\n' |
        "${CC:-cc}" -x c -fsyntax-only -
}

has_zlib() {
    echo '#include <zlib.h>' | "${CC:-cc}" -x c -fsyntax-only -
}

has_stream_module() {  # built in, or as Debian packs it
    nginx -V 2>&1 | grep -q -- --with-stream && {
        ! nginx -V 2>&1 | grep -q -- --with-stream=dynamic ||
            compgen -G '/usr/lib/nginx/modules/ngx_stream_module.so'
    }
}

python_packages() {  # the default Python of old releases is older than 3.11
    local version
    version=$(apt-cache policy python3 2>/dev/null | sed -n 's/.*Candidate: 3\.\([0-9]*\).*/\1/p')
    if [ "${version:-11}" -ge 11 ]; then
        echo python3 python3-venv python3-dev
    else
        echo python3.11 python3.11-venv python3.11-dev
    fi
}

survey() {
    missing=() packages=()
    case $1 in
        build)
            need "a C compiler" "gcc libc6-dev" compiles
            need "OpenSSL 3 with headers" libssl-dev has_openssl
            need "zlib with headers" zlib1g-dev has_zlib
            need "Python 3.11 or newer with venv and headers" "$(python_packages)" tools/find_python.sh
            ;;
        test)
            need "iproute2 (tests in network namespaces)" iproute2 command -v ip
            need "nftables (tests that lose packets)" nftables command -v nft
            need "curl (tests that type what the sandbox says)" curl command -v curl
            ;;
        bench)
            need "HAProxy" haproxy command -v haproxy
            need "nginx with its stream module" "nginx libnginx-mod-stream" has_stream_module
            need "iproute2" iproute2 command -v ip
            ;;
        *)
            echo "usage: tools/system.sh build|test|bench" >&2
            exit 2
            ;;
    esac
    [ ${#missing[@]} -eq 0 ]
}

tell() {
    printf 'missing: %s\n' "${missing[@]}" >&2
    echo "on Debian or Ubuntu:  sudo apt-get install -y ${packages[*]}" >&2
}

survey "$1" && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    survey "$1" || true  # again: the lists tell which Python there is
    apt-get install -q -y --no-install-recommends "${packages[@]}"
    survey "$1" && exit 0
fi
tell
[ "$1" != build ]
