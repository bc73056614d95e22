"""Machines of a Vagrantfile, from what Vagrant prints and writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import CommandError, HostError, UsageError
from slipway.core.process import Completed
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.hosts import base, vagrant
from slipway.hosts.vagrant import Machine, Vagrant, Way, ways_of

PRINTED = """\
Host cp
  HostName 127.0.0.1
  User vagrant
  Port 2222
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  PasswordAuthentication no
  IdentityFile "/home/someone/with blanks/.vagrant/machines/cp/virtualbox/private_key"
  IdentitiesOnly yes
  LogLevel FATAL

Host worker-1
  HostName 192.168.121.7
  User root
  Port 22
  IdentityFile /keys/worker-1
"""
MACHINES = (
    Machine("cp", ("control_plane", "docker"), "192.168.56.11"),
    Machine("worker-1", ("worker",), None),
)
SETTINGS = Settings.model_validate({"hosts": {"backend": "vagrant"}})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a Vagrantfile whose machines run."""
    for variable in ("VAGRANT_CWD", "VAGRANT_VAGRANTFILE", "VAGRANT_DOTFILE_PATH"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "Vagrantfile").write_text("")
    data = tmp_path / ".vagrant"
    (data / vagrant.WRITTEN).parent.mkdir(parents=True)
    (data / vagrant.WRITTEN).write_text("")
    for name in ("cp", "worker-1"):
        (data / "machines" / name / "virtualbox").mkdir(parents=True)
        (data / "machines" / name / "virtualbox" / "id").write_text(f"id-of-{name}")
    monkeypatch.setattr(vagrant, "written", lambda path: MACHINES)
    return tmp_path


@pytest.fixture
def shown() -> dict[str, str]:
    """The key that a machine shows, by its port."""
    return {"2222": base.ed25519().public, "22": base.ed25519().public}


@pytest.fixture
def asked(shown: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def run(argv: list[str], **_: Any) -> Completed:
        words = tuple(map(str, argv))
        asked.append(words[0])
        if words[0] == "vagrant":
            return Completed(words, 0, PRINTED, "")
        port = words[words.index("-p") + 1]
        key = shown.get(port)
        return Completed(words, 0, f"[127.0.0.1]:{port} {key}\n" if key else "", "# nobody\n")

    monkeypatch.setattr(process, "run", run)
    return asked


def inventory(folder: Path) -> dict[str, Any]:
    ctx = Context(State(folder / ".slipway"), folder / "run", folder)
    held: dict[str, Any] = yaml.safe_load(Vagrant().inventory(ctx, SETTINGS).read_text())
    return held


def test_what_vagrant_prints_is_read_as_ssh_reads_it() -> None:
    assert ways_of(PRINTED) == {
        "cp": Way(
            "127.0.0.1",
            2222,
            "vagrant",
            "/home/someone/with blanks/.vagrant/machines/cp/virtualbox/private_key",
        ),
        "worker-1": Way("192.168.121.7", 22, "root", "/keys/worker-1"),
    }


@pytest.mark.usefixtures("asked")
def test_a_machine_is_reached_in_the_private_network_where_it_has_an_address_there(
    folder: Path, shown: dict[str, str]
) -> None:
    children = inventory(folder)["all"]["children"]
    assert {group: list(held["hosts"]) for group, held in children.items()} == {
        "control_plane": ["cp"],
        "docker": ["cp"],
        "worker": ["worker-1"],
    }
    cp, worker = children["control_plane"]["hosts"]["cp"], children["worker"]["hosts"]["worker-1"]
    assert (cp["ansible_host"], cp["ansible_port"]) == ("192.168.56.11", 22)
    assert (worker["ansible_host"], worker["ansible_port"]) == ("192.168.121.7", 22)
    assert (cp["ansible_user"], worker["ansible_user"]) == ("vagrant", "root")
    assert (cp["slipway_host_key"], worker["slipway_host_key"]) == (shown["2222"], shown["22"])


def test_a_key_is_taken_once_and_another_machine_has_another(
    folder: Path, shown: dict[str, str], asked: list[str]
) -> None:
    first = inventory(folder)
    before = dict(shown)
    shown["2222"] = base.ed25519().public  # somebody is in between, or the key was changed
    assert inventory(folder) == first
    assert asked.count("ssh-keyscan") == 2
    (folder / ".vagrant/machines/cp/virtualbox/id").write_text("made anew")
    cp = inventory(folder)["all"]["children"]["control_plane"]["hosts"]["cp"]
    assert cp["slipway_host_key"] == shown["2222"] != before["2222"]


def missing_inventory(folder: Path, monkeypatch: pytest.MonkeyPatch, shown: dict[str, str]) -> None:
    (folder / ".vagrant" / vagrant.WRITTEN).unlink()


def not_running(folder: Path, monkeypatch: pytest.MonkeyPatch, shown: dict[str, str]) -> None:
    def run(argv: list[str], **_: Any) -> Completed:
        raise CommandError(tuple(argv), 1, "The provider reported that it is not ready for SSH")

    monkeypatch.setattr(process, "run", run)


def silent(folder: Path, monkeypatch: pytest.MonkeyPatch, shown: dict[str, str]) -> None:
    shown.clear()


def unknown(folder: Path, monkeypatch: pytest.MonkeyPatch, shown: dict[str, str]) -> None:
    monkeypatch.setattr(vagrant, "written", lambda path: (Machine("other", ("worker",), None),))


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("spoil", "what", "action"),
    [
        (missing_inventory, "has written no inventory yet", "vagrant provision"),
        (not_running, "does not say how its machines are reached", "vagrant up"),
        (silent, "no SSH answers at 127.0.0.1:2222", "vagrant status"),
        (unknown, "does not know how to reach", "vagrant up"),
    ],
)
def test_what_is_missing_is_told_with_the_command_that_helps(
    spoil: Callable[..., None],
    what: str,
    action: str,
    folder: Path,
    shown: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(folder, monkeypatch, shown)
    with pytest.raises(HostError, match=what) as caught:
        inventory(folder)
    assert action in caught.value.action


def test_without_a_vagrantfile_there_is_nothing_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VAGRANT_CWD", raising=False)
    monkeypatch.setenv("VAGRANT_VAGRANTFILE", "no-such-Vagrantfile")
    with pytest.raises(UsageError, match="there is no no-such-Vagrantfile"):
        inventory(tmp_path)
