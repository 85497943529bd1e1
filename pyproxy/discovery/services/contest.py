"""Who has an address that several Services claim: the oldest one, then by name.

Node ports and external IPs may meet, and two Services may name one load balancer.
"""

from collections.abc import Callable, Iterator

from pyproxy.model import VipKey, format_address

Rank = Callable[[str], tuple[str, str]]  # of a Service; the lowest wins


class Contest:
    """Owners of addresses; most have one claimant, and that is all there is to them."""

    def __init__(self) -> None:
        self._owner: dict[VipKey, str] = {}
        self._rivals: dict[VipKey, set[str]] = {}  # all claimants, if two or more
        self._losers: dict[VipKey, set[str]] = {}
        self._lost: dict[str, dict[VipKey, str]] = {}  # by loser: to whom

    def owner(self, address: VipKey) -> str | None:
        """Return who has an address."""
        return self._owner.get(address)

    def owned(self) -> Iterator[tuple[VipKey, str]]:
        """Yield all addresses that somebody has."""
        yield from self._owner.items()

    def winner(self, address: VipKey, service: str) -> str:
        """Return to whom a Service lost an address; "" = it has it."""
        return self._lost.get(service, {}).get(address, "")

    def complaints(self, service: str) -> tuple[str, ...]:
        """Say what a Service lost, and to whom."""
        return tuple(
            f"{format_address(*address[1:])}/{address[0]} is taken by {winner}"
            for address, winner in sorted(self._lost.get(service, {}).items())
        )

    def join(self, address: VipKey, service: str) -> None:
        """Take a claim; `settle` decides about it where it is not the only one."""
        owner = self._owner.setdefault(address, service)
        if owner != service:
            self._rivals.setdefault(address, {owner}).add(service)

    def leave(self, address: VipKey, service: str) -> None:
        """Drop a claim; `settle` gives the address to the next one."""
        rivals = self._rivals.get(address)
        if rivals is not None:
            rivals.discard(service)
        elif self._owner.get(address) == service:
            del self._owner[address]

    def settle(self, address: VipKey, rank: Rank) -> set[str]:
        """Decide who has an address; return the Services whose complaints changed."""
        rivals = self._rivals.get(address)
        if rivals is None:
            return set()
        winner = min(rivals, key=rank, default=None)
        if winner is None:
            self._owner.pop(address, None)
        else:
            self._owner[address] = winner
        if len(rivals) < 2:
            del self._rivals[address]
        return self._note(address, winner, rivals)

    def _note(self, address: VipKey, winner: str | None, rivals: set[str]) -> set[str]:
        changed: set[str] = set()
        losers = {each: winner for each in rivals if each != winner and winner}
        before = self._losers.pop(address, set())
        if losers:
            self._losers[address] = {*losers}
        for service in before | losers.keys():
            lost = self._lost.setdefault(service, {})
            now = losers.get(service)
            if lost.get(address) != now:
                changed.add(service)
            if now is None:
                lost.pop(address, None)
            else:
                lost[address] = now
            if not lost:
                del self._lost[service]
        return changed
