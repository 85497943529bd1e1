"""Which addresses are dialled past us, and what the programs are told."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from pyproxy.config import convert
from pyproxy.dataplane import Change
from pyproxy.discovery.services import Options
from pyproxy.errors import StartError
from pyproxy.model import Backend, Front, Key, Pool, Vip
from pyproxy.modes.kube_proxy import KubeProxy
from pyproxy.modes.kube_proxy.shortcuts import Shortcuts

NAME = "a/b:web/tcp/IPv4#cluster"
ENDS = (Backend("10.1.0.1", 8080), Backend("10.1.0.2", 8080))
POOL = Pool(NAME, ENDS)
VIP = Vip("10.96.0.1", 80, Pool(NAME, ()))
KEY = VIP.key[1:]
DIRECT = Options(path="direct")


class Hook:
    """Programs that do as they are told, in a map with room for some."""

    def __init__(self) -> None:
        self.sets: dict[Key, Sequence[Backend]] = {}
        self.is_open = False
        self.cleaned = 0
        self.room = 10
        self.error: Exception | None = None

    def open(self, services: Mapping[Key, Sequence[Backend]]) -> list[Key]:
        """Begin."""
        if self.error is not None:
            raise self.error
        self.is_open = True
        return self.update(services)

    def update(
        self, put: Mapping[Key, Sequence[Backend]], remove: Sequence[Key] = ()
    ) -> list[Key]:
        """Change."""
        assert self.is_open
        if self.error is not None:
            raise self.error
        for key in remove:
            del self.sets[key]
        full = []
        for key, backends in put.items():
            self.sets.pop(key, None)
            if len(self.sets) < self.room:
                self.sets[key] = backends
            else:
                full.append(key)
        return full

    def counters(self) -> dict[Key, int]:
        """Three each."""
        return dict.fromkeys(self.sets, 3)

    def verify(self) -> list[str]:
        """Nothing was changed."""
        return []

    def close(self, *, leave: bool) -> None:
        """Forget, unless somebody goes on."""
        self.is_open = False
        if not leave:
            self.sets.clear()

    def cleanup(self) -> list[str]:
        """Remove a predecessor's."""
        self.cleaned += 1
        return []


def made(
    vip: Vip = VIP,
    pool: Pool = POOL,
    front: Front | None = None,
    options: Options | None = None,
    **settings: object,
) -> tuple[Shortcuts, Hook]:
    """One Service in force."""
    hook = Hook()
    found = Shortcuts(hook, convert(settings, KubeProxy))
    serve = front or Front(vip.protocol, vip.host, vip.port, "serve", "serve")
    found.note(Change(vips=[vip], pools=[pool]), {vip.key: serve})
    if options is not None:
        found.note_options({"a/b": options})
    assert found.flush()
    return found, hook


def test_plain_service_is_dialled_past_us_where_that_is_the_setting() -> None:
    found, hook = made(path="direct")
    assert hook.sets == {KEY: ENDS}
    assert found.path(VIP.key) == "direct"
    assert found.counts() == {"a/b": 3}


def test_service_says_for_itself() -> None:
    assert made()[1].sets == {}
    assert made(options=DIRECT)[1].sets == {KEY: ENDS}
    assert made(options=Options(path="relay"), path="direct")[1].sets == {}


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("not TCP", {"vip": replace(VIP, protocol="udp")}),
        ("keep their endpoint", {"pool": replace(POOL, affinity_s=1.0)}),
        ("no endpoints", {"pool": Pool(NAME, ())}),
        ("options of its own", {"options": Options(path="direct", balance="ring")}),
        ("options of its own", {"options": Options(proxy_protocol="v1")}),
        (
            "sources are limited",
            {"front": Front("tcp", *KEY, "serve", "serve", ("10.0.0.0/8",))},
        ),
        ("turned away", {"front": Front("tcp", *KEY, "drop", "serve")}),
        ("see the node", {"masqueradeAll": True}),
    ],
)
def test_service_that_is_not_plain_stays(why: str, changes: dict[str, object]) -> None:
    found, hook = made(path="direct", **changes)  # type: ignore[arg-type]
    assert hook.sets == {}
    (key,) = found._vips
    assert why in found.path(key)
    assert hook.cleaned == 1  # what a predecessor left
    assert not hook.is_open


def test_clients_here_have_the_pool_of_near_ones() -> None:
    near = Pool("a/b:web/tcp/IPv4#near", ENDS[:1])
    vip = replace(VIP, near_pool=Pool(near.name, ()))
    found, hook = made(vip, path="direct")
    found.note(Change(pools=[near]), {})
    assert found.flush()
    assert hook.sets == {KEY: ENDS[:1]}


def test_endpoints_are_followed_and_none_is_none() -> None:
    found, hook = made(path="direct")
    found.note(Change(pools=[replace(POOL, backends=ENDS[1:])]), {})
    assert found.flush()
    assert hook.sets == {KEY: ENDS[1:]}
    found.note(Change(pools=[replace(POOL, backends=())]), {})
    assert found.flush()
    assert hook.sets == {}
    found.note(Change(pools=[POOL]), {})
    assert found.flush()
    assert hook.sets == {KEY: ENDS}
    found.note(Change(remove_vips=[VIP.key], remove_pools=[NAME]), {VIP.key: None})
    assert found.flush()
    assert hook.sets == {}
    assert found.path(VIP.key) == ""


def test_options_and_settings_may_change() -> None:
    found, hook = made(options=DIRECT)
    found.note_options({"a/b": Options()})
    assert found.flush()
    assert hook.sets == {}
    found.restart(convert({"path": "direct"}, KubeProxy))
    assert found.flush()
    assert hook.sets == {KEY: ENDS}


def test_machine_that_cannot_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook()
    hook.error = StartError("no cgroup v2")
    found = Shortcuts(hook, convert({"path": "direct"}, KubeProxy))
    for port in (80, 81):
        vip = replace(VIP, port=port)
        found.note(Change(vips=[vip], pools=[POOL]), {})
        assert found.flush()
    assert found.path(VIP.key) == "no cgroup v2"
    assert caplog.text.count("no Service is direct") == 1
    assert found.counts() == {}
    found.close(leave=False)


def test_full_map_and_trouble_that_passes() -> None:
    found, hook = made(path="direct")
    hook.room = 1
    other = replace(VIP, port=81)
    found.note(Change(vips=[other]), {})
    assert found.flush()
    assert found.path(other.key) == "no room in the map"
    hook.error = OSError(errno.EINTR, "not now")
    found.note(Change(pools=[replace(POOL, backends=ENDS[1:])]), {})
    assert not found.flush()
    hook.error, hook.room = None, 2
    assert found.flush()
    assert hook.sets == {KEY: ENDS[1:], other.key[1:]: ENDS[1:]}


@pytest.mark.parametrize("leave", [False, True])
def test_programs_go_on_for_a_successor_alone(leave: bool) -> None:
    found, hook = made(path="direct")
    found.close(leave=leave)
    assert bool(hook.sets) == leave
