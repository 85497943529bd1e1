"""A user's word on which credential plugins may run.

Expectations: client-go's TestPluginPolicy; the real kubectl, which reads the same file.
"""

import os
from pathlib import Path

import pytest

from pyproxy.kube.config import AccessError, ClientFlags, CredentialsError, load
from pyproxy.kube.config.kuberc import PluginPolicy, plugin_policy
from tests.fakes.kubectl import (
    Document,
    KubectlProxy,
    ask,
    environment,
    one_context,
    write,
)

pytestmark = pytest.mark.live

V1BETA1 = "kubectl.config.k8s.io/v1beta1"


def prepared(directory: Path, version: str = V1BETA1, **said: object) -> dict[str, str]:
    """Write a kuberc, a plugin `login` in PATH that fails, and a user of it."""
    (directory / "bin").mkdir()
    script = directory / "bin" / "login"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    names = {"policy": "credentialPluginPolicy", "listed": "credentialPluginAllowlist"}
    kuberc = {names[name]: value for name, value in said.items()}
    write(
        directory / ".kube" / "kuberc",
        {"kind": "Preference", "apiVersion": version, **kuberc},
    )
    spec = {
        "command": "login",
        "apiVersion": "client.authentication.k8s.io/v1",
        "interactiveMode": "Never",
    }
    user: Document = {"exec": spec}
    write(
        directory / ".kube" / "config",
        one_context({"server": "https://127.0.0.1:1"}, user),
    )
    env = environment(directory)
    env["PATH"] = f"{directory}/bin{os.pathsep}{env['PATH']}"
    return env


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({}, id="nothing said"),
        pytest.param({"policy": "AllowAll"}, id="all"),
        pytest.param({"policy": "DenyAll"}, id="none"),
        pytest.param(
            {"policy": "Allowlist", "listed": [{"command": "login"}]}, id="by name"
        ),
        pytest.param(
            {"policy": "Allowlist", "listed": [{"name": "login"}]}, id="by old name"
        ),
        pytest.param(
            {"policy": "Allowlist", "listed": [{"command": "HERE/bin/login"}]},
            id="by path",
        ),
        pytest.param(
            {"policy": "Allowlist", "listed": [{"command": "other"}]}, id="another"
        ),
        pytest.param(
            {"policy": "Allowlist", "listed": [{"command": "/else/login"}]},
            id="another path",
        ),
    ],
)
async def test_plugin_runs_or_not_as_with_kubectl(
    tmp_path: Path, said: Document
) -> None:
    for entry in said.get("listed", ()):
        entry.update({n: v.replace("HERE", str(tmp_path)) for n, v in entry.items()})
    env = prepared(tmp_path, **said)
    with KubectlProxy(env=env) as kubectl:
        status, body = kubectl.get()
    assert status == 500
    with pytest.raises(CredentialsError) as caught:
        await load(ClientFlags(), env).credentials.headers()
    assert str(caught.value) == body.rstrip("\n")


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"policy": "Some"}, id="unknown"),
        pytest.param({"policy": "DenyAll", "listed": []}, id="list without need"),
        pytest.param({"policy": "Allowlist"}, id="no list"),
        pytest.param({"policy": "Allowlist", "listed": []}, id="empty list"),
        pytest.param({"policy": "Allowlist", "listed": [{}]}, id="empty entry"),
        pytest.param(
            {"policy": "Allowlist", "listed": [{"command": "/a/../b"}]}, id="odd path"
        ),
    ],
)
def test_muddled_policy_is_refused_as_by_kubectl(
    tmp_path: Path, said: Document
) -> None:
    env = prepared(tmp_path, **said)
    code, _, theirs = ask("proxy", "--port=0", env=env)
    with pytest.raises(AccessError) as caught:
        load(ClientFlags(), env)
    why = theirs.removeprefix("error occurred while applying preferences ").rstrip()
    assert (str(caught.value), caught.value.exit_code) == (why, code)


def test_kuberc_can_be_named_and_switched_off(tmp_path: Path) -> None:
    env = prepared(tmp_path, policy="DenyAll")
    assert plugin_policy(env).kind == "DenyAll"
    assert plugin_policy({**env, "KUBERC": "off"}) == PluginPolicy()
    other = write(tmp_path / "other", {"kind": "Preference", "apiVersion": V1BETA1})
    assert plugin_policy({**env, "KUBERC": str(other)}) == PluginPolicy()
    assert plugin_policy({"HOME": "/gone"}) == PluginPolicy()
    with pytest.raises(ValueError, match="open /gone: no such file"):
        plugin_policy({**env, "KUBERC": "/gone"})


@pytest.mark.parametrize(
    "text", ["- rubbish", "kind: [", "kind: Other", "credentialPluginPolicy: [DenyAll]"]
)
def test_kuberc_that_cannot_be_read_forbids(tmp_path: Path, text: str) -> None:
    # kubectl warns and lets every plugin run.
    env = prepared(tmp_path)
    (tmp_path / ".kube" / "kuberc").write_text(text)
    with pytest.raises(AccessError, match="kuberc: "):
        load(ClientFlags(), env)


def test_kuberc_does_not_concern_users_without_plugin(tmp_path: Path) -> None:
    env = prepared(tmp_path, policy="Some")
    write(
        tmp_path / ".kube" / "config",
        one_context({"server": "https://127.0.0.1:1"}, {"token": "t"}),
    )
    assert load(ClientFlags(), env).context == "x"
