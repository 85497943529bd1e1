"""What a real cluster has controllers and kubelets for, done at once after each write.

Pods start on the one node there is, and end when they are deleted; a deleted Namespace
takes along what is in it; every Namespace gets its default ServiceAccount.
"""

import itertools

from pyproxy.sandbox.apiserver import seed
from pyproxy.sandbox.apiserver.cluster import Cluster
from pyproxy.sandbox.apiserver.kinds import STORED, resource
from pyproxy.sandbox.apiserver.pods import Logs
from pyproxy.sandbox.apiserver.schema import Object
from pyproxy.sandbox.apiserver.store import Key

PODS, NAMESPACES = resource("pods"), resource("namespaces")
CLOCK = "sandbox/clock"  # the image of pods that log a line every second


class Keeper:
    """Keeps things as they should be."""

    def __init__(self, cluster: Cluster, logs: Logs) -> None:
        self._cluster = cluster
        self._logs = logs
        self._addresses = (
            f"10.244.{n // 250}.{n % 250 + 2}" for n in itertools.count()
        )

    def settle(self) -> None:
        """Do what the last write calls for."""
        store = self._cluster.store
        for key, space in list(store.shelf(NAMESPACES).objects.items()):
            if "deletionTimestamp" in space["metadata"]:
                self._empty(key)
            else:
                seed.default_account(self._cluster, key[1])
        for key, pod in list(store.shelf(PODS).objects.items()):
            if "deletionTimestamp" in pod["metadata"]:
                self._end(key, pod)
            elif not pod["spec"].get("nodeName"):
                self._start(key, pod)

    def tick(self, number: int) -> None:
        """Let the pods that log every second do so."""
        for key, pod in self._cluster.store.shelf(PODS).objects.items():
            for container in pod["spec"]["containers"]:
                if container["image"].partition(":")[0] == CLOCK:
                    self._logs.of(key, container["name"]).write(f"tick {number}")

    def _empty(self, key: Key) -> None:
        store = self._cluster.store
        is_empty = True
        for found in STORED:
            for inside in (
                list(store.shelf(found).objects) if found.is_namespaced else ()
            ):
                if inside[0] != key[1]:
                    continue
                item = store.get(found, inside)
                assert item is not None
                if item["metadata"].get("finalizers"):
                    is_empty = False
                elif found is PODS:
                    self._end(inside, item)
                else:
                    store.remove(found, inside)
        if is_empty:
            store.remove(NAMESPACES, key)

    def _end(self, key: Key, pod: Object) -> None:
        if not pod["metadata"].get("finalizers"):
            self._cluster.store.remove(PODS, key)
            self._logs.end(key)

    def _start(self, key: Key, pod: Object) -> None:
        now, address = self._cluster.now(), next(self._addresses)
        containers = pod["spec"]["containers"]
        states = [_running(container, pod, now) for container in containers]
        words = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        conditions = [
            {"type": word, "status": "True", "lastProbeTime": None}
            | {"lastTransitionTime": now}
            for word in words
        ]
        status = {
            **pod["status"],
            "phase": "Running",
            "conditions": conditions,
            "hostIP": seed.NODE_ADDRESS,
            "hostIPs": [{"ip": seed.NODE_ADDRESS}],
            "podIP": address,
            "podIPs": [{"ip": address}],
            "startTime": now,
            "containerStatuses": states,
        }
        spec = {**pod["spec"], "nodeName": seed.NODE}
        self._cluster.store.put(PODS, key, {**pod, "spec": spec, "status": status})
        for container in containers:
            self._logs.of(key, container["name"]).write(f"{container['name']}: started")


def _running(container: Object, pod: Object, now: str) -> Object:
    name, uid = container["name"], pod["metadata"]["uid"]
    return {
        "name": name,
        "state": {"running": {"startedAt": now}},
        "lastState": {},
        "ready": True,
        "restartCount": 0,
        "image": container["image"],
        "imageID": container["image"],
        "containerID": f"sandbox://{uid}/{name}",
        "started": True,
    }
