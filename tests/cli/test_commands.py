"""Commands beside the modes, and the program as a user starts it."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from pyproxy import __version__
from pyproxy.cli import program
from pyproxy.cli.group import Group
from pyproxy.config import convert
from pyproxy.modes.apiserver_lb import ApiserverLb
from tests.fakes.apiserver import authority
from tests.support.waiting import scaled

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("uvloop_was_used_before")]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in a process of its own, warnings being errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "pyproxy", *arguments],
        capture_output=True,
        text=True,
        timeout=scaled(30),
        check=False,
    )


def test_version_is_printed() -> None:
    assert run("version").stdout == f"pyproxy {__version__}\n"


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(program, ["--help"])
    assert result.exit_code == 0
    for name in ("apiserver-lb", "sandbox", "check", "top", "version", "completion"):
        assert name in result.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str) -> None:
    result = CliRunner().invoke(program, ["completion", shell])
    assert result.exit_code == 0
    assert "_PYPROXY_COMPLETE" in result.output


def test_check_prints_the_effective_configuration(tmp_path: Path) -> None:
    ca = authority(tmp_path / "ca").certificate
    file = tmp_path / "lb.yaml"
    file.write_text(f"""
listeners: [{{address: "127.0.0.1:6443"}}]
pools: [{{servers: [{{address: "localhost:7443"}}], check: {{ca: {ca}}}}}]
timeouts: {{tcpIdle: 35s}}
""")
    result = run("check", str(file))
    assert (result.returncode, result.stderr.count("\n")) == (0, 2)
    assert "pool default: a hung server is noticed within 3s850ms" in result.stderr
    assert "warning: $.timeouts.tcpIdle: 35s cuts watches" in result.stderr
    printed = yaml.safe_load(result.stdout)
    assert convert(printed, ApiserverLb).timeouts.tcp_idle == 35.0


def test_check_of_a_kubectl_proxy_prints_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("{port: 7, client: {token: sesame}}")
    result = CliRunner().invoke(program, ["check", "--mode=kubectl-proxy", str(file)])
    assert result.exit_code == 0
    printed = yaml.safe_load(result.output)
    assert (printed["port"], printed["address"]) == (7, "127.0.0.1")
    assert "sesame" not in result.output


def test_help_lists_every_command_in_whole_words() -> None:
    # Symptom: lines cut in mid-sentence, "asking each...".
    result = CliRunner().invoke(program, ["--help"])
    commands = result.output.partition("Commands:\n")[2].partition("\n\n")[0]
    assert commands.count("\n") == 9
    assert "..." not in commands


@pytest.mark.parametrize("name", program.entries)
def test_help_says_of_a_command_what_the_command_says_of_itself(name: str) -> None:
    # It is listed without being imported, so the text stands twice.
    assert isinstance(program, Group)
    command = program.get_command(click.Context(program), name)
    assert command is not None
    assert command.name == name
    said = (command.help or "").partition("\n")[0]
    assert program.entries[name].text == said


def test_command_that_is_none_is_answered_with_one_that_is_near() -> None:
    result = CliRunner().invoke(program, ["apiserver-bl"])
    assert result.exit_code == 2
    assert "No such command 'apiserver-bl'. Did you mean 'apiserver-lb'?" in (
        result.stderr
    )


MISTAKES = [
    ("overlap", "127.0.0.1:1", "0.0.0.0:1", "10.0.0.1:1", "{ca}",
     "$.listeners[1].address: 0.0.0.0:1 overlaps $.listeners[0].address"),
    ("twin", "127.0.0.1:0", "127.0.0.1:0", "10.0.0.1:1", "{ca}", "overlaps $.listen"),
    ("admin", "127.0.0.1:1", "127.0.0.1:9791", "10.0.0.1:1", "{ca}",
     "$.listeners[1].address: 127.0.0.1:9791 overlaps $.adminAddress"),
    ("circle", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:2", "{ca}",
     "$.pools[0].servers[0]: is our own $.listeners[1].address, a circle"),
    ("circle by wildcard", "0.0.0.0:1", "127.0.0.1:2", "127.0.0.1:1", "{ca}",
     "$.pools[0].servers[0]: is our own $.listeners[0].address, a circle"),
    ("server name", "127.0.0.1:1", "127.0.0.1:2", "no.such.invalid:1", "{ca}",
     "$.pools[0].servers[0].address: cannot resolve no.such.invalid: "),
    ("listener name", "no.such.invalid:1", "127.0.0.1:2", "10.0.0.1:1", "{ca}",
     "$.listeners[0].address: cannot resolve no.such.invalid: "),
    ("no CA file", "127.0.0.1:1", "127.0.0.1:2", "10.0.0.1:1", "{dir}/none",
     "$.pools[0].check: {dir}/none: CA file: No such file or directory"),
    ("key as CA", "127.0.0.1:1", "127.0.0.1:2", "10.0.0.1:1", "{dir}/a.key",
     "$.pools[0].check: {dir}/a.key: no usable CA certificate in this file"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "server", "ca", "complaint"),
    [row[1:] for row in MISTAKES],
    ids=[row[0] for row in MISTAKES],
)
def test_check_finds_what_a_start_would_trip_over(
    tmp_path: Path, one: str, other: str, server: str, ca: str, complaint: str
) -> None:
    issuer = authority(tmp_path / "ca")
    issuer.issue("a", ["a"])
    names = {"ca": issuer.certificate, "dir": tmp_path / "ca"}
    file = tmp_path / "lb.yaml"
    file.write_text(f"""
listeners: [{{address: "{one}"}}, {{address: "{other}"}}]
pools: [{{servers: [{{address: "{server}"}}], check: {{ca: {ca.format(**names)}}}}}]
adminAddress: 127.0.0.1:9791
""")
    result = CliRunner().invoke(program, ["check", str(file)])
    assert result.exit_code == 2
    assert complaint.format(**names) in result.stderr
    assert result.stdout == ""


def test_error_in_a_process_of_its_own_has_no_traceback() -> None:
    result = run("apiserver-lb", "--listen=127.0.0.1:0")
    assert result.returncode == 2
    assert result.stderr == (
        "pyproxy: $.pools: at least one is needed (--server HOST:PORT)\n"
    )
