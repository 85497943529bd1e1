"""Flags: how they may be written, what they change, and what they refuse."""

from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from pyproxy.cli import program
from pyproxy.cli.apiserver_lb import apiserver_lb, overlay, read_config
from pyproxy.cli.flags import Command, flag
from pyproxy.config import Seconds
from pyproxy.errors import ConfigError
from pyproxy.modes.apiserver_lb import ApiserverLb

GOOD = ["--listen=127.0.0.1:0", "--server=10.0.0.1:6443", "--check-insecure"]


def run(*arguments: str) -> Result:
    """Run the program in this process."""
    return CliRunner().invoke(program, arguments)


def parse(*arguments: str) -> dict[str, Any]:
    """Flags as the command would get them."""
    with apiserver_lb.make_context("apiserver-lb", list(arguments)) as context:
        flags = dict(context.params)
    del flags["config"]
    return flags


def config(*arguments: str, file: Path | None = None) -> ApiserverLb:
    """The configuration that these arguments make."""
    return read_config(file, parse(*arguments))


@click.command(cls=Command)
@flag("--wise", "", bool)
@flag("--word", "")
@click.argument("rest", nargs=-1)
def sample(wise: bool | None, word: str | None, rest: tuple[str, ...]) -> None:
    """Echo what was understood."""
    click.echo(f"{wise} {word} {rest}")


@pytest.mark.parametrize(
    ("arguments", "understood"),
    [
        ([], "None None ()"),
        (["--wise"], "True None ()"),
        (["--wise=true"], "True None ()"),
        (["--wise=false"], "False None ()"),
        (["--wise", "x"], "True None ('x',)"),
        (["--word", "a"], "None a ()"),
        (["--word=a"], "None a ()"),
        (["--word=", "--wise"], "True  ()"),
        (["--word", "a", "--wise=f"], "False a ()"),
    ],
)
def test_flags_are_written_as_in_go_programs(
    arguments: list[str], understood: str
) -> None:
    # pflag: a boolean never takes the word after it.
    assert CliRunner().invoke(sample, arguments).output == f"{understood}\n"


BAD = [
    (["--sever=a:1"], "No such option '--sever'"),
    (["--discovery"], "No such option '--discovery'"),
    (["--proxy-protocol-from=10.0.0.1/8"], "'10.0.0.1/8': write 10.0.0.0/8, or 10.0"),
    (["--proxy-protocol-from=lb.example"], "'lb.example' is not a network such as"),
    (["--proxy-protocol-from=fe80::1%1"], "addresses with a zone are not supported"),
    (["--listen"], "requires an argument"),
    (["--listen=:6443"], "'--listen': ':6443' has no host, write 0.0.0.0:6443"),
    (["--listen=::1:6443"], "write an IPv6 address in brackets"),
    (["--server=10.0.0.1"], "'--server': '10.0.0.1' has no port"),
    (["--server=https://10.0.0.1:6443"], "is a URL, write 10.0.0.1:6443"),
    (["--server=a:1,b:2"], "is a list, give each by itself: a:1 and b:2"),
    (["--listen=http://[::1]:1"], "is a URL, write [::1]:1"),
    (["--admin-address=http://127.0.0.1:1/"], "is a URL, write 127.0.0.1:1"),
    (["--proxy-protocol-from=::1,::2"], "is a list, give each network by itself"),
    (["--server=a:0"], "port 0 is not possible here"),
    (["--balance=best"], "'--balance': 'best' is not one of"),
    (["--check=ping"], "'--check': 'ping' is not one of"),
    (["--on-all-down=panic"], "'--on-all-down': 'panic' is not one of"),
    (["--check-insecure=perhaps"], "'--check-insecure': 'perhaps' is not a valid bool"),
    (["--check-expect=ok"], "'--check-expect': 'ok' is not a list of codes"),
    (["--check-expect=200,99"], "'200,99' is not a list of codes"),
    (["--check-interval=2"], "'--check-interval': '2' is not a duration"),
    (["--check-interval=0s"], "'--check-interval': must be more than 0"),
    (["--idle-timeout=-1s"], "'--idle-timeout': '-1s' is not a duration"),
    (["--drain-timeout=1y"], "'--drain-timeout': '1y' is not a duration"),
    (["--rise=0"], "'--rise': '0' is not a whole number from 1 to 100"),
    (["--fall=many"], "'--fall': 'many' is not a whole number"),
    (["--max-connections=-1"], "'-1' is not a whole number from 0"),
    (["--workers=65"], "'65' is not a whole number from 1 to 64"),
    (["--admin-address=9791"], "'--admin-address': '9791' has no port"),
    (["--log-level=loud"], "'--log-level': 'loud' is not one of"),
    (["--log-format=xml"], "'--log-format': 'xml' is not one of"),
    (["word"], "unexpected extra argument"),
    (["--check-pin=beef", *GOOD[:2]], "$.pools[0].check.pins: 'beef' is not a SHA-256"),
    (GOOD[:2], "$.pools[0].check: an https check needs something to trust"),
    (GOOD[1:], "$.listeners: at least one is needed (--listen HOST:PORT)"),
    (["--listen=127.0.0.1:0"], "$.pools: at least one is needed (--server HOST:PORT)"),
    ([*GOOD, "--check-ca=x"], "insecure contradicts ca"),
    ([*GOOD, "--check=tcp"], "$.pools[0].check.insecure: is for https"),
    ([*GOOD, "--server=10.0.0.1:6443"], "10.0.0.1:6443 stands twice"),
    ([*GOOD, "--config=/nowhere"], "/nowhere: No such file or directory"),
]


@pytest.mark.parametrize(
    ("arguments", "complaint"), BAD, ids=[" ".join(row[0]) for row in BAD]
)
def test_bad_flag_ends_with_2_and_one_message(
    arguments: list[str], complaint: str
) -> None:
    result = run("apiserver-lb", *arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


EVERY_FLAG = (
    "--listen=[::1]:7443",
    "--server=b.example:1",
    "--balance=ring",
    "--on-all-down=refuse",
    "--check-path=/livez",
    "--check-expect=200,401",
    "--check-expect=403",
    "--check-ca=ca.crt",
    f"--check-pin={'ab' * 32}",
    "--check-server-name=kubernetes",
    "--check-client-certificate=c",
    "--check-client-key=k",
    "--check-token-file=t",
    "--check-interval=1m",
    "--check-fast-interval=100ms",
    "--check-down-interval=5s",
    "--check-timeout=3s",
    "--rise=4",
    "--fall=5",
    "--connect-timeout=6s",
    "--idle-timeout=2h",
    "--slow-start=0",
    "--max-connections=7",
    "--max-connections-per-source=8",
    "--max-new-per-second=9",
    "--max-new-per-second-per-source=10",
    "--proxy-protocol-from=10.0.0.0/8",
    "--proxy-protocol-from=fd00::/8",
    "--workers=2",
    "--admin-address=",
    "--drain-timeout=0s",
    "--shutdown-delay=3s",
    "--log-level=debug",
    "--log-format=json",
)


def test_all_flags_reach_their_fields() -> None:
    made = config(*GOOD[:2], *EVERY_FLAG)
    pool = made.pools[0]
    assert [each.address for each in made.listeners] == ["127.0.0.1:0", "[::1]:7443"]
    assert [each.address for each in pool.servers] == ["10.0.0.1:6443", "b.example:1"]
    assert (pool.balance, pool.on_all_down) == ("ring", "refuse")
    assert pool.check == type(pool.check)(
        path="/livez",
        expect=(200, 401, 403),
        ca="ca.crt",
        pins=("ab" * 32,),
        server_name="kubernetes",
        client_certificate="c",
        client_key="k",
        token_file="t",
        interval=Seconds(60),
        fast_interval=Seconds(0.1),
        down_interval=Seconds(5),
        timeout=Seconds(3),
        rise=4,
        fall=5,
    )
    assert [*msgspec.structs.astuple(made.timeouts)] == [6, 7200, 0, 3, 0]
    for listener in made.listeners:
        assert [*msgspec.structs.astuple(listener.limits)] == [7, 8, 9, 10]
        assert listener.proxy_protocol_from == ("10.0.0.0/8", "fd00::/8")
    assert (made.workers, made.admin_address) == (2, "")
    assert (made.log.level, made.log.format) == ("debug", "json")


def test_defaults_are_those_of_the_contract() -> None:
    made = config(*GOOD)
    check = made.pools[0].check
    assert made.admin_address == "127.0.0.1:9791"
    assert (check.type, check.path, check.expect) == ("https", "/readyz", (200,))
    assert (check.interval, check.timeout, check.rise, check.fall) == (1.0, 2.0, 2, 3)
    assert (made.timeouts.connect, made.timeouts.tcp_idle) == (5.0, 3600.0)
    assert (made.timeouts.drain, made.pools[0].on_all_down) == (30.0, "try")
    assert made.timeouts.shutdown_delay == 0.0


FILE = """
listeners:
  - {address: "127.0.0.1:1", limits: {maxConnections: 5}}
pools:
  - servers: [{address: "10.9.9.9:1", weight: 7}]
    check: {ca: file.crt, rise: 9, interval: 7s}
timeouts: {tcpIdle: 3h, connect: 1s}
log: {level: warning}
"""


def test_flags_win_over_the_file_and_leave_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text(FILE)
    made = config("--check-insecure", "--rise=2", "--idle-timeout=1h", file=file)
    check = made.pools[0].check
    assert (check.insecure, check.ca) == (True, None)  # what to trust is one question
    assert (check.rise, check.interval) == (2, 7.0)
    assert (made.timeouts.tcp_idle, made.timeouts.connect) == (3600.0, 1.0)
    assert made.pools[0].servers[0].weight == 7
    assert made.listeners[0].limits.max_connections == 5
    assert made.log.level == "warning"


def test_servers_and_listeners_of_flags_replace_those_of_the_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text(FILE)
    made = config("--server=10.0.0.1:1", "--listen=127.0.0.1:2", file=file)
    assert [each.address for each in made.pools[0].servers] == ["10.0.0.1:1"]
    assert [each.address for each in made.listeners] == ["127.0.0.1:2"]


def test_networks_of_flags_replace_those_of_each_listener(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    trusting = 'limits: {maxConnections: 5}, proxyProtocolFrom: ["10.0.0.0/8"]'
    file.write_text(FILE.replace("limits: {maxConnections: 5}", trusting))
    (kept,) = config("--check-insecure", file=file).listeners
    assert kept.proxy_protocol_from == ("10.0.0.0/8",)
    flags = ("--check-insecure", "--proxy-protocol-from=::1")
    (replaced,) = config(*flags, file=file).listeners
    assert replaced.proxy_protocol_from == ("::1",)
    assert replaced.limits.max_connections == 5


def test_servers_and_listeners_may_be_texts_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lb.yaml"
    file.write_text("""
listeners: [127.0.0.1:1, "[::1]:1"]
pools: [{servers: [127.0.0.1:1, {address: "10.0.0.1:1", weight: 2}]}]
""")
    made = config("--check-insecure", "--max-connections=5", file=file)
    servers = made.pools[0].servers
    assert [(s.address, s.weight) for s in servers] == [
        ("127.0.0.1:1", 1),
        ("10.0.0.1:1", 2),
    ]
    assert [each.limits.max_connections for each in made.listeners] == [5, 5]


def test_every_mistake_is_named_at_once_with_the_name_of_the_file(
    tmp_path: Path,
) -> None:
    # Symptom: mend, start, read the next one, mend, start...
    file = tmp_path / "lb.yaml"
    file.write_text("""
listeners: [{address: 1}, "https://a:1", "127.0.0.1:1"]
pools:
- {servers: [a:1, b, {address: "c:1", weight: heavy}], check: {ca: x, rise: none}}
- {name: 7, servers: 1, check: {typ: tcp}}
timeouts: {connect: soon, drain: -1}
workers: many
log: {level: loud, format: xml}
""")
    with pytest.raises(ConfigError) as caught:
        config(file=file)
    assert list(caught.value.complaints) == [
        f"{file}: {line}"
        for line in (
            "$.listeners[0].address: expected str, got int",
            "$.listeners[1].address: 'https://a:1' is a URL, write a:1",
            "$.pools[0].servers[1].address: 'b' has no port, write HOST:PORT",
            "$.pools[0].servers[2].weight: expected int, got str",
            "$.pools[0].check.rise: expected int, got str",
            "$.pools[1].name: expected str, got int",
            "$.pools[1].servers: expected a list, got int",
            "$.pools[1].check.typ: unknown field, did you mean type?",
            "$.timeouts.connect: 'soon' is not a duration such as 30s, 1m30s or 500ms",
            "$.timeouts.drain: must be between 0 and 480h",
            "$.workers: expected int | null, got str",
            "$.log.level: 'loud' is none of debug, error, info, warning",
            "$.log.format: 'xml' is none of json, text",
        )
    ]


def test_server_flag_with_several_pools_is_refused() -> None:
    with pytest.raises(ConfigError, match="--server: the file has several pools"):
        overlay({"pools": [{}, {}]}, parse("--server=a:1"))


@pytest.mark.parametrize(
    "document",
    [
        {"pools": 3, "listeners": 4},
        {"pools": [3], "listeners": [4]},
        {"pools": [{"check": 1}], "timeouts": 5, "log": 6},
    ],
)
def test_malformed_file_under_flags_is_still_a_config_error(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    file = tmp_path / "lb.json"
    file.write_bytes(msgspec.json.encode(document))
    flags = (*GOOD, "--idle-timeout=1s", "--log-level=info", "--max-connections=1")
    with pytest.raises(ConfigError, match=rf"^{file}: \$"):
        config(*flags, file=file)


def test_help_says_what_a_ring_means_for_one_client() -> None:
    # Symptom: one client behind `--balance ring`, and one of three servers at work.
    words = " ".join(run("apiserver-lb", "--help").stdout.split())
    assert "ring: one client address means one server" in words
