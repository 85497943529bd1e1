"""The admin address over real HTTP, with the real core behind it."""

import asyncio
import json
import logging
import re
import socket
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pyproxy import __version__, logs
from pyproxy.admin import Admin, Collector, Health, History, Sources
from pyproxy.admin.table import quantile_ms
from pyproxy.dataplane import Dataplane, Histogram
from pyproxy.errors import StartError
from pyproxy.metrics import new_registry
from pyproxy.model import Backend, Key, Limits, Pool, Vip
from pyproxy.probe import Finding, Result
from tests.support.admin_rig import DEAD, Office
from tests.support.servers import free_port
from tests.support.waiting import scaled

pytestmark = pytest.mark.live


async def test_health_and_readiness_answer_as_an_apiserver_does(office: Office) -> None:
    assert (await office.get("/healthz"))[:2] == (200, "ok")
    assert (await office.get("/livez"))[:2] == (200, "ok")
    assert (await office.get("/readyz"))[:2] == (200, "ok")
    office.health.require("pool/main", lambda: "none of 2 servers is ready")
    status, text, _ = await office.get("/readyz")
    assert status == 503
    assert text.splitlines() == [
        "[+]ping ok",
        "[-]pool/main failed: none of 2 servers is ready",
        "readyz check failed",
    ]
    assert (await office.get("/livez"))[0] == 200  # never by what is outside of us
    office.health.drop("pool/main")
    status, text, _ = await office.get("/readyz?verbose")
    assert (status, text) == (200, "[+]ping ok\nreadyz check passed\n")


async def test_table_tells_who_is_how_and_why(office: Office) -> None:
    table = json.loads((await office.get("/debug/table"))[1])
    assert (table["generation"], table["ready"]) == (1, True)
    up, down = table["pools"][0]["backends"]
    assert (up["state"], up["health"], up["why"]) == ("UP", "ready", "was ready")
    assert (down["state"], down["name"]) == ("DOWN", "kube-9")
    assert down["lastProbe"]["result"] == "dead"
    assert down["lastProbe"]["tookMs"] == 12.3
    assert not table["vips"][0]["address"].endswith(":0")


async def test_table_is_told_during_a_drain(office: Office) -> None:
    office.dataplane.drain()
    table = json.loads((await office.get("/debug/table"))[1])
    assert not table["vips"][0]["address"].endswith(":0")


def talk(address: Key) -> None:
    """Send 4 bytes through and read them back."""
    with socket.create_connection(address, scaled(5)) as client:
        client.sendall(b"word")
        assert client.recv(9) == b"word"


async def samples(office: Office) -> dict[tuple[str, frozenset[Any]], float]:
    """Every sample of `/metrics` by name and labels."""
    text = (await office.get("/metrics"))[1]
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


CONTRACT = """
    build_info relays_active relays_total relay_bytes_total connect_seconds_bucket
    connect_retries_total backend_active backend_up probe_seconds_bucket
    table_generation table_apply_seconds_bucket sync_seconds_bucket
""".split()


async def test_metrics_have_the_names_of_the_contract(office: Office) -> None:
    office.collector.note_finding(DEAD, Finding(Result.DEAD, "", 0.2))
    names = {name for name, _ in await samples(office)}
    assert {f"pyproxy_{name}" for name in CONTRACT} <= names


async def test_metrics_count_what_happened(office: Office) -> None:
    address = office.dataplane.address(("tcp", "127.0.0.1", 0))
    office.dataplane.tell({DEAD: "dead"})
    await asyncio.to_thread(talk, address)
    office.collector.note_finding(DEAD, Finding(Result.DEAD, "", 0.2))
    office.collector.note_sync(0.3, 0.001)
    vip = ("vip", f"127.0.0.1:{address[1]}")
    backend, pool = ("backend", "10.0.0.9:6443"), ("pool", "main")
    expected = {
        ("pyproxy_relay_bytes_total", frozenset({vip, ("direction", "up")})): 4,
        ("pyproxy_relays_accepted_total", frozenset({vip})): 1,
        ("pyproxy_backend_up", frozenset({backend, pool})): 0,
        ("pyproxy_backend_state", frozenset({backend, pool, ("state", "DOWN")})): 1,
        ("pyproxy_probes_total", frozenset({backend, pool, ("result", "dead")})): 1,
        ("pyproxy_probe_seconds_bucket", frozenset({backend, pool, ("le", "0.25")})): 1,
        ("pyproxy_probe_seconds_bucket", frozenset({backend, pool, ("le", "0.1")})): 0,
        ("pyproxy_sync_seconds_count", frozenset()): 1,
        ("pyproxy_table_generation", frozenset()): 1,
    }
    found = await samples(office)
    assert {name: found[name] for name in expected} == expected


async def test_series_of_backends_that_are_gone_vanish(office: Office) -> None:
    office.collector.note_finding(DEAD, Finding(Result.DEAD, "", 0.2))
    office.collector.forget_all_but(set())
    names = {name for name, _ in await samples(office)}
    assert not any(name.startswith("pyproxy_probe_seconds") for name in names)


async def test_labels_are_bounded(office: Office) -> None:
    labels = {name for _, pairs in await samples(office) for name, _ in pairs}
    assert labels <= set(
        """vip backend pool direction reason worker how le version mode python state
        limit""".split()
    )


async def test_process_is_measured(office: Office) -> None:
    names = {name for name, _ in await samples(office)}
    assert {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    } <= names


async def test_limits_and_pools_can_be_compared_with_what_is_there() -> None:
    dataplane = Dataplane.open(1)
    try:
        limits = Limits(max_connections=7, max_new_per_s=3)
        pools = [Pool(name, (Backend("10.0.0.1", 1),)) for name in ("a", "b")]
        ports = [free_port(), free_port()]
        vips = [
            Vip("127.0.0.1", port, pool, limits=limits)
            for port, pool in zip(ports, pools, strict=True)
        ]
        dataplane.apply(vips)
        text = generate_latest(new_registry([Collector("x", lambda: dataplane)]))
    finally:
        dataplane.close()
    vip = f'vip="127.0.0.1:{ports[0]}"'
    for line in (
        f'pyproxy_vip_limit{{limit="connections",{vip}}} 7.0',
        f'pyproxy_vip_limit{{limit="new_per_second",{vip}}} 3.0',
        f'pyproxy_vip_info{{pool="a",{vip}}} 1.0',
        f"pyproxy_vip_relays_active{{{vip}}} 0.0",
        # Of two pools, and counted once.
        'pyproxy_backend_active{backend="10.0.0.1:1",pool="a,b"} 0.0',
        "pyproxy_no_vip_total 0.0",
    ):
        assert line in text.decode()
    assert "per_source" not in text.decode()  # no limit is no series


def of_times(*counts: int) -> Histogram:
    """Durations below 1, 2 and 4 ms, and beyond."""
    return Histogram((1000, 2000, 4000), counts, 0)


@pytest.mark.parametrize(
    ("times", "part", "shown"),
    [
        (of_times(0, 0, 0, 0), 0.5, None),
        (of_times(1, 0, 0, 0), 0.99, 1.0),
        (of_times(50, 49, 1, 0), 0.5, 1.0),
        (of_times(50, 49, 1, 0), 0.99, 2.0),
        (of_times(1, 1, 1, 97), 0.5, 4.0),
    ],
)
def test_quantile_is_the_bound_below_which_so_many_are(
    times: Histogram, part: float, shown: float | None
) -> None:
    assert quantile_ms(times, part) == shown


async def test_table_tells_version_start_and_peaks(office: Office) -> None:
    table = json.loads((await office.get("/debug/table"))[1])
    assert table["version"] == __version__
    assert table["startedAt"] <= table["time"]
    assert set(table["peaks"]) == {"relaysActive", "newPerS", "bytesPerS"}
    (down,) = [b for b in table["pools"][0]["backends"] if b["name"] == "kube-9"]
    assert (down["downs"], down["connectP50Ms"]) == (0, None)


def test_peaks_are_the_most_that_was_seen(office: Office) -> None:
    history, stats = History(), office.dataplane.totals()
    for active in (3, 9, 2):
        history.sample(stats._replace(relays_active=active))
    assert history.facts()["peaks"]["relaysActive"] == 9.0  # type: ignore[index]


async def test_events_are_told_whatever_the_level_of_the_log(office: Office) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.setup("error", "text")
        with office.history.recording():
            extra = {"backend": "10.0.0.9:6443", "now": "DOWN"}
            logging.getLogger("pyproxy.probe").info("backend changed", extra=extra)
            logging.getLogger("pyproxy.access").info("exchange", extra={"path": "/"})
            logging.getLogger("aiohttp").info("not ours")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.getLogger("pyproxy").setLevel(logging.NOTSET)
    (event,) = json.loads((await office.get("/debug/events"))[1])["events"]
    assert (event["event"], event["level"]) == ("backend changed", "info")
    assert event["data"] == {"backend": "10.0.0.9:6443", "now": "DOWN"}


async def test_page_runs_only_its_own_code(office: Office) -> None:
    status, page, headers = await office.get("/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert len(re.findall(r"(style|script)-src 'sha256-[^']+'", policy)) == 2
    assert not re.search(r"\b(src|href)=\"(https?:)?//|innerHTML|\son\w+=", page)


async def test_nothing_can_be_changed_here(office: Office) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (await office.get("/debug/table", method))[0] == 405
    assert (await office.get("/nothing"))[0] == 404


async def test_configuration_is_shown(office: Office) -> None:
    assert json.loads((await office.get("/debug/config"))[1]) == {"workers": 1}


def sources() -> Sources:
    """Nothing behind it."""
    return Sources(Health(), [], dict, dict)


async def test_address_in_use_is_explained() -> None:
    admin, other = Admin(sources()), Admin(sources())
    where = await admin.open("127.0.0.1:0")
    with pytest.raises(StartError, match="cannot open the admin address") as caught:
        await other.open(where)
    assert "address already in use; choose another" in str(caught.value)
    await admin.close()
    await admin.close()


async def test_address_open_to_the_network_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    admin = Admin(sources())
    await admin.open(f"0.0.0.0:{free_port()}")
    await admin.close()
    assert "open to the network, without authentication" in caplog.text
