"""The contenders in front of pods, each set up as an expert in it would.

The job of all: TLS 1.3 in, plain HTTP to the pods of a Service, Authorization taken
away, the client appended to X-Forwarded-For, connections kept on both sides, a request
that may be sent twice tried at another pod when its own is gone. Who may pass:

- ours asks the apiserver, and remembers its answers for ten seconds;
- `nginx` asks nobody: it is what forwarding alone costs;
- `nginx-auth` asks a service (auth_request), and keeps its answers for ten seconds
  (proxy_cache), as an administrator who has the choice would;
- `envoy` asks a service for every request (ext_authz): it has no memory for answers;
- `kube-apiserver` knows users and rights itself.

The service that is asked allows, costs next to nothing (native/upstream.c), runs on the
contender's core and counts as a process of the contender.
"""

import contextlib
import importlib.util
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests import contenders
from loadtests.bastion_scene import HOSTS, MANY, READER_TOKEN, WEB, Cluster, Places, Pod
from loadtests.contenders import ENVOY, Contender, Setup
from loadtests.http_contenders import ENVOY_TYPES, NGINX_PLAIN
from loadtests.http_files import Files
from loadtests.process import Process
from pyproxy.sandbox.apiserver import write_kubeconfig
from tests.support import realcluster

OURS, OURS_SHARED = "ours", "ours-shared"
KUBE = "kube-apiserver"
READY_S = 30.0


@dataclass(frozen=True)
class BastionSetup(Setup):
    """What a contender is started with."""

    files: Files
    places: Places
    cluster: Cluster
    asked: int = 0  # port of the service that is asked who may pass

    @property
    def port(self) -> int:
        """Where clients go."""
        return self.forwards[0].port

    def write(self, name: str, text: str) -> str:
        """Write a configuration; return its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)


def _ours(*flags: str) -> Callable[[BastionSetup], list[str]]:
    def command(setup: BastionSetup) -> list[str]:
        kubeconfig = setup.folder / "kubeconfig"
        cluster, files = setup.cluster, setup.files
        write_kubeconfig(kubeconfig, cluster.url, files.authority, "admin-token")
        return [
            *(sys.executable, "-m", "pyproxy", "apiserver-proxy"),
            *(f"--kubeconfig={kubeconfig}", f"--workers={setup.workers}"),
            *("--bind-address=127.0.0.1", f"--secure-port={setup.port}"),
            *(
                f"--tls-cert-file={files.server}",
                f"--tls-private-key-file={files.server}",
            ),
            *(f"--admin-address=127.0.0.1:{setup.forwards[1].port}", *flags),
        ]

    return command


_NGINX_PASS = """      proxy_http_version 1.1;
      proxy_connect_timeout 5s;
      proxy_read_timeout 1h;
      proxy_set_header Host $http_host;
      proxy_set_header Authorization "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto https;
"""
_NGINX_AUTH = """    location = /auth {
      internal;
      proxy_pass http://asked/auth;
      proxy_http_version 1.1;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_cache answers;
      # What is asked about, as ours: whose token, which verb, which object.
      proxy_cache_key "$http_authorization $request_method $object";
      proxy_cache_valid 200 401 403 10s;
      proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
    }
"""


def _nginx_upstream(name: str, servers: Sequence[str], more: str = "") -> str:
    listed = "".join(f" server {server}{more};" for server in servers)
    kept = "keepalive 1024; keepalive_requests 1000000000; keepalive_timeout 1h;"
    return f"  upstream {name} {{{listed} {kept} }}\n"


def _nginx(is_asking: bool) -> Callable[[BastionSetup], list[str]]:
    def command(setup: BastionSetup) -> list[str]:
        path = setup.write("nginx.conf", _nginx_text(setup, is_asking))
        return ["nginx", "-c", path, "-p", str(setup.folder), "-e", "stderr"]

    return command


def _nginx_text(setup: BastionSetup, is_asking: bool) -> str:
    folder, files = setup.folder, setup.files
    many = [f"{h}:{p}" for h, p in zip(HOSTS, setup.places.many, strict=True)]
    reuseport = " reuseport" if setup.workers > 1 else ""
    return f"""daemon off;
user root;
pid {folder}/nginx.pid;
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
  client_body_temp_path {folder};
  proxy_temp_path {folder};
{_nginx_asked(setup) if is_asking else ""}\
{_nginx_upstream("web", [f"{HOSTS[0]}:{setup.places.web}"])}\
{_nginx_upstream("many", many, " max_fails=3 fail_timeout=1s")}\
  server {{
    listen 127.0.0.1:{setup.port} ssl backlog=8192{reuseport};
    ssl_certificate {files.server};
    ssl_certificate_key {files.server};
    ssl_protocols TLSv1.3;
{_NGINX_AUTH if is_asking else ""}\
{_nginx_location(WEB, "web", is_asking)}{_nginx_location(MANY, "many", is_asking)}  }}
}}
"""


def _nginx_asked(setup: BastionSetup) -> str:
    return f"""  proxy_cache_path {setup.folder}/answers keys_zone=answers:64m;
  map $request_uri $object {{ ~^(?<o>/api/v1/[^?]*/proxy)/ $o; }}
{_nginx_upstream("asked", [f"127.0.0.1:{setup.asked}"])}"""


def _nginx_location(prefix: str, name: str, is_asking: bool) -> str:
    ask = "      auth_request /auth;\n" if is_asking else ""
    return f"""    location {prefix}/ {{
{ask}      proxy_pass http://{name}/;
{_NGINX_PASS}{NGINX_PLAIN}    }}
"""


_ENVOY = """static_resources:
  listeners:
  - name: clients
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    tcp_backlog_size: 8192
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": {types}.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_params: {{tls_minimum_protocol_version: TLSv1_3, \
tls_maximum_protocol_version: TLSv1_3}}
            alpn_protocols: [http/1.1]
            tls_certificates:
            - certificate_chain: {{filename: {pem}}}
              private_key: {{filename: {pem}}}
      filters:
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
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              request_headers_to_remove: [authorization]
              routes:
              - match: {{prefix: {web}/}}
                route: {{cluster: web, timeout: 0s, prefix_rewrite: /}}
              - match: {{prefix: {many}/}}
                route:
                  cluster: many
                  timeout: 0s
                  prefix_rewrite: /
                  retry_policy:
                    retry_on: connect-failure,reset
                    num_retries: 3
                    retry_host_predicate:
                    - name: envoy.retry_host_predicates.previous_hosts
                      typed_config:
                        "@type": {types}.retry.host.previous_hosts.v3.\
PreviousHostsPredicate
                    host_selection_retry_max_attempts: 5
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": {types}.filters.http.ext_authz.v3.ExtAuthz
              allowed_headers:
                patterns: [{{exact: x-forwarded-for}}]
              http_service:
                path_prefix: /auth
                server_uri: {{uri: "http://127.0.0.1:{asked}", cluster: asked, \
timeout: 5s}}
          - name: envoy.filters.http.router
            typed_config:
              "@type": {types}.filters.http.router.v3.Router
              dynamic_stats: false
              suppress_envoy_headers: true
  clusters:
{clusters}"""
_ENVOY_CLUSTER = """  - name: {name}
    type: STATIC
    connect_timeout: 5s
    # The default circuit breakers would refuse the 1025th connection.
    circuit_breakers:
      thresholds:
      - {{max_connections: 100000, max_pending_requests: 100000, \
max_requests: 100000, max_retries: 100000}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {types}.upstreams.http.v3.HttpProtocolOptions
        common_http_protocol_options: {{idle_timeout: 3600s}}
        explicit_http_config: {{http_protocol_options: {{}}}}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
{endpoints}
"""


def _envoy_cluster(name: str, addresses: Sequence[tuple[str, int]]) -> str:
    endpoints = "\n".join(
        "        - endpoint: {address: {socket_address: "
        f"{{address: {host}, port_value: {port}}}}}}}"
        for host, port in addresses
    )
    return _ENVOY_CLUSTER.format(name=name, types=ENVOY_TYPES, endpoints=endpoints)


def _envoy(setup: BastionSetup) -> list[str]:
    many = list(zip(HOSTS, setup.places.many, strict=True))
    clusters = (
        _envoy_cluster("web", [(HOSTS[0], setup.places.web)]),
        _envoy_cluster("many", many),
        _envoy_cluster("asked", [("127.0.0.1", setup.asked)]),
    )
    text = _ENVOY.format(
        types=ENVOY_TYPES,
        manager="http_connection_manager",
        port=setup.port,
        pem=setup.files.server,
        web=WEB,
        many=MANY,
        asked=setup.asked,
        clusters="".join(clusters),
    )
    options = ["--concurrency", str(setup.workers), "--disable-hot-restart"]
    path = setup.write("envoy.yaml", text)
    return [str(ENVOY), "-c", path, "-l", "critical", *options]


COMMANDS: dict[str, Callable[[BastionSetup], list[str]]] = {
    OURS: _ours(),
    # All paths of a Service share a verdict, because no X-Forwarded-Uri is sent; the
    # other contenders send none, either.
    OURS_SHARED: _ours("--forwarded-uri=false"),
    "nginx": _nginx(is_asking=False),
    "nginx-auth": _nginx(is_asking=True),
    "envoy": _envoy,
}
NAMES = (*COMMANDS, KUBE)
ASKING = ("nginx-auth", "envoy")  # a service of their own


def missing(name: str) -> str | None:
    """What is not installed that this contender needs, if anything."""
    if name == KUBE:
        return realcluster.obstacle() or None
    if name in (OURS, OURS_SHARED):
        mode = importlib.util.find_spec("pyproxy.modes.apiserver_proxy")
        return contenders.missing(OURS) if mode else "pyproxy apiserver-proxy"
    return contenders.missing(name)


def start(name: str, setup: BastionSetup, stack: ExitStack) -> Contender:
    """Start one contender; it ends with `stack`. Returns when it serves."""
    setup.folder.mkdir(parents=True, exist_ok=True)
    if name == KUBE:
        return _start_kube(setup, stack)
    asked: list[int] = []
    if name in ASKING:
        pod = Pod(setup.files, setup.cores, setup.folder, READER_TOKEN)
        asked = stack.enter_context(pod).pids
        setup = replace(setup, asked=pod.port)
    contender = contenders.launch(name, COMMANDS[name](setup), setup, stack)
    contender.pids += asked
    if name in (OURS, OURS_SHARED):
        _wait_ready(setup.forwards[1].port)
    return contender


def _start_kube(setup: BastionSetup, stack: ExitStack) -> Contender:
    many = ",".join(map(str, setup.places.many))
    command = [sys.executable, "-m", "loadtests.bastion_kube"]
    # A new one each time: etcd would remember the last one's objects.
    command += [tempfile.mkdtemp(dir=setup.folder), str(setup.places.web), many]
    log = setup.folder / "stderr.log"
    process = stack.enter_context(Process(command, setup.cores, log))
    port, ca = process.line().split()
    # Its certificate is of its own making: clients trust both.
    with setup.files.authority.open("ab") as trusted:
        trusted.write(Path(ca).read_bytes())
    return Contender(KUBE, process, [int(port)], process.pids)


def _wait_ready(port: int) -> None:
    """Wait until the caches are filled: until then there are no Services."""
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{port}/readyz"
            with urllib.request.urlopen(url, timeout=1):
                return
        if time.monotonic() > deadline:
            raise RuntimeError("ours does not get ready")
        time.sleep(0.05)


def configuration(name: str, folder: Path) -> str:
    """What `start` wrote for a contender, without what differs in every run."""
    names = ("nginx.conf", "envoy.yaml")
    found = [folder / n for n in names if (folder / n).exists()]
    if found:
        return found[0].read_text().replace(str(folder.parent), "").rstrip()
    if name == KUBE:
        return "# the flags in tests/support/realcluster.py"
    more = " --forwarded-uri=false" if name == OURS_SHARED else ""
    return f"pyproxy apiserver-proxy --kubeconfig=... --tls-cert-file=...{more}"


def installed(name: str) -> bool:
    """Whether this contender can run here."""
    return missing(name) is None
