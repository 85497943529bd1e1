"""Contenders of `loadtests.udp`, each set up as an expert in it would for datagrams.

The same holds for all: one vip for each port of the server, flows that end after three
minutes, receive buffers of 4 MiB, no log.
"""

import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from loadtests.contenders import ENVOY, Contender, Forward, Setup, missing
from loadtests.contenders import nginx_stream_module as stream_module
from loadtests.process import Process

PATIENCE_S = 20.0
BUFFER_BYTES = 4 << 20
ENVOY_UDP = "type.googleapis.com/envoy.extensions.filters.udp.udp_proxy.v3"

__all__ = ["COMMANDS", "PEERS", "missing", "start"]


def _ours(setup: Setup) -> list[str]:
    command = [sys.executable, "-m", "loadtests.ours", "--workers", str(setup.workers)]
    for forward in setup.forwards:
        to = ",".join(f"{host}:{port}" for host, port in forward.backends)
        command += ["--forward", f"127.0.0.1:{forward.port}={to}"]
    return [*command, "--protocol", "udp"]


def _nginx_server(index: int, forward: Forward, workers: int) -> str:
    servers = "".join(f"server {h}:{p};" for h, p in forward.backends)
    reuseport = " reuseport" if workers > 1 else ""
    return f"""  upstream u{index} {{ {servers} }}
  server {{
    listen 127.0.0.1:{forward.port} udp rcvbuf=4m sndbuf=4m{reuseport};
    proxy_pass u{index};
    proxy_timeout 3m;
  }}"""


def _nginx(setup: Setup) -> list[str]:
    body = [_nginx_server(i, f, setup.workers) for i, f in enumerate(setup.forwards)]
    text = "\n".join(body)
    path = setup.folder / "nginx.conf"
    path.write_text(f"""load_module {stream_module()};
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
{text}
}}
""")
    return ["nginx", "-c", str(path), "-p", str(setup.folder), "-e", "stderr"]


def _envoy_listener(index: int, forward: Forward) -> str:
    # Trains are received in one piece on both sides (off by default).
    return f"""  - name: l{index}
    reuse_port: true
    address:
      socket_address:
        protocol: UDP
        address: 127.0.0.1
        port_value: {forward.port}
    udp_listener_config:
      downstream_socket_config: {{max_rx_datagram_size: 9000, prefer_gro: true}}
    socket_options:
    - {{level: 1, name: 8, int_value: {BUFFER_BYTES}, state: STATE_PREBIND}}
    listener_filters:
    - name: envoy.filters.udp_listener.udp_proxy
      typed_config:
        "@type": {ENVOY_UDP}.UdpProxyConfig
        stat_prefix: s
        idle_timeout: 180s
        upstream_socket_config: {{max_rx_datagram_size: 9000, prefer_gro: true}}
        matcher:
          on_no_match:
            action:
              name: route
              typed_config:
                "@type": {ENVOY_UDP}.Route
                cluster: c{index}"""


def _envoy_cluster(index: int, forward: Forward) -> str:
    endpoints = "\n".join(
        "          - endpoint: {address: {socket_address: "
        f"{{address: {host}, port_value: {port}, protocol: UDP}}}}}}"
        for host, port in forward.backends
    )
    return f"""  - name: c{index}
    type: STATIC
    circuit_breakers:
      thresholds:
      - {{max_connections: 100000}}
    load_assignment:
      cluster_name: c{index}
      endpoints:
      - lb_endpoints:
{endpoints}"""


def _envoy(setup: Setup) -> list[str]:
    listeners = [_envoy_listener(i, f) for i, f in enumerate(setup.forwards)]
    clusters = [_envoy_cluster(i, f) for i, f in enumerate(setup.forwards)]
    lines = ["static_resources:", "  listeners:", *listeners, "  clusters:", *clusters]
    path = setup.folder / "envoy.yaml"
    path.write_text("\n".join([*lines, ""]))
    options = ["--concurrency", str(setup.workers), "--disable-hot-restart"]
    return [str(ENVOY), "-c", str(path), "-l", "critical", *options]


COMMANDS: dict[str, Callable[[Setup], list[str]]] = {
    "ours": _ours,
    "nginx": _nginx,
    "envoy": _envoy,
}
PEERS = ("nginx", "envoy")


def start(name: str, setup: Setup, stack: ExitStack) -> Contender:
    """Start one contender; it ends with `stack`. Returns when it answers."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    command: Sequence[str] = COMMANDS[name](setup)
    log = setup.folder / "stderr.log"
    process = stack.enter_context(Process(command, setup.cores, log))
    ports = [forward.port for forward in setup.forwards]
    for port in ports:
        _wait_answering(process, port)
    return Contender(name, process, ports, process.pids)


def _wait_answering(process: Process, port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.05)
        client.connect(("127.0.0.1", port))
        while True:
            if process.child.poll() is not None:
                raise RuntimeError(f"child ended: {process.log.read_text()[-2000:]}")
            try:
                client.send(b"there?")
                client.recv(100)
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
