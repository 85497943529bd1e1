"""Traffic policies: which endpoints, whose address they see, and who is refused.

Source: as `test_flows`.
"""

import pytest

from pyproxy.discovery.services import Settings
from tests.support.services_rig import (
    CLIENT,
    EXTERNAL_IP,
    LB_IP,
    NODE,
    NODE_IP,
    NODE_IP_ALT,
    POD,
    PODS,
    Flow,
    World,
    check_flows,
    endpoint,
    port,
    service,
    slice_of,
)


@pytest.mark.parametrize("policy", ["Local", "Cluster"])
def test_without_endpoints_all_are_refused(policy: str) -> None:
    world = World()
    world.put(
        service(
            "ns1/svc1",
            "172.30.0.41",
            port(80, node_port=3001),
            type="LoadBalancer",
            external_traffic_policy=policy,
            internal_traffic_policy=policy,
            external_ips=(EXTERNAL_IP,),
            ingress=(LB_IP,),
        )
    )
    for ip, number in (
        ("172.30.0.41", 80),
        (NODE_IP, 3001),
        (EXTERNAL_IP, 80),
        (LB_IP, 80),
    ):
        for source in (POD, NODE_IP, CLIENT):
            assert world.flow(source, ip, number) == ("REJECT", False), ip
    assert world.flow(CLIENT, NODE_IP_ALT, 3001) == ("", False)


INTERNAL = {
    "cluster": (
        "Cluster",
        (NODE, "node1", "node2"),
        "10.0.1.1:80, 10.0.1.2:80, 10.0.1.3:80",
    ),
    "one here": ("Local", (NODE, "node1", "node2"), "10.0.1.1:80"),
    "two here": ("Local", (NODE, NODE, "node2"), "10.0.1.1:80, 10.0.1.2:80"),
    "none here": ("Local", ("node0", "node1", "node2"), "DROP"),
}


@pytest.mark.parametrize(
    ("policy", "nodes", "outcome"), INTERNAL.values(), ids=INTERNAL
)
def test_internal_traffic_policy(
    policy: str, nodes: tuple[str, ...], outcome: str
) -> None:
    world = World()
    made = slice_of(
        "ns1/svc1", *(endpoint(f"10.0.1.{n}", node) for n, node in enumerate(nodes, 1))
    )
    world.put(service("ns1/svc1", "172.30.1.1", internal_traffic_policy=policy), made)
    assert world.flow(POD, "172.30.1.1", 80) == (outcome, False)
    world.drop(made)
    assert world.flow(POD, "172.30.1.1", 80) == ("REJECT", False)


THERE = "node-1"
READY3 = [
    endpoint("10.0.1.1", NODE),
    endpoint("10.0.1.2", NODE),
    endpoint("10.0.1.5", THERE),
]
ENDING = [endpoint("10.0.1.4", NODE, "ending")]
LEAVING = [endpoint("10.0.1.2", NODE, "leaving"), endpoint("10.0.1.3", NODE, "leaving")]
THREE = "10.0.1.1:80, 10.0.1.2:80, 10.0.1.5:80"
# Policy, endpoints, what a Pod gets at the cluster IP, a client at the load balancer.
TERMINATING = {
    "Local, some ready": (
        *("Local", [*READY3, endpoint("10.0.1.3", NODE, "leaving"), *ENDING]),
        *(THREE, "10.0.1.1:80, 10.0.1.2:80"),
    ),
    "Local, none ready here": (
        *("Local", [*LEAVING, *ENDING, READY3[2]]),
        *("10.0.1.5:80", "10.0.1.2:80, 10.0.1.3:80"),
    ),
    "Local, leaving elsewhere": (
        *("Local", [endpoint("10.0.1.5", THERE, "leaving")]),
        *("10.0.1.5:80", "DROP"),
    ),
    "Local, none of use": (
        "Local",
        [endpoint("10.0.1.5", NODE, "ending"), endpoint("10.0.1.5", THERE, "ending")],
        *("REJECT", "REJECT"),
    ),
    "Cluster, some ready": (
        *("Cluster", [*READY3, endpoint("10.0.1.3", THERE, "leaving"), *ENDING]),
        *(THREE, THREE),
    ),
    "Cluster, all leaving": (
        *("Cluster", [*LEAVING, *ENDING, endpoint("10.0.1.5", THERE, "leaving")]),
        *("10.0.1.2:80, 10.0.1.3:80, 10.0.1.5:80",) * 2,
    ),
    "Cluster, leaving elsewhere": (
        *("Cluster", [endpoint("10.0.1.5", THERE, "leaving")]),
        *("10.0.1.5:80", "10.0.1.5:80"),
    ),
    "Cluster, none of use": ("Cluster", [*ENDING], "REJECT", "REJECT"),
}


@pytest.mark.parametrize(
    ("policy", "endpoints", "pod", "client"), TERMINATING.values(), ids=TERMINATING
)
def test_terminating_endpoints(
    policy: str, endpoints: list[object], pod: str, client: str
) -> None:
    world = World()
    made = slice_of("ns1/svc1", *endpoints)  # type: ignore[arg-type]
    world.put(
        service(
            "ns1/svc1",
            "172.30.1.1",
            type="LoadBalancer",
            external_traffic_policy=policy,
            ingress=(LB_IP,),
        ),
        made,
    )
    assert world.flow(POD, "172.30.1.1", 80) == (pod, False)
    is_ours = policy == "Cluster" and client != "REJECT"
    assert world.flow(CLIENT, LB_IP, 80) == (client, is_ours)
    world.drop(made)
    assert world.flow(POD, "172.30.1.1", 80) == ("REJECT", False)
    assert world.flow(CLIENT, LB_IP, 80) == ("REJECT", False)


def masquerading(masquerade_all: bool, knows_pods: bool) -> World:
    """Return a world with a Service of no, an external and an internal policy Local."""
    settings = Settings(
        NODE,
        node_ips=(NODE_IP,),
        masquerade_all=masquerade_all,
        cluster_cidrs=PODS if knows_pods else (),
    )
    world = World(settings)
    policies: tuple[dict[str, str], ...] = (
        {},
        {"external_traffic_policy": "Local"},
        {"internal_traffic_policy": "Local"},
    )
    for number, (policy, ip) in enumerate(
        zip(policies, ("1.2.3.4", "5.6.7.8", "9.9.9.9"), strict=True), 1
    ):
        key = f"ns{number}/svc{number}"
        world.put(
            service(
                *(key, f"172.30.0.4{number}", port(80, node_port=3000 + number)),
                type="LoadBalancer",
                ingress=(ip,),
                **policy,
            ),
            slice_of(
                key,
                endpoint(f"10.180.0.{number}", NODE),
                endpoint(f"10.180.1.{number}", "remote"),
            ),
        )
    return world


@pytest.mark.parametrize("masquerade_all", [False, True], ids=["", "masquerade all"])
@pytest.mark.parametrize("knows_pods", [True, False], ids=["", "Pods not known"])
def test_whose_address_endpoints_see(masquerade_all: bool, knows_pods: bool) -> None:
    world = masquerading(masquerade_all, knows_pods)
    flows: dict[str, Flow] = {}
    for number, ip in enumerate(("1.2.3.4", "5.6.7.8", "9.9.9.9"), 1):
        both = f"10.180.0.{number}:80, 10.180.1.{number}:80"
        here = f"10.180.0.{number}:80"
        external_local, internal_local = number == 2, number == 3
        for who, source in (("Pod", POD), ("node", NODE_IP), ("client", CLIENT)):
            inside = here if internal_local else both
            # Without a way to tell, all that come to a cluster IP are Pods.
            is_kept = not masquerade_all and (who == "Pod" or not knows_pods)
            ours = None if who == "node" else not is_kept
            flows[f"{who}, cluster IP {number}"] = (
                *(source, f"172.30.0.4{number}", 80, "tcp"),
                *(inside, ours),
            )
            is_near = who == "node" or (who == "Pod" and knows_pods)
            outside = here if external_local and not is_near else both
            ours = None if who == "node" else not external_local
            flows |= {
                f"{who}, node port {number}": (
                    *(source, NODE_IP, 3000 + number, "tcp"),
                    *(outside, ours),
                ),
                f"{who}, balancer {number}": (source, ip, 80, "tcp", outside, ours),
            }
    check_flows(world, flows)
