"""The benchmarks of a node: what they compare must be there, and be counted right."""

import subprocess
import sys
from typing import Any

import pytest

from loadtests import node
from loadtests.node_ways import BULK, ECHO, Behind, ruleset
from tests.fakes.process import ROOT
from tests.support import hooked, netns
from tests.support.waiting import scaled

BEHIND = Behind(
    {"web": ["10.244.1.2"], "part": ["10.244.1.2", "10.244.1.3"]},
    {"echo": ECHO, "bulk": BULK, "udp": 9000, "train": 9001},
)
RESTART = {
    "contender": node.TPROXY,
    "connections": 9,
    "refused": 0,
    "requests": 9,
    "lost": 0,
    "took_s": 1.0,
    "within": True,
}


def verdicts(result: dict[str, Any]) -> list[str]:
    return [row[-1] for row in node.day_rows(result)]


def test_failed_connection_is_a_failure_of_ours_alone() -> None:
    dead = [
        {"contender": node.TPROXY, "done": 9, "failed": 1},
        {"contender": node.NFTABLES, "done": 9, "failed": 5},
    ]
    assert verdicts({"dead": dead}) == ["FAIL", ""]
    dead[0]["failed"] = 0
    assert verdicts({"dead": dead}) == ["pass", ""]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ["pass", "pass"]),
        ({"refused": 1}, ["FAIL", "pass"]),
        ({"lost": 1}, ["pass", "FAIL"]),
        ({"within": False}, ["FAIL", "FAIL"]),  # nobody was there to notice
    ],
)
def test_restart_holds_where_nobody_noticed_it(
    change: dict[str, Any], said: list[str]
) -> None:
    assert verdicts({"restart": [RESTART | change]}) == said


@pytest.mark.netns
@pytest.mark.root
def test_rules_of_the_peer_choose_among_all_endpoints() -> None:
    if why := netns.obstacle() or netns.obstacle_to_loss():
        pytest.skip(why)
    namespace = netns.NetNs()
    try:
        namespace.feed(ruleset(BEHIND), "nft", "-f", "-")
        installed = namespace.run("nft", "list", "table", "ip", "kube-proxy")
    finally:
        namespace.close()
    assert "numgen random mod 2 vmap" in installed
    assert f"dnat to 10.244.1.3:{ECHO}" in installed
    assert "10.96.0.21 . tcp . 80 : goto service-part/echo" in installed


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.root
@pytest.mark.timeout(180)
def test_every_way_is_measured_without_an_error() -> None:
    if why := netns.obstacle() or netns.obstacle_to_loss():
        pytest.skip(why)
    ways = ["tproxy", "nftables", *([] if hooked.obstacle() else ["direct"])]
    command = [sys.executable, "-m", "loadtests.node", f"--contenders={','.join(ways)}"]
    flags = ["--rounds=1", "--seconds=0.3", "--patience=0", "--works=rr,crr,udp,dead"]
    done = subprocess.run(
        [*command, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=scaled(120),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "- congestion control: cubic\n" in done.stdout
    assert "ERRORS" not in done.stderr
    for name in ("none", node.TPROXY, node.NFTABLES):
        assert done.stdout.count(f"| {name} ") >= 2, "a row for each work"
    assert f"{node.TPROXY}: failed connections" in done.stdout
    assert "0 (0.0%)" in done.stdout
