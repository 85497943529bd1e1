"""A marker that a whole folder has: its conftest.py names it, once for all files."""

from collections.abc import Sequence
from pathlib import Path

import pytest


def mark_folder(conftest: str, name: str, items: Sequence[pytest.Item]) -> None:
    """Give the marker `name` to those of `items` that stand beside or below `conftest`.

    pytest calls the hook of every conftest.py with the items of all folders.
    """
    folder = Path(conftest).parent
    for item in items:
        if item.path.is_relative_to(folder):
            item.add_marker(name)
