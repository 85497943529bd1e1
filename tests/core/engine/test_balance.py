"""Which backend gets the next relay, seen from outside: by the one that accepts.

`Crowd` holds backends that accept and say nothing; the counters of the engine tell
who got how many. One worker where a policy is exact, more where it is a share.
"""

import contextlib
import dataclasses
import socket
import threading
from types import TracebackType
from typing import Any, Self

import pytest

from fastpath import Backend, Pool, Table
from tests.support.relay_tools import Listening, Proxy, greet, refusing, wait_for
from tests.support.servers import Address, ScriptedServer, Server
from tests.support.waiting import scaled, wait_until

BALANCES = ["random", "two-choices", "least", "round-robin", "ring"]


class Crowd:
    """Backends, a proxy in front of them, and the clients that it has."""

    def __init__(
        self, *weights: int, tiers: tuple[int, ...] = (), **options: Any
    ) -> None:
        self._stack = contextlib.ExitStack()
        # Backlogs deep enough for all clients: nothing accepts.
        listening = [Listening(backlog=1024) for _ in weights]
        self.keys = [self._stack.enter_context(one).address for one in listening]
        tiers = tiers or (0,) * len(weights)
        self.backends = tuple(
            Backend(*key, weight=weight, tier=tier)
            for key, weight, tier in zip(self.keys, weights, tiers, strict=True)
        )
        self.proxy = self._stack.enter_context(Proxy(*self.backends, **options))
        self.clients: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def come(self, count: int = 1, source: str = "") -> list[int]:
        """So many clients more, one after another; return the relays by backend."""
        for _ in range(count):
            before = sum(self.taken)
            self.clients.append(self._stack.enter_context(self.proxy.connect(source)))
            wait_for(lambda: sum(self.taken), before + 1)
        return self.active

    def leave(self) -> None:
        """Everybody goes; the counters of what was taken stay."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        # Backends never close: the relays are half-open until they are reset.
        self.proxy.engine.reset()
        self.proxy.wait_idle()

    @property
    def active(self) -> list[int]:
        """Live relays by backend."""
        return [self.proxy.backend(key).active for key in self.keys]

    @property
    def taken(self) -> list[int]:
        """Relays that each backend ever got."""
        return [self.proxy.backend(key).connects for key in self.keys]


def test_least_fills_the_emptiest_first_exactly() -> None:
    with Crowd(1, 1, 1, balance="least") as crowd:
        for number in range(1, 31):
            loads = crowd.come()
            assert sum(loads) == number
            assert max(loads) - min(loads) <= 1, loads


def test_least_by_weight_is_exact() -> None:
    with Crowd(1, 2, 3, balance="least") as crowd:
        for rounds in range(1, 6):
            assert crowd.come(6) == [rounds, 2 * rounds, 3 * rounds]


def test_least_makes_up_for_a_backend_that_lost_its_relays() -> None:
    with Crowd(1, 1, balance="least") as crowd:
        assert crowd.come(10) == [5, 5]
        crowd.proxy.engine.reset(crowd.keys[0])
        crowd.proxy.wait_idle(live=5)
        assert crowd.come(5) == [5, 5]


def test_round_robin_is_exact_with_one_worker() -> None:
    with Crowd(1, 1, 1, balance="round-robin") as crowd:
        for rounds in range(1, 8):
            assert crowd.come(3) == [rounds] * 3


def test_round_robin_by_weight_is_exact_and_smooth() -> None:
    with Crowd(5, 1, 1, balance="round-robin") as crowd:
        before = crowd.active
        longest = run = 0
        for _ in range(14):
            now = crowd.come()
            run = run + 1 if now[0] > before[0] else 0
            longest = max(longest, run)
            before = now
        assert crowd.active == [10, 2, 2]
        # 5 of 7 in a row is what a plain order would do; smooth means 4 at most,
        # counted across the seam of two rounds.
        assert longest <= 4


def test_round_robin_passes_over_who_is_not_ready_and_stays_even() -> None:
    with Crowd(1, 1, 1, balance="round-robin") as crowd:
        crowd.proxy.engine.set_health(crowd.keys[1], "dead")
        assert crowd.come(20) == [10, 0, 10]


@pytest.mark.crowd
@pytest.mark.parametrize("balance", ["random", "two-choices"])
def test_chance_meets_the_weights_within_reason(balance: str) -> None:
    with Crowd(1, 3, balance=balance, workers=2) as crowd:
        if balance == "random":
            low, high = crowd.come(400)
            # Binomial, n = 400, p = 3/4: five deviations are 43.
            assert abs(high - 300) <= 45, (low, high)
        else:
            low, high = crowd.come(200)
            assert abs(high - 150) <= 20, (low, high)


def test_two_choices_keeps_long_relays_nearly_even() -> None:
    with Crowd(1, 1, 1, 1, balance="two-choices", workers=2) as crowd:
        loads = crowd.come(200)
        # Balls into bins by two choices: far less than random's spread of 20.
        assert max(loads) - min(loads) <= 8, loads


@pytest.mark.parametrize("balance", BALANCES)
def test_backend_of_weight_zero_gets_nothing(balance: str) -> None:
    with Crowd(1, 0, 1, balance=balance, workers=2) as crowd:
        for host in range(2, 32):
            crowd.come(source=f"127.0.0.{host}")
        taken = crowd.taken
        assert taken[1] == 0
        assert min(taken[0], taken[2]) > 0, taken


@pytest.mark.parametrize("balance", BALANCES)
def test_lower_tier_takes_all_until_it_has_nobody_and_again_after(balance: str) -> None:
    with Crowd(1, 1, 1, 1, tiers=(0, 0, 1, 2), balance=balance) as crowd:
        engine, keys = crowd.proxy.engine, crowd.keys

        def taken_by(count: int = 8) -> set[int]:
            before = crowd.taken
            for host in range(2, 2 + count):
                crowd.come(source=f"127.0.0.{host}")
            pairs = zip(before, crowd.taken, strict=True)
            return {i for i, (old, new) in enumerate(pairs) if new > old}

        assert taken_by() <= {0, 1}
        engine.set_health(keys[0], "dead")
        assert taken_by() == {1}, "half a tier is a tier"
        engine.set_health(keys[1], "draining")
        assert taken_by() == {2}
        engine.set_health(keys[2], "dead")
        assert taken_by() == {3}
        engine.set_health(keys[1], "ready")
        assert taken_by() == {1}
        engine.set_health(keys[0], "ready")
        assert taken_by(16) <= {0, 1}


def test_all_dead_are_tried_all_the_same_unless_told_to_refuse() -> None:
    with Crowd(1, 1, on_all_down="try") as crowd:
        for key in crowd.keys:
            crowd.proxy.engine.set_health(key, "dead")
        crowd.come(4)
    with Crowd(1, 1, on_all_down="refuse") as crowd:
        for key in crowd.keys:
            crowd.proxy.engine.set_health(key, "dead")
        with contextlib.suppress(ConnectionResetError), crowd.proxy.connect() as client:
            client.recv(1)
        crowd.proxy.wait_drops(no_backend=1)


def test_draining_backend_is_left_alone_even_when_all_are_down() -> None:
    with Crowd(1, 1, on_all_down="try") as crowd:
        crowd.proxy.engine.set_health(crowd.keys[0], "draining")
        crowd.proxy.engine.set_health(crowd.keys[1], "dead")
        assert crowd.come(6) == [0, 6]


def test_recovered_backend_starts_slowly() -> None:
    with Crowd(1, 1, balance="random", slow_start_s=3600) as crowd:
        # Not at start: nobody has recovered from anything yet.
        low, high = sorted(crowd.come(100))
        assert low > 20, (low, high)
        crowd.leave()
        before = crowd.taken
        crowd.proxy.engine.set_health(crowd.keys[0], "dead")
        crowd.proxy.engine.set_health(crowd.keys[0], "ready")
        crowd.come(100)
        gained = crowd.taken[0] - before[0]
        # A tenth of its weight, at the beginning of an hour: 9 of 100 expected.
        assert 0 < gained <= 30


def test_slow_start_ends_in_a_full_share() -> None:
    with Crowd(1, 1, balance="random", slow_start_s=0.05) as crowd:
        crowd.proxy.engine.set_health(crowd.keys[0], "dead")
        crowd.proxy.engine.set_health(crowd.keys[0], "ready")
        wait_until(lambda: crowd.come(20)[0] >= 5)
        crowd.leave()
        before = crowd.taken[0]
        crowd.come(100)
        assert crowd.taken[0] - before > 25


class Greeter(ScriptedServer):
    """Says its name, and that is all."""

    def __init__(self, host: str, name: bytes, port: int = 0) -> None:
        def say(connection: socket.socket) -> None:
            connection.sendall(name)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

        super().__init__(say, host, port)


def greeters(stack: contextlib.ExitStack, count: int) -> list[Server]:
    """Backends on one address each, so that two engines can have the same."""
    return [
        stack.enter_context(Greeter("127.0.0.1", b"%d" % number))
        for number in range(count)
    ]


def test_ring_sends_a_source_to_one_backend_and_two_engines_agree() -> None:
    with contextlib.ExitStack() as stack:
        servers = [server.address for server in greeters(stack, 5)]
        one = stack.enter_context(Proxy(*servers, balance="ring", workers=2))
        # Another order of the same set, as another replica may have learnt it.
        other = stack.enter_context(Proxy(*servers[::-1], balance="ring", workers=1))
        sources = [f"127.0.{n}.{n + 1}" for n in range(40)]
        homes = {source: greet(one, source) for source in sources}
        assert len(set(homes.values())) == 5, "40 sources on fewer than 5 backends"
        for source, home in homes.items():
            assert greet(one, source) == home
            assert greet(other, source) == home


def test_ring_moves_only_the_sources_of_a_dead_backend_and_back() -> None:
    with contextlib.ExitStack() as stack:
        servers = [server.address for server in greeters(stack, 4)]
        proxy = stack.enter_context(Proxy(*servers, balance="ring"))
        sources = [f"127.0.{n}.{n + 1}" for n in range(40)]
        homes = {source: greet(proxy, source) for source in sources}
        proxy.engine.set_health(servers[2], "dead")
        for source, home in homes.items():
            if home == b"2":
                assert greet(proxy, source) != b"2"
            else:
                assert greet(proxy, source) == home
        proxy.engine.set_health(servers[2], "ready")
        assert {source: greet(proxy, source) for source in sources} == homes


def test_ring_by_5_tuple_spreads_one_source_over_all() -> None:
    with contextlib.ExitStack() as stack:
        servers = [server.address for server in greeters(stack, 3)]
        options = {"balance": "ring", "ring_key": "5-tuple"}
        proxy = stack.enter_context(Proxy(*servers, **options))
        assert {greet(proxy, "127.0.0.9") for _ in range(60)} == {b"0", b"1", b"2"}


def test_ring_with_a_refusing_backend_serves_its_sources_elsewhere() -> None:
    with contextlib.ExitStack() as stack:
        servers = [server.address for server in greeters(stack, 3)]
        dead = stack.enter_context(refusing())
        proxy = stack.enter_context(Proxy(dead, *servers, balance="ring"))
        for n in range(40):
            source = f"127.0.{n}.{n + 1}"
            first = greet(proxy, source)
            assert first == greet(proxy, source) != b""
        assert proxy.backend(dead).ejected


def test_backend_that_fails_is_ejected_and_recovers_by_itself() -> None:
    with contextlib.ExitStack() as stack:
        dead = stack.enter_context(refusing())
        good = stack.enter_context(Greeter("127.0.0.1", b"good"))
        options = {"eject_after": 3, "eject_s": scaled(0.5), "balance": "round-robin"}
        proxy = stack.enter_context(Proxy(dead, good.address, **options))
        for _ in range(12):
            assert greet(proxy) == b"good"
        failed = proxy.backend(dead)
        assert failed.ejected
        assert failed.connect_failures == 3, "asked again while ejected"
        assert failed.ejections == 1
        kinds = [note.kind for note in proxy.engine.notices() if note.backend == dead]
        assert kinds == ["connect-failed", "connect-failed", "ejected"]


def test_ejected_backend_that_answers_again_is_back_with_a_notice() -> None:
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(Greeter("127.0.0.1", b"good"))
        options = {"eject_after": 1, "eject_s": scaled(0.3), "balance": "round-robin"}
        with contextlib.ExitStack() as away:
            dead: Address = away.enter_context(refusing())
            proxy = stack.enter_context(Proxy(dead, good.address, **options))
            wait_until(lambda: greet(proxy) == b"good" and proxy.backend(dead).ejected)
        stack.enter_context(Greeter("127.0.0.1", b"back", dead.port))
        wait_until(lambda: greet(proxy) == b"back")
        assert not proxy.backend(dead).ejected
        assert [n.kind for n in proxy.engine.notices()][-1] == "recovered"
        assert [greet(proxy) for _ in range(4)].count(b"back") == 2


def test_ejected_backends_are_tried_when_there_is_nobody_else() -> None:
    with contextlib.ExitStack() as away, contextlib.ExitStack() as stack:
        dead: Address = away.enter_context(refusing())
        proxy = stack.enter_context(Proxy(dead, eject_after=1, eject_s=3600))
        with contextlib.suppress(OSError):
            greet(proxy)
        wait_until(lambda: proxy.backend(dead).ejected)
        away.close()
        stack.enter_context(Greeter("127.0.0.1", b"back", dead.port))
        assert greet(proxy) == b"back"
        assert not proxy.backend(dead).ejected


def test_health_that_turns_ready_ends_an_ejection() -> None:
    with refusing() as dead, Proxy(dead, eject_after=1, eject_s=3600) as proxy:
        with contextlib.suppress(OSError):
            greet(proxy)
        wait_until(lambda: proxy.backend(dead).ejected)
        proxy.engine.set_health(dead, "dead")
        proxy.engine.set_health(dead, "ready")
        assert not proxy.backend(dead).ejected


def test_ejection_can_be_turned_off() -> None:
    with contextlib.ExitStack() as stack:
        dead = stack.enter_context(refusing())
        good = stack.enter_context(Greeter("127.0.0.1", b"good"))
        proxy = stack.enter_context(
            Proxy(dead, good.address, eject_after=0, balance="round-robin")
        )
        for _ in range(20):
            assert greet(proxy) == b"good"
        assert proxy.backend(dead).connect_failures >= 10
        assert proxy.backend(dead).ejections == 0


@pytest.mark.parametrize("balance", BALANCES)
def test_one_of_three_backends_dead_fails_nobody(balance: str) -> None:
    with contextlib.ExitStack() as stack:
        dead = stack.enter_context(refusing())
        good = [server.address for server in greeters(stack, 2)]
        proxy = stack.enter_context(Proxy(dead, *good, balance=balance, workers=2))
        answers: list[bytes] = []
        callers = [
            threading.Thread(
                target=lambda n=n: answers.extend(
                    greet(proxy, f"127.0.0.{n * 25 + k + 2}") for k in range(25)
                )
            )
            for n in range(4)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert len(answers) == 100
        assert set(answers) <= {b"0", b"1"}


def test_table_with_a_changed_policy_takes_effect_at_once() -> None:
    with Crowd(1, 1, balance="round-robin") as crowd:
        assert crowd.come(4) == [2, 2]
        heavy = (crowd.backends[0], dataclasses.replace(crowd.backends[1], weight=0))
        before = crowd.proxy.vip.pool
        assert isinstance(before, Pool)
        pool = dataclasses.replace(before, backends=heavy)
        vip = dataclasses.replace(crowd.proxy.vip, pool=pool)
        crowd.proxy.engine.apply(Table([vip]))
        assert crowd.come(4) == [6, 2]
