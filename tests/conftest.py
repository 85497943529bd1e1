"""Rules every test lives under: nothing leaks, nothing hangs, no skip is silent."""

import asyncio
import inspect
import logging
import os
import resource
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import uvloop

from pyproxy.sandbox.certificates import Authority
from tests.fakes.apiserver import authority
from tests.fakes.office import Office
from tests.support import netns as namespaces
from tests.support import servers
from tests.support.leaks import Holdings, leaked_since, lost_since
from tests.support.tls_tools import Certificates
from tests.support.waiting import PAUSE_S, scaled

# What a shell sets for its own comfort must not reach the programs under test: without
# buffers, Python forgives a broken pipe that it otherwise ends with 120 for.
os.environ.pop("PYTHONUNBUFFERED", None)
# Nor what a shell does to those that it starts in the background, and their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Both ends of a thousand connections are ours, and 1024 descriptors the usual limit.
CROWD = 8192
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if soft < CROWD:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, CROWD), hard))

# A deadline per example measures the machine. `make fuzz` takes the second one.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=20_000)
hypothesis.settings.load_profile("default")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Scale every timeout; skip what cannot run here."""
    default_s = float(config.getini("timeout"))
    for item in items:
        marker = item.get_closest_marker("timeout")
        timeout_s = float(marker.args[0]) if marker and marker.args else default_s
        item.add_marker(pytest.mark.timeout(scaled(timeout_s)), append=False)
        if item.get_closest_marker("ipv6") and not servers.has_ipv6():
            item.add_marker(pytest.mark.skip(reason="no IPv6 on loopback here"))
        if item.get_closest_marker("crowd") and hard < CROWD:
            why = f"needs {CROWD} descriptors (ulimit -Hn)"
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(autouse=True)
def levels_of_loggers_stay() -> Iterator[None]:
    """A command that runs in this process sets levels; the next test has its own."""
    names = ("", "pyproxy", "pyproxy.access", "aiohttp.access", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def uvloop_was_used_before() -> None:
    """Its first loop opens a pipe for signals that stays for the process."""
    uvloop.run(asyncio.sleep(0))


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a descriptor, thread or child, or closes a stranger's."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        # First, so that the event loop, which outlives us, is in the count.
        request.getfixturevalue("no_task_is_left")
    before = Holdings.now()
    yield
    leaked, lost = leaked_since(before), lost_since(before)
    assert not leaked, f"left behind: {', '.join(leaked)}"
    assert not lost, f"closed, and not its own: {', '.join(lost)}"


@pytest.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """Fail an asyncio test after which a task still runs.

    Waits a moment for tasks and for descriptors: a closed transport lets go of its
    socket in a later turn of the loop, and this is the last one that turns it.
    """
    tasks, held = asyncio.all_tasks(), Holdings.now()
    yield
    tasks |= {task for task in [asyncio.current_task()] if task}
    deadline = asyncio.get_running_loop().time() + scaled(1.0)
    while (left := asyncio.all_tasks() - tasks) or held.new_in(Holdings.now()):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(PAUSE_S)
    assert not left, f"tasks still running: {left}"


@pytest.fixture
def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens."""
    return servers.free_port()


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs everybody's certificate."""
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, a server's certificate, and contexts around them."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """An upstream that writes down what it is asked, and proxies in front of it."""
    with Office.opened(tmp_path) as opened:
        yield opened


@pytest.fixture
def netns() -> Iterator[namespaces.NetNs]:
    """A network namespace of the test's own, loopback up; needs root."""
    obstacle = namespaces.obstacle()
    if obstacle:
        pytest.skip(obstacle)
    namespace = namespaces.NetNs()
    yield namespace
    namespace.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped and why; also for `make test`, which sums up passes."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("not run, and why")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"{count:4} {reason}")
    if into := os.environ.get("PYPROXY_SKIPS"):
        with open(into, "a") as file:
            file.writelines(f"{count:4} {why}\n" for why, count in reasons.items())
