"""Statuses to the byte. Source: tests/golden of kube-apiserver 1.36."""

import pytest

from pyproxy.http.status import failure, form_of, status

MISSING = {"name": "none", "kind": "services"}


def test_status_is_json_as_go_writes_it() -> None:
    reply = status(404, "NotFound", 'services "none" not found', MISSING)
    assert reply.body == (
        b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
        b'"message":"services \\"none\\" not found","reason":"NotFound",'
        b'"details":{"name":"none","kind":"services"},"code":404}\n'
    )
    assert dict(reply.headers) == {
        "Content-Type": "application/json",
        "Cache-Control": "no-cache, private",
    }


def test_status_is_yaml_where_that_is_asked_for() -> None:
    message = 'services "none" not found'
    reply = status(404, "NotFound", message, MISSING, form="yaml")
    assert reply.body == (
        b"apiVersion: v1\ncode: 404\ndetails:\n  kind: services\n  name: none\n"
        b'kind: Status\nmessage: services "none" not found\nmetadata: {}\n'
        b"reason: NotFound\nstatus: Failure\n"
    )
    assert ("Content-Type", "application/yaml") in reply.headers


def test_status_that_is_not_accepted_is_indented_json() -> None:
    reply = status(404, "NotFound", "gone", form="indented")
    assert reply.body.startswith(b'{\n  "kind": "Status",\n')
    assert reply.body.endswith(b"\n}")


def test_no_tag_begins_in_a_message() -> None:
    body = status(400, "BadRequest", "<script>&\u2028").body
    assert b'"message":"\\u003cscript\\u003e\\u0026\\u2028"' in body


def test_refusal_is_not_sniffed() -> None:
    reply = status(403, "Forbidden", "no", nosniff=True)
    assert ("X-Content-Type-Options", "nosniff") in reply.headers


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("application/yaml", "yaml"),
        ("application/json;q=0.5, application/yaml", "yaml"),
        ("application/yaml;q=0, */*", "json"),
        ("application/vnd.kubernetes.protobuf", "json"),
        ("text/html", "indented"),
        ("text/html, */*;q=0.1", "json"),
        ("text/html;q=x", "indented"),
        (";;,", "indented"),
    ],
)
def test_form_is_what_is_accepted(accept: str, form: str) -> None:
    assert form_of(accept) == form


def test_status_for_a_failure_has_a_place_for_its_reason() -> None:
    made = failure(503, "ServiceUnavailable", "error trying to reach service: ")
    assert (made.before + "why" + made.after).encode() == (
        status(503, "ServiceUnavailable", "error trying to reach service: why").body
    )
