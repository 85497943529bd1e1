"""Deltas one after another make the table that their last values make at once."""

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath import Backend, Delta, Engine, Pool, Table, TableError, Upstream, Vip
from fastpath.table.balancer import Picker
from fastpath.table.delta import State
from fastpath.table.draft import Draft
from fastpath.table.registry import Registry
from fastpath.table.table import TableBlock

INPUTS = max(settings().max_examples, 200)
INPUTS = int(os.environ.get("PYPROXY_DELTA_SEQUENCES", INPUTS))
HOSTS = [f"10.2.0.{n}" for n in range(5)] + ["fd00::5"]
NAMES = ["a", "b", "c", "d"]
SPOKEN = ["u", "v", "w"]

backends = st.lists(
    st.builds(
        Backend,
        st.sampled_from([f"10.3.0.{n}" for n in range(5)]),
        st.just(80),
        weight=st.integers(0, 3),
        tier=st.integers(0, 1),
    ),
    max_size=5,
    unique_by=lambda backend: backend.key,
)
pools = st.builds(Pool, backends, balance=st.sampled_from(["round-robin", "ring"]))
either = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), pools)
vips = st.builds(
    Vip, st.sampled_from(HOSTS), st.just(80), st.just("tcp"), either, st.just(False)
)
upstreams = st.builds(Upstream, st.sampled_from(SPOKEN), either)
keys = st.sampled_from([("tcp", host, 80) for host in HOSTS])
deltas = st.builds(
    Delta,
    vips=st.lists(vips, max_size=3, unique_by=lambda vip: vip.key),
    pools=st.dictionaries(st.sampled_from(NAMES), pools, max_size=3),
    upstreams=st.lists(upstreams, max_size=2, unique_by=lambda one: one.name),
    remove_vips=st.lists(keys, max_size=1),
    remove_pools=st.lists(st.sampled_from(NAMES), max_size=1),
    remove_upstreams=st.lists(st.sampled_from(SPOKEN), max_size=1),
)


class Model:
    """What should be in force: plain values by key."""

    def __init__(self) -> None:
        self.vips: dict[Any, Vip] = {}
        self.pools: dict[str, Pool] = {}
        self.upstreams: dict[str, Upstream] = {}

    def after(self, delta: Delta) -> "Model | None":
        """Return what the delta makes of it; None = it must be refused."""
        new = Model()
        new.vips = self._next(self.vips, {v.key: v for v in delta.vips})
        new.pools = self._next(self.pools, delta.pools)
        new.upstreams = self._next(self.upstreams, {u.name: u for u in delta.upstreams})
        kinds: list[tuple[Any, Any, Any]] = [
            (new.vips, {v.key for v in delta.vips}, delta.remove_vips),
            (new.pools, set(delta.pools), delta.remove_pools),
            (new.upstreams, {u.name for u in delta.upstreams}, delta.remove_upstreams),
        ]
        for of, come, go in kinds:
            for key in go:
                if key in come or key not in of:
                    return None
                del of[key]
        specs: list[Vip | Upstream] = [*new.vips.values(), *new.upstreams.values()]
        used = [one.pool for one in specs]
        known = all(not isinstance(p, str) or p in new.pools for p in used)
        return new if known else None

    @staticmethod
    def _next(old: Any, come: Any) -> Any:
        return {**old, **come}

    @property
    def table(self) -> Table:
        """It as a whole table."""
        return Table(self.vips.values(), self.upstreams.values(), pools=self.pools)


class Core:
    """State and table, changed as the publisher does it."""

    def __init__(self) -> None:
        self.state = State(Registry(), 1)
        self.table = TableBlock()

    def take(self, delta: Delta) -> None:
        """Bring the delta into force; collect at once, as there are no workers."""
        draft = Draft(self.state, delta, {})
        state = self.state
        gone = [state.vips[key] for key in draft.vips if key in state.vips]
        come = [block for block in draft.vips.values() if block is not None]
        changes: list[Any] = []
        kinds: list[tuple[Any, Any]] = [
            (draft.vips, state.vips),
            (draft.pools, state.pools),
            (draft.upstreams, state.upstreams),
        ]
        for new, old in kinds:
            changes.append(
                {
                    (block or old[key]).slot: block
                    for key, block in new.items()
                    if block is not None or key in old
                }
            )
        self.table = TableBlock(
            self.table, changes[0], changes[1], changes[2], (gone, come)
        )
        draft.commit()
        del draft, gone, come, changes
        state.registry.collect()

    def pool_of(self, spec: Vip | Upstream) -> Pool:
        """The pool that this vip or upstream has in the state."""
        if isinstance(spec.pool, str):
            return self.state.pools[spec.pool].spec
        own = ("vip", spec.key) if isinstance(spec, Vip) else ("upstream", spec.name)
        return self.state.pools[own].spec

    def picture(self) -> dict[str, Any]:
        """All that can be told of it without slots, which depend on what was before."""
        state, registry = self.state, self.state.registry
        specs: list[Any] = [*state.vips.values(), *state.upstreams.values()]
        found = {host: self.table.find(host, 80) for host in HOSTS}
        by_slot = {block.slot: key[1] for key, block in state.vips.items()}
        numbers = [registry.backends, registry.pools, registry.vips, registry.upstreams]
        return {
            "vips": {key: block.spec for key, block in state.vips.items()},
            "upstreams": {key: block.spec for key, block in state.upstreams.items()},
            "pools": {key: block.spec for key, block in state.pools.items()},
            "of": {str(b.spec): self.pool_of(b.spec) for b in specs},
            "found": {
                host: None if slot is None else by_slot[slot]
                for host, slot in found.items()
            },
            "users": dict(state.users),
            "addresses": state.addresses,
            "numbers": [set(kind.slots) for kind in numbers],
        }


def picks(core: Core) -> dict[Any, list[Any]]:
    """The backends that the first clients of each vip get."""
    found: dict[Any, list[Any]] = {}
    for key in sorted(core.state.vips):
        pool = core.pool_of(core.state.vips[key].spec)
        picker = Picker(Vip("127.0.0.1", 80, "tcp", pool))
        found[key] = [picker.pick(1, f"172.16.0.{n}") for n in range(8)]
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.hypothesis
def test_deltas_in_a_row_make_what_their_last_values_make_at_once() -> None:
    @settings(max_examples=INPUTS)
    @given(st.lists(deltas, max_size=12))
    def compare(sequence: list[Delta]) -> None:
        core, model = Core(), Model()
        for delta in sequence:
            after = model.after(delta)
            before = core.picture()
            if after is None:
                with pytest.raises(TableError):
                    core.take(delta)
                core.state.registry.collect()
                assert core.picture() == before
            else:
                core.take(delta)
                model = after
        fresh = Core()
        fresh.take(fresh.state.delta_to(model.table))
        assert core.picture() == fresh.picture()
        assert picks(core) == picks(fresh)
        assert core.state.delta_to(model.table) == Delta(), "nothing is left to do"

    compare()


@pytest.mark.slow
@pytest.mark.live
def test_engine_tells_the_same_keys_after_deltas_as_after_one_table() -> None:
    with Engine(workers=1) as engine, Engine(workers=1) as other:

        @settings(max_examples=min(INPUTS, 500) // 4)
        @given(st.lists(deltas, max_size=8))
        def compare(sequence: list[Delta]) -> None:
            model = Model()
            engine.apply(Table())
            for delta in sequence:
                after = model.after(delta)
                if after is not None:
                    engine.update(delta)
                    model = after
            other.apply(model.table)
            assert engine.settle()
            ours, theirs = engine.stats(), other.stats()
            assert ours.vips.keys() == theirs.vips.keys()
            assert ours.backends.keys() == theirs.backends.keys()
            assert ours.upstreams.keys() == theirs.upstreams.keys()

        compare()
