"""A cluster's network, made once for each file of tests."""

from collections.abc import Iterator

import pytest

from tests.support import netns
from tests.support.lab import Lab
from tests.support.lab_proxy import Proxy
from tests.support.marking import mark_folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for mark in ("netns", "root"):
        mark_folder(__file__, mark, items)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes of two pods each, and somebody outside. Every pod runs netexec."""
    if why := netns.obstacle() or netns.obstacle_to_loss():
        pytest.skip(why)
    with Lab(nodes=2, pods=2, outside=1) as made:
        for node in made.nodes:
            for pod in node.pods:
                made.serve(pod)
        client = made.outside[0]
        made.route(client, made.nodes[0], "10.96.0.0/16", "fd96::/64")
        made.route(client, made.nodes[0], "203.0.113.0/24", "2001:db8::/64")
        yield made


@pytest.fixture
def proxy(lab: Lab) -> Iterator[Proxy]:
    """The core and a capture on the first node, with its pods and nodes near."""
    near = ["10.244.0.0/16", "fd44::/16", *lab.nodes[0].hosts.values()]
    with Proxy(lab.nodes[0], near) as running:
        yield running
