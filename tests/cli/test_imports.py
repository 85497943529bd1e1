"""What a command brings into memory: a TAB must not wait for a web server.

Counted, not timed: `--help` that imported every mode took 0.5 s of CPU, and takes 0.06.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from pyproxy import __version__
from pyproxy.cli import apiserver_lb
from pyproxy.config.structs import CheckType
from pyproxy.model import Balance, OnAllDown
from tests.support.waiting import scaled

pytestmark = pytest.mark.live

# What a mode needs and a question about it does not.
HEAVY = {
    "aiohttp",
    "asyncio",
    "cryptography",
    "fastpath",
    "kubernetes",
    "prometheus_client",
    "python_socks",
    "ssl",
    "uvloop",
}
RUN = """
import json, sys
sys.argv[0] = "pyproxy"
from pyproxy.cli import main
try:
    main()
except SystemExit as end:
    code = end.code
sys.stderr.write(json.dumps([code, sorted(sys.modules)]))
"""
IMPORT = """
import json, sys
import {}
sys.stderr.write(json.dumps([0, sorted(sys.modules)]))
"""


def run(
    program: str, *arguments: str, environment: Mapping[str, str] = os.environ
) -> tuple[str, set[str]]:
    """What a Python program printed, and what it had imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=dict(environment),
        timeout=scaled(30),
        check=True,
    )
    code, modules = json.loads(done.stderr)
    assert not code
    return done.stdout, set(modules)


def tab(line: str, **more: str) -> tuple[list[str], set[str]]:
    """What bash is offered behind `line`: lines of kind and value."""
    environment = {
        **os.environ,
        **more,
        "_PYPROXY_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    shown, modules = run(RUN, environment=environment)
    return [line for line in shown.splitlines() if line], modules


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["version"],
        ["completion", "fish"],
        ["apiserver-lb", "--help"],
        ["kubectl-proxy", "--help"],
        ["check", "--help"],
        ["top", "--help"],
        ["sandbox", "--help"],
    ],
    ids=" ".join,
)
def test_question_about_the_program_imports_no_mode(words: list[str]) -> None:
    shown, modules = run(RUN, *words)
    assert shown
    assert modules & HEAVY == set()
    assert modules & {"yaml", "msgspec", "pyproxy.config"} == set()


def test_words_of_flags_are_those_of_the_configuration() -> None:
    # They stand twice, so that a TAB need not import the configuration.
    assert get_args(Balance) == apiserver_lb.BALANCE
    assert get_args(OnAllDown) == apiserver_lb.ON_ALL_DOWN
    assert get_args(CheckType) == apiserver_lb.CHECK_TYPE


def test_version_is_a_flag_too() -> None:
    assert run(RUN, "--version")[0] == f"pyproxy {__version__}\n"


def test_balancer_accepts_before_its_admin_address_is_imported() -> None:
    # aiohttp and prometheus_client are half of the CPU until the first accept.
    names = "pyproxy.cli.apiserver_lb, pyproxy.modes.apiserver_lb, pyproxy.runtime"
    _, modules = run(IMPORT.format(names))
    others = HEAVY - {"asyncio", "fastpath", "ssl", "uvloop"}
    assert modules & others == set()


KUBECONFIG = """
apiVersion: v1
kind: Config
contexts:
- {name: work, context: {cluster: big, user: me}}
- {name: home, context: {cluster: small, user: me}}
clusters:
- {name: big, cluster: {server: "https://big"}}
- {name: small, cluster: {server: "https://small"}}
users: [{name: me, user: {token: x}}]
"""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    """A file with two contexts."""
    file = tmp_path / "config"
    file.write_text(KUBECONFIG)
    return str(file)


COMPLETIONS = [
    ("pyproxy ku", ["plain,kube-proxy", "plain,kubectl-proxy"]),
    ("pyproxy --v", ["plain,--version"]),
    ("pyproxy apiserver-lb --check-ins", ["plain,--check-insecure"]),
    ("pyproxy apiserver-lb --balance le", ["plain,least"]),
    ("pyproxy apiserver-lb --check-ca /et", ["file,/et"]),
    ("pyproxy apiserver-lb --config /et", ["file,/et"]),
    ("pyproxy apiserver-lb --state-file /v", ["file,/v"]),
    ("pyproxy check /et", ["file,/et"]),
    ("pyproxy kubectl-proxy --www /v", ["dir,/v"]),
    ("pyproxy kubectl-proxy -w /v", ["dir,/v"]),
    ("pyproxy kubectl-proxy --kubeconfig ~/", ["file,~/"]),
    ("pyproxy kubectl-proxy --context ", ["plain,work", "plain,home"]),
    ("pyproxy kubectl-proxy --context w", ["plain,work"]),
    ("pyproxy kubectl-proxy --contexts h", ["plain,home"]),
    ("pyproxy kubectl-proxy --cluster s", ["plain,small"]),
    ("pyproxy kubectl-proxy --user ", ["plain,me"]),
]


@pytest.mark.parametrize(
    ("line", "offered"), COMPLETIONS, ids=[row[0] for row in COMPLETIONS]
)
def test_tab_offers_what_fits_and_imports_no_mode(
    kubeconfig: str, line: str, offered: list[str]
) -> None:
    shown, modules = tab(line, KUBECONFIG=kubeconfig)
    assert shown == offered
    assert modules & HEAVY == set()


def test_tab_looks_into_the_kubeconfig_of_the_flag(kubeconfig: str) -> None:
    line = f"pyproxy kubectl-proxy --kubeconfig {kubeconfig} --context h"
    assert tab(line, KUBECONFIG="/nowhere")[0] == ["plain,home"]


@pytest.mark.parametrize("content", ["", "{", "kind: Pod", "\x00"])
def test_tab_with_a_broken_kubeconfig_offers_nothing(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    assert tab("pyproxy kubectl-proxy --context ", KUBECONFIG=str(file))[0] == []
