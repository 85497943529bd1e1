"""Pools without any socket, to pick from: scaffolding of the balancer's tests.

Distributions are met by chance with a fixed seed: a test that passes always passes.
"""

from collections import Counter
from collections.abc import Mapping
from typing import get_args

from fastpath.api.snapshot import Key
from fastpath.api.spec import Backend, Balance, Pool, Vip
from fastpath.table.balancer import Picker

POLICIES = get_args(Balance)
PORT = 6443
PICKS = 4000


def key(number: int) -> Key:
    """Name of backend `number`."""
    return (f"10.0.{number // 256}.{number % 256}", PORT)


def picker(
    balance: Balance,
    weights: Mapping[int, int] | int,
    *,
    tiers: Mapping[int, int] | None = None,
    seed: int = 1,
    refuse: bool = False,
    slow_start_s: float = 0.0,
    eject_after: int = 3,
    eject_s: float = 10.0,
) -> Picker:
    """Return a picker over backends: number -> weight, or how many of weight 1."""
    if isinstance(weights, int):
        weights = dict.fromkeys(range(weights), 1)
    backends = tuple(
        Backend(*key(number), weight=weight, tier=(tiers or {}).get(number, 0))
        for number, weight in weights.items()
    )
    pool = Pool(
        backends,
        balance=balance,
        on_all_down="refuse" if refuse else "try",
        slow_start_s=slow_start_s,
        eject_after=eject_after,
        eject_s=eject_s,
    )
    return Picker(Vip("127.0.0.1", 80, "tcp", pool), seed)


def source(number: int) -> str:
    """Address of client `number`; only the ring looks at it."""
    return f"172.16.{number // 256 % 256}.{number % 256}"


def shares(
    one: Picker, picks: int = PICKS, now_ms: int = 1, tried: tuple[Key, ...] = ()
) -> Counter[Key | None]:
    """How often each backend is picked, by as many clients."""
    return Counter(one.pick(now_ms, source(n), tried) for n in range(picks))


def assert_shares(counted: Counter[Key | None], expected: Mapping[Key, float]) -> None:
    """Chi-square: the counts may be a draw from these weights (1 in 10,000 is not)."""
    assert set(counted) <= set(expected)
    total = counted.total() / sum(expected.values())
    wanted = {name: weight * total for name, weight in expected.items()}
    chi2 = sum((counted[n] - want) ** 2 / want for n, want in wanted.items())
    freedom = len(expected) - 1
    # Wilson and Hilferty's approximation of the quantile, 3.72 sigmas out.
    limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert chi2 < limit, f"{counted} is not a draw from {expected}"
