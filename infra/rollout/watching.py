"""A rollout as it goes: ready, not yet, or broken for a reason that waiting does not mend."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.clients.kubectl import Kubectl, KubectlError, controller_of, why_not_ready
from infra.core.context import Context
from infra.core.errors import DeployError
from infra.core.events import progress
from infra.core.retry import wait_for
from stacks import outputs

# Words of a registry's answer that no second try changes
_FINAL_PULL = (
    "not found",
    "manifest unknown",
    "unauthorized",
    "authentication required",
    "denied",
    "no basic auth",
    "x509",
    "invalid reference",
    "no such host",
    "server gave HTTP response",
    "no match for platform",
)
_NEVER = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError")
# Seconds a state must last before it counts as final; the kubelet and the scheduler try again themselves
_GRACE = {"pull": 25.0, "pull for good": 0.0, "never": 10.0, "crash": 0.0, "place": 15.0, "create": 5.0}


@dataclass(frozen=True)
class Fault:
    """Why a rollout does not get on. kind is its key in the table of graces."""

    kind: str
    what: str
    pod: str = ""
    node: str = ""
    container: str = ""
    message: str = ""
    action: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What stays the same while a fault lasts, though its words count up."""
        return self.kind, self.pod, self.container


@dataclass(frozen=True)
class Progress:
    """How far a rollout is. ready: replicas of the present revision; older: ready ones of earlier ones."""

    ready: int
    older: int
    wanted: int
    over: bool

    @property
    def sentence(self) -> str:
        """The counts for people."""
        rest = f"; {self.older} of the earlier revision go on serving" if self.older else ""
        return f"{self.ready} of {self.wanted} replicas are ready{rest}"


def progress_of(deployment: dict[str, Any], sets: Sequence[dict[str, Any]]) -> Progress:
    """Counted from the Deployment and its ReplicaSets, as read."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    ready = {True: 0, False: 0}
    for item in sets:
        if controller_of(item) == deployment["metadata"]["uid"]:
            present = _revision(item) == _revision(deployment)
            ready[present] += item.get("status", {}).get("readyReplicas", 0)
    # until the controller has seen the last change, the counts are those of the revision before
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 1)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")]
    over = seen and all(count == wanted for count in counts) and not status.get("unavailableReplicas", 0)
    if not seen:
        return Progress(0, ready[True] + ready[False], wanted, False)
    return Progress(ready[True], ready[False], wanted, over)


def _revision(item: dict[str, Any]) -> str:
    return str(item["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", ""))


def faults(
    deployment: dict[str, Any], sets: Sequence[dict[str, Any]], pods: Sequence[dict[str, Any]]
) -> list[Fault]:
    """Everything that holds this rollout up, from objects as read; the worst first."""
    out: list[Fault] = []
    conditions = {item["type"]: item for item in deployment.get("status", {}).get("conditions", [])}
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        out.append(_not_created(failure.get("message", "")))
    own = {item["metadata"]["uid"] for item in sets if controller_of(item) == deployment["metadata"]["uid"]}
    for pod in pods:
        if controller_of(pod) in own and "deletionTimestamp" not in pod["metadata"]:
            out += _pod_faults(pod)
    order = list(_GRACE)
    return sorted(out, key=lambda fault: order.index(fault.kind))


def _not_created(message: str) -> Fault:
    if "exceeded quota" in message:
        action = "raise the namespace's ResourceQuota, or ask for less (deploy.replicas, memoryRequest)"
    elif "violates PodSecurity" in message:
        action = "the namespace's pod security profile refuses the pod; label the namespace otherwise"
    else:
        action = "the cluster refuses to create the pods; its policy or webhook is named above"
    return Fault("create", "the cluster does not create the pods", message=message, action=action)


def _pod_faults(pod: dict[str, Any]) -> list[Fault]:
    name, node = pod["metadata"]["name"], pod["spec"].get("nodeName", "")
    status = pod["status"]
    out: list[Fault] = []
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            out.append(
                Fault(
                    "place",
                    "no node takes the pod",
                    pod=name,
                    message=condition.get("message", ""),
                    action="add or free nodes, ask for less (memoryRequest, cpuRequest, replicas), "
                    "or allow an uneven spread (stack input spread: preferred)",
                )
            )
    for item in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        fault = _container_fault(item, name, node)
        if fault is not None:
            out.append(fault)
    return out


def _container_fault(item: dict[str, Any], pod: str, node: str) -> Fault | None:
    waiting = item.get("state", {}).get("waiting", {})
    reason, message, container = waiting.get("reason", ""), waiting.get("message", ""), item["name"]
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        final = any(word.lower() in message.lower() for word in _FINAL_PULL)
        return Fault(
            "pull for good" if final else "pull",
            f"the image cannot be pulled ({reason})",
            pod,
            node,
            container,
            f"{item.get('image', '')}\n{message}",
            "check that the image is in the registry (`slipway image push`), that the node reaches and trusts "
            "the registry, and that its login in the pull secret is right",
        )
    if reason in _NEVER:
        return Fault(
            "never", f"the container cannot be created ({reason})", pod, node, container, message,
            "correct what the message names",
        )  # fmt: skip
    ended = item.get("state", {}).get("terminated") or item.get("lastState", {}).get("terminated") or {}
    crashes = item.get("restartCount", 0)
    if reason == "CrashLoopBackOff" or (crashes >= 2 and not item.get("ready")):
        how = f"exit code {ended.get('exitCode', '?')}" if ended else "no exit code known"
        out_of_memory = ended.get("reason") == "OOMKilled"
        return Fault(
            "crash",
            f"the model server ends again and again ({crashes} times, {ended.get('reason') or reason}, {how})",
            pod,
            node,
            container,
            ended.get("message", "") or message,
            "raise the stack input memoryLimit"
            if out_of_memory
            else "read its last lines above; `slipway image build` runs the same image under Docker",
        )
    return None


def wait_ready(ctx: Context, kubectl: Kubectl, namespace: str, deployment: str, timeout: float) -> None:
    """Wait until every replica of the present revision is ready and no older one is left.

    Raises DeployError at once for what waiting does not mend, or at the deadline, with pod, node,
    container, the kubelet's or scheduler's reason and the server's last lines. Changes nothing.
    """
    first = wait_for(
        "an answer of the cluster",
        lambda: _look(kubectl, namespace, deployment),
        timeout=30,
        retry_on=(Unreachable,),
        where=str(kubectl.kubeconfig),
    )
    with progress(ctx.emit, f"replicas of {deployment} ready", first.progress.wanted) as advance:
        since: dict[tuple[str, str, str], float] = {}
        deadline = time.monotonic() + timeout
        seen = first
        while not seen.progress.over:
            advance(seen.progress.ready)
            now = time.monotonic()
            since = {fault.identity: since.get(fault.identity, now) for fault in seen.faults}
            final = [fault for fault in seen.faults if now - since[fault.identity] >= _GRACE[fault.kind]]
            if final or (now > deadline and seen.faults):
                raise _error(kubectl, namespace, (final or seen.faults)[0], seen.progress.sentence)
            if now > deadline:
                raise DeployError(
                    f"{seen.progress.sentence} after {timeout:g} s",
                    where=f"Deployment {namespace}/{deployment}",
                    tail="\n".join(seen.unready[:10]),
                    action="raise deploy.timeout if they only need longer; `slipway deploy` goes on waiting",
                )
            time.sleep(1)
            with contextlib.suppress(Unreachable):  # an API server that restarts is no reason to give up
                seen = _look(kubectl, namespace, deployment)
        advance(seen.progress.ready)


@dataclass(frozen=True)
class _Seen:
    """One look at the rollout."""

    progress: Progress
    faults: list[Fault]
    unready: list[str]


class Unreachable(Exception):
    """The API server does not answer at the moment."""


def _look(kubectl: Kubectl, namespace: str, deployment: str) -> _Seen:
    try:
        items = kubectl.get("deployments,replicasets,pods", namespace=namespace, selector=_selector())[
            "items"
        ]
    except KubectlError as error:
        if error.reason == "unreachable":
            raise Unreachable(error.output) from error
        raise
    found = next((item for item in items if item["metadata"]["name"] == deployment), None)
    if found is None:
        raise DeployError(
            f"{deployment} is gone, or lost its labels, while it was waited for",
            where=f"namespace {namespace}",
            action="something else changes it; see its events in the evidence",
        )
    pods = [item for item in items if item["kind"] == "Pod"]
    sets = [item for item in items if item["kind"] == "ReplicaSet"]
    return _Seen(
        progress_of(found, sets),
        faults(found, sets, pods),
        [f"{pod['metadata']['name']}: {reason}" for pod in pods if (reason := why_not_ready(pod))],
    )


def _selector() -> str:
    return ",".join(f"{key}={value}" for key, value in outputs.SELECTOR.items())


def _error(kubectl: Kubectl, namespace: str, fault: Fault, count: str) -> DeployError:
    tail = fault.message.splitlines()
    if fault.kind == "crash":
        tail += _last_lines(kubectl, namespace, fault)
    where = f"pod {namespace}/{fault.pod}" if fault.pod else f"namespace {namespace}"
    where += f" on {fault.node}" if fault.node else ""
    where += f", container {fault.container}" if fault.container else ""
    return DeployError(f"{fault.what}; {count}", where=where, tail="\n".join(tail), action=fault.action)


def _last_lines(kubectl: Kubectl, namespace: str, fault: Fault) -> list[str]:
    for previous in (True, False):
        args = ["logs", fault.pod, "-n", namespace, "-c", fault.container, "--tail=15"]
        done = kubectl.run([*args, "--previous"] if previous else args, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.splitlines()
    return []


def collect(ctx: Context, kubectl: Kubectl, namespace: str) -> tuple[Path, ...]:
    """Save what tells why: objects, events, descriptions, logs of every pod. Never a secret."""
    wanted: list[tuple[str, list[str]]] = [
        ("objects.yaml", ["get", "deployment,replicaset,pod,service,endpointslice,pdb", "-o", "yaml"]),
        ("events.txt", ["get", "events", "--sort-by=.metadata.creationTimestamp"]),
        ("describe.txt", ["describe", "deployment,replicaset,pod,service"]),
    ]
    listed = kubectl.run(["get", "pods", "-n", namespace, "-o", "name"], check=False).stdout.split()
    for pod in listed:
        name = pod.removeprefix("pod/")
        for suffix, more in (("log", []), ("previous.log", ["--previous"])):
            wanted.append((f"{name}.{suffix}", ["logs", name, "--all-containers", "--tail=2000", *more]))
    saved = []
    for name, args in wanted:
        done = kubectl.run([*args, "-n", namespace], check=False)
        if done.returncode == 0 and done.stdout.strip():
            path = ctx.evidence(f"deploy/{name}")
            path.write_text(done.stdout, encoding="utf-8")
            saved.append(path)
    nodes = kubectl.run(["describe", "nodes"], check=False)
    if nodes.returncode == 0:
        path = ctx.evidence("deploy/nodes.txt")
        path.write_text(nodes.stdout, encoding="utf-8")
        saved.append(path)
    return tuple(saved)
