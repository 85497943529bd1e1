"""Answers of credential plugins, read as kubectl reads them: one table for both.

Expectations: each row was put to kubectl 1.37.1, and is again wherever it is installed.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from pyproxy.kube.config.execinfo import read_answer
from pyproxy.kube.config.kubeconfig import EXEC_V1, EXEC_V1BETA1
from pyproxy.kube.config.moment import seconds_of
from tests.fakes.apiserver import authority
from tests.fakes.kubectl import Recorder, ask, environment, one_context, write

pytestmark = pytest.mark.live

YAML = f"kind: ExecCredential\napiVersion: {EXEC_V1}\nstatus: "


def said(**changed: Any) -> str:
    """Return an answer with a token `t`, less what is given as ..."""
    whole = {"kind": "ExecCredential", "apiVersion": EXEC_V1, "status": {"token": "t"}}
    return json.dumps({k: v for k, v in {**whole, **changed}.items() if v is not ...})


def expires(moment: object) -> str:
    """Return an answer that ends then."""
    return said(status={"token": "t", "expirationTimestamp": moment})


# What a plugin prints, and the token that is shown then; "" = it is refused.
ANSWERS = {
    "whole": (said(), "t"),
    "no kind": (said(kind=...), "t"),
    "kind empty": (said(kind=""), "t"),
    "kind null": (said(kind=None), "t"),
    "kind other": (said(kind="Foo"), ""),
    "kind in small letters": (said(kind="execcredential"), ""),
    "kind of a list": (said(kind="ExecCredentialList"), ""),
    "no version": (said(apiVersion=...), ""),
    "version empty": (said(apiVersion=""), ""),
    "version other": (said(apiVersion=EXEC_V1BETA1), ""),
    "version without a group": (said(apiVersion="v1"), ""),
    "nothing": ("", ""),
    "null": ("null", ""),
    "status null": (said(status=None), ""),
    "status empty": (said(status={}), ""),
    "status a list": (said(status=[]), ""),
    "token null": (said(status={"token": None}), ""),
    "token a number": (said(status={"token": 5}), ""),
    "name in other letters": (said(status={"Token": "t"}), ""),
    "pair null": (
        said(
            status={"token": "t", "clientCertificateData": None, "clientKeyData": None}
        ),
        "t",
    ),
    "pair empty": (
        said(status={"token": "t", "clientCertificateData": "", "clientKeyData": ""}),
        "t",
    ),
    "half a pair": (said(status={"token": "t", "clientCertificateData": "x"}), ""),
    "spec null": (said(spec=None), "t"),
    "spec unknown": (said(spec={"foo": 1}), "t"),
    "metadata": (said(metadata={"name": "x", "creationTimestamp": None}), "t"),
    "unknown": (said(foo=1), "t"),
    "yaml": (f"{YAML}{{token: t}}", "t"),
    "yaml with a number": (f"{YAML}{{token: 5}}", ""),
    "yaml, twice": (f"{YAML}{{token: t, token: u}}", "u"),
    "json, twice": (said().replace('"t"', '"t", "token": "u"'), "u"),
    "two documents": (f"{said()}\n{said()}", ""),
    "text behind": (f"{said()}\nbye\n", ""),
    "text before": (f"hello\n{said()}", ""),
    "byte order mark": (f"\ufeff{said()}", "t"),
    "blank lines": (f"\n\n  {said()}\n\n", "t"),
}
MOMENTS = {
    None: True,
    "0001-01-01T00:00:00Z": True,
    "0001-01-01T01:00:00+01:00": True,
    "2020-01-01T00:00:00Z": True,
    "2020-01-01T00:00:00.123456789Z": True,
    "2020-01-01T00:00:00,5Z": True,
    "2020-01-01T0:00:00Z": True,
    "2020-01-01T00:00:00+24:00": True,
    "2020-01-01T00:00:00-00:00": True,
    "0000-02-29T00:00:00Z": True,
    "9999-12-31T23:59:59-23:59": True,
    "10000-01-01T00:00:00Z": False,
    "": False,
    "2020-01-01": False,
    "2020-01-01T00:00:00": False,
    "2020-01-01 00:00:00Z": False,
    "2020-01-01T00:00:00z": False,
    "2020-01-01t00:00:00Z": False,
    "20200101T000000Z": False,
    "2020-01-01T00:00:00+0000": False,
    "2020-01-01T00:00:00+05": False,
    "2020-01-01T00:00:00+25:00": False,
    "2020-1-1T00:00:00Z": False,
    "2020-01-01T00:00Z": False,
    "2020-01-01T00:00:00.Z": False,
    "2020-02-30T00:00:00Z": False,
    "2020-01-01T24:00:00Z": False,
    "2016-12-31T23:59:60Z": False,
    "2020-W01-1T00:00:00Z": False,
    " 2020-01-01T00:00:00Z": False,
    "٢٠٢٠-01-01T00:00:00Z": False,
    5: False,
}
ROWS = {
    **ANSWERS,
    **{f"until {k!r}": (expires(k), "t" if v else "") for k, v in MOMENTS.items()},
}


@pytest.mark.parametrize("row", ROWS)
def test_answer_is_read_as_kubectl_reads_it(row: str) -> None:
    text, token = ROWS[row]
    if token:
        found = read_answer(text.encode(), EXEC_V1)
        assert found.identity.authorization == f"Bearer {token}"
        return
    with pytest.raises(ValueError):  # noqa: PT011
        read_answer(text.encode(), EXEC_V1)


@pytest.mark.slow
def test_kubectl_reads_the_table_so(tmp_path: Path) -> None:
    signer = authority(tmp_path / "pki")
    plugin, printed = tmp_path / "plugin", tmp_path / "printed"
    plugin.write_text(f"#!/bin/sh\ncat {printed}\n")
    plugin.chmod(0o755)
    spec = {"apiVersion": EXEC_V1, "command": str(plugin), "interactiveMode": "Never"}
    seen = {}
    with Recorder(signer.issue("server", ["127.0.0.1"])) as server:
        cluster = {
            "server": server.url,
            "certificate-authority": str(signer.certificate),
        }
        file = write(tmp_path / "config", one_context(cluster, {"exec": spec}))
        env = environment(tmp_path, KUBECONFIG=str(file))
        for row, (text, _) in ROWS.items():
            printed.write_text(text)
            code, _, _ = ask("get", "--raw=/", env=env)
            shown = dict(server.headers()).get("Authorization", "") if not code else ""
            seen[row] = shown.removeprefix("Bearer ")
    assert seen == {row: token for row, (_, token) in ROWS.items()}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01T01:00:10+01:00", 10),
        ("1969-12-31T23:30:10-00:30", 10),
        ("1970-01-01T00:00:10.123456789Z", 10.123456789),
        ("0000-12-31T00:00:00Z", -62_135_596_800 - 86_400),
        ("0001-01-01T00:00:01Z", -62_135_596_800 + 1),
        ("0001-01-01T00:00:00Z", None),
        ("0000-12-31T23:00:00-01:00", None),
    ],
)
def test_moment_of_go_is_understood(text: str, seconds: float | None) -> None:
    # time.Time{}.Unix() is -62135596800; IsZero() means that alone.
    found = seconds_of(text)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-6))
