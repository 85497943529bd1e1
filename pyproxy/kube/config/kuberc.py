"""Which credential plugins a user lets run: the one part of kuberc that concerns us.

`credentialPluginPolicy` and `credentialPluginAllowlist` in ~/.kube/kuberc, or in the
file that $KUBERC names ("off" = none). Rules and words are client-go's (exec.go).
"""

import os
import shutil
from collections.abc import Mapping

import msgspec

from pyproxy.kube.config.document import read_as
from pyproxy.kube.config.errors import CredentialsError
from pyproxy.kube.config.files import read

ALLOW, DENY, LISTED = "AllowAll", "DenyAll", "Allowlist"
VERSIONS = ("kubectl.config.k8s.io/v1beta1", "kubectl.config.k8s.io/v1alpha1")


class _Entry(msgspec.Struct, frozen=True):
    command: str = ""
    name: str = ""  # what it was called first


class _Preference(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    credential_plugin_policy: str = ""
    credential_plugin_allowlist: tuple[_Entry, ...] | None = None


class PluginPolicy(msgspec.Struct, frozen=True):
    """Which plugins may run."""

    kind: str = ALLOW
    commands: tuple[str, ...] = ()

    def check(self, command: str, program: str, path: str) -> None:
        """Raise CredentialsError unless `command`, found at `program`, may run."""
        if self.kind == ALLOW:
            return
        if self.kind == DENY:
            why = f'plugin "{command}" not allowed: policy set to "{DENY}"'
            raise CredentialsError(why)
        if any(shutil.which(each, path=path) == program for each in self.commands):
            return
        raise CredentialsError(
            f'plugin path "{program}" is not permitted by the credential plugin'
            " allowlist"
        )


def plugin_policy(env: Mapping[str, str]) -> PluginPolicy:
    """Read it; without a file, every plugin may run. Raise ValueError.

    kubectl goes on without a policy where its own file cannot be read. We do not: what
    forbids something is not forgotten because of a typing error.
    """
    said = env.get("KUBERC", "")
    if said == "off":
        return PluginPolicy()
    file = said or os.path.join(env.get("HOME", ""), ".kube", "kuberc")
    if not said and not os.path.exists(file):
        return PluginPolicy()
    try:
        preference = read_as(read(file), _Preference)
    except ValueError as error:
        raise ValueError(f"kuberc: {file}: {error}") from None
    if (preference.kind, preference.api_version in VERSIONS) != ("Preference", True):
        kind, version = preference.kind, preference.api_version
        raise ValueError(
            f'kuberc: {file}: no kind "{kind}" is registered for version "{version}"'
        )
    return _policy(preference)


def _policy(preference: _Preference) -> PluginPolicy:
    kind = preference.credential_plugin_policy
    entries = preference.credential_plugin_allowlist
    if kind not in ("", ALLOW, DENY, LISTED):
        raise ValueError(f'unknown plugin policy: "{kind}"')
    if kind != LISTED:
        if entries is not None:
            raise ValueError(
                "misconfigured credential plugin allowlist: plugin policy is"
                f' "{kind}" but allowlist is non-nil'
            )
        return PluginPolicy(kind or ALLOW)
    set_to = f'credential plugin policy set to "{LISTED}", but allowlist is'
    if entries is None:
        raise ValueError(f"{set_to} unspecified")
    if not entries:
        raise ValueError(f'{set_to} empty; use "{DENY}" policy instead')
    commands = tuple(each.command or each.name for each in entries)
    for number, command in enumerate(commands, 1):
        if not command:
            raise ValueError(
                f"misconfigured credential plugin allowlist: empty allowlist entry"
                f" #{number}"
            )
        if (clean := os.path.normpath(command)) != command:
            raise ValueError(f'non-normalized file path: "{command}" vs "{clean}"')
    return PluginPolicy(LISTED, commands)
