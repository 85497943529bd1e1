"""The whole kube proxy with plain Services past it, for processes of a group."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyproxy.capture import Direct
from pyproxy.errors import StartError
from tests.support import hooked, netns
from tests.support.kube_lab import FAMILIES, TOLD_S, Endpoint, KubeLab, kube_lab
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.netns,
    pytest.mark.root,
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A control group, and where programs have their names."""
    for why in (netns.obstacle(), netns.obstacle_to_loss(), hooked.obstacle()):
        if why:
            pytest.skip(why)
    names = tmp_path_factory.mktemp("names") / "bpf"
    with hooked.control_group() as group, hooked.names(names) as bpffs:
        trying = Direct(group, bpffs)
        try:
            trying.open({})
        except StartError as error:
            pytest.skip(f"programs cannot be attached: {error}")
        trying.cleanup()
        yield group, bpffs


@pytest.fixture(scope="module")
def rig(
    places: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubeLab]:
    """A lab whose agent attaches to the group."""
    group, bpffs = map(str, places)
    environment = {"CGROUP": group, "BPFFS": bpffs}
    directory = tmp_path_factory.mktemp("kube")
    with kube_lab(directory, environment=environment) as made:
        yield made


def paths(rig: KubeLab) -> dict[str, str]:
    """What the agent says of the addresses of a Service."""
    said = json.loads(rig.get("/debug/explain?service=agent/web")[1])
    return {f"{p['protocol']} {p['address']}": p["path"] for p in said.get("paths", [])}


def relays(rig: KubeLab) -> int:
    """Connections that met the agent."""
    said = json.loads(rig.get("/debug/explain?service=agent/web")[1])
    return sum(each["accepted"] for each in said["connections"])


def test_annotated_service_is_dialled_past_the_agent(
    rig: KubeLab, places: tuple[Path, Path]
) -> None:
    group, _ = places
    notes = {"pyproxy.io/path": "direct"}
    made = rig.service("web", Endpoint(rig.beside), notes=notes)
    addresses = [f"{made.ip('ipv4')}:80", f"[{made.ip('ipv6')}]:80"]
    expected = {f"tcp {each}": "direct" for each in addresses}
    expected |= {f"udp {each}": "tproxy" for each in addresses}
    wait_until(lambda: paths(rig) == expected, TOLD_S)
    before = relays(rig)
    for family in FAMILIES:
        key = (made.ip(family), 80)
        # The socket has the Service for its peer, and no relay was made.
        assert hooked.dial(rig.near, group, [key]) == [(rig.beside.name, *key)]
        assert rig.near.udp(*key) == rig.beside.name  # datagrams as ever
    assert relays(rig) == before + 2  # flows of the datagrams
    assert (
        'pyproxy_service_direct_total{service="agent/web"} 2.0'
        in (rig.get("/metrics")[1])
    )
    # Outside of the group, the other way.
    assert rig.near.http(made.ip("ipv4"), 80) == rig.beside.name
    assert relays(rig) == before + 3
    rig.endpoints("web", Endpoint(rig.there, "n2"))
    key = (made.ip("ipv4"), 80)
    wait_until(
        lambda: hooked.dial(rig.near, group, [key])[0][0] == rig.there.name, TOLD_S
    )
    # One that is not plain any more is served all the same.
    rig.change("web", sessionAffinity="ClientIP")
    wait_until(lambda: "direct" not in paths(rig).values(), TOLD_S)
    assert hooked.dial(rig.near, group, [key])[0][0] == rig.there.name
    rig.clear()
