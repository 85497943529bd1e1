"""The command line of kubectl-proxy: what is accepted, what it means, how it ends."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pyproxy.cli.kubectl_proxy import (
    COMMAND,
    complaint,
    kubectl_proxy,
    overlay,
    read_config,
)
from pyproxy.errors import ConfigError, PyproxyError, StartError
from pyproxy.kube.config import AccessError
from pyproxy.modes.kubectl_proxy import KubectlProxy

pytestmark = pytest.mark.usefixtures("uvloop_was_used_before")


def context(*arguments: str) -> click.Context:
    """Parse, without running anything."""
    return kubectl_proxy.make_context("kubectl-proxy", list(arguments))


def config(*arguments: str, file: Path | None = None) -> KubectlProxy:
    """The configuration that these arguments make."""
    with context(*arguments) as parsed:
        flags = {
            k: v for k, v in parsed.params.items() if k not in ("config", "ignored")
        }
    return read_config(file, flags)


def run(*arguments: str) -> Result:
    """Run the command in this process; it must not come as far as to serve."""
    return CliRunner().invoke(kubectl_proxy, arguments)


def test_no_flags_make_the_defaults() -> None:
    assert config() == KubectlProxy()


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["-p", "0"], "port", 0),
        (["-p0"], "port", 0),
        (["-p=0"], "port", 0),
        (["--port=9"], "port", 9),
        (["-u", "x.sock"], "unix_socket", "x.sock"),
        (["-w=./www"], "www", "./www"),
        (["-P", "/x"], "www_prefix", "/x"),
        (["--api-prefix=/custom"], "api_prefix", "/custom"),
        (["--address", "::1"], "address", "::1"),
        (["--address="], "address", ""),
        (["--accept-hosts="], "accept_hosts", ""),
        (["--accept-paths=^/api"], "accept_paths", "^/api"),
        (["--reject-paths="], "reject_paths", ""),
        (["--reject-methods=POST,PUT"], "reject_methods", "POST,PUT"),
        (["--disable-filter"], "disable_filter", True),
        (["--disable-filter=true"], "disable_filter", True),
        (["--disable-filter=false"], "disable_filter", False),
        (["--disable-filter", "false"], "disable_filter", True),  # as kubectl
        (["--append-server-path"], "append_server_path", True),
        (["--keepalive=-1s"], "keepalive", -1.0),
        (["--keepalive", "1m30s"], "keepalive", 90.0),
        (["--keepalive=+1s"], "keepalive", 1.0),
        (["--allow-cross-site"], "allow_cross_site", True),
        (["--contexts=a", "--contexts", "b"], "contexts", ("a", "b")),
        (["--www-listing"], "www_listing", True),
        (["--access-log"], "access_log", True),
        (["--admin-address=127.0.0.1:0"], "admin_address", "127.0.0.1:0"),
        (["stray", "words", "--port=7"], "port", 7),
    ],
)
def test_flag_sets_its_field(arguments: list[str], field: str, value: object) -> None:
    assert getattr(config(*arguments), field) == value


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--kubeconfig=k"], "kubeconfig", "k"),
        (["--context=c"], "context", "c"),
        (["--cluster=c"], "cluster", "c"),
        (["--user=u"], "user", "u"),
        (["-n", "x"], "namespace", "x"),
        (["-s", "https://x"], "server", "https://x"),
        (["-s=https://x"], "server", "https://x"),
        (["--token=t"], "token", "t"),
        (["--username=u"], "username", "u"),
        (["--password=p"], "password", "p"),
        (["--client-certificate=c"], "client_certificate", "c"),
        (["--client-key=k"], "client_key", "k"),
        (["--certificate-authority=c"], "certificate_authority", "c"),
        (["--insecure-skip-tls-verify"], "insecure_skip_tls_verify", True),
        (["--tls-server-name=n"], "tls_server_name", "n"),
        (["--proxy-url=http://p"], "proxy_url", "http://p"),
        (["--as=a"], "as_", "a"),
        (["--as-uid=a"], "as_uid", "a"),
        (["--as-group=a", "--as-group=b"], "as_groups", ("a", "b")),
        (["--as-user-extra=a=b"], "as_user_extra", ("a=b",)),
        (["--request-timeout=1s"], "request_timeout", "1s"),
        (["--disable-compression"], "disable_compression", True),
    ],
)
def test_client_flag_sets_its_field(
    arguments: list[str], field: str, value: object
) -> None:
    assert getattr(config(*arguments).client, field) == value


def test_shutdown_delay_and_drain_are_set() -> None:
    made = config("--shutdown-delay=2s", "--drain-timeout=3s").timeouts
    assert (made.shutdown_delay, made.drain) == (2.0, 3.0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cache-dir=x"],
        ["--match-server-version"],
        ["--kuberc=x", "--profile=none", "--profile-output=x", "--vmodule=x"],
        ["--log-flush-frequency=5s", "--warnings-as-errors"],
    ],
)
def test_flag_of_kubectl_without_meaning_here_is_accepted(arguments: list[str]) -> None:
    assert config(*arguments) == KubectlProxy()


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        ([], "warning"),
        (["-v=0"], "warning"),
        (["-v=2"], "info"),
        (["-v", "6"], "debug"),
        (["--v=9", "--log-level=error"], "error"),
    ],
)
def test_verbosity_becomes_a_log_level(arguments: list[str], level: str) -> None:
    assert config(*arguments).log.level == level


def test_words_after_two_dashes_are_a_command() -> None:
    parsed = context("--port=0", "stray", "--", "curl", "-s", "--", "{}/api")
    assert parsed.meta[COMMAND] == ["curl", "-s", "--", "{}/api"]
    assert parsed.params["port"] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nope"], "No such option"),
        (["--port=abc"], "is not a whole number from 0 to 65535"),
        (["--port=99999"], "is not a whole number from 0 to 65535"),
        (["--keepalive=5"], "is not a duration such as"),
        (["--disable-filter=maybe"], "is not a valid boolean"),
        (["--"], "no command after --"),
    ],
)
def test_flag_that_cannot_be_read_ends_with_2(arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert text in result.output
    assert "Traceback" not in result.output


# What kubectl 1.37.1 prints, and its exit codes.
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (
            ["--unix-socket=x", "--port=0"],
            1,
            "error: cannot set --unix-socket and --port at the same time\n",
        ),
        (
            ["--accept-hosts=("],
            255,
            "error: Error compiling re: error parsing regexp: ",
        ),
        (["--kubeconfig=/none"], 1, "error: stat /none: no such file or directory\n"),
        (["--context=no"], 1, 'error: context "no" does not exist\n'),
        (
            ["--request-timeout=abc"],
            1,
            "error: Invalid timeout value. Timeout must be a single integer in seconds",
        ),
    ],
)
def test_start_that_fails_ends_as_kubectl_does(
    arguments: list[str],
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/none")
    result = run(*arguments)
    assert result.exit_code == code
    assert result.output.startswith(text)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (StartError("failed"), ["error: failed"]),
        (StartError("failed", "do this"), ["error: failed", "hint: do this"]),
        (AccessError("a"), ["error: a"]),
        (AccessError("a", "Error in x:\n* a"), ["Error in x:", "* a"]),
        (PyproxyError("x"), ["error: x"]),
    ],
)
def test_complaint_reads_as_kubectls(error: PyproxyError, lines: list[str]) -> None:
    assert complaint(error) == lines


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(
        "{port: 1, address: '::1', contexts: [a], client: {context: a, user: u},"
        " timeouts: {drain: 5s}, log: {format: json}}"
    )
    made = config("--port=2", "--context=b", "--contexts=c", file=file)
    assert (made.port, made.address, made.contexts) == (2, "::1", ("c",))
    assert (made.client.context, made.client.user) == ("b", "u")
    assert (made.timeouts.drain, made.timeouts.connect) == (5.0, 30.0)
    assert (made.log.format, made.log.level) == ("json", "warning")


def test_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("{port: 1, adress: x}")
    with pytest.raises(ConfigError, match=r"proxy.yaml: \$.adress: unknown field"):
        read_config(file, {})


@pytest.mark.parametrize("client", [None, 7, ["x"]])
def test_overlay_leaves_what_is_malformed(client: Any) -> None:
    assert overlay({"client": client}, {"context": "a"})["client"] == client


def test_help_names_every_flag_of_kubectl() -> None:
    text = run("--help").output
    for name in (
        "--port --address --unix-socket --www --www-prefix --api-prefix --accept-hosts"
        " --accept-paths --reject-paths --reject-methods --disable-filter --keepalive"
        " --append-server-path -p, -u, -w, -P, -s, --kubeconfig --context"
    ).split():
        assert name in text
