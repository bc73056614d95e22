"""One ask from inside the cluster: a one-off pod with the deployed image and the client in it."""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway_client.check import Report, report_from
from slipway_client.requests import FixedRequest, to_line
from slipway_stacks import outputs

from slipway.clients.kubectl import Kubectl, Manifest
from slipway.clients.pods import Fault, Lasting, container_faults, unplaced, why_not_ready
from slipway.core import retry
from slipway.core.errors import SlipwayError
from slipway.core.events import Emit, Note
from slipway.core.registries import PULL_SECRET
from slipway.core.schema import SmokeSettings
from slipway.core.types import Endpoints, ExportedModel, ImageRef
from slipway.smoke.access import Access

LABEL = "slipway/smoke"
WAIT_SECONDS = 90.0  # to be scheduled, to pull, to start; and 10 ms for each request on top
_LARGEST = 900_000  # an object of the API server holds 1 MiB, base64 takes a third
_MOUNT = "/requests"
_ENDED = ("Succeeded", "Failed")
_FILE = "requests.jsonl"
_MAKE_ROOM = "it asks for 50m of CPU and 96 MiB: make room on a node"


@dataclass(frozen=True)
class PodAnswer:
    """What the pod said. error: why it could not ask, empty when it could."""

    pod: str
    node: str
    report: Report | None
    error: str = ""


class AskingPod:
    """Makes the pod, reads its report and removes it whatever happens."""

    def __init__(
        self,
        kubectl: Kubectl,
        endpoints: Endpoints,
        *,
        image: ImageRef,
        model: ExportedModel,
        settings: SmokeSettings,
        emit: Emit,
        access: Access,
    ) -> None:
        self._kubectl = kubectl
        self._endpoints = endpoints
        self._image = image
        self._model = model
        self._settings = settings
        self._emit = emit
        self._access = access
        self._patience = WAIT_SECONDS + settings.num_tests / 100
        self.name = f"slipway-smoke-{secrets.token_hex(4)}"

    def ask(self, requests: Sequence[FixedRequest], *, in_image: bool) -> PodAnswer:
        """Ask the Service from a pod. in_image: the requests lie in the image beside the model.

        Whatever keeps the pod from asking is in the result, not raised.
        """
        node = ""
        try:
            self._sweep()
            manifests = [self.pod(in_image=in_image)]
            if not in_image:
                manifests.insert(0, config_map(self.name, self._endpoints.namespace, requests))
            self._kubectl.apply(manifests)
            ended = self._wait()
            node = str(ended["spec"].get("nodeName", ""))
            text = self._kubectl.run(["logs", self.name, "-n", self._endpoints.namespace]).stdout
            return _said(self.name, node, text)
        except SlipwayError as error:
            words = [error.in_one_line(), error.action]
            return PodAnswer(self.name, node, None, "; ".join(word for word in words if word))
        finally:
            self._remove()

    def pod(self, *, in_image: bool) -> Manifest:
        """The pod: the deployed image by digest, and no more rights than the replicas have."""
        model, settings = self._model, self._settings
        where = (
            f"/models/{model.name}/{model.version}/assets.extra/{_FILE}" if in_image else f"{_MOUNT}/{_FILE}"
        )
        container: dict[str, Any] = {
            "name": "client",
            "image": self._image.reference,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-m", "slipway_client"],
            "args": [
                f"{self._endpoints.service}:{self._endpoints.grpc_port}",
                f"--requests={where}",
                f"--model_name={model.name}",
                f"--num_tests={settings.num_tests}",
                f"--concurrency={settings.concurrency}",
                f"--timeout={settings.timeout:g}",
                "--load",
                "--json",
                *self._access.arguments,
            ],
            # gRPC's own resolver ignores the search domains that make the Service's short name work.
            "env": [{"name": "GRPC_DNS_RESOLVER", "value": "native"}],
            "resources": {
                "requests": {"cpu": "50m", "memory": "96Mi"},
                "limits": {"cpu": "1", "memory": "512Mi"},
            },
            "securityContext": outputs.container_security(),
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            # A pod that a killed run left ends by itself, and the next run removes it.
            "activeDeadlineSeconds": round(2 * self._patience),
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": [{"name": PULL_SECRET}],
            "securityContext": outputs.pod_security(),
            "containers": [container],
        }
        volumes, mounts = [*self._access.volumes], self._access.mounts
        if not in_image:
            mounts.append({"name": "requests", "mountPath": _MOUNT, "readOnly": True})
            volumes.append({"name": "requests", "configMap": {"name": self.name}})
        if volumes:
            container["volumeMounts"], spec["volumes"] = mounts, volumes
        return {"apiVersion": "v1", "kind": "Pod", "metadata": self._metadata(), "spec": spec}

    def _metadata(self) -> Manifest:
        return _metadata(self.name, self._endpoints.namespace)

    def _wait(self) -> dict[str, Any]:
        """The pod once it has ended. Raises SlipwayError when it cannot start or takes too long."""
        lasting = Lasting()

        def attempt() -> dict[str, Any]:
            pod = self._kubectl.find("pod", self.name, namespace=self._endpoints.namespace)
            if pod is None:
                raise SlipwayError(
                    f"the pod {self.name} was deleted by someone else",
                    action="run `slipway smoke` again when nobody clears the namespace",
                )
            if pod["status"].get("phase") in _ENDED:
                return pod
            why = why_not_ready(pod)
            for fault in lasting.final(_faults(pod), time.monotonic()):
                raise SlipwayError(f"the pod {self.name} does not start: {why}", action=fault.action)
            raise retry.Pending(why or "it runs")

        return retry.wait_for(
            f"the end of pod {self.name}",
            attempt,
            timeout=self._patience,
            interval=0.3,
            action=f"{_MAKE_ROOM}, or ask less (smoke.num_tests)",
        )

    def _sweep(self) -> None:
        """Remove what ended runs left behind, but no running pod: it may be another run's."""
        namespace = self._endpoints.namespace
        there = self._kubectl.get("pods,configmaps", namespace=namespace, selector=LABEL)["items"]
        running = {
            item["metadata"]["name"]
            for item in there
            if item["kind"] == "Pod" and item["status"].get("phase") not in _ENDED
        }
        left = [
            f"{item['kind'].lower()}/{item['metadata']['name']}"
            for item in there
            if item["metadata"]["name"] not in running
        ]
        if left:
            self._kubectl.run(["delete", *left, "-n", namespace, "--ignore-not-found", "--wait=false"])

    def _remove(self) -> None:
        try:
            self._kubectl.run(
                [
                    "delete",
                    "pod,configmap",
                    self.name,
                    "-n",
                    self._endpoints.namespace,
                    "--ignore-not-found",
                    "--wait=false",
                    "--grace-period=1",
                ],
            )
        except SlipwayError as error:
            self._emit(Note(f"the pod {self.name} could not be removed; the next run will: {error.what}"))


def lies_in_image(model: ExportedModel, requests: Path) -> bool:
    """Whether a file of requests is the model's own, which the image carries."""
    return requests.resolve() == (model.path / "assets.extra" / _FILE).resolve()


def config_map(name: str, namespace: str, requests: Sequence[FixedRequest]) -> Manifest:
    """The requests as an object the pod can mount, gzipped.

    Raises SlipwayError when they do not fit into one.
    """
    text = "".join(f"{to_line(request)}\n" for request in requests)
    packed = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    if len(packed) > _LARGEST:
        raise SlipwayError(
            f"the requests take {len(packed)} bytes packed, a ConfigMap holds {_LARGEST}",
            action="ask fewer or smaller ones: smoke.num_tests, smoke.requests",
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(name, namespace),
        "binaryData": {_FILE: packed},
    }


def _faults(pod: dict[str, Any]) -> list[Fault]:
    """What keeps the pod from starting, each with what ends it."""
    action = "`slipway deploy` brings image and pull secret in order, then run `slipway smoke`"
    found = [replace(fault, action=action) for fault in container_faults(pod)]
    if unplaced(pod) is not None:
        found.append(Fault("place", "no node takes the pod", pod["metadata"]["name"], action=_MAKE_ROOM))
    return found


def _metadata(name: str, namespace: str) -> Manifest:
    return {
        "name": name,
        "namespace": namespace,
        "labels": {LABEL: name, "app.kubernetes.io/managed-by": "slipway"},
    }


def _said(pod: str, node: str, text: str) -> PodAnswer:
    """The client's one line of JSON among what the pod printed."""
    lines = text.strip().splitlines()
    for line in reversed(lines):
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if isinstance(data, dict) and isinstance(data.get("error"), dict):
            words = data["error"].get("lines") or [data["error"].get("what", "no reason given")]
            return PodAnswer(pod, node, None, " ".join(str(word).strip() for word in words))
        try:
            return PodAnswer(pod, node, report_from(data))
        except ValueError:
            continue
    return PodAnswer(pod, node, None, f"it printed no report: {' / '.join(lines[-3:]) or 'nothing at all'}")
