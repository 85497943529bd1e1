"""Apiservers that announce themselves: which list is taken, when, and which never."""

import asyncio
from pathlib import Path

import pytest

from pyproxy.discovery import members as module
from pyproxy.discovery.members import Members, access_of
from pyproxy.discovery.memory import decode, decode_discovered, encode
from pyproxy.kube.config import AccessError, ClientFlags
from pyproxy.kube.objects import (
    Endpoint,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    ObjectMeta,
)

pytestmark = pytest.mark.live


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for a second."""
    monkeypatch.setattr(module, "DEBOUNCE_S", 0.02)


def a_slice(
    *addresses: str,
    name: str = "kubernetes",
    version: str = "1",
    ports: tuple[EndpointPort, ...] = (EndpointPort(name="https", port=6443),),
    ready: bool | None = None,
) -> EndpointSlice:
    """Return a slice with one endpoint for each address."""
    return EndpointSlice(
        metadata=ObjectMeta(name=name, namespace="default", resource_version=version),
        address_type="IPv4",
        endpoints=tuple(
            Endpoint(addresses=(each,), conditions=EndpointConditions(ready=ready))
            for each in addresses
        ),
        ports=ports,
    )


def synced(*slices: EndpointSlice, known: tuple[str, ...] = ()) -> Members:
    """Return members that have seen these slices."""
    found = Members(known)
    for each in slices:
        found.store.upsert(each)
    found.store.mark_synced()
    return found


async def taken(members: Members) -> tuple[str, ...] | None:
    """Return the next list, None if there is none."""
    try:
        async with asyncio.timeout(0.2):
            return await members.next()
    except TimeoutError:
        return None


async def test_all_slices_make_one_sorted_list() -> None:
    found = synced(
        a_slice("10.0.0.3", "10.0.0.1"),
        a_slice("fd00::1", "10.0.0.1", name="other"),
    )
    wanted = ("10.0.0.1:6443", "10.0.0.3:6443", "[fd00::1]:6443")
    assert await taken(found) == wanted


@pytest.mark.parametrize(
    "slices",
    [
        [],
        [a_slice()],
        [a_slice("10.0.0.1", ready=False)],
        [a_slice("10.0.0.1", ports=())],
        [a_slice("10.0.0.1", ports=(EndpointPort(name="https"),))],
        [a_slice("10.0.0.1", ports=(EndpointPort(port=53, protocol="UDP"),))],
        [a_slice("api.example.org")],
        [a_slice(*(f"10.0.{n // 250}.{n % 250}" for n in range(257)))],
    ],
    ids="none,empty,unready,no ports,no number,udp,names,too many".split(","),
)
async def test_list_without_apiservers_is_never_taken(
    slices: list[EndpointSlice], caplog: pytest.LogCaptureFixture
) -> None:
    found = synced(*slices, known=("10.0.0.9:6443",))
    assert await taken(found) is None
    assert found.known == ("10.0.0.9:6443",)
    assert "keeping the last" in caplog.text


async def test_port_named_https_counts_whatever_others_there_are() -> None:
    ports = (EndpointPort(name="metrics", port=1), EndpointPort(name="https", port=2))
    assert await taken(synced(a_slice("10.0.0.1", ports=ports))) == ("10.0.0.1:2",)


async def test_nothing_is_taken_before_everything_was_listed() -> None:
    found = Members()
    found.store.upsert(a_slice("10.0.0.1"))
    assert await taken(found) is None
    found.store.mark_synced()
    assert await taken(found) == ("10.0.0.1:6443",)


async def test_flapping_is_one_list_and_the_same_list_is_none() -> None:
    found = synced(a_slice("10.0.0.1"))
    found.take(await found.next())
    for version, addresses in enumerate((("10.0.0.1", "10.0.0.2"), (), ("10.0.0.1",))):
        found.store.upsert(a_slice(*addresses, version=f"{version + 2}"))
    assert await taken(found) is None


async def test_slice_that_goes_takes_its_apiservers_along() -> None:
    found = synced(a_slice("10.0.0.1"), a_slice("10.0.0.2", name="other"))
    found.take(await found.next())
    found.store.delete("default/other")
    assert await taken(found) == ("10.0.0.1:6443",)


def test_list_is_kept_in_the_state_file() -> None:
    content = encode({}, ("10.0.0.1:6443", "[fd00::1]:6443"))
    assert decode(content, 0.0) == {}
    assert decode_discovered(content) == ("10.0.0.1:6443", "[fd00::1]:6443")
    assert decode_discovered(b'{"version":1,"servers":[]}') == ()


@pytest.mark.parametrize("text", ["evil.example.org:1", "10.0.0.1", "", "10.0.0.1:x"])
def test_state_file_with_an_odd_apiserver_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode_discovered(encode({}, (text,)))


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (ClientFlags(server="http://10.0.0.1:8080"), "needs an https server"),
        (
            ClientFlags(server="https://10.0.0.1:6443", proxy_url="http://p:1"),
            "through a proxy",
        ),
    ],
)
def test_access_that_cannot_lead_through_ourselves_is_refused(
    flags: ClientFlags, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(AccessError, match=complaint):
        access_of(flags, {"HOME": str(tmp_path)})
