"""What tests the core itself runs again on the debug and on the sanitizer build."""

import pytest

from tests.support.marking import mark_folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_folder(__file__, "core", items)
