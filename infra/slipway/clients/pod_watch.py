"""Pods, however many there are: read in pages, and followed by what the API server tells of changes."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from slipway.clients.kubectl import Kubectl
from slipway.core import interrupt, process
from slipway.core.errors import SlipwayError

# What of a pod tells how it is; of thousands the rest would take most of the memory
_KEPT = ("name", "uid", "generateName", "labels", "ownerReferences", "deletionTimestamp")
_FIRST_SECONDS = 60.0  # for the first list
LOOK = 0.2
PAUSE = 1.0  # seconds between two lists at least
# After a watch that ended: a list costs no more than a tenth of the time, on a cluster of any size
SPARING = 10.0


def bare(pod: dict[str, Any]) -> dict[str, Any]:
    """A pod without what does not tell how it is: metadata in part, its node, its status."""
    meta, spec = pod["metadata"], pod.get("spec", {})
    return {
        "kind": "Pod",
        "metadata": {key: meta[key] for key in _KEPT if key in meta},
        "spec": {"nodeName": spec["nodeName"]} if "nodeName" in spec else {},
        "status": pod.get("status", {}),
    }


def every(kubectl: Kubectl, namespace: str, selector: str = "") -> Iterator[dict[str, Any]]:
    """Each pod of a namespace as `bare` leaves it, read once and in pages. Raises KubectlError."""
    for page in kubectl.pages(f"/api/v1/namespaces/{namespace}/pods", selector):
        yield from map(bare, page["items"])


class PodWatch:
    """Follows the pods from the first `now` until the block ends. A watch that ends begins anew."""

    def __init__(self, kubectl: Kubectl, namespace: str, selector: str) -> None:
        self._kubectl = kubectl
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._selector = selector
        self._guard = threading.Lock()
        self._pods: dict[str, dict[str, Any]] = {}
        self._listed = threading.Event()  # or it failed
        self._error: Exception | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PodWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(10)

    def now(self) -> list[dict[str, Any]]:
        """The pods as last heard of, each as `bare` leaves it; waits for the first list.

        Raises KubectlError when they could not be listed.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, daemon=True)
            self._thread.start()
        interrupt.until(self._listed.wait, _FIRST_SECONDS)
        with self._guard:
            if self._error is not None:
                raise self._error
            return list(self._pods.values())

    def _follow(self) -> None:
        while not self._over.is_set():
            before = time.monotonic()
            pause = PAUSE
            try:
                version = self._list()
                pause = max(pause, SPARING * (time.monotonic() - before))
                before = time.monotonic()
                self._hear(version)
                pause -= time.monotonic() - before
            except (
                SlipwayError,
                ValueError,
                LookupError,
            ) as error:  # it cannot be asked, or answers otherwise
                with self._guard:
                    self._error = error
                self._listed.set()
            self._over.wait(max(PAUSE, pause))

    def _list(self) -> str:
        """List anew; the version that a watch goes on from."""
        found: dict[str, dict[str, Any]] = {}
        version = ""
        for page in self._kubectl.pages(self._path, self._selector):
            version = version or page["metadata"]["resourceVersion"]
            found |= {pod["metadata"]["uid"]: bare(pod) for pod in page["items"]}
        with self._guard:
            self._pods, self._error = found, None
        self._listed.set()
        return version

    def _hear(self, version: str) -> None:
        """Take in what changes until the server ends the watch, or nobody listens any more."""
        asked = {"watch": "1", "resourceVersion": version, "labelSelector": self._selector}
        argv = self._kubectl.argv(["get", "--raw", f"{self._path}?{urlencode(asked)}"])
        with process.streaming(argv, on_line=self._changed, env=self._kubectl.environment) as ended:
            while not self._over.is_set() and not ended.wait(LOOK):
                pass

    def _changed(self, line: str) -> None:
        """One event. What is none, such as an error's words, ends the watch by itself."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            event = json.loads(line)
            if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                return
            pod = event["object"]
            with self._guard:
                if event["type"] == "DELETED":
                    self._pods.pop(pod["metadata"]["uid"], None)
                else:
                    self._pods[pod["metadata"]["uid"]] = bare(pod)
