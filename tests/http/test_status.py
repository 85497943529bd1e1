"""Statuses to the byte. Source: tests/golden of kube-apiserver 1.36."""

import pytest

from pyproxy.http.status import failure, form_of, is_shown, status

MISSING = {"name": "none", "kind": "services"}
WEB = {"name": "web", "kind": "services"}


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


def test_status_is_protobuf_where_that_is_asked_for() -> None:
    # Recorded from kube-apiserver 1.36.2.
    reply = status(404, "NotFound", 'services "web" not found', WEB, form="protobuf")
    assert reply.body == (
        b"k8s\0\n\x0c\n\x02v1\x12\x06Status\x12O\n\x06\n\0\x12\0\x1a\0\x12\x07Failure"
        b'\x1a\x18services "web" not found"\x08NotFound'
        b'*\x15\n\x03web\x12\0\x1a\x08services(\x002\x000\x94\x03\x1a\0"\0'
    )
    assert ("Content-Type", "application/vnd.kubernetes.protobuf") in reply.headers
    assert status(401, "Unauthorized", "Unauthorized", form="protobuf").body == (
        b"k8s\0\n\x0c\n\x02v1\x12\x06Status\x120\n\x06\n\0\x12\0\x1a\0\x12\x07Failure"
        b'\x1a\x0cUnauthorized"\x0cUnauthorized0\x91\x03\x1a\0"\0'
    )


def test_long_message_in_yaml_is_folded_where_an_apiserver_folds_it() -> None:
    message = (
        'services "https:web:80" is forbidden: User "alice" cannot get resource'
        ' "services/proxy" in API group "" in the namespace "default"'
    )
    body = status(403, "Forbidden", message, form="yaml").body.decode()
    assert 'resource "services/proxy"\n  in API group "" in' in body


@pytest.mark.parametrize("agent", ["curl/8.1", "Mozilla/5.0 (X11)", "Wget/1"])
def test_programs_that_show_json_to_people_get_it_indented(agent: str) -> None:
    assert is_shown(agent)


@pytest.mark.parametrize("agent", ["", "kubectl/v1", "Go-http-client/1.1", "x curl/8"])
def test_other_programs_do_not(agent: str) -> None:
    assert not is_shown(agent)


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
        ("application/vnd.kubernetes.protobuf", "protobuf"),
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
