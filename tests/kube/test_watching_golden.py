"""Lists, watches and refusals of a real kube-apiserver, read line by line."""

import json
from typing import Any

import msgspec
import pytest

from pyproxy.kube.errors import KubeError, TooLargeVersionError
from pyproxy.kube.objects import ListMeta, Service, Status
from pyproxy.kube.resource import SERVICES, Change
from pyproxy.kube.splitting import ListReader
from pyproxy.kube.watching import ALL_THERE, read_line
from pyproxy.kube.wire import error_of
from tests.support import kube_golden as golden
from tests.support.kube_server import dumps

RECORDS = golden.records("list-and-watch")


def numbered(word: str) -> list[Any]:
    """Return the responses that have a watch or a body, by line."""
    return [
        pytest.param(each["response"], id=str(number))
        for number, each in enumerate(RECORDS, 1)
        if each["response"].get(word) and "configmaps" not in each["request"]["path"]
    ]


@pytest.mark.parametrize("response", numbered("body"))
def test_golden_lists_are_read(response: Any) -> None:
    body = response["body"]
    if body["kind"] != "ServiceList":
        return
    reader = ListReader(SERVICES)
    found = [*reader.feed(dumps(body)), *reader.finish()]
    meta = found[-1]
    assert isinstance(meta, ListMeta)
    assert meta.resource_version == body["metadata"]["resourceVersion"]
    assert meta.continue_ == body["metadata"].get("continue", "")
    assert meta.remaining_item_count == body["metadata"].get("remainingItemCount")
    names = [item.metadata.name for item in found if isinstance(item, Service)]
    assert names == [item["metadata"]["name"] for item in body["items"]]


@pytest.mark.parametrize("response", numbered("watch"))
def test_golden_watches_are_read(response: Any) -> None:
    for each in response["watch"]:
        if not isinstance(each, dict) or each.get("kind") == "Status":
            continue  # the end, or a refusal: those come with their own status
        if each["type"] == "ERROR":
            with pytest.raises(KubeError) as caught:
                read_line(SERVICES, dumps(each), "watch")
            assert caught.value.is_expired
            continue
        change = read_line(SERVICES, dumps(each), "watch")
        assert isinstance(change, Change)
        assert change.type == each["type"]
        metadata = each["object"]["metadata"]
        assert change.object.metadata.resource_version == metadata["resourceVersion"]


def test_golden_streaming_list_has_its_end() -> None:
    ends = [
        each
        for record in RECORDS
        for each in record["response"].get("watch") or ()
        if isinstance(each, dict) and each.get("type") == "BOOKMARK"
    ]
    read = [read_line(SERVICES, dumps(each), "watch") for each in ends]
    marks = [
        each.object.metadata.annotations.get(ALL_THERE)
        for each in read
        if isinstance(each, Change)
    ]
    assert "true" in marks
    assert None in marks


def test_golden_refusals_are_what_they_are() -> None:
    found = [
        error_of(msgspec.convert(body, Status, strict=False), "list")
        for each in RECORDS
        if isinstance(body := each["response"].get("body"), dict)
        and body["kind"] == "Status"
    ]
    (too_large,) = (each for each in found if isinstance(each, TooLargeVersionError))
    assert (too_large.status, too_large.retry_after_s) == (504, 1)
    assert {each.status for each in found} >= {400, 410, 504}
    assert [each.reason for each in found if each.is_expired] == ["Expired"]


def test_bookmark_of_a_kind_is_no_misfit() -> None:
    # An empty Service says `"spec":{},"status":{"loadBalancer":{}}` there.
    made = {"kind": "Service", "spec": {}, "status": {"loadBalancer": {}}}
    text = json.dumps({"type": "BOOKMARK", "object": {**made, "metadata": {}}})
    assert isinstance(read_line(SERVICES, text.encode(), "watch"), Change)
