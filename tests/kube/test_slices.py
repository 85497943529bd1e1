"""Slices as rows: nothing that counts is lost, and memory is shared."""

import json

import msgspec
import pytest

from pyproxy.kube.objects import Endpoint, EndpointSlice
from pyproxy.kube.resource import ENDPOINT_SLICES
from pyproxy.kube.slices import (
    BRIEF_SLICES,
    READY,
    SERVING,
    STRANGER,
    TERMINATING,
    BriefSlice,
    Row,
)
from tests.support import kube_golden as golden


def row_of(endpoint: Endpoint) -> Row:
    """Return what a row must say of an endpoint."""
    hints = endpoint.hints
    return (
        endpoint.addresses[0],
        endpoint.is_ready * READY
        + endpoint.is_serving * SERVING
        + endpoint.is_terminating * TERMINATING,
        endpoint.node_name or "",
        tuple(each.name for each in hints.for_zones) if hints else (),
        tuple(each.name for each in hints.for_nodes) if hints else (),
    )


def read(raw: object) -> tuple[BriefSlice, EndpointSlice]:
    """Return a slice in both forms."""
    data = json.dumps(raw)
    return BRIEF_SLICES.decoder.decode(data), ENDPOINT_SLICES.decoder.decode(data)


def test_rows_of_a_real_cluster_say_what_its_slices_say() -> None:
    count = 0
    for raw in golden.objects("endpointslices"):
        brief, whole = read(raw)
        assert brief.endpoints == tuple(map(row_of, whole.endpoints))
        assert (brief.metadata, brief.ports) == (whole.metadata, whole.ports)
        assert (brief.service, brief.key) == (whole.service, whole.key)
        assert brief.address_type == whole.address_type
        said = raw["metadata"].get("annotations", {})
        trigger = "endpoints.kubernetes.io/last-change-trigger-time"
        assert brief.changed_at == said.get(trigger, "")
        count += len(brief.endpoints)
    assert count


@pytest.mark.parametrize("ready", [None, True, False])
@pytest.mark.parametrize("serving", [None, True, False])
@pytest.mark.parametrize("terminating", [None, True, False])
def test_conditions_not_said_have_their_meaning(
    ready: bool | None, serving: bool | None, terminating: bool | None
) -> None:
    said = {"ready": ready, "serving": serving, "terminating": terminating}
    endpoint = {"addresses": ["10.0.0.1"], "conditions": said}
    brief, whole = read({"endpoints": [endpoint]})
    assert brief.endpoints == (row_of(whole.endpoints[0]),)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"endpoints": None, "ports": None},
        {"endpoints": []},
        {"endpoints": [{}, {"addresses": []}]},
    ],
)
def test_what_has_no_address_has_no_row(raw: object) -> None:
    brief, _ = read(raw)
    assert (brief.endpoints, brief.ports) == ((), ())


def test_names_are_held_once() -> None:
    hints = {"forZones": [{"name": "zone-of-hints"}], "forNodes": [{"name": "a node"}]}
    raw = {"addresses": ["10.0.0.1"], "nodeName": "a node", "hints": hints}
    first, second = (read({"endpoints": [raw]})[0].endpoints[0] for _ in range(2))
    assert first[2] is second[2]
    assert first[3] is second[3]
    assert first[4] is second[4]


def test_a_slice_that_is_copied_keeps_its_rows() -> None:
    brief, _ = read({"endpoints": [{"addresses": ["10.0.0.1"]}]})
    copy = msgspec.structs.replace(brief, address_type="IPv4")
    assert copy.endpoints == brief.endpoints


@pytest.mark.parametrize(
    ("kind", "address", "row"),
    [
        ("IPv4", "10.0.0.1", ("10.0.0.1", READY | SERVING)),
        ("IPv6", "FD00:0::1", ("fd00::1", READY | SERVING)),
        ("IPv6", "::ffff:10.0.0.1", ("::ffff:10.0.0.1", READY | SERVING)),
        ("IPv4", "fd00::1", ("fd00::1", STRANGER)),
        ("IPv6", "10.0.0.1", ("10.0.0.1", STRANGER)),
        ("IPv4", "10.0.0.01", ("10.0.0.01", STRANGER)),
        ("IPv6", "fd00::1%eth0", ("fd00::1%eth0", STRANGER)),
        ("IPv4", "10.0.0.1\x00", ("10.0.0.1\x00", STRANGER)),
        ("IPv4", "", ("", STRANGER)),
        ("FQDN", "a.example", ("a.example", STRANGER)),
    ],
)
def test_addresses_have_one_spelling_or_are_strangers(
    kind: str, address: str, row: tuple[str, int]
) -> None:
    endpoint = {"addresses": [address, "10.9.9.9"]}
    brief, _ = read({"addressType": kind, "endpoints": [endpoint]})
    assert [each[:2] for each in brief.endpoints] == [row]
