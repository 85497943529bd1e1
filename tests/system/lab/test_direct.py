"""Services that are dialled without a proxy, by a program at connect(2)."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyproxy.capture import Direct
from pyproxy.capture import direct as direct_module
from pyproxy.capture.bpf import HASH
from pyproxy.capture.direct import FOLDER
from pyproxy.capture.programs import ADDRESS_BYTES
from pyproxy.errors import StartError
from pyproxy.model import Backend
from tests.support import hooked
from tests.support.hooked import dial
from tests.support.lab import HTTP, SILENCE_S, Lab, Place

FAMILIES = ("ipv4", "ipv6")
HOSTS = {"ipv4": "10.96.0.1", "ipv6": "fd96::1"}


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group, whose processes alone meet the programs."""
    if why := hooked.obstacle():
        pytest.skip(why)
    with hooked.control_group() as path:
        yield path


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """Where programs and maps have their names."""
    with hooked.names(tmp_path / "bpf") as path:
        yield path


@pytest.fixture
def direct(group: Path, bpffs: Path) -> Iterator[Direct]:
    """Programs that are attached, with no Service yet."""
    capture = Direct(group, bpffs)
    try:
        capture.open({})
    except StartError as error:
        pytest.skip(f"programs cannot be attached: {error}")
    yield capture
    capture.cleanup()


def backend(pod: Place, family: str, weight: int = 1) -> Backend:
    return Backend(pod.hosts[family], HTTP, weight=weight)


def name_behind(place: Place, group: Path, key: tuple[str, int]) -> str:
    """Who answers where nobody should."""
    return dial(place, group, [key], wait_s=SILENCE_S)[0][0]


@pytest.mark.parametrize("family", FAMILIES)
def test_service_is_dialled_and_named(
    lab: Lab, direct: Direct, group: Path, family: str
) -> None:
    # Nothing answers at the address itself: there is neither a listener nor a route.
    host = HOSTS[family]
    pod, target = lab.nodes[0].pods[0], lab.nodes[1].pods[0]
    direct.update({(host, 80): [backend(target, family)]})
    said = dial(pod, group, [(host, 80), (target.hosts[family], HTTP)])
    assert said[0] == (target.name, host, 80)
    assert said[1] == (target.name, target.hosts[family], HTTP), "dialled as it is"
    assert direct.counters() == {(host, 80): 1}
    direct.update({}, [(host, 80)])
    assert name_behind(pod, group, (host, 80)) in ("TimeoutError", "OSError")
    assert direct.counters() == {}


def test_sockets_of_ipv6_dial_services_of_ipv4(
    lab: Lab, direct: Direct, group: Path
) -> None:
    # As Java does.
    target = lab.nodes[1].pods[0]
    direct.update({("10.96.0.1", 80): [backend(target, "ipv4")]})
    said = dial(lab.nodes[0].pods[0], group, [("10.96.0.1", 80)], mapped=True)
    assert said == [(target.name, "::ffff:10.96.0.1", 80)]


def test_weights_are_shares(lab: Lab, direct: Direct, group: Path) -> None:
    few, many = lab.nodes[1].pods
    backends = [backend(few, "ipv4", 10), backend(many, "ipv4", 40)]
    backends.append(backend(lab.nodes[0].pods[1], "ipv4", 0))
    direct.update({("10.96.0.1", 80): backends})
    said = dial(lab.nodes[0].pods[0], group, [("10.96.0.1", 80)] * 300)
    seen = Counter(name for name, _, _ in said)
    assert set(seen) == {few.name, many.name}
    # Binomial with 240 expected of 300: beyond six standard deviations otherwise.
    assert 198 < seen[many.name] < 282
    assert direct.counters() == {("10.96.0.1", 80): 300}


def test_set_is_replaced_and_the_old_one_is_gone(
    lab: Lab, direct: Direct, group: Path
) -> None:
    first, second = lab.nodes[1].pods
    key = ("10.96.0.1", 80)
    for _ in range(3):
        for target in (first, second):
            direct.update({key: [backend(target, "ipv4")] * 5})
            said = dial(lab.nodes[0].pods[0], group, [key] * 3)
            assert {name for name, _, _ in said} == {target.name}
    assert direct.counters() == {key: 18}
    maps = direct._maps
    assert maps
    assert len(maps.members.items()) == 5


def test_other_protocols_are_left_alone(lab: Lab, direct: Direct, group: Path) -> None:
    target = lab.nodes[1].pods[0]
    direct.update({("10.96.0.1", 8081): [backend(target, "ipv4")]})
    said = dial_datagram(lab.nodes[0].pods[0], group, ("10.96.0.1", 8081))
    assert said == "('10.96.0.1', 8081)"
    assert direct.counters() == {("10.96.0.1", 8081): 0}


def dial_datagram(place: Place, group: Path, address: tuple[str, int]) -> str:
    """What a socket of UDP takes for its peer."""
    script = (
        "import socket; s = socket.socket(type=socket.SOCK_DGRAM);"
        f"s.connect({address}); print(s.getpeername())"
    )
    done = subprocess.run(
        ["ip", "netns", "exec", place.ns.name, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
    )
    return done.stdout.strip()


def test_programs_go_on_and_a_successor_takes_over(
    lab: Lab, direct: Direct, group: Path, bpffs: Path
) -> None:
    pod, target = lab.nodes[0].pods[0], lab.nodes[1].pods[0]
    kept, gone, new = (("10.96.0.1", port) for port in (80, 81, 82))
    one = [backend(target, "ipv4")]
    direct.update({kept: one, gone: one})
    assert dial(pod, group, [kept])[0][0] == target.name
    direct.close(leave=True)
    assert dial(pod, group, [kept, gone]) == [
        (target.name, *kept),
        (target.name, *gone),
    ]
    successor = Direct(group, bpffs)
    assert successor.open({kept: one, new: one}) == []
    assert dial(pod, group, [kept, new]) == [(target.name, *kept), (target.name, *new)]
    assert name_behind(pod, group, gone) != target.name
    assert successor.counters() == {kept: 3, new: 1}, "counts are the maps'"
    successor.close(leave=True)


def test_cleanup_detaches(lab: Lab, direct: Direct, group: Path, bpffs: Path) -> None:
    pod, target = lab.nodes[0].pods[0], lab.nodes[1].pods[0]
    key = ("10.96.0.1", 80)
    direct.update({key: [backend(target, "ipv4")]})
    # By another process: `--cleanup`.
    assert Direct(group, bpffs).cleanup()
    assert name_behind(pod, group, key) != target.name
    assert FOLDER not in os.listdir(bpffs)
    assert Direct(group, bpffs).cleanup() == []


@pytest.mark.parametrize("what", ["names", "links", "one name"])
def test_damage_is_seen_and_repaired(
    lab: Lab, direct: Direct, group: Path, bpffs: Path, what: str
) -> None:
    pod, target = lab.nodes[0].pods[0], lab.nodes[1].pods[0]
    key = ("10.96.0.1", 80)
    direct.update({key: [backend(target, "ipv4")]})
    assert direct.verify() == []
    folder = bpffs / FOLDER
    if what == "links":
        assert Direct(group, bpffs).cleanup()
    elif what == "names":
        for name in os.listdir(folder):
            folder.joinpath(name).unlink()
    else:
        folder.joinpath("services").unlink()
    assert direct.verify() != []
    assert direct.verify() == []
    assert dial(pod, group, [key]) == [(target.name, *key)]
    direct.close(leave=True)
    assert dial(pod, group, [key]) == [(target.name, *key)]


def test_what_does_not_fit_is_not_ours(
    lab: Lab, group: Path, bpffs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The map is full: that Service is left to the other capture, all others stay.
    monkeypatch.setitem(direct_module.MAPS, "members", (HASH, 8, ADDRESS_BYTES, 100))
    target = lab.nodes[1].pods[0]
    key, large = ("10.96.0.1", 80), ("10.96.0.2", 80)
    many = [Backend("10.0.0.1", port) for port in range(1, 41)]
    direct = Direct(group, bpffs)
    try:
        assert direct.open({key: [backend(target, "ipv4")]}) == []
        services = {("10.96.1.1", port): many for port in (1, 2)}
        assert direct.update(services) == []
        assert direct.update({large: many}) == [large]
        assert set(direct.counters()) == {key, *services}
        assert dial(lab.nodes[0].pods[0], group, [key])[0][0] == target.name
        assert direct.update({}, services) == []
        assert direct.update({large: many}) == []
    finally:
        direct.cleanup()


def test_without_a_control_group_one_message_says_what_helps(
    tmp_path: Path, bpffs: Path
) -> None:
    missing = Direct(tmp_path / "none", bpffs)
    with pytest.raises(StartError, match="captured by tproxy") as caught:
        missing.open({})
    assert "No such file" in str(caught.value)
    missing.cleanup()
