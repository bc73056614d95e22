"""A rollout as it goes: ready, not yet ready, or broken for a reason that no waiting mends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slipway_stacks import outputs

from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.clients.pod_watch import PodWatch
from slipway.clients.pods import Fault, Lasting, controller_of, is_evicted, unplaced, why_not_ready
from slipway.core import interrupt
from slipway.core.context import Context
from slipway.core.errors import DeployError
from slipway.core.events import progress
from slipway.core.retry import wait_for
from slipway.deploy.faults import faults

_SPARING = 10.0  # nodes are listed for a tenth of the time at most


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
    """How far a rollout is, counted from the Deployment and its ReplicaSets as read."""
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


def wait_ready(ctx: Context, kubectl: Kubectl, namespace: str, names: outputs.Names, timeout: float) -> None:
    """Wait until every replica of the present revision is ready and no older one is left.

    Raises DeployError at once for what waiting does not mend, or at the deadline, with pod, node,
    container, the kubelet's or scheduler's reason and the server's last lines. Changes nothing.
    """
    with PodWatch(kubectl, namespace, _selector(names)) as pods:
        rollout = _Rollout(kubectl, namespace, names, pods)
        _wait(ctx, rollout, timeout)


def _wait(ctx: Context, rollout: _Rollout, timeout: float) -> None:
    kubectl, namespace, names = rollout.kubectl, rollout.namespace, rollout.names
    seen = wait_for(
        "an answer of the cluster",
        rollout.look,
        timeout=30,
        retry_on=(Unreachable,),
        where=str(kubectl.kubeconfig),
    )
    with progress(ctx.emit, f"replicas of {names.deployment} ready", seen.progress.wanted) as advance:
        lasting = Lasting()
        deadline = time.monotonic() + timeout
        while not seen.progress.over:
            advance(seen.progress.ready)
            now = time.monotonic()
            final = lasting.final(seen.faults, now)
            if final or (now > deadline and seen.faults):
                raise _error(kubectl, namespace, (final or seen.faults)[0], seen.progress.sentence)
            if now > deadline:
                raise DeployError(
                    f"{seen.progress.sentence} after {timeout:g} s",
                    where=f"Deployment {namespace}/{names.deployment}",
                    tail="\n".join(seen.unready[:10]),
                    action="raise deploy.timeout if they only need longer; `slipway deploy` goes on waiting",
                )
            interrupt.pause(1)
            with contextlib.suppress(Unreachable):  # the API server may only be restarting
                seen = rollout.look()
        advance(seen.progress.ready)


@dataclass(frozen=True)
class _Seen:
    """One look at the rollout."""

    progress: Progress
    faults: list[Fault]
    unready: list[str]


class Unreachable(Exception):
    """The API server does not answer at the moment."""


class _Rollout:
    """What is looked at: the Deployment and its ReplicaSets anew each time, pods as their watch has them."""

    def __init__(self, kubectl: Kubectl, namespace: str, names: outputs.Names, pods: PodWatch) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.names = names
        self._pods = pods
        self._nodes: list[dict[str, Any]] = []
        self._nodes_until = 0.0

    def look(self) -> _Seen:
        """How far it is and what holds it up. Raises Unreachable; DeployError if the Deployment is gone."""
        try:
            found, sets = self._owners()
            far = progress_of(found, sets)
            pods = [] if far.over else self._pods.now()
        except KubectlError as error:
            if error.reason == "unreachable":
                raise Unreachable(error.output) from error
            raise
        return _Seen(
            far,
            [] if far.over else faults(found, sets, pods, self._explaining(pods)),
            [f"{pod['metadata']['name']}: {reason}" for pod in pods if (reason := why_not_ready(pod))],
        )

    def _owners(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The Deployment and the ReplicaSets."""
        items = self.kubectl.get(
            "deployments,replicasets", namespace=self.namespace, selector=_selector(self.names)
        )["items"]
        found = next((item for item in items if item["metadata"]["name"] == self.names.deployment), None)
        if found is None:
            raise DeployError(
                f"{self.names.deployment} is gone, or lost its labels, while it was waited for",
                where=f"namespace {self.namespace}",
                action="something else changes it; see its events in the evidence",
            )
        return found, [item for item in items if item["kind"] == "ReplicaSet"]

    def _explaining(self, pods: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The nodes, if pods find no place or were evicted; empty if this user may not list them."""
        if not any(is_evicted(pod) or unplaced(pod) is not None for pod in pods):
            return []
        now = time.monotonic()
        if now >= self._nodes_until:
            try:
                self._nodes = self.kubectl.get("nodes")["items"]
            except (
                KubectlError
            ):  # they only explain a fault, and who deploys to one namespace may not see them
                self._nodes = []
            # of a thousand nodes a list takes seconds
            self._nodes_until = time.monotonic() + max(1.0, _SPARING * (time.monotonic() - now))
        return self._nodes


def _selector(names: outputs.Names) -> str:
    return ",".join(f"{key}={value}" for key, value in names.selector.items())


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
