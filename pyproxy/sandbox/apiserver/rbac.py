"""Who may do what: role-based access control over the objects in the store."""

from collections.abc import Iterator
from dataclasses import dataclass

from pyproxy.sandbox.apiserver.identity import MASTERS, Identity
from pyproxy.sandbox.apiserver.kinds import RBAC, resource
from pyproxy.sandbox.apiserver.refusal import Refusal, forbidden
from pyproxy.sandbox.apiserver.route import Target
from pyproxy.sandbox.apiserver.schema import Object
from pyproxy.sandbox.apiserver.store import Store


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether, and why."""

    is_allowed: bool
    reason: str = ""


class Authorizer:
    """Reads roles and bindings anew each time: nothing to keep in step."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def decide(self, user: Identity, target: Target) -> Decision:
        """Say whether somebody may do this."""
        if MASTERS in user.groups:
            return Decision(True)
        for binding, subject, rules in self._granted(user, target.namespace):
            if any(_matches(rule, target) for rule in rules):
                role = binding["roleRef"]
                name, kind = binding["metadata"]["name"], binding["kind"]
                if kind == "RoleBinding":
                    name = f"{name}/{binding['metadata']['namespace']}"
                reason = (
                    f'RBAC: allowed by {kind} "{name}" of {role["kind"]}'
                    f' "{role["name"]}" to {_shown(subject)}'
                )
                return Decision(True, reason)
        return Decision(False)

    def rules(self, user: Identity, namespace: str) -> list[Object]:
        """All rules that somebody has in a namespace."""
        everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
        anywhere = {"nonResourceURLs": ["*"], "verbs": ["*"]}
        own = [everything, anywhere] if MASTERS in user.groups else []
        return own + [
            rule for *_, rules in self._granted(user, namespace) for rule in rules
        ]

    def _granted(
        self, user: Identity, namespace: str
    ) -> Iterator[tuple[Object, Object, list[Object]]]:
        """Bindings of somebody: the binding, the subject that fits, the rules."""
        for plural in ("clusterrolebindings", "rolebindings"):
            bindings = self._store.shelf(resource(plural, RBAC)).objects
            for (where, _), binding in bindings.items():
                if where and where != namespace:
                    continue
                for subject in binding.get("subjects", []):
                    if _is(subject, user):
                        yield binding, subject, self._rules_of(binding, where)
                        break

    def _rules_of(self, binding: Object, namespace: str) -> list[Object]:
        role = binding["roleRef"]
        is_cluster = role["kind"] == "ClusterRole"
        plural = "clusterroles" if is_cluster else "roles"
        key = ("" if is_cluster else namespace, role["name"])
        found = self._store.get(resource(plural, RBAC), key)
        return (found["rules"] or []) if found else []


def denial(user: Identity, target: Target, verb: str = "") -> Refusal:
    """What somebody reads who may not."""
    verb = verb or target.verb
    if not target.is_resource:
        why = f'User "{user.name}" cannot {verb} path "{target.path}"'
        return Refusal(403, "Forbidden", f"forbidden: {why}", {})
    where = "at the cluster scope"
    if target.namespace:
        where = f'in the namespace "{target.namespace}"'
    why = (
        f'User "{user.name}" cannot {verb} resource "{target.full_resource}"'
        f' in API group "{target.group}" {where}'
    )
    return forbidden(target.plural, target.group, target.name, why)


def _is(subject: Object, user: Identity) -> bool:
    name = subject["name"]
    if subject["kind"] == "Group":
        return name in user.groups
    if subject["kind"] == "ServiceAccount":
        name = f"system:serviceaccount:{subject.get('namespace', '')}:{name}"
    return bool(name == user.name)


def _shown(subject: Object) -> str:
    name = subject["name"]
    if subject["kind"] == "ServiceAccount":
        name = f"{name}/{subject.get('namespace', '')}"
    return f'{subject["kind"]} "{name}"'


def _matches(rule: Object, target: Target) -> bool:
    if not _has(rule["verbs"] or [], target.verb):
        return False
    if not target.is_resource:
        urls = rule.get("nonResourceURLs", [])
        return any(_fits(url, target.path) for url in urls)
    resources = rule.get("resources", [])
    named = _has(resources, target.full_resource)
    if target.subresource and f"*/{target.subresource}" in resources:
        named = True
    names = rule.get("resourceNames", [])
    in_group = _has(rule.get("apiGroups", []), target.group)
    return in_group and named and (not names or target.name in names)


def _has(words: list[str], word: str) -> bool:
    return "*" in words or word in words


def _fits(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return path == pattern
