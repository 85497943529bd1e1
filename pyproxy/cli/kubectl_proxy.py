"""`pyproxy kubectl-proxy`: kubectl's flags, texts and exit codes, and some of ours."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.shell_completion import CompletionItem

from pyproxy.cli.flags import (
    Command,
    Document,
    File,
    Folder,
    Number,
    all_of,
    common_flags,
    flag,
    read_settings,
)
from pyproxy.errors import ConfigError, PyproxyError, StartError

if TYPE_CHECKING:
    from pyproxy.modes.kubectl_proxy import KubectlProxy

COMMAND = f"{__name__}.command"  # where the words after `--` wait

EPILOG = """\b
Examples:
  # all of the API, at http://127.0.0.1:8001/api/v1/pods
  pyproxy kubectl-proxy
\b
  # any free port, printed on the first line
  pyproxy kubectl-proxy --port=0
\b
  # files of ./www at /static/, and only the paths below /api/
  pyproxy kubectl-proxy --www=./www --api-prefix=/api/
\b
  # the API under another root: http://127.0.0.1:8001/custom/api/v1/pods
  pyproxy kubectl-proxy --api-prefix=/custom/
\b
  # let exec and attach through
  pyproxy kubectl-proxy --reject-paths=
\b
  # while a command runs, which finds us in {} and in $PYPROXY_URL
  pyproxy kubectl-proxy --port=0 -- curl {}/version
\b
  # every context of the kubeconfig, at /contexts/NAME/; listed at /contexts/
  pyproxy kubectl-proxy --contexts='*'

Lists of regular expressions are split at every comma. A request is refused if a path or
method is on a reject list, or if its path or its Host is on no accept list.
"""


class SignedDuration(click.ParamType[str]):
    """A Go duration of any sign; stays a text."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Check the value and return it."""
        from pyproxy.config import parse_duration

        try:
            parse_duration(str(value).removeprefix("-").removeprefix("+"))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value).removeprefix("+")


class Name(click.ParamType[str]):
    """The name of something in the kubeconfig; need not be there."""

    name = "name"

    def __init__(self, what: Literal["contexts", "clusters", "users"]) -> None:
        self._what = what

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so; none if there is no kubeconfig to read."""
        from pyproxy.kube.config.errors import AccessError
        from pyproxy.kube.config.kubeconfig import load_files

        try:
            found, _ = load_files(ctx.params.get("kubeconfig") or "", os.environ)
        except AccessError:
            return []
        names = getattr(found, self._what)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class ProxyCommand(Command):
    """Takes a command after `--`, ignores other words, and reads `-p=0` as `-p0`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set aside what is not ours to read."""
        if "--" in args:
            end = args.index("--")
            ctx.meta[COMMAND] = args[end + 1 :]
            if not args[end + 1 :]:
                raise click.UsageError("no command after --", ctx)
            args = args[:end]
        return super().parse_args(ctx, [_joined(arg) for arg in args])


def _joined(arg: str) -> str:
    short = arg[:1] == "-" and arg[1:2].isalpha() and arg[2:3] == "="
    return arg[:2] + arg[3:] if short else arg


def short(letter: str, name: str, text: str, kind: Any = str) -> Any:
    """Declare an option with a shorthand."""
    return click.option(f"-{letter}", name, type=kind, help=text)


PORT = Number(0, 65535)
KUBECTL_FLAGS = [
    short("p", "--port", "Where to listen; 0 = any free one.  [8001]", PORT),
    flag("--address", "IP to listen on; 0.0.0.0 = all.  [127.0.0.1]"),
    short("u", "--unix-socket", "Listen on this socket instead.", File()),
    flag("--api-prefix", "Serve the API below this path.  [/]"),
    short("w", "--www", "Also serve the files of this directory.", Folder()),
    short("P", "--www-prefix", "Where to serve files.  [/static/]"),
    flag("--accept-hosts", "Host headers to accept, regular expressions.  [localhost]"),
    flag("--accept-paths", "Paths to accept.  [^.*]"),
    flag("--reject-paths", "Paths to refuse.  [exec and attach of pods]"),
    flag("--reject-methods", "Methods to refuse, as in POST,PUT,PATCH.  [^$]"),
    flag("--disable-filter", "Refuse nothing by host, path or method.", bool),
    flag(
        "--append-server-path",
        "Put the path of the server's URL before each request's.",
        bool,
    ),
    flag(
        "--keepalive",
        "First TCP keep-alive probe; 0 = 30s, below 0 = none.  [0s]",
        SignedDuration(),
    ),
]
OUR_FLAGS = [
    flag(
        "--contexts",
        "Also serve this context at /contexts/NAME/; repeatable, * = all.",
        Name("contexts"),
        multiple=True,
    ),
    flag("--www-listing", "List directories that have no index.html.", bool),
    flag(
        "--allow-cross-site",
        "Let pages of other origins change things and open WebSockets.",
        bool,
    ),
    flag("--access-log", "Log each exchange, without query and headers.", bool),
]
CLIENT_FLAGS = [
    flag(
        "--kubeconfig",
        "Read this kubeconfig alone.  [$KUBECONFIG, ~/.kube/config]",
        File(),
    ),
    flag("--context", "Context to use.  [the current one]", Name("contexts")),
    flag("--cluster", "Cluster to use instead of the context's.", Name("clusters")),
    flag("--user", "User to be instead of the context's.", Name("users")),
    short("s", "--server", "URL of the apiserver."),
    flag("--token", "Bearer token."),
    flag("--username", "For basic authentication."),
    flag("--password", "For basic authentication."),
    flag("--client-certificate", "PEM file: our client certificate.", File()),
    flag("--client-key", "PEM file: its key.", File()),
    flag(
        "--certificate-authority",
        "PEM file: CAs for the server's certificate.",
        File(),
    ),
    flag("--insecure-skip-tls-verify", "Trust any server.", bool),
    flag("--tls-server-name", "Name for SNI and verification.  [the server's host]"),
    flag("--proxy-url", "Proxy on the way: http, https or socks5 URL."),
    flag("--as", "User to act as."),
    flag("--as-uid", "UID to act as."),
    flag("--as-group", "Group to act as; repeatable.", multiple=True),
    flag("--as-user-extra", "KEY=VALUE to act with; repeatable.", multiple=True),
]


def _silent(name: str, *, kind: Any = str, letter: str = "") -> Any:
    names = (f"-{letter}", name) if letter else (name,)
    return click.option(*names, type=kind, hidden=True)


# Flags that every command of kubectl takes and that change nothing here.
IDLE_FLAGS = [
    _silent("--namespace", letter="n"),
    _silent("--request-timeout"),
    _silent("--disable-compression", kind=click.BOOL),
    _silent("--cache-dir"),
    _silent("--kuberc"),
    _silent("--log-flush-frequency"),
    _silent("--match-server-version", kind=click.BOOL),
    _silent("--profile"),
    _silent("--profile-output"),
    _silent("--vmodule"),
    _silent("--warnings-as-errors", kind=click.BOOL),
    _silent("--v", kind=click.INT, letter="v"),
]

# flag -> field
FIELDS = {
    "port": "port",
    "address": "address",
    "unix_socket": "unixSocket",
    "api_prefix": "apiPrefix",
    "www": "www",
    "www_prefix": "wwwPrefix",
    "www_listing": "wwwListing",
    "accept_hosts": "acceptHosts",
    "accept_paths": "acceptPaths",
    "reject_paths": "rejectPaths",
    "reject_methods": "rejectMethods",
    "disable_filter": "disableFilter",
    "allow_cross_site": "allowCrossSite",
    "append_server_path": "appendServerPath",
    "keepalive": "keepalive",
    "contexts": "contexts",
    "access_log": "accessLog",
    "workers": "workers",
    "admin_address": "adminAddress",
    "handover_socket": "handoverSocket",
    "ready_file": "readyFile",
}
CLIENT = {
    "kubeconfig": "kubeconfig",
    "context": "context",
    "cluster": "cluster",
    "user": "user",
    "namespace": "namespace",
    "server": "server",
    "token": "token",
    "username": "username",
    "password": "password",
    "client_certificate": "clientCertificate",
    "client_key": "clientKey",
    "certificate_authority": "certificateAuthority",
    "insecure_skip_tls_verify": "insecureSkipTlsVerify",
    "tls_server_name": "tlsServerName",
    "proxy_url": "proxyUrl",
    "as": "as",
    "as_uid": "asUid",
    "as_group": "asGroups",
    "as_user_extra": "asUserExtra",
    "disable_compression": "disableCompression",
    "request_timeout": "requestTimeout",
}
TIMEOUTS = {"drain_timeout": "drain", "shutdown_delay": "shutdownDelay"}
LOG = {"log_level": "level", "log_format": "format"}
TALKATIVE, CHATTY = 1, 4  # -v from which on to say more


@click.command("kubectl-proxy", cls=ProxyCommand, epilog=EPILOG)
@all_of(KUBECTL_FLAGS)
@all_of(OUR_FLAGS)
@all_of(CLIENT_FLAGS)
@all_of(IDLE_FLAGS)
@all_of(common_flags(drain="1s", level="warning"))
@click.argument("ignored", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.pass_context
def kubectl_proxy(
    ctx: click.Context, /, config: str | None, ignored: tuple[str, ...], **flags: Any
) -> None:
    """Serve a cluster's API at a local address.

    Your credentials are added. All flags, defaults and answers of `kubectl proxy`, and:
    watches and exec sessions through any proxy, credentials renewed without a 401,
    several contexts on one port.
    """
    from pyproxy import logs
    from pyproxy.cli.argv import hide_secrets
    from pyproxy.runtime import launch

    hide_secrets()
    load = partial(read_config, Path(config) if config else None, flags)
    command = ctx.meta.get(COMMAND, [])
    try:
        settings = load()
        logs.setup(settings.log.level, settings.log.format)
        raise SystemExit(launch(_serve(settings, load, command)))
    except ConfigError:
        raise  # exit code 2 and the place of the mistake, as in every mode
    except PyproxyError as error:
        for line in complaint(error):
            click.echo(line, err=True)
        raise SystemExit(error.exit_code) from error


async def _serve(
    settings: "KubectlProxy", load: "partial[KubectlProxy]", command: list[str]
) -> int:
    from pyproxy.modes.kubectl_proxy import MODE, run
    from pyproxy.runtime import Runtime

    runtime = Runtime(MODE, settings, load)
    await run(settings, runtime, command)
    return runtime.exit_code


def complaint(error: PyproxyError) -> list[str]:
    """Return what kubectl would print, and a hint if there is one."""
    from pyproxy.kube.config import AccessError

    if isinstance(error, AccessError):
        return error.text.splitlines()
    if isinstance(error, StartError):
        hint = [f"hint: {error.hint}"] if error.hint else []
        return [f"error: {error.failed}", *hint]
    return [f"error: {error}"]


def read_config(file: Path | None, flags: Document) -> "KubectlProxy":
    """Read the file, lay the flags over it, and check the whole."""
    from pyproxy.modes.kubectl_proxy import KubectlProxy

    return read_settings(file, flags, overlay, KubectlProxy)


def overlay(document: Document, flags: Document) -> Document:
    """Lay flags over a document; what is malformed stays so, for `convert` to say."""
    given: Document = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in flags.items()
        if value is not None and value != ()
    }
    verbosity = given.get("v", 0)
    if verbosity >= TALKATIVE and "log_level" not in given:
        given["log_level"] = "debug" if verbosity >= CHATTY else "info"
    document = {**document, **_renamed(given, FIELDS)}
    nested = {"client": CLIENT, "timeouts": TIMEOUTS, "log": LOG}
    for name, fields in nested.items():
        said = _renamed(given, fields)
        under = document.get(name, {})
        if said and isinstance(under, dict):
            document[name] = {**under, **said}
    return document


def _renamed(given: Document, fields: dict[str, str]) -> Document:
    return {field: given[name] for name, field in fields.items() if name in given}
