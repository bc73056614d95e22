"""A stand-in for kubectl and the cluster behind it: objects in a list, pods that are stand-in servers.

The one-off pod really runs the client, in this process, against whichever server stands for the Service.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slipway.core.errors import CommandError
from slipway.core.process import Completed
from slipway.core.types import Cluster, Endpoints, ExportedModel, ImageRef, Node
from slipway_client.__main__ import main as client_main

from tests.standins.model_server import Behaviour, ServerTls, StandIn

NAMESPACE, DEPLOYMENT, SERVICE = "serving", "mnist-deployment", "mnist-service"
DIGEST = "sha256:" + "a" * 64
IMAGE = ImageRef("registry.lab:5000/slipway/mnist", DIGEST, "1", "portable", "mnist", 1, "0" * 64)
SET = "mnist-deployment-5d9"


class StandInCluster:
    """Three replicas named pod-a, pod-b, pod-c on worker-1, worker-2, worker-1; both ports of each open."""

    def __init__(
        self, behaviours: Sequence[Behaviour] | None = None, *, tls: ServerTls | None = None
    ) -> None:
        self.servers: dict[str, StandIn] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.nodes: list[dict[str, Any]] = []
        self.made: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        self.logs: dict[str, str] = {}
        self.commands: list[tuple[str, ...]] = []
        self.apply_error: str = ""
        self.reached: dict[str, tuple[str, ...]] = {}  # pod -> forbidden places that answer it
        self.missed: dict[str, tuple[str, ...]] = {}  # pod -> allowed places and names that do not
        self.exec_error: str = ""
        self.waiting_reason: str = ""
        self.waiting_message = "manifest unknown: no such image"
        self.unplaced = ""  # the scheduler's words on the one-off pod, if no node takes it
        self.wanted = 3
        self.pod_template: dict[str, Any] = {}  # of the Deployment
        self.secrets: dict[str, dict[str, bytes]] = {}
        self.context: str | None = None
        self.kubeconfig = Path("kubeconfig")
        self._stack = contextlib.ExitStack()
        for letter, node, behaviour in zip(
            "abc",
            ("worker-1", "worker-2", "worker-1"),
            behaviours or [Behaviour() for _ in "abc"],
            strict=True,
        ):
            self.servers[f"pod-{letter}"] = self._stack.enter_context(StandIn(behaviour, tls=tls))
            self.pods[f"pod-{letter}"] = pod(f"pod-{letter}", node)

    def __enter__(self) -> StandInCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # what slipway.clients.kubectl.Kubectl offers

    def find(self, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any] | None:
        return next((one for one in self._all(kind) if one["metadata"]["name"] == name), None)

    def get(self, kind: str, name: str | None = None, **options: Any) -> dict[str, Any]:
        assert name is None
        label = options.get("selector")
        items = [one for one in self._all(kind) if not label or label in one["metadata"].get("labels", {})]
        return {"items": items}

    def pages(self, path: str, selector: str = "", **_: Any) -> Iterator[dict[str, Any]]:
        assert (path, selector) == (f"/api/v1/namespaces/{NAMESPACE}/pods", "")
        yield {"metadata": {"resourceVersion": "1"}, "items": self._all("pods")}

    def apply(self, manifests: Sequence[dict[str, Any]], **_: Any) -> Completed:
        if self.apply_error:
            raise CommandError(("kubectl", "apply"), 1, self.apply_error)
        for one in manifests:
            name = one["metadata"]["name"]
            if one["kind"] == "Pod":
                self.made[name] = {**one, "status": self._run(one)}
            else:
                self.made.setdefault(name, one)
                self.config_map = one
        return Completed((), 0, "", "")

    def run(self, args: Sequence[str], **_: Any) -> Completed:
        self.commands.append(tuple(args))
        if args[0] == "logs":
            return Completed(tuple(args), 0, self.logs[args[1]], "")
        if args[0] == "exec":
            return Completed(tuple(args), 0, self._exec(args[1], json.loads(args[-1])), "")
        if args[0] == "delete":  # KIND NAME, or KIND/NAME as many as there are
            names = [word.partition("/")[2] or word for word in args[1:] if not word.startswith("-")]
            for name in self.made.keys() & set(names):
                self.deleted.append(name)
                del self.made[name]
        return Completed(tuple(args), 0, "", "")

    @contextlib.contextmanager
    def port_forward(
        self, namespace: str, pod: str, port: int, timeout: float = 20.0
    ) -> Iterator[tuple[str, int]]:
        server = self.servers.get(pod)
        if server is None:
            raise CommandError(("kubectl", "port-forward"), 1, f"error: unable to forward: pod {pod} is gone")
        yield "127.0.0.1", server.port if port == 8500 else server.rest_port

    # its insides

    service_server: StandIn | None = None
    in_image: Path | None = None
    folder = Path()
    asked_for = ""

    def _all(self, kinds: str) -> list[dict[str, Any]]:
        """Every object of these kinds, as kubectl takes them: singular or plural, with commas."""
        ports = [{"name": "grpc", "port": 8500}, {"name": "rest", "port": 8501}]
        owner = [{"controller": True, "uid": "d"}]
        everything = [
            {
                "kind": "Deployment",
                "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE, "uid": "d"},
                "spec": {"replicas": self.wanted, "template": {"spec": self.pod_template}},
            },
            {
                "kind": "Service",
                "metadata": {"name": SERVICE, "namespace": NAMESPACE},
                "spec": {"ports": ports, "clusterIP": "10.96.0.9", "selector": {"app": "mnist-server"}},
                "status": {},
            },
            {"kind": "ReplicaSet", "metadata": {"name": SET, "uid": "r", "ownerReferences": owner}},
            self._slice(),
            *(
                {
                    "kind": "Secret",
                    "metadata": {"name": name, "namespace": NAMESPACE},
                    "data": {key: base64.b64encode(value).decode() for key, value in held.items()},
                }
                for name, held in self.secrets.items()
            ),
            *self.nodes,
            *self.pods.values(),
            *self.made.values(),
        ]
        wanted = {kind.removesuffix("s") for kind in kinds.split(",")}
        return [one for one in everything if one["kind"].lower() in wanted]

    def _slice(self) -> dict[str, Any]:
        endpoints = [
            {
                "addresses": [f"10.244.0.{number}"],
                "targetRef": {"kind": "Pod", "name": name},
                "conditions": {"ready": one["status"]["conditions"][0]["status"] == "True"},
            }
            for number, (name, one) in enumerate(self.pods.items(), 1)
            if one["metadata"]["labels"].get("app") == "mnist-server"
        ]
        ports = [{"name": "grpc", "port": 8500}, {"name": "rest", "port": 8501}]
        labels = {"kubernetes.io/service-name": SERVICE}
        return {
            "kind": "EndpointSlice",
            "metadata": {"name": "s", "labels": labels},
            "ports": ports,
            "endpoints": endpoints,
        }

    def _run(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.unplaced:
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            return {"phase": "Pending", "conditions": [{**condition, "message": self.unplaced}]}
        if self.waiting_reason:
            waiting = {"reason": self.waiting_reason, "message": self.waiting_message}
            status = [{"name": "client", "state": {"waiting": waiting}}]
            return {"phase": "Pending", "containerStatuses": status}
        server = self.service_server or self.servers["pod-a"]
        words = []
        for word in manifest["spec"]["containers"][0]["args"]:
            if not word.startswith("--"):
                assert word == f"{SERVICE}:8500"
                words.append(server.address)
            elif word.startswith("--requests="):
                words.append(f"--requests={self._file(word.partition('=')[2])}")
            else:
                words.append(self._mounted(word, manifest["spec"]))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = client_main(words)
        name = manifest["metadata"]["name"]
        self.logs[name] = err.getvalue() + out.getvalue()
        return {"phase": "Succeeded" if code == 0 else "Failed", "conditions": []}

    def _exec(self, pod: str, asked: dict[str, Any]) -> str:
        """What the program in a replica prints: the replicas and the names answer, all else does not."""
        if self.exec_error:
            raise CommandError(("kubectl", "exec"), 1, self.exec_error)
        open_ = {name for name, _, _ in asked["places"] if name.startswith("replica ")} | set(asked["names"])
        open_ = (open_ | set(self.reached.get(pod, ()))) - set(self.missed.get(pod, ()))
        everything = [*(name for name, _, _ in asked["places"]), *asked["names"]]
        return json.dumps({"said": {name: "" if name in open_ else "timed out" for name in everything}})

    def _mounted(self, word: str, spec: dict[str, Any]) -> str:
        """A flag of the pod's, with the file on this machine in the place of one that a Secret gives it."""
        flag, _, path = word.partition("=")
        for mount in spec["containers"][0].get("volumeMounts", []):
            volume = next(one for one in spec["volumes"] if one["name"] == mount["name"])
            if "secret" in volume and path.startswith(f"{mount['mountPath']}/"):
                key = path.removeprefix(f"{mount['mountPath']}/")
                assert key in [item["path"] for item in volume["secret"]["items"]]
                file = self.folder / f"{mount['name']}-{key}"
                file.write_bytes(self.secrets[volume["secret"]["secretName"]][key])
                return f"{flag}={file}"
        return word

    def _file(self, path: str) -> Path:
        """What a path inside the one-off pod is on this machine."""
        self.asked_for = path
        if not path.startswith("/requests/"):
            assert self.in_image is not None
            return self.in_image
        file = self.folder / "mounted.jsonl"
        file.write_bytes(base64.b64decode(self.config_map["binaryData"][path.removeprefix("/requests/")]))
        return file


def pod(name: str, node: str) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "mnist-server", "run": "mnist-service"},
            "generateName": f"{SET}-",
            "ownerReferences": [{"controller": True, "uid": "r"}],
        },
        "spec": {"nodeName": node, "containers": [{"image": f"registry.lab:5000/slipway/mnist@{DIGEST}"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def cluster(folder: Path) -> Cluster:
    nodes = (Node("worker-1", "10.0.0.2", "worker", "v1.36.3"),)
    return Cluster(folder / "kubeconfig", folder / "kubectl", "https://10.0.0.1:6443", nodes, None)


def endpoints() -> Endpoints:
    return Endpoints(NAMESPACE, DEPLOYMENT, SERVICE, "10.96.0.9", 8500, 8501, (), "render")


def exported(folder: Path, requests: Path) -> ExportedModel:
    return ExportedModel(folder / "models" / "mnist" / "1", "mnist", 1, "0" * 64, requests)
