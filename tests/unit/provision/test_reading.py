from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from slipway.clients import ssh
from slipway.core.errors import HostError
from slipway.core.process import Completed
from slipway.core.types import Host, Node
from slipway.provision import reading

HOST = Host("cp", "10.77.2.2", "root", "ssh-ed25519 AAAA", ("control_plane",))


class Answering:
    def run(self, argv: list[str], *, timeout: float, check: bool) -> Completed:
        assert not check, "a failed unit makes systemctl fail, and is just what is looked for"
        return Completed(tuple(argv), 3, f"{argv[0]} says: kubelet.service failed", "")


def test_state_and_journal_of_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(host: Host, timeout: float) -> Iterator[Answering]:
        yield Answering()

    monkeypatch.setattr(ssh, "connect", connect)
    text = reading.journal(HOST).read(10)
    assert text.splitlines() == [
        "systemctl says: kubelet.service failed",
        "journalctl says: kubelet.service failed",
    ]


def test_a_host_that_does_not_answer_says_so_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(host: Host, timeout: float) -> None:
        raise HostError("no answer on port 22", where=host.name)

    monkeypatch.setattr(ssh, "connect", connect)
    assert "cp: no answer on port 22" in reading.journal(HOST).read(10)


def test_a_node_that_has_no_address_yet_has_an_empty_one() -> None:
    item = {"metadata": {"name": "worker-1"}, "status": {"nodeInfo": {"kubeletVersion": "v1.36.3"}}}
    assert reading._node(item) == Node("worker-1", "", "worker", "v1.36.3")
