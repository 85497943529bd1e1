"""An engine is at work in most of these."""

import pytest

from tests.support.marking import mark_folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_folder(__file__, "live", items)
