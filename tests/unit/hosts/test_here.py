"""The provider of machines on this computer, without any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.types import Host, Hosts, Outcome
from slipway.hosts import here
from slipway.hosts.here import LabProvider


class Nspawn:
    """Notes what it is asked."""

    asked: list[tuple[str, Path, int]]

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        self.asked.append(("up", ctx.state.root, settings.hosts.workers))
        names = ["cp", *(f"worker-{number}" for number in range(1, settings.hosts.workers + 1))]
        hosts = tuple(Host(name, "10.77.0.2", "root", f"ssh-ed25519 {name}", ()) for name in names)
        return Outcome(Hosts("nspawn", hosts, ctx.state.ssh / "id_ed25519"), 1, "made")

    def down(self, ctx: Context) -> list[str]:
        self.asked.append(("down", ctx.state.root, 0))
        return []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path, int]]:
    Nspawn.asked = []
    monkeypatch.setattr(here, "Nspawn", Nspawn)
    return Nspawn.asked


def props(workers: float, folder: str = "/labs/one") -> dict[str, Any]:
    return {"folder": folder, "workers": workers, "reached": None}


def test_a_lab_is_made_and_told_of_as_ansible_reaches_it(asked: list[tuple[str, Path, int]]) -> None:
    made = LabProvider().create(props(1.0))  # the engine knows one kind of number
    assert asked == [("up", Path("/labs/one"), 1)]
    assert made.id == "/labs/one"
    assert made.outs is not None
    assert made.outs["reached"]["worker-1"] == {
        "ansible_host": "10.77.0.2",
        "ansible_user": "root",
        "ansible_ssh_private_key_file": "/labs/one/ssh/id_ed25519",
        "slipway_host_key": "ssh-ed25519 worker-1",
    }


def test_more_workers_change_it_and_another_folder_is_another_lab(asked: list[tuple[str, Path, int]]) -> None:
    provider = LabProvider()
    assert provider.diff("", props(1), props(1.0)).changes is False
    more = provider.diff("", props(1), props(2))
    assert (more.changes, more.replaces) == (True, [])
    other = provider.diff("", props(1), props(1, "/labs/two"))
    assert (other.changes, other.replaces) == (True, ["folder"])
    assert list((provider.update("", props(1), props(2)).outs or {})["reached"]) == [
        "cp",
        "worker-1",
        "worker-2",
    ]
    assert asked == [("up", Path("/labs/one"), 2)]


def test_what_was_made_is_taken_away(asked: list[tuple[str, Path, int]]) -> None:
    LabProvider().delete("/labs/one", props(1))
    assert asked == [("down", Path("/labs/one"), 0)]
