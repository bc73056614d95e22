"""A Kubernetes API with its controllers and scheduler on loopback, and a kubelet that only reports.

Everything up to the binding of a pod is the real thing; nodes are entries, and pods "run" as the digest
of their image says: the last character b cannot be pulled, c crashes, anything else gets ready.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.core.retry import wait_for

NODES = ("worker-1", "worker-2")


@dataclass(frozen=True)
class ControlPlane:
    kubectl: Kubectl
    kubeconfig: Path
    binary: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    folder: Path,
    programs: Mapping[str, Path],
    *,
    nodes: Sequence[str] = NODES,
    users: Mapping[str, str] | None = None,
    more: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[ControlPlane]:
    """Start etcd, API server, controllers and scheduler; stop them, by process, at the end.

    nodes: those the kubelet here reports for; without any there is none. users: name -> token of
    administrators beside the test itself. more: program -> further arguments.
    """
    ports = {name: free_port() for name in ("etcd", "peer", "api", "controllers", "scheduler")}
    token = secrets.token_hex(16)
    tokens = {"admin": token, **(users or {})}
    (folder / "tokens.csv").write_text(
        "".join(f'{secret},{name},{name},"system:masters"\n' for name, secret in tokens.items())
    )
    key = rsa.generate_private_key(65537, 2048)
    (folder / "accounts.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [
                    {
                        "name": "test",
                        "cluster": {
                            "server": f"https://127.0.0.1:{ports['api']}",
                            "certificate-authority": str(folder / "api" / "apiserver.crt"),
                        },
                    }
                ],
                "users": [{"name": "admin", "user": {"token": token}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            }
        )
    )
    etcd = f"http://127.0.0.1:{ports['etcd']}"
    peer = f"http://127.0.0.1:{ports['peer']}"
    client = [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"]
    commands = {
        "etcd": [
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={ports['api']}",
            f"--cert-dir={folder / 'api'}",
            "--service-account-issuer=https://test",
            f"--service-account-key-file={folder / 'accounts.key'}",
            f"--service-account-signing-key-file={folder / 'accounts.key'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.99.0.0/24",
        ],
        "kube-controller-manager": [
            *client,
            f"--secure-port={ports['controllers']}",
            f"--cert-dir={folder / 'controllers'}",
            f"--service-account-private-key-file={folder / 'accounts.key'}",
            "--controllers=*,-nodelifecycle,-nodeipam",
        ],
        "kube-scheduler": [
            *client,
            f"--secure-port={ports['scheduler']}",
            f"--cert-dir={folder / 'scheduler'}",
        ],
    }
    plane = ControlPlane(Kubectl(programs["kubectl"], kubeconfig), kubeconfig, programs["kubectl"])
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        for name, arguments in commands.items():
            words = [*arguments, *(more or {}).get(name, ())]
            stack.enter_context(process([str(programs[name]), *words], folder / f"{name}.log"))
            if name == "kube-apiserver":
                wait_for(
                    "an answer of the API server",
                    lambda: plane.kubectl.run(["get", "--raw", "/readyz"], timeout=5),
                    timeout=180,
                    retry_on=(KubectlError,),
                )
        if not nodes:
            yield plane
            return
        for node in nodes:
            _add_node(plane.kubectl, node)
        kubelet = threading.Thread(
            target=_report,
            args=(api_of(plane), stop),
            daemon=True,
        )
        kubelet.start()
        try:
            yield plane
        finally:
            stop.set()
            kubelet.join(10)


@contextlib.contextmanager
def process(argv: list[str], log: Path) -> Iterator[None]:
    """Keep a program running for as long as the block does."""
    with log.open("w") as file:
        child = subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _add_node(kubectl: Kubectl, name: str) -> None:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    kubectl.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}])
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "reported by the test"}
    _patch(kubectl, ["node", name], {"capacity": room, "allocatable": room, "conditions": [ready]})
    # added by admission, taken off by the controller that watches nodes, which is not run here
    kubectl.run(["taint", "node", name, "node.kubernetes.io/not-ready-"])


class Api:
    """The API without a process per question."""

    def __init__(self, port: int, token: str, certificate: Path) -> None:
        self.port, self.token = port, token
        self.trust = ssl.create_default_context(cafile=str(certificate))

    def ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.trust, timeout=30)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/json"
            if method != "PATCH"
            else "application/strategic-merge-patch+json",
        }
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            return json.loads(connection.getresponse().read())


def api_of(plane: ControlPlane) -> Api:
    """The API as the test's own user asks it."""
    config = yaml.safe_load(plane.kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    port = int(cluster["server"].rpartition(":")[2])
    return Api(port, config["users"][0]["user"]["token"], Path(cluster["certificate-authority"]))


def _report(api: Api, stop: threading.Event) -> None:
    """What a kubelet would write: status of bound pods, and the end of deleted ones."""
    number = 1
    while not stop.wait(0.3):
        with contextlib.suppress(OSError, http.client.HTTPException):  # the API server may be busy
            for pod in api.ask("GET", "/api/v1/pods")["items"]:
                meta = pod["metadata"]
                path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
                if "deletionTimestamp" in meta:
                    api.ask("DELETE", path, {"gracePeriodSeconds": 0})
                elif pod["spec"].get("nodeName") and not pod["status"].get("containerStatuses"):
                    number += 1
                    api.ask("PATCH", f"{path}/status", {"status": _status(pod, f"10.50.0.{number}")})


def _status(pod: dict[str, Any], address: str) -> dict[str, Any]:
    container = pod["spec"]["containers"][0]
    image = container["image"]
    status: dict[str, Any] = {
        "name": container["name"],
        "image": image,
        "imageID": "",
        "ready": True,
        "started": True,
        "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }
    if image[-1] == "b":
        why = (
            f'Back-off pulling image "{image}": ErrImagePull: failed to resolve reference: {image}: not found'
        )
        status |= {"ready": False, "state": {"waiting": {"reason": "ImagePullBackOff", "message": why}}}
    elif image[-1] == "c":
        ended = {"exitCode": 1, "reason": "Error", "message": "ValueError: no model in /models/mnist\n"}
        status |= {
            "ready": False,
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": ended},
        }
    ready = "True" if status["ready"] else "False"
    return {
        "podIP": address,
        "podIPs": [{"ip": address}],
        "phase": "Running" if status["ready"] else "Pending",
        "containerStatuses": [status],
        "conditions": [
            {"type": kind, "status": value}
            for kind, value in (("PodScheduled", "True"), ("ContainersReady", ready), ("Ready", ready))
        ],
    }


def _patch(kubectl: Kubectl, what: list[str], status: dict[str, Any]) -> None:
    kubectl.run(
        ["patch", *what, "--subresource=status", "--type=strategic", "-p", json.dumps({"status": status})]
    )
