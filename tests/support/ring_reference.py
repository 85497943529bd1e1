"""The ring once more, as plain and slow as can be: what test_ring.py compares with.

Written from the contracts in ring.pxd, matching.pxd and rendezvous.pxd. It shares no
algorithm with the core: all scores sorted in full, whole rounds of rejections.
"""

from decimal import Decimal, localcontext

Items = list[tuple[int, int]]


def mixed(x: int) -> int:
    """SplitMix64's finaliser after its increment."""
    x = (x + 0x9E3779B97F4A7C15) % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def log_parts() -> list[int]:
    """Return the points that the logarithm is drawn through."""
    with localcontext() as context:
        context.prec = 50
        two = Decimal(2).ln()
        logs = [(1 + Decimal(k) / 64).ln() / two for k in range(65)]
        return [int(((1 - log) * 2**48).to_integral_value()) for log in logs]


LOG_PARTS = log_parts()


def score(slot: int, key: int, weight: int) -> int:
    """Return -log2(1 - draw) / weight as ring.pxd and rendezvous.pyx define it."""
    product = mixed(slot // 256) * mixed(key)
    x = (product >> 64 ^ product) % 2**64
    x = (x + (slot % 256 * (x | 1) << 56)) % 2**64
    left = x ^ 2**64 - 1 | 1
    octave = 64 - left.bit_length()
    fraction = (left << octave) - 2**63
    part, rest = divmod(fraction, 2**57)
    drop = LOG_PARTS[part] - LOG_PARTS[part + 1]
    log = (octave << 48) + LOG_PARTS[part] - (drop * rest >> 57)
    return (log << 9) * ((2**64 - 1) // weight) >> 64


class ReferenceRing:
    """The ring by its definition: the right `owners` and `seconds`."""

    def __init__(self, items: Items, size: int) -> None:
        self.indices = sorted(
            (i for i in range(len(items)) if items[i][1]),
            key=lambda i: mixed(items[i][0]),
        )
        total = sum(weight for _, weight in items)
        self.shares = {i: (size * items[i][1], total) for i in self.indices}
        self.wishes = [
            sorted(
                (score(slot, *items[i]), rank, i) for rank, i in enumerate(self.indices)
            )
            for slot in range(size)
        ]
        self.owners = [wishes[0][2] for wishes in self.wishes]
        self.settle()
        for index in self.indices:
            self.take_over(index, anywhere=False)
            self.take_over(index, anywhere=True)
        self.seconds = [
            next((i for _, _, i in wishes if i != owner), owner)
            for wishes, owner in zip(self.wishes, self.owners, strict=True)
        ]

    def bounds(self, index: int) -> tuple[int, int]:
        slots, total = self.shares[index]
        whole, rest = divmod(slots, total)
        if 6 * slots < 100 * total:
            return max(whole - 1, 0), whole + (rest > 0)
        return -(-94 * slots // (100 * total)), 106 * slots // (100 * total)

    def cost(self, slot: int, index: int) -> int:
        return next(cost for cost, _, i in self.wishes[slot] if i == index)

    def owned(self, index: int) -> list[int]:
        return [slot for slot, owner in enumerate(self.owners) if owner == index]

    def settle(self) -> None:
        """All that are over their most reject their worst at once, until none is."""
        turn = [0] * len(self.owners)
        while True:
            rejected = [
                slot
                for i in self.indices
                for _, slot in sorted((self.cost(s, i), s) for s in self.owned(i))[
                    self.bounds(i)[1] :
                ]
            ]
            if not rejected:
                return
            for slot in rejected:
                turn[slot] += 1
                self.owners[slot] = self.wishes[slot][turn[slot]][2]

    def take_over(self, index: int, anywhere: bool) -> None:
        least = self.bounds(index)[0]
        missed = []
        for slot, wishes in enumerate(self.wishes):
            is_second = len(wishes) > 1 and wishes[1][2] == index
            if self.owners[slot] != index and (anywhere or is_second):
                lead = self.cost(slot, index) - self.cost(slot, self.owners[slot])
                missed.append((lead, slot))
        for _, slot in sorted(missed):
            owner = self.owners[slot]
            if len(self.owned(index)) >= least:
                return
            if len(self.owned(owner)) > self.bounds(owner)[0]:
                self.owners[slot] = index
