"""Events of an audit log: what they say of a request, and what never.

Source of what is expected: the log of kube-apiserver 1.36; tests/system compares both.
"""

import uuid
from typing import Any

import pytest
from msgspec.json import encode

from pyproxy.dataplane import Record
from pyproxy.http import audit
from pyproxy.http.audit import Ids, Target, Trail, Trails, event_of
from pyproxy.http.identity import User

POD = Target("pods", "n", "https:web:443")
ALICE = User("alice", "u-1", ("devs",), (("k", ("v",)),))


def record(**more: Any) -> Record:
    """A record of a GET of a Pod that was answered 200."""
    plain = Record(
        vip=("tcp", "127.0.0.1", 8443),
        source="10.1.1.1",
        method="GET",
        path="/api/v1/namespaces/n/pods/https:web:443/proxy/x",
        status=200,
        bytes_up=0,
        bytes_down=5,
        took_us=1500,
        began_us=2_000_000,
        id=5,
        query="?a=1",
        headers=("curl/8", None, None, None),
    )
    return plain._replace(**more)


EVENT = """
    kind=Event apiVersion=audit.k8s.io/v1 level=Metadata auditID=id-1
    stage=ResponseComplete
    requestURI=/api/v1/namespaces/n/pods/https:web:443/proxy/x?a=1 verb=get
    user={"username":"alice","uid":"u-1","groups":["devs"],"extra":{"k":["v"]}}
    impersonatedUser={"username":"jane"} sourceIPs=["10.1.1.1"] userAgent=curl/8
    objectRef={"resource":"pods","namespace":"n","name":"https:web:443",\
"apiVersion":"v1","subresource":"proxy"}
    responseStatus={"metadata":{},"code":200}
    requestReceivedTimestamp=1970-01-01T00:00:12.000000Z
    stageTimestamp=1970-01-01T00:00:12.001500Z
    annotations={"authorization.k8s.io/decision":"allow",\
"authorization.k8s.io/reason":"RBAC"}
"""


def test_event_has_the_fields_of_kube_apiserver_in_their_order() -> None:
    trail = Trail(POD, user=ALICE, decision="allow", reason="RBAC", other=User("jane"))
    event = event_of(record(headers=("curl/8", "id-1", None, None)), trail, Ids(), 10.0)
    said = [
        f"{name}={value if isinstance(value, str) else encode(value).decode()}"
        for name, value in event.items()
    ]
    assert said == EVENT.split()


def test_request_that_was_not_decided_has_its_object_all_the_same() -> None:
    event = event_of(record(status=503), None, Ids(), 0.0)
    assert event["user"] == {}
    assert event["objectRef"]["name"] == "https:web:443"  # type: ignore[index]
    assert "annotations" not in event


def test_what_is_not_known_any_more_is_said() -> None:
    event = event_of(record(label=7, is_cut=True), None, Ids(), 0.0)
    assert event["annotations"] == {
        "pyproxy/request-uri": "cut",
        "pyproxy/user": "forgotten",
    }


@pytest.mark.parametrize(
    ("forwarded", "real", "wanted"),
    [
        (None, None, ["10.1.1.1"]),
        ("1.2.3.4, 5.6.7.8", "9.9.9.9", ["1.2.3.4", "5.6.7.8", "9.9.9.9", "10.1.1.1"]),
        ("1.2.3.4, 10.1.1.1", None, ["1.2.3.4", "10.1.1.1"]),
        ("10.1.1.1, 1.2.3.4", "10.1.1.1", ["10.1.1.1", "1.2.3.4", "10.1.1.1"]),
        ("<x>, 1.2.3, ::1,,", "unknown", ["::1", "10.1.1.1"]),
        ("::ffff:1.2.3.4", None, ["1.2.3.4", "10.1.1.1"]),
    ],
)
def test_sources_are_those_that_are_addresses_and_the_peer(
    forwarded: str | None, real: str | None, wanted: list[str]
) -> None:
    said = record(headers=(None, None, forwarded, real))
    assert event_of(said, None, Ids(), 0.0)["sourceIPs"] == wanted


@pytest.mark.parametrize("said", ["", "a b", "x" * 65, "\xe9", "a\tb", None])
def test_id_of_a_client_that_is_not_sane_is_replaced(said: str | None) -> None:
    ids = Ids()
    one, other = record(id=1), record(id=(3 << 48) | 2)
    made = uuid.UUID(ids.id_of(one, said))
    assert made.version == 8
    assert made.variant == uuid.RFC_4122
    assert ids.id_of(one, said) == str(made)
    assert ids.id_of(other, said) != str(made)
    assert Ids().id_of(one, said) != str(made)


def test_agent_is_text_whatever_its_bytes_are() -> None:
    said = record(headers=("\xc3\xa9\xff", None, None, None))
    assert event_of(said, None, Ids(), 0.0)["userAgent"] == "é\ufffd"


def test_trails_are_bounded_and_outlive_the_next_generation() -> None:
    forgotten = []
    trails = Trails(lambda: forgotten.append(1), most=2)
    numbers = [trails.number(Trail(user=User(name))) for name in "abab"]
    assert numbers == [1, 2, 1, 2]
    assert trails.number(Trail(user=User("c"))) == 3
    assert len(forgotten) == 1
    assert trails.get(1) == Trail(user=User("a"))
    assert trails.number(Trail(user=User("a"))) == 4  # what is remembered was void
    trails.number(Trail(user=User("d")))
    assert len(forgotten) == 2
    assert trails.get(1) is None
    assert trails.get(3) == Trail(user=User("c"))
    assert trails.get(0) is None


def test_decisions_that_are_not_remembered_take_no_room_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit, "MOST_PASSING", 3)
    forgotten: list[int] = []
    trails = Trails(lambda: forgotten.append(1), most=2)
    kept = trails.number(Trail(user=User("a")))
    passing = [trails.pass_by(Trail(user=User(name))) for name in "bcdef"]
    assert forgotten == []
    assert trails.get(kept) == Trail(user=User("a"))
    assert [trails.get(number) is not None for number in passing] == [False] * 2 + [
        True
    ] * 3
