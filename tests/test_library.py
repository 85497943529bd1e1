"""`fastpath` without pyproxy, as README shows it (contract: "As a library")."""

import contextlib
import io
import re
import socket
import typing
from pathlib import Path

import pytest

import fastpath
from fastpath import Backend, Engine, Pool, Table, Vip
from tests.support.servers import EchoServer, free_port, receive_all

pytestmark = [pytest.mark.core, pytest.mark.live]

README = Path(__file__).parents[1] / "README.md"


def test_example_of_the_readme_runs_and_prints_no_relays() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert "7000" in example
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(example.replace("7000", str(free_port())), {})
    assert printed.getvalue() == "0\n"


def test_relay_carries_bytes_both_ways_and_both_ends() -> None:
    message = b"the quick brown fox" * 1000
    with EchoServer() as server, Engine(workers=1) as engine:
        vip = Vip("127.0.0.1", 0, "tcp", Pool((Backend(*server.address),)))
        engine.apply(Table([vip]))
        with socket.create_connection(engine.address(vip), timeout=10) as client:
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == message


def test_every_public_name_is_there_and_documented() -> None:
    for name in fastpath.__all__:
        assert getattr(fastpath, name).__doc__, name


def test_package_says_that_it_is_typed() -> None:
    assert (Path(fastpath.__file__).parent / "py.typed").is_file()
    assert typing.get_type_hints(Vip)["pool"] == Pool | str
