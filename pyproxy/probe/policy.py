"""From the states of all backends to what the core is told. Pure.

The core knows one more thing by itself: with `on_all_down = try` it picks among dead
backends when nothing is left. It never picks a draining one, so the step between, every
server alive and none ready (etcd is away), is decided here: alive beats dead. A backend
that is suspect takes no new relays while another one of its pool is above suspicion.
"""

from collections.abc import Iterable, Mapping, Set

from pyproxy.model import Health, Key, Pool, State

_PLAIN: Mapping[State, Health] = {
    State.UNCHECKED: "dead",  # never seen: not before those that are known to be well
    State.UP: "ready",
    State.DRAINING: "draining",
    State.DOWN: "dead",
}


def health_of(
    pools: Iterable[Pool],
    states: Mapping[Key, State],
    suspects: Set[Key] = frozenset(),
) -> dict[Key, Health]:
    """Return the health of each backend of `pools` that the core should act on."""
    wanted: dict[Key, Health] = {}
    for pool in pools:
        of = {b.key: states.get(b.key, State.UNCHECKED) for b in pool.backends}
        nobody_ready = State.UP not in of.values()
        trusted = any(of[key] is State.UP and key not in suspects for key in of)
        for key, state in of.items():
            health = _PLAIN[state]
            if nobody_ready and pool.on_all_down == "try" and state is State.DRAINING:
                health = "ready"
            if trusted and key in suspects and state is State.UP:
                health = "draining"
            # A backend of two pools: where one needs it, it serves.
            if wanted.get(key) != "ready":
                wanted[key] = health
    return wanted
