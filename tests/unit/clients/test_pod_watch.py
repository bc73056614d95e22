"""The pods of a deployment, listed once and then told by the API server."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway.clients import pod_watch
from slipway.clients.kubectl import Kubectl, KubectlError
from slipway.clients.pod_watch import PodWatch
from slipway.core import process
from slipway.core.errors import CommandError


def pod(name: str, phase: str = "Pending", version: str = "1") -> dict[str, Any]:
    meta = {"name": name, "uid": f"uid-{name}", "resourceVersion": version, "managedFields": ["long"]}
    return {
        "metadata": meta,
        "spec": {"nodeName": "n1", "containers": ["long"]},
        "status": {"phase": phase},
    }


class Api:
    """Pages of one list after the other, and watches that tell their events and then stay open, or end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *lists: list[list[dict[str, Any]]]) -> None:
        self.lists = list(lists)
        self.paths: list[str] = []
        self.watches: list[tuple[Callable[[str], None], threading.Event]] = []
        self.opened = threading.Semaphore(0)
        monkeypatch.setattr(Kubectl, "run", self.run)
        monkeypatch.setattr(process, "streaming", self.streaming)
        self.pages: list[dict[str, Any]] = []

    def run(self, args: list[str], **_: Any) -> Any:
        self.paths.append(args[-1])
        if not self.pages:
            parts = self.lists.pop(0)
            if not parts:
                raise KubectlError(CommandError(("kubectl",), 1, "pods is forbidden"), "here")
            self.pages = [
                {"metadata": {"resourceVersion": "7", "continue": f"token {number}"}, "items": items}
                for number, items in enumerate(parts)
            ]
            del self.pages[-1]["metadata"]["continue"]
        return process.Completed((), 0, json.dumps(self.pages.pop(0)), "")

    @contextlib.contextmanager
    def streaming(
        self, argv: list[str], *, on_line: Callable[[str], None], **_: Any
    ) -> Iterator[threading.Event]:
        self.paths.append(argv[-1])
        ended = threading.Event()
        self.watches.append((on_line, ended))
        self.opened.release()
        yield ended

    def tell(self, kind: str, about: dict[str, Any]) -> None:
        self.watches[-1][0](json.dumps({"type": kind, "object": about}))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_watch, "LOOK", 0.001)
    monkeypatch.setattr(pod_watch, "PAUSE", 0.001)
    monkeypatch.setattr(pod_watch, "SPARING", 0.0)


KUBECTL = Kubectl(Path("kubectl"), Path("kubeconfig"))


def phases(watched: PodWatch) -> dict[str, str]:
    return {one["metadata"]["name"]: one["status"]["phase"] for one in watched.now()}


def test_pods_are_listed_once_in_pages_and_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(monkeypatch, [[pod("a")], [pod("b")]])
    with PodWatch(KUBECTL, "serving", "app=x,run=y") as watched:
        assert api.paths == []  # nobody has asked yet
        assert phases(watched) == {"a": "Pending", "b": "Pending"}
        assert api.opened.acquire(timeout=30)
        api.tell("MODIFIED", pod("a", "Running"))
        api.tell("ADDED", pod("c"))
        api.tell("DELETED", pod("b"))
        api.watches[-1][0]("error: these are words")
        assert phases(watched) == {"a": "Running", "c": "Pending"}
        assert watched.now()[0] == {
            "kind": "Pod",
            "metadata": {"name": "a", "uid": "uid-a"},
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running"},
        }
    path = "/api/v1/namespaces/serving/pods?"
    selector = "labelSelector=app%3Dx%2Crun%3Dy"
    assert api.paths == [
        f"{path}limit=500&{selector}",
        f"{path}limit=500&{selector}&continue=token+0",
        f"{path}watch=1&resourceVersion=7&{selector}",
    ]


def test_a_watch_that_ends_begins_anew_with_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(monkeypatch, [[pod("a")]], [[pod("b")]])
    with PodWatch(KUBECTL, "serving", "app=x") as watched:
        watched.now()
        assert api.opened.acquire(timeout=30)
        api.watches[-1][1].set()
        assert api.opened.acquire(timeout=30)
        assert phases(watched) == {"b": "Pending"}


def test_what_keeps_pods_from_being_listed_is_raised_and_gone_with_the_next_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = Api(monkeypatch, [], [[pod("a")]])
    monkeypatch.setattr(pod_watch, "PAUSE", 0.0)
    hold = threading.Event()
    listed = PodWatch._list

    def first_waits(self: PodWatch) -> str:
        if self._error is not None:
            hold.wait(30)
        return listed(self)

    monkeypatch.setattr(PodWatch, "_list", first_waits)
    with PodWatch(KUBECTL, "serving", "app=x") as watched:
        with pytest.raises(KubectlError, match="kubectl"):
            watched.now()
        hold.set()
        assert api.opened.acquire(timeout=30)
        assert phases(watched) == {"a": "Pending"}
