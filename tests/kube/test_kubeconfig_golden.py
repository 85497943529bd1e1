"""Kubeconfigs, read value by value as kubectl 1.37.1 read them.

Expectations: tests/golden, made by kubectl itself (tests/support/kubeconfig_table.py);
1,400 values and whole files that are easy to read otherwise.
"""

import json
import random
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from pyproxy.kube.config.document import parse
from pyproxy.kube.config.kubeconfig import decode
from tests.support.kubeconfig_table import FILES, VALUES, ours, raw_of, rows, theirs

VALUES_BY_FIELD = {
    field: list(some)
    for field, some in groupby(rows(VALUES), lambda row: str(row["field"]))
}
EVERY = [*rows(VALUES), *rows(FILES)]
SAMPLE = 40  # rows that are put to kubectl once more


@pytest.mark.parametrize("field", VALUES_BY_FIELD)
def test_value_is_read_as_kubectl_reads_it(field: str) -> None:
    wrong = {
        row["text"]: (row["read"], read)
        for row in VALUES_BY_FIELD[field]
        if not same(read := ours(raw_of(row)), row["read"])
    }
    assert wrong == {}


@pytest.mark.parametrize("row", [*rows(FILES)], ids=lambda row: row["name"])
def test_file_is_read_as_kubectl_reads_it(row: dict[str, Any]) -> None:
    assert same(ours(raw_of(row)), row["read"])


@pytest.mark.live
@pytest.mark.slow
def test_table_is_what_kubectl_says(tmp_path: Path) -> None:
    for row in random.Random(7).sample(EVERY, SAMPLE):
        assert theirs(raw_of(row), tmp_path) == row["read"], row


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(rb'{"current-context": "a\/b"}', id="slash escaped"),
        pytest.param(rb'{"current-context": "\ud83d\ude00"}', id="surrogates"),
        pytest.param(b'{"current-context": "a\x7fb"}', id="DEL"),
    ],
)
def test_json_that_is_no_yaml_is_read(raw: bytes) -> None:
    # kubectl refuses it: all is YAML to it.
    assert decode(raw, "/").current_context == json.loads(raw)["current-context"]


def test_names_of_names_cannot_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    with pytest.raises(ValueError, match="excessive aliasing"):
        parse("\n".join(lines).encode())


def same(one: Any, other: Any) -> bool:
    """Whether JSON is equal; true is not 1, but 1.0 is."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
