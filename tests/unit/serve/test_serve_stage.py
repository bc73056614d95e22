from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway import artifacts
from slipway.clients import ansible_play, ssh
from slipway.clients.ansible_play import Played, TaskChange
from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.process import Completed
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import ExportedModel, Host, HostPlay, Hosts, HostServers
from slipway.serve.stage import ServeOnHosts

HOSTS = Hosts(
    "ssh",
    (
        Host("cp", "192.0.2.10", "root", "ssh-ed25519 AAAA", ("control_plane",)),
        Host("one", "192.0.2.11", "root", "ssh-ed25519 BBBB", ("model_server",)),
        Host("two", "192.0.2.12", "root", "ssh-ed25519 CCCC", ("model_server", "docker")),
    ),
)
ALONE = replace(HOSTS, hosts=HOSTS.hosts[:1])


class Servers:
    """Hosts of two kinds, and a playbook that goes through; what they were asked."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ctx = Context(State(folder / ".slipway"), folder / "run", folder)
        self.model = ExportedModel(folder / "mnist/7", "mnist", 7, "0" * 64, folder / "requests.jsonl")
        self.played: list[tuple[str, dict[str, Any], bool]] = []
        self.resolved: list[str] = []
        self.pythons = {"one": f"3.13 {platform.machine()}\n", "two": "3.11 another\n"}
        monkeypatch.setattr(ssh, "connect", self._connect)
        monkeypatch.setattr(ansible_play, "play", self._play)
        monkeypatch.setattr(artifacts, "product", lambda package: (f"{package}-1-py3-none-any.whl", b"own"))
        monkeypatch.setattr(artifacts, "wheels", self._wheels)
        (folder / "locked").mkdir()
        (folder / "locked" / "grpcio-1-cp313.whl").write_bytes(b"grpc")
        self.locked = folder / "locked"

    @contextmanager
    def _connect(self, host: Host, timeout: float = 10) -> Iterator[Any]:
        del timeout
        answer = self.pythons[host.name]

        class Connected:
            def run(self, argv: list[str], **options: Any) -> Completed:
                return Completed(tuple(argv), 0, answer, "")

        yield Connected()

    def _wheels(self, ctx: Context, lock: Path, python: str) -> Path:
        self.resolved.append(f"{lock.parent.parent.name} {python}")
        return self.locked

    def _play(self, playbook: Path, inventory: list[Path], log: Path, *, check: bool, **_: Any) -> Played:
        self.played.append((playbook.name, yaml.safe_load(inventory[0].read_text()), check))
        changes = (TaskChange("one", "model_server : Write the unit", "/etc/unit"),)
        return Played({"one": HostPlay(9, 1, 0, 0), "two": HostPlay(9, 0, 0, 0)}, changes, log, 1.0)


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    return Servers(tmp_path, monkeypatch)


def test_hosts_of_the_group_get_the_model_with_its_questions(servers: Servers) -> None:
    outcome = ServeOnHosts().run(servers.ctx, Settings(), HOSTS, servers.model)
    assert (outcome.value, outcome.changed) == (HostServers(("one", "two")), 1)
    assert outcome.summary == "mnist version 7 answers on one, two as recorded"
    ((book, inventory, check),) = servers.played
    assert (book, check) == ("model_server.yml", False)
    assert set(inventory["all"]["hosts"]) == {"one", "two"}
    assert set(inventory["all"]["children"]["model_server"]["hosts"]) == {"one", "two"}
    variables = inventory["all"]["vars"]
    assert variables["model_server_name"] == "mnist"
    assert variables["model_server_model"].endswith("/mnist/7")
    assert variables["model_server_model_version"] == "7"
    assert variables["model_server_requests"].endswith("/requests.jsonl")


def test_a_host_like_this_machine_is_brought_every_wheel_and_another_only_slipways(servers: Servers) -> None:
    ServeOnHosts().run(servers.ctx, Settings(), HOSTS, servers.model)
    wheels = servers.played[0][1]["all"]["vars"]["slipway_wheels"]
    assert sorted(path.name for path in Path(wheels["one"]).iterdir()) == [
        "grpcio-1-cp313.whl",
        "slipway_client-1-py3-none-any.whl",
        "slipway_server-1-py3-none-any.whl",
    ]
    assert sorted(path.name for path in Path(wheels["two"]).iterdir()) == [
        "slipway_client-1-py3-none-any.whl",
        "slipway_server-1-py3-none-any.whl",
    ]
    assert servers.resolved == ["model_server 3.13"]
    assert servers.ctx.state.serving in servers.ctx.state.made, "`down` removes it"


@pytest.mark.parametrize("hosts", [None, ALONE], ids=["no hosts", "none in the group"])
def test_without_a_host_in_the_group_nothing_is_done(servers: Servers, hosts: Hosts | None) -> None:
    outcome = ServeOnHosts().run(servers.ctx, Settings(), hosts, servers.model)
    assert (outcome.value, outcome.changed, servers.played) == (HostServers(()), 0, [])
    assert ServeOnHosts().plan(servers.ctx, Settings(), hosts, servers.model) == []


def test_hosts_made_here_serve_when_asked_to() -> None:
    def hosts(**values: Any) -> Settings:
        return Settings.model_validate({"hosts": values})

    assert ServeOnHosts().should_run(hosts()) == "hosts.model_servers is 0"
    assert ServeOnHosts().should_run(hosts(model_servers=1)) == ""
    assert ServeOnHosts().should_run(hosts(backend="ssh", inventory=__file__)) == ""


def test_a_plan_is_a_dry_run_once_there_is_what_it_needs(servers: Servers) -> None:
    stage, settings = ServeOnHosts(), Settings.model_validate({"hosts": {"model_servers": 2}})
    assert stage.plan(servers.ctx, settings, None, None) == ["serve the model on 2 hosts"]
    assert stage.plan(servers.ctx, settings, HOSTS, None) == ["serve the model on one, two"]
    assert servers.played == []
    assert stage.plan(servers.ctx, settings, HOSTS, servers.model) == [
        "one: model_server : Write the unit (/etc/unit)"
    ]
    assert [check for _, _, check in servers.played] == [True]


def test_a_server_on_a_host_has_one_model(servers: Servers) -> None:
    beside = replace(servers.model, beside=(replace(servers.model, name="other"),))
    with pytest.raises(UsageError, match=r"has one model.*model\.beside"):
        ServeOnHosts().run(servers.ctx, Settings(), HOSTS, beside)
    with pytest.raises(UsageError, match=r"has one model.*several \(models\)"):
        ServeOnHosts().run(servers.ctx.of("a"), Settings(), HOSTS, servers.model)
    assert servers.played == []
