"""What is wrong with a configuration, and where: each mistake with its JSON path."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyproxy.config import (
    convert,
    effective,
    lint,
    lint_descriptors,
    lint_trust,
    read_document,
    to_yaml,
)
from pyproxy.errors import ConfigError
from pyproxy.modes.apiserver_lb import ApiserverLb

SERVER = {"address": "10.0.0.1:6443"}
TRUSTING = {"insecure": True}


def document(**more: Any) -> dict[str, Any]:
    """A configuration without mistakes, plus `more`."""
    pool = {"servers": [SERVER], "check": TRUSTING}
    return {"listeners": [{"address": "127.0.0.1:6443"}], "pools": [pool], **more}


def with_check(**check: Any) -> dict[str, Any]:
    """A configuration with this check."""
    return document(pools=[{"servers": [SERVER], "check": check}])


def with_pools(*pools: dict[str, Any]) -> dict[str, Any]:
    """A configuration with these pools."""
    return document(pools=[{"check": TRUSTING, **pool} for pool in pools])


def with_trust(*networks: str) -> dict[str, Any]:
    """A configuration whose listener wants a PROXY header from these."""
    listener = {"address": "127.0.0.1:6443", "proxyProtocolFrom": list(networks)}
    return document(listeners=[listener])


TWO = [{"name": "a", "servers": [SERVER]}, {"name": "b", "servers": [SERVER]}]

MISTAKES = [
    (
        "typo",
        document(timeouts={"tcpIdel": "1s"}),
        "$.timeouts.tcpIdel: unknown field, did you mean tcpIdle?",
    ),
    (
        "case",
        document(timeouts={"tcpidle": "1s"}),
        "$.timeouts.tcpidle: unknown field, did you mean tcpIdle?",
    ),
    ("far from all", document(frobnicate=1), "$.frobnicate: unknown field"),
    (
        "deep typo",
        with_pools({"servers": [{"adress": "a:1"}]}),
        "$.pools[0].servers[0].adress: unknown field, did you mean address?",
    ),
    ("number as key", document(timeouts={1: 2}), "$.timeouts.1: unknown field"),
    ("text for number", document(workers="2"), "$.workers: expected int | null"),
    ("out of range", document(workers=0), "$.workers: expected int >= 1"),
    ("list for mapping", document(timeouts=[]), "$.timeouts: expected mapping"),
    ("mapping for list", document(pools={}), "$.pools: expected a list"),
    (
        "no duration",
        document(timeouts={"tcpIdle": "1x"}),
        "$.timeouts.tcpIdle: '1x' is not a duration",
    ),
    (
        "zero duration",
        document(timeouts={"tcpIdle": 0}),
        "$.timeouts.tcpIdle: must be more than 0",
    ),
    (
        "endless duration",
        document(timeouts={"drain": "1000h"}),
        "$.timeouts.drain: must be between 0 and 480h",
    ),
    (
        "true as duration",
        document(timeouts={"drain": True}),
        "$.timeouts.drain: expected a duration",
    ),
    (
        "unknown choice",
        document(log={"level": "loud"}),
        "$.log.level: 'loud' is none of debug, error, info, warning",
    ),
    ("admin", document(adminAddress="9791"), "$.adminAddress: '9791' has no port"),
    ("no listener", document(listeners=[]), "$.listeners: at least one is needed"),
    ("no pool", document(pools=[]), "$.pools: at least one is needed"),
    ("no server", with_pools({"servers": []}), "$.pools[0].servers: at least one"),
    (
        "servers missing",
        with_pools({}),
        "$.pools[0]: object missing required field servers",
    ),
    (
        "same server twice",
        with_pools({"servers": [SERVER, SERVER]}),
        "$.pools[0].servers: 10.0.0.1:6443 stands twice",
    ),
    (
        "server is everywhere",
        with_pools({"servers": [{"address": "0.0.0.0:1"}]}),
        "$.pools[0].servers[0].address: 0.0.0.0:1 is not one server",
    ),
    (
        "server port",
        with_pools({"servers": [{"address": "a:0"}]}),
        "$.pools[0].servers[0].address: 'a:0': port 0 is not possible here",
    ),
    (
        "weight",
        with_pools({"servers": [{**SERVER, "weight": 1001}]}),
        "$.pools[0].servers[0].weight: expected int <= 1000",
    ),
    (
        "balance",
        with_pools({"servers": [SERVER], "balance": "best"}),
        "$.pools[0].balance: 'best' is none of",
    ),
    ("pools alike", with_pools(TWO[0], TWO[0]), "$.pools: two are named 'a'"),
    ("which pool", with_pools(*TWO), "$.listeners[0].pool: say which of a, b"),
    (
        "no such pool",
        {**with_pools(*TWO), "listeners": [{"address": "127.0.0.1:1", "pool": "c"}]},
        "$.listeners[0].pool: there is no pool 'c'",
    ),
    (
        "listener",
        document(listeners=[{"address": ":1"}]),
        "$.listeners[0].address: ':1' has no host",
    ),
    (
        "limit",
        document(listeners=[{"address": "[::1]:1", "limits": {"maxConnections": -1}}]),
        "$.listeners[0].limits.maxConnections: expected int >= 0",
    ),
    (
        "network",
        with_trust("10.0.0.0/8", "10.0.0.0/33"),
        "$.listeners[0].proxyProtocolFrom[1]: '10.0.0.0/33' is not a network such as",
    ),
    (
        "network by mask",
        with_trust("10.0.0.0/255.0.0.0"),
        "$.listeners[0].proxyProtocolFrom[0]: '10.0.0.0/255.0.0.0' is not a network",
    ),
    (
        "address in a network",
        with_trust("10.0.0.1/8"),
        "$.listeners[0].proxyProtocolFrom[0]: '10.0.0.1/8': write 10.0.0.0/8, or 10.0",
    ),
    (
        "networks without a list",
        document(listeners=[{"address": "[::1]:1", "proxyProtocolFrom": "::1"}]),
        "$.listeners[0].proxyProtocolFrom: expected a list",
    ),
    (
        "nothing to trust",
        with_check(),
        "$.pools[0].check: an https check needs something to trust",
    ),
    (
        "both ways",
        with_check(insecure=True, ca="ca.crt"),
        "$.pools[0].check: insecure contradicts ca and pins",
    ),
    (
        "token to anybody",
        with_check(insecure=True, tokenFile="token"),
        "$.pools[0].check: insecure with tokenFile",
    ),
    (
        "half a pair",
        with_check(insecure=True, clientKey="k"),
        "$.pools[0].check: clientCertificate and clientKey go together",
    ),
    ("pin", with_check(pins=["abc"]), "$.pools[0].check.pins: 'abc' is not a SHA-256"),
    (
        "ca without tls",
        with_check(type="tcp", ca="x"),
        "$.pools[0].check.ca: is for https, this check is tcp",
    ),
    (
        "token without tls",
        with_check(type="http", tokenFile="x"),
        "$.pools[0].check.tokenFile: is for https",
    ),
    (
        "path",
        with_check(insecure=True, path="readyz"),
        "$.pools[0].check.path: 'readyz'",
    ),
    (
        "path that forges a header",
        with_check(insecure=True, path="/a\r\nX: y"),
        "$.pools[0].check.path: ",
    ),
    (
        "server name",
        with_check(insecure=True, serverName="a b"),
        "$.pools[0].check.serverName: 'a b'",
    ),
    ("no code", with_check(insecure=True, expect=[]), "$.pools[0].check.expect: "),
    ("code", with_check(insecure=True, expect=[20]), "$.pools[0].check.expect[0]: "),
    ("rise", with_check(insecure=True, rise=0), "$.pools[0].check.rise: expected int"),
]


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [row[1:] for row in MISTAKES],
    ids=[row[0] for row in MISTAKES],
)
def test_mistake_is_named_with_its_place(raw: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert(raw, ApiserverLb)
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_every_unknown_field_is_named_at_once() -> None:
    raw = document(a=1, b=2)
    with pytest.raises(ConfigError) as caught:
        convert(raw, ApiserverLb)
    assert len(caught.value.complaints) == 2


def test_effective_configuration_is_read_back_as_the_same() -> None:
    pin = "AB:" * 31 + "AB"
    raw = with_check(pins=[pin], interval="1m30s", expect=[200, 401])
    config = convert(raw, ApiserverLb)
    assert convert(effective(config), ApiserverLb) == config
    assert "interval: 1m30s" in to_yaml(effective(config))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["pools", "servers", "check", "timeouts", "address", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["pools", "listeners", "log", "y"]), JSON))
def test_no_document_raises_anything_but_a_config_error(raw: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        convert(raw, ApiserverLb)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: 1\na: 2\n", ":2:1: 'a' stands here a second time"),
        ("a: [1\n", ":2:1: "),
        ("- a\n", ": $: expected a mapping, got a list"),
        ("hello", ": $: expected a mapping, got str"),
        ("a: !!python/object/apply:os.system ['true']", ":1:4: could not determine"),
        ("? [a]\n: 1\n", ":1:3: found unhashable key"),
        ("a: &a [*a]", ":1:4: found unconstructable recursive node"),
        ("\x00", ": not YAML"),
    ],
    ids=["twin", "syntax", "list", "text", "tag", "odd key", "circle", "control"],
)
def test_unreadable_file_is_named_with_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_document(file)
    assert str(caught.value).startswith(f"{file}{complaint}")


def test_missing_file_and_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere: No such file or directory"):
        read_document(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="Is a directory"):
        read_document(tmp_path)


def test_empty_file_and_json_are_read(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    assert read_document(tmp_path / "empty") == {}
    (tmp_path / "json").write_bytes(msgspec.json.encode(document()))
    assert convert(read_document(tmp_path / "json"), ApiserverLb).pools[0].servers


def warnings(raw: dict[str, Any]) -> str:
    """All of `lint` for a document."""
    config = convert(raw, ApiserverLb)
    return "\n".join([*lint(config, config.pools), *lint_trust(config.listeners)])


@pytest.mark.parametrize(
    ("raw", "warning"),
    [
        (document(timeouts={"tcpIdle": "35s"}), "$.timeouts.tcpIdle: 35s cuts"),
        (document(adminAddress="0.0.0.0:1"), "$.adminAddress: 0.0.0.0:1 is open"),
        (with_check(type="tcp"), "$.pools[0].check: a tcp check takes a hung server"),
        (with_check(pins=["ab" * 32], path="/healthz"), "$.pools[0].check.path: /heal"),
        (with_check(insecure=True), "$.pools[0].check.insecure: any server"),
        (with_check(pins=["ab" * 32], interval="20s", timeout="15s"), "noticed after"),
        (with_trust("::1", "::/0"), "$.listeners[0].proxyProtocolFrom[1]: ::/0 lets"),
    ],
    ids=["idle", "admin", "tcp", "healthz", "insecure", "slow", "everybody"],
)
def test_lint_warns_of_what_is_regretted_later(
    raw: dict[str, Any], warning: str
) -> None:
    assert warning in warnings(raw)


def test_lint_has_nothing_to_say_about_the_defaults() -> None:
    assert warnings(with_check(pins=["ab" * 32])) == ""


def test_worst_detection_bounds_what_a_hung_server_can_take() -> None:
    # 2 s just begun, three timeouts of 2 s, 0.5 s between them; 10 % jitter on waits.
    check = convert(with_check(pins=["ab" * 32]), ApiserverLb).pools[0].check
    assert check.worst_detection_s == pytest.approx(1 * 1.1 + 2 * 0.75 / 2 + 2)


def test_limits_beyond_the_descriptors_are_warned_of() -> None:
    listener = {"address": "127.0.0.1:1", "limits": {"maxConnections": 1000}}
    config = convert(document(listeners=[listener]), ApiserverLb)
    assert "needs 2256 file descriptors" in str(
        [*lint_descriptors(config.listeners, 99)]
    )
    assert not [*lint_descriptors(config.listeners, 2256)]
