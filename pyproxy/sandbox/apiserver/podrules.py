"""What the API server does to Pods: defaults and rules."""

from collections.abc import Iterator

from pyproxy.sandbox.apiserver.refusal import Cause
from pyproxy.sandbox.apiserver.schema import Object

TOLERATED_S = 300  # on a node that is lost
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_SPEC = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
    "enableServiceLinks": True,
}
_CONTAINER = {
    "terminationMessagePath": "/dev/termination-log",
    "terminationMessagePolicy": "File",
}


def default(pod: Object) -> None:
    """Fill in what a client may leave out."""
    spec = pod["spec"]
    for name, value in _SPEC.items():
        spec.setdefault(name, value)
    spec.setdefault("securityContext", {})
    for container in [*spec.get("initContainers", []), *(spec["containers"] or [])]:
        for name, value in _CONTAINER.items():
            container.setdefault(name, value)
        image = container.get("image", "")
        is_pinned = ":" in image.rpartition("/")[2] and not image.endswith(":latest")
        policy = "IfNotPresent" if is_pinned else "Always"
        container.setdefault("imagePullPolicy", policy)
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")


def prepare(pod: Object) -> None:
    """Fill in what admission would."""
    spec, status = pod["spec"], pod["status"]
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    tolerations = spec.setdefault("tolerations", [])
    for taint in _TAINTS:
        if not any(toleration.get("key") == taint for toleration in tolerations):
            made = {"key": taint, "operator": "Exists", "effect": "NoExecute"}
            tolerations.append({**made, "tolerationSeconds": TOLERATED_S})
    status.setdefault("phase", "Pending")
    asked = [c["resources"] for c in spec["containers"] or [] if c.get("resources")]
    status.setdefault("qosClass", "Burstable" if asked else "BestEffort")


def causes(pod: Object, old: Object | None) -> Iterator[Cause]:
    """What is wrong with a Pod."""
    containers = pod["spec"]["containers"] or []
    if not containers:
        yield Cause.required("spec.containers")
    seen = set()
    for number, container in enumerate(containers):
        path = f"spec.containers[{number}]"
        name = container.get("name", "")
        if not name:
            yield Cause.required(f"{path}.name")
        if not container.get("image"):
            yield Cause.required(f"{path}.image")
        if name in seen:
            message = f'Duplicate value: "{name}"'
            yield Cause(f"{path}.name", message, "FieldValueDuplicate")
        seen.add(name)
    if old is not None and _fixed(pod) != _fixed(old):
        why = (
            "pod updates may not change fields other than"
            " `spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to"
            " existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to"
            " be set to 1 if it was previously negative)"
        )
        yield Cause.forbidden("spec", why)


def _fixed(pod: Object) -> Object:
    """The part of a spec that must stay as it is."""
    free = ("tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds")
    spec = {key: value for key, value in pod["spec"].items() if key not in free}
    spec.pop("nodeName", "")
    for name in ("containers", "initContainers"):
        spec[name] = [
            {key: value for key, value in container.items() if key != "image"}
            for container in spec.get(name) or []
        ]
    return spec
