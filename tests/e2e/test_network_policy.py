"""NetworkPolicies of a real cluster: what a replica cannot reach, that the gate can fail, and who suffers meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Project
from tests.e2e.test_chain import pods

pytestmark = pytest.mark.lab

# Seconds for what must not answer, and for what must: a busy machine may take its time
SHUT, OPEN = "2", "20"
# SECONDS HOST:PORT... -> prints {"HOST:PORT": whether it could be connected to within these seconds}, over TCP
CONNECT = """
import json, socket, sys
out = {}
for place in sys.argv[2:]:
    host, port = place.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), float(sys.argv[1])).close()
        out[place] = True
    except OSError:
        out[place] = False
print(json.dumps(out))
"""
# SECONDS HOST PORT -> prints whether a DNS server answers over UDP within these seconds; asked each second
ASK = """
import json, socket, sys
query = bytes.fromhex("000101000001000000000000") + b"\\x0akubernetes\\x07default\\x03svc\\x07cluster\\x05local\\x00\\x00\\x01\\x00\\x01"
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(1)
    answered = False
    for _ in range(int(sys.argv[1])):
        asking.sendto(query, (sys.argv[2], int(sys.argv[3])))
        try:
            answered = bool(asking.recv(512))
            break
        except OSError:
            pass
print(json.dumps(answered))
"""
# A DNS server that is not the cluster's, on a node: answers anything over UDP, accepts TCP
ANSWER = """
import socket, threading
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("0.0.0.0", 53))
tcp = socket.create_server(("0.0.0.0", 53))
def accept():
    while True:
        tcp.accept()[0].close()
threading.Thread(target=accept, daemon=True).start()
while True:
    text, sender = udp.recvfrom(512)
    udp.sendto(text, sender)
"""


def within(lab: Project, pod: str, program: str, *words: str) -> Any:
    """What a Python program prints in a pod."""
    return json.loads(lab.kubectl("exec", "-n", "serving", pod, "--", "python", "-c", program, *words))


def gate(lab: Project) -> Any:
    (found,) = [one for one in lab.report("smoke.json")["gates"] if one["name"] == "network_policy"]
    return found


@pytest.fixture
def replica(lab: Project) -> str:
    return str(pods(lab)[0]["metadata"]["name"])


@pytest.fixture
def other_dns(lab: Project) -> Iterator[str]:
    """Address of a node on whose port 53 somebody answers."""
    lab.on_host("cp", f"systemd-run --unit other-dns -- python3 -c '{ANSWER.strip()}'")
    yield next(one["address"] for one in lab.value("provision")["nodes"] if one["name"] == "cp")
    lab.on_host("cp", "systemctl stop other-dns")


def test_names_are_asked_of_the_clusters_dns_and_nowhere_else(
    lab: Project, replica: str, other_dns: str
) -> None:
    ours = lab.get("service", "kube-dns", "-n", "kube-system")["spec"]["clusterIP"]
    assert within(lab, replica, ASK, OPEN, ours, "53") is True
    assert within(lab, replica, CONNECT, OPEN, f"{ours}:53") == {f"{ours}:53": True}
    # the replica's own node reaches that other server: what keeps the replica from it is the policy
    node = lab.get("pod", replica, "-n", "serving")["spec"]["nodeName"]
    assert lab.on_host(node, f"python3 -c '{ASK}' {OPEN} {other_dns} 53").strip() == "true"
    assert within(lab, replica, ASK, SHUT, other_dns, "53") is False
    assert within(lab, replica, CONNECT, SHUT, f"{other_dns}:53") == {f"{other_dns}:53": False}


def test_without_the_policy_the_gate_fails_and_with_it_again_holds(lab: Project) -> None:
    lab.kubectl("delete", "networkpolicy", "mnist-server", "-n", "serving")
    try:
        done = lab.run("smoke", limit=300)
        assert done.code == 1
        found = gate(lab)
        assert (found["ok"], found["verdict"]) == (False, "not enforced")
        assert "the API server's Service" in found["note"]
        assert "SSH of worker-1" in found["note"]
        assert "not enforced" in done.err
    finally:
        assert lab.run("deploy").code == 0
    assert lab.run("smoke", limit=300).code == 0
    found = gate(lab)
    # without a note: their own nodes do not answer the replicas either
    assert (found["ok"], found["value"], found["verdict"], found["note"]) == (True, 0, "", "")


@pytest.fixture
def nobody_judges(lab: Project) -> Iterator[None]:
    """The controller is gone from every node for as long as the test runs."""
    words = ("daemonset/kube-network-policies", "-n", "kube-system")
    nowhere = '{"spec":{"template":{"spec":{"nodeSelector":{"slipway/nowhere":"true"}}}}}'
    lab.kubectl("patch", *words, "-p", nowhere)
    try:
        lab.kubectl(
            "wait",
            "pod",
            "-n",
            "kube-system",
            "-l",
            "app=kube-network-policies",
            "--for=delete",
            "--timeout=60s",
        )
        yield
    finally:
        everywhere = '{"spec":{"template":{"spec":{"nodeSelector":{"slipway/nowhere":null}}}}}'
        lab.kubectl("patch", *words, "-p", everywhere)
        lab.kubectl("rollout", "status", *words, "--timeout=120s")


def test_while_nobody_judges_guarded_pods_are_shut_off_and_no_others(
    lab: Project, replica: str, nobody_judges: None
) -> None:
    served = {one["metadata"]["name"]: one["status"]["podIP"] for one in pods(lab)}
    others = [f"{address}:8500" for name, address in served.items() if name != replica]
    assert within(lab, replica, CONNECT, SHUT, *others) == dict.fromkeys(others, False)
    dns = lab.get("pod", "-n", "kube-system", "-l", "k8s-app=kube-dns")["items"][0]
    address = dns["status"]["podIP"]
    for node in ("cp", "worker-1", "worker-2"):  # the pod network and what no policy is about go on
        assert lab.on_host(node, f"python3 -c '{ASK}' {OPEN} {address} 53").strip() == "true"
    for one in pods(lab):  # and the kubelets still find every replica ready
        ready = next(each for each in one["status"]["conditions"] if each["type"] == "Ready")
        assert ready["status"] == "True"


@pytest.mark.soak
def test_switched_off_it_goes_with_its_rules_and_comes_back(lab: Project) -> None:
    tags = "network_policy_configure,network_policy_run"
    rules = "iptables-nft-save -t mangle | grep -c SLIPWAY-NETPOL || true"
    assert lab.run("provision", "--tags", tags, "--set", "cluster.network_policy=false").code == 0
    try:
        assert "kube-network-policies" not in lab.kubectl("get", "daemonsets", "-n", "kube-system")
        assert lab.on_host("worker-1", rules).strip() == "0"
        assert lab.run("smoke", "--set", "cluster.network_policy=false", limit=300).code == 0
        assert gate(lab)["verdict"] == "not enforced"
    finally:
        assert lab.run("provision", "--tags", tags).code == 0
    assert lab.on_host("worker-1", rules).strip() != "0"
    assert lab.run("smoke", limit=300).code == 0
    found = gate(lab)
    # without a note: their own nodes do not answer the replicas either
    assert (found["ok"], found["value"], found["verdict"], found["note"]) == (True, 0, "", "")
