"""A deployment on many nodes, rehearsed on this one: `deploy`, `status` and `smoke` as people call them.

usage: python -m tests.stacks.many_nodes NODES REPLICAS [--many N] [--slipway PROGRAM] [--keep FOLDER]

The control plane is the real one; its nodes are kwok's, which reports what kubelets would. Pods have addresses
of a prefix that this machine takes for its own, so that each of them leads to the one model server that runs
here. All of it lives in a network namespace without a name, which goes with its last process. Prints
one JSON document: per verb its seconds, exit code, memory and what it asked of the API server.
"""

from __future__ import annotations

import argparse
import contextlib
import html.parser
import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from slipway.artifacts import cache, from_modules, golang
from slipway.core.context import Context
from slipway.core.retry import Pending, wait_for
from slipway.core.state import State
from slipway.core.types import Cluster, ExportedModel, Host, Hosts, ImageRef, Node
from slipway_client.connect import connect
from slipway_client.errors import SlipwayError
from slipway_client.requests import FixedRequest, write

from tests.integration.server.made import made_folder
from tests.stacks import control_plane

ROOT = Path(__file__).parents[2]
KWOK = ROOT / "tests" / "standins" / "kwok"
KWOK_MODULE, KWOK_VERSION = "sigs.k8s.io/kwok", "0.8.0"
POD_NETWORK, NODE_ADDRESS = "10.64.0.0/12", "10.98.0.1"
KUBELET_PORT = 10247
NAMESPACE = "serving"
DIGEST = f"sha256:{'a' * 64}"
IMAGE = ImageRef("registry.lab:5000/mnist", DIGEST, "1", "portable", "mnist", 1, "0")
# Controllers, scheduler and kwok ask as much as they like: what is measured is slipway
UNHURRIED = ("--kube-api-qps=2000", "--kube-api-burst=4000")


@dataclass(frozen=True)
class Programs:
    """What the rehearsal runs: Kubernetes and etcd, kwok, and the folder of kwok's module."""

    plane: dict[str, Path]
    kwok: Path
    module: Path


def programs(folder: Path) -> Programs:
    """From the cache, or built; Kubernetes is the cache entry that the chain uses."""
    ctx = Context(State(folder / ".slipway"), folder / "run", folder)
    go = golang.ensure(ctx)

    def make(to: Path) -> None:
        golang.build(ctx, go, KWOK, [f"{KWOK_MODULE}/cmd/kwok"], to / "kwok", label=f"kwok {KWOK_VERSION}")

    key = cache.key_of(*(part for file in sorted(KWOK.iterdir()) for part in (file.name, file.read_bytes())))
    return Programs(
        from_modules.programs(ctx, "kubernetes", "etcd"),
        cache.entry(ctx, f"go-kwok-{KWOK_VERSION}", key, make) / "kwok",
        golang.module(go, KWOK, KWOK_MODULE),
    )


def rehearse(nodes: int, replicas: int, *, many: int = 100, timeout: float = 3600) -> dict[str, Any]:
    """The whole rehearsal in a namespace of its own; the document that it prints.

    many: smoke.many_replicas. timeout in seconds.
    """
    with tempfile.TemporaryDirectory(prefix="slip-many-") as folder:
        programs(Path(folder))  # while there is a network to fetch them from
    done = subprocess.run(
        [
            *("unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "--"),
            *(sys.executable, "-m", __name__),
            *(str(nodes), str(replicas), f"--many={many}"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def own_network() -> None:
    """Make every address of the pods, and that of the nodes, one of this namespace's."""
    for words in (
        ("link", "set", "lo", "up"),
        ("route", "add", "local", POD_NETWORK, "dev", "lo"),
        ("address", "add", f"{NODE_ADDRESS}/32", "dev", "lo"),
    ):
        subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def model_server(folder: Path) -> Iterator[ExportedModel]:
    """The one real server, on every address here, and what it serves with its own answers recorded."""
    served = made_folder() / "models" / "net"
    version = max(int(path.name) for path in served.iterdir() if path.name.isdigit())
    argv = [
        *(sys.executable, "-m", "slipway_server", "--port=8500", "--rest_api_port=8501"),
        *("--model_name=mnist", f"--model_base_path={served}"),
    ]
    with control_plane.process(argv, folder / "server.log"):
        with connect("127.0.0.1:8500", "grpc", timeout=30) as client:

            def recorded() -> list[FixedRequest]:
                rows = np.random.default_rng(7).random((20, 1, 784), np.float32)
                return [
                    FixedRequest(
                        "predict",
                        "predict_images",
                        {"images": row},
                        expected=client.predict("mnist", "predict_images", {"images": row}).outputs,
                    )
                    for row in rows
                ]

            asked = wait_for("the model server", recorded, timeout=180, retry_on=(SlipwayError,))
        requests = folder / "requests.jsonl"
        write(requests, asked)
        yield ExportedModel(served / str(version), "mnist", version, "0", requests)


@contextlib.contextmanager
def kwok(folder: Path, found: Programs, plane: control_plane.ControlPlane) -> Iterator[Path]:
    """kwok as the kubelet of every node; yields the file that `kubectl logs` reads of the pod that asks."""
    log = folder / "asking.log"
    log.write_text("")
    stages = [
        yaml.safe_load(file.read_text())
        for part in ("node/fast", "pod/fast")
        for file in sorted((found.module / "kustomize" / "stage" / part).glob("*.yaml"))
        if file.name != "kustomization.yaml"
    ]
    group = {"apiVersion": "kwok.x-k8s.io/v1alpha1"}
    path = {"name": "PATH", "value": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    service = [{"name": "KUBERNETES_SERVICE_HOST", "value": NODE_ADDRESS}]
    service += [{"name": "KUBERNETES_SERVICE_PORT", "value": "443"}]
    stages.append(
        {
            **group,
            "kind": "ClusterLogs",
            "metadata": {"name": "asking"},
            "spec": {"logs": [{"containers": ["client"], "logsFile": str(log)}]},
        }
    )
    stages.append(
        {
            **group,
            "kind": "ClusterExec",
            "metadata": {"name": "replicas"},
            "spec": {"execs": [{"local": {"workDir": str(folder), "envs": [path, *service]}}]},
        }
    )
    config = folder / "kwok.yaml"
    config.write_text(yaml.safe_dump_all(stages))
    certificate, key = certified(folder)
    argv = [
        *(
            *("env", f"PATH={path['value']}", str(found.kwok)),  # where it looks for what it is to exec
            f"--config={config}",
            f"--kubeconfig={plane.kubeconfig}",
            "--manage-all-nodes=true",
        ),
        *(f"--cidr={POD_NETWORK}", f"--node-ip={NODE_ADDRESS}", f"--node-port={KUBELET_PORT}"),
        *(f"--server-address={NODE_ADDRESS}:{KUBELET_PORT}", f"--tls-cert-file={certificate}"),
        f"--tls-private-key-file={key}",
    ]
    with control_plane.process(argv, folder / "kwok.log"):
        yield log


def certified(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) of what stands for the kubelets."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kwok")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    files = folder / "kubelet.crt", folder / "kubelet.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return files


def make_nodes(plane: control_plane.ControlPlane, count: int) -> tuple[Node, ...]:
    """Nodes, and the wait until kwok has them ready."""
    names = [f"node-{number:04d}" for number in range(count)]
    api = control_plane.api_of(plane)

    def make(name: str) -> None:
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
        status = {"allocatable": ROOM, "capacity": ROOM}
        metadata = {"name": name, "labels": labels}
        made = api.ask(
            "POST",
            "/api/v1/nodes",
            {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status},
        )
        assert made["kind"] == "Node", made

    def ready() -> None:
        items = api.ask("GET", "/api/v1/nodes")["items"]
        conditions = [{one["type"]: one["status"] for one in item["status"]["conditions"]} for item in items]
        count_ready = sum(each.get("Ready") == "True" for each in conditions)
        if count_ready < count:
            raise Pending(f"{count_ready} of {count} nodes are ready")

    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(make, names))
    wait_for("nodes", ready, timeout=900, interval=5, retry_on=(OSError, KeyError))
    return tuple(Node(name, NODE_ADDRESS, "worker", "v1.36.3") for name in names)


ROOM = {"cpu": "16", "memory": "64Gi", "pods": "110"}


class AskingPods(threading.Thread):
    """Runs the pods that smoke makes as programs here, as their kubelet would."""

    def __init__(self, api: control_plane.Api, log: Path, requests: Path) -> None:
        super().__init__(daemon=True)
        self._api, self._log, self._requests = api, log, requests
        self._over = threading.Event()

    def run(self) -> None:
        known: set[str] = set()
        while not self._over.wait(0.5):
            with contextlib.suppress(OSError, http.client.HTTPException):
                for pod in self._api.ask("GET", "/api/v1/pods?labelSelector=slipway/smoke")["items"]:
                    if pod["metadata"]["uid"] not in known and pod["status"].get("phase") == "Running":
                        known.add(pod["metadata"]["uid"])
                        self._carry_out(pod)

    def _carry_out(self, pod: dict[str, Any]) -> None:
        container = pod["spec"]["containers"][0]
        words = [word for word in container["args"][1:] if not word.startswith("--requests=")]
        argv = [sys.executable, "-m", "slipway_client", pod["status"]["podIP"] + ":8500", *words]
        done = subprocess.run(
            [*argv, f"--requests={self._requests}"], capture_output=True, text=True, timeout=600, check=False
        )
        # as a container runtime writes it
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._log.write_text("".join(f"{now} stdout F {line}\n" for line in done.stdout.splitlines()))
        ended = {"exitCode": done.returncode, "reason": "Completed"}
        statuses = [{**pod["status"]["containerStatuses"][0], "ready": False, "state": {"terminated": ended}}]
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/status"
        phase = "Failed" if done.returncode else "Succeeded"
        self._api.ask("PATCH", path, {"status": {"phase": phase, "containerStatuses": statuses}})

    def end(self) -> None:
        self._over.set()
        self.join(30)


def project(folder: Path, plane: control_plane.ControlPlane, token: str, **values: Any) -> Path:
    """A folder with slipway.yaml and a state as the chain leaves it before it deploys."""
    home = folder / "project"
    state = State(home / ".slipway")
    state.root.mkdir(parents=True, mode=0o700)
    settings = {
        "deploy": {"by": "render", "replicas": values["replicas"], "namespace": NAMESPACE, "timeout": 1800},
        # nothing enforces any policy here
        "smoke": {"require_network_policy": False, "num_tests": 20, **values["smoke"]},
    }
    (home / "slipway.yaml").write_text(yaml.safe_dump(settings))
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = token
    state.kubeconfig.write_text(yaml.safe_dump(config))
    state.kubeconfig.chmod(0o600)
    api = config["clusters"][0]["cluster"]["server"]
    state.keep(Cluster(state.kubeconfig, plane.binary, api, values["nodes"], None))
    # the pod network is this machine's own, as it is a control plane's
    here = Host("cp", NODE_ADDRESS, "root", "", ("control_plane",), connection="local")
    state.hosts.mkdir(mode=0o700)
    state.keep(Hosts("existing", (here,)))
    state.keep(values["model"])
    model = values["model"]
    state.keep(ImageRef(IMAGE.repository, DIGEST, "1", "portable", model.name, model.version, "0"))
    return home


class Audit:
    """What slipway's user asked of the API server, from its audit log."""

    POLICY: ClassVar[dict[str, Any]] = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "users": ["slipway"]}, {"level": "None"}],
    }

    def __init__(self, folder: Path) -> None:
        self.log, self._policy, self._read = folder / "audit.log", folder / "audit.yaml", 0
        self._policy.write_text(yaml.safe_dump(self.POLICY))

    @property
    def arguments(self) -> list[str]:
        return [f"--audit-policy-file={self._policy}", f"--audit-log-path={self.log}"]

    def since(self) -> Counter[str]:
        """Requests since the last call by verb and resource; `list pods, all` is one of a whole namespace."""
        out: Counter[str] = Counter()
        with self.log.open() as file:
            file.seek(self._read)
            for line in file:
                event = json.loads(line)
                if event["stage"] == "ResponseStarted":  # of a watch, which has its end as well
                    continue
                about = event.get("objectRef", {})
                resource = "/".join(filter(None, [about.get("resource"), about.get("subresource")]))
                what = f"{event['verb']} {resource or event['requestURI'].partition('?')[0]}"
                if what == "list pods" and "continue=" not in event["requestURI"]:
                    out["lists of pods begun"] += "slipway%2Fsmoke" not in event["requestURI"]
                out[what] += 1
            self._read = file.tell()
        return out


def measured(home: Path, words: Sequence[str], audit: Audit, log: Path) -> dict[str, Any]:
    """Run a verb of slipway: seconds, exit code, requests; memory in MB, its own and its largest program's."""
    own_peak = 0
    before = time.monotonic()
    with log.open("w") as file:
        child = subprocess.Popen(
            list(words),
            cwd=home,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            with contextlib.suppress(OSError, StopIteration):
                lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
                own_peak = max(own_peak, int(next(x for x in lines if x.startswith("VmHWM")).split()[1]))
            time.sleep(0.05)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - before
    asked = audit.since()
    return {
        "exit": child.returncode,
        "seconds": round(seconds, 1),
        "cpu": round(usage.ru_utime + usage.ru_stime, 1),
        "driver_mb": round(own_peak / 1000),
        "largest_mb": round(usage.ru_maxrss / 1000),
        "requests": sum(count for what, count in asked.items() if what != "lists of pods begun"),
        "asked": dict(asked.most_common()),
        "said": log.read_text()[-3000:],
    }


class _Elements(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.count += 1


def page_of(home: Path) -> dict[str, Any]:
    """The last report's page: its size in MB, how many elements a browser lays out, seconds to parse it."""
    text = (home / ".slipway" / "runs" / "latest" / "index.html").read_text()
    reader = _Elements()
    before = time.monotonic()
    reader.feed(text)
    return {
        "mb": round(len(text.encode()) / 1e6, 3),
        "elements": reader.count,
        "parse": round(time.monotonic() - before, 2),
    }


def proof_of(home: Path) -> dict[str, Any]:
    """What smoke.json of the last run says, in short."""
    proof = json.loads((home / ".slipway" / "runs" / "latest" / "smoke.json").read_text())
    replicas = proof["replicas"]
    return {
        "ok": proof["ok"],
        "replicas": len(replicas),
        "endpoints": len({one["endpoint"] for one in replicas}),
        "versions": dict(Counter(str(one["model_version"]) for one in replicas)),
        "requests": proof["requests"],
        "gates": {gate["name"]: [gate["value"], gate["ok"], gate["note"][:300]] for gate in proof["gates"]},
    }


def rollout_seconds(plane: control_plane.ControlPlane) -> float:
    """From the Deployment's creation until the last of its pods was ready, as the cluster dates it; whole seconds."""
    item = plane.kubectl.get("deployment", "mnist-deployment", namespace=NAMESPACE)
    dates = [one["lastUpdateTime"] for one in item["status"]["conditions"] if one["type"] == "Progressing"]
    begin, end = (datetime.fromisoformat(text) for text in (item["metadata"]["creationTimestamp"], dates[0]))
    return (end - begin).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("nodes", type=int)
    parser.add_argument("replicas", type=int)
    parser.add_argument("--many", type=int, help="smoke.many_replicas, where it is not the default")
    parser.add_argument("--slipway", type=Path, default=Path(sys.executable).with_name("slipway"))
    parser.add_argument("--keep", type=Path, help="a folder for everything, which stays")
    flags = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = flags.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slip-many-")))
        folder.mkdir(exist_ok=True)
        found = programs(folder)
        own_network()
        audit, token = Audit(folder), secrets.token_hex(16)
        model = stack.enter_context(model_server(folder))
        more = {
            "kube-apiserver": [
                *audit.arguments,
                f"--advertise-address={NODE_ADDRESS}",
                "--kubelet-preferred-address-types=InternalIP",
                "--disable-admission-plugins=TaintNodesByCondition",
                "--max-requests-inflight=2000",
                "--max-mutating-requests-inflight=1000",
            ],
            "kube-controller-manager": [*UNHURRIED, "--concurrent-deployment-syncs=5"],
            "kube-scheduler": UNHURRIED,
        }
        plane = stack.enter_context(
            control_plane.running(folder, found.plane, nodes=(), users={"slipway": token}, more=more)
        )
        log = stack.enter_context(kwok(folder, found, plane))
        nodes = make_nodes(plane, flags.nodes)
        asking = AskingPods(control_plane.api_of(plane), log, model.requests)
        asking.start()
        stack.callback(asking.end)
        smoke = {"many_replicas": flags.many} if flags.many else {}
        home = project(folder, plane, token, replicas=flags.replicas, nodes=nodes, model=model, smoke=smoke)
        document: dict[str, Any] = {"nodes": flags.nodes, "replicas": flags.replicas}
        for name, words in (
            ("deploy", ["deploy"]),
            ("smoke", ["smoke"]),
            ("status", ["status", "--json"]),
            ("deploy again", ["deploy"]),
        ):
            document[name] = measured(home, [str(flags.slipway), *words], audit, folder / f"{name}.log")
            sys.stderr.write(f"{name}: {json.dumps(document[name])}\n")
            if name == "deploy":
                document["rollout"] = rollout_seconds(plane)
            if name == "smoke":
                document |= {"page": page_of(home), "proof": proof_of(home)}
                sys.stderr.write(f"{document['page']} {document['proof']}\n")
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
