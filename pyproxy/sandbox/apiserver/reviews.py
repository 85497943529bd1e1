"""Questions about identities and rights, answered as objects that nobody stores."""

import dataclasses
import datetime

from pyproxy.sandbox.apiserver.cluster import Call, Cluster
from pyproxy.sandbox.apiserver.identity import AUDIENCE, Identity
from pyproxy.sandbox.apiserver.kinds import AUTHENTICATION
from pyproxy.sandbox.apiserver.ownership import Writer, written
from pyproxy.sandbox.apiserver.refusal import not_found
from pyproxy.sandbox.apiserver.route import Target
from pyproxy.sandbox.apiserver.schema import Object, canonical, kind_type

TOKEN_S = 3600  # that a token says it lives


def answer(cluster: Cluster, call: Call, review: Object) -> Object:
    """Fill in the status of a review."""
    kind = review["kind"]
    spec = review.get("spec", {})
    if kind == "TokenReview":
        review["status"] = _token(cluster, spec.get("token", ""))
    elif kind == "SelfSubjectReview":
        review["metadata"] = {"creationTimestamp": cluster.now()}
        review["status"] = {"userInfo": call.identity.shown()}
        return _shaped(review)
    elif kind == "SelfSubjectRulesReview":
        review["status"] = _rules(cluster, call.identity, spec.get("namespace", ""))
    elif kind == "SelfSubjectAccessReview":
        review["status"] = _access(cluster, call.identity, spec)
    else:
        groups, extra = tuple(spec.get("groups", [])), spec.get("extra", {})
        user = Identity(spec.get("user", ""), spec.get("uid", ""), groups, extra)
        review["status"] = _access(cluster, user, spec)
    made = _shaped(review)
    unanswered = {key: value for key, value in made.items() if key != "status"}
    writer = Writer(call.manager, review["apiVersion"], cluster.now())
    owned = written(None, unanswered, kind_type(kind), writer)
    return {**made, "metadata": owned["metadata"]}


def _shaped(review: Object) -> Object:
    made: Object = canonical(review, kind_type(review["kind"]))
    return made


def _token(cluster: Cluster, token: str) -> Object:
    found = cluster.identities.of_token(token)
    if found is None:
        return {"user": {}, "error": "invalid bearer token"}
    made: Object = {"authenticated": True, "user": found.shown()}
    return made | {"audiences": [AUDIENCE]}


def _access(cluster: Cluster, user: Identity, spec: Object) -> Object:
    asked = spec.get("resourceAttributes")
    if asked is None:
        plain = spec.get("nonResourceAttributes", {})
        target = Target(plain.get("verb", ""), plain.get("path", ""))
    else:
        target = Target(
            *(asked.get("verb", ""), "", True),
            *(asked.get(name, "") for name in ("group", "version", "resource")),
            *(asked.get(name, "") for name in ("namespace", "name", "subresource")),
        )
    if target.subresource != "proxy":
        decision = cluster.authorizer.decide(user, target)
        made: Object = {"allowed": decision.is_allowed}
        return made | ({"reason": decision.reason} if decision.reason else {})
    # kube-apiserver 1.36 asks for another name here, and says so when that is refused.
    target = dataclasses.replace(target, subresource="unsafeproxy")
    decision = cluster.authorizer.decide(user, target)
    if decision.is_allowed:
        return {"allowed": True} | (
            {"reason": decision.reason} if decision.reason else {}
        )
    return {"allowed": False, "reason": "proxy subresource changed to unsafeproxy"}


def _rules(cluster: Cluster, user: Identity, namespace: str) -> Object:
    rules = cluster.authorizer.rules(user, namespace)
    return {
        "resourceRules": [rule for rule in rules if rule.get("resources")],
        "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
        "incomplete": False,
    }


def issue_token(cluster: Cluster, call: Call, request: Object) -> Object:
    """Answer a TokenRequest of a ServiceAccount."""
    target = call.target
    account = cluster.store.get(call.resource, target.key)
    if account is None:
        raise not_found(target.plural, target.group, target.name)
    uid = account["metadata"]["uid"]
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=TOKEN_S)
    head = {"kind": "TokenRequest", "apiVersion": f"{AUTHENTICATION}/v1"}
    request = {**head, **request}
    spec = request.setdefault("spec", {})
    spec["audiences"] = spec.get("audiences") or [AUDIENCE]
    spec.setdefault("expirationSeconds", TOKEN_S)
    token = cluster.identities.issue(target.namespace, target.name, uid)
    request["status"] = {
        "token": token,
        "expirationTimestamp": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    request["metadata"] = {
        "name": target.name,
        "namespace": target.namespace,
        "creationTimestamp": cluster.now(),
    }
    return _shaped(request)
