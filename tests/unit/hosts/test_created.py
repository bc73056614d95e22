"""Machines in a cloud as the driver sees them: told and agreed to first, on record before they are made, kept by `down`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from slipway.artifacts import pulumi_cli
from slipway.cli import app
from slipway.clients import public_address, ssh
from slipway.clients.kubectl import Change
from slipway.clients.pulumi_engine import any_change_of
from slipway.core import extras
from slipway.core.context import Context
from slipway.core.errors import DeployError, EnvironmentFault, HostError, UsageError
from slipway.core.events import Event, Note
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Host, Hosts, Outcome
from slipway.hosts import base, created
from slipway.hosts.created import Created, Offered, create, destroy
from slipway.hosts.existing import Existing

SERVER = Change("create", "Server", "slipway-cp")
MACHINE = Host("cp", "198.51.100.4", "slipway", "ssh-ed25519 AAAA", ("control_plane",))
TOLD = {
    "inventory": {
        "all": {
            "children": {
                "control_plane": {
                    "hosts": {"cp": {"ansible_host": "198.51.100.4", "slipway_host_key": "ssh-ed25519 AAAA"}}
                }
            }
        }
    }
}


@dataclass
class Stack:
    """Pulumi's engine, as far as machines need it."""

    project: Path
    changes: list[Change] = field(default_factory=lambda: [SERVER])
    fails: bool = False
    stack: str = "lab"
    asked: list[str] = field(default_factory=list)
    told: dict[str, Any] = field(default_factory=lambda: dict(TOLD))

    def unlock(self) -> int:
        return 0

    def preview(self) -> list[Change]:
        self.asked.append("preview")
        return self.changes

    def up(self) -> list[Change]:
        self.asked.append("up")
        if self.fails:
            raise DeployError("`pulumi up` failed")
        return self.changes

    def destroy(self) -> list[Change]:
        self.asked.append("destroy")
        return [Change("remove", "Server", "slipway-cp")]

    def outputs(self) -> dict[str, Any]:
        return self.told


@pytest.fixture
def said() -> list[Event]:
    return []


@pytest.fixture
def ctx(tmp_path: Path, said: list[Event]) -> Context:
    return Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, emit=said.append)


@pytest.fixture
def stack(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> Stack:
    project = ctx.state.machines / "project"
    project.mkdir(parents=True)
    (project / "Pulumi.yaml").write_text("name: slipway-machines\n")
    engine = Stack(project)
    monkeypatch.setattr(created, "_engine", lambda ctx, backend: engine)
    monkeypatch.setattr(pulumi_cli, "ensure_cli", lambda *_: "Pulumi")
    monkeypatch.setattr(public_address, "seen", lambda: "203.0.113.7")
    return engine


def settings(cloud: str = "hetzner", **more: Any) -> Settings:
    return Settings.model_validate({"hosts": {"backend": "pulumi", "cloud": cloud, **more}})


def yes(offers: list[Offered]) -> Callable[[Offered], bool]:
    def agreed(offered: Offered) -> bool:
        offers.append(offered)
        return True

    return agreed


def configuration(stack: Stack) -> dict[str, str]:
    held = yaml.safe_load((stack.project / "Pulumi.lab.yaml").read_text())["config"]
    return {key.removeprefix("slipway-machines:"): value for key, value in held.items()}


def test_what_it_makes_who_gets_in_and_the_cost_are_told_before_anything_is_made(
    ctx: Context, stack: Stack
) -> None:
    def refuse(offered: Offered) -> bool:
        assert stack.asked == ["preview"]
        told = "\n".join(offered.lines())
        assert told.startswith("3 machines in Hetzner Cloud, nbg1 (cx33):\n  create Server slipway-cp\n")
        assert "SSH, the Kubernetes API and the registry are open to 203.0.113.7/32" in told
        assert "about EUR 0.03 an hour, EUR 0.79 a day" in told
        return False

    assert create(ctx, settings(), refuse) is None
    assert stack.asked == ["preview"]
    assert created.made(ctx.state) is None
    assert not (ctx.state.machines / "inventory.yml").exists()


def test_a_price_that_is_not_known_is_not_made_up(ctx: Context, stack: Stack) -> None:
    offers: list[Offered] = []
    create(ctx, settings(size="ccx63"), yes(offers))
    assert offers[0].lines()[-1] == "what they cost is not known here: see https://www.hetzner.com/cloud"


def test_the_stack_is_told_the_settings_and_where_keys_are_and_no_key(ctx: Context, stack: Stack) -> None:
    create(ctx, settings("google", region="us-east1", workers=1, disk=50, allow=["198.51.100.0/24"]), yes([]))
    config = configuration(stack)
    keys = ctx.state.machines / "keys"
    assert config["keys"] == str(keys)
    assert (config["cloud"], config["region"], config["zone"]) == ("google", "us-east1", "us-east1-b")
    assert (config["gcp:region"], config["gcp:zone"]) == ("us-east1", "us-east1-b")
    assert (config["workers"], config["disk"]) == ("1", "50")
    assert json.loads(config["allow"]) == ["198.51.100.0/24"]
    assert sorted(path.name for path in keys.iterdir()) == [
        *("cp", "cp.pub", "login", "login.pub", "worker-1", "worker-1.pub"),
    ]
    assert (keys / "cp").stat().st_mode & 0o777 == 0o600
    assert keys.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in (stack.project / "Pulumi.lab.yaml").read_text()


def test_ansible_and_slipway_read_what_the_stack_tells(ctx: Context, stack: Stack) -> None:
    create(ctx, settings(), yes([]))
    path = Created().inventory(ctx, settings())
    listed = yaml.safe_load(path.read_text())
    login = ctx.state.machines / "keys" / "login"
    assert listed["all"]["vars"] == {"ansible_ssh_private_key_file": str(login)}
    assert listed["all"]["children"] == TOLD["inventory"]["all"]["children"]


def test_what_a_failed_run_made_is_on_record_and_can_be_taken_away(ctx: Context, stack: Stack) -> None:
    stack.fails = True
    with pytest.raises(HostError, match="`pulumi up` failed"):  # no deployment's exit code
        create(ctx, settings(), yes([]))
    known = created.made(ctx.state)
    assert known is not None and known.line() == "3 machines in Hetzner Cloud, nbg1 (cx33)"
    stack.told = {}
    with pytest.raises(HostError, match="not made to its end"):
        Created().inventory(ctx, settings())
    assert destroy(ctx, settings())[0] == "remove Server slipway-cp"
    assert not ctx.state.machines.exists()
    assert destroy(ctx, settings()) == []


def test_machines_do_not_move_to_another_cloud(ctx: Context, stack: Stack) -> None:
    create(ctx, settings(), yes([]))
    with pytest.raises(UsageError, match="there are 3 machines in Hetzner Cloud"):
        create(ctx, settings("aws"), yes([]))


def test_a_state_elsewhere_is_looked_for_where_it_was_when_they_were_made(
    ctx: Context, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def engine(_: Context, backend: str | None) -> Stack:
        asked.append(backend)
        return stack

    monkeypatch.setattr(created, "_engine", engine)
    elsewhere = Settings.model_validate(
        {"hosts": {"backend": "pulumi", "cloud": "aws"}, "deploy": {"backend": "s3://ours"}}
    )
    create(ctx, elsewhere, yes([]))
    destroy(ctx, settings("aws"))
    assert asked == ["s3://ours", "s3://ours"]


def test_a_cloud_whose_sdk_is_missing_is_asked_for_by_name(
    ctx: Context, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "missing", lambda extra: extras.MODULES[extra])
    with pytest.raises(EnvironmentFault) as caught:
        create(ctx, settings("azure"), yes([]))
    assert "making machines in Azure needs the extra `azure` of slipway-serving" in caught.value.what
    assert stack.asked == []


def test_machines_of_another_backend_are_not_made(ctx: Context, stack: Stack) -> None:
    with pytest.raises(UsageError, match=r"hosts\.backend: pulumi"):
        create(ctx, Settings(), yes([]))


# -- the backend ------------------------------------------------------------------------------------------------


def test_up_makes_no_machine(ctx: Context, stack: Stack) -> None:
    with pytest.raises(HostError, match="there are no machines yet") as caught:
        Created().up(ctx, settings())
    assert "slipway hosts create" in caught.value.action
    assert stack.asked == []


def test_up_waits_for_machines_that_still_boot(
    ctx: Context, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [
        ssh.Unreachable("no SSH"),
        ssh.LoginRefused("no such user yet"),
        Outcome(Hosts("pulumi", (MACHINE,)), 1, "answers"),
    ]

    def up(self: Existing, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        answer: Any = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Outcome)
        return answer

    booted: list[str] = []
    monkeypatch.setattr(Existing, "up", up)
    monkeypatch.setattr(created, "_await_first_boot", lambda host: booted.append(host.name))
    monkeypatch.setattr("slipway.core.interrupt.pause", lambda seconds: None)
    assert Created().up(ctx, settings()).changed == 1
    assert (answers, booted) == ([], ["cp"])


def test_another_key_than_the_one_that_was_put_in_is_not_waited_for(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def up(self: Existing, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        raise ssh.HostKeyRejected("another key")

    monkeypatch.setattr(Existing, "up", up)
    with pytest.raises(ssh.HostKeyRejected):
        Created().up(ctx, settings())


def test_down_leaves_them_and_what_is_needed_to_take_them_away_and_says_so(
    ctx: Context, stack: Stack, said: list[Event]
) -> None:
    create(ctx, settings(), yes([]))
    base.record(ctx.state, Hosts("pulumi", (MACHINE,)))
    Created().down(ctx)
    assert ctx.state.kept(Hosts) is None
    ctx.state.clear()
    assert created.made(ctx.state) is not None
    assert (ctx.state.machines / "keys" / "login").is_file()
    notes = [event.text for event in said if isinstance(event, Note)]
    assert notes[-1].startswith("3 machines in Hetzner Cloud, nbg1 (cx33) stay, and cost what they cost")


# -- what Pulumi says, and what people type -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "op", "line"),
    [
        ("hcloud:index/server:Server", "create", "create Server slipway-cp"),
        ("aws:ec2/instance:Instance", "replace", "replace Instance slipway-cp"),
        ("pulumi-python:dynamic:Resource", "delete", "remove Resource slipway-cp"),
        ("slipway:index:Machines", "create", None),
        ("pulumi:providers:hcloud", "create", None),
        ("hcloud:index/server:Server", "same", None),
    ],
)
def test_changes_are_told_of_every_provider_and_of_no_component(kind: str, op: str, line: str | None) -> None:
    step = {"type": kind, "op": op, "urn": f"urn:pulumi:lab::slipway-machines::{kind}::slipway-cp"}
    change = any_change_of({"resourcePreEvent": {"metadata": step}})
    assert (change.line() if change else None) == line


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr("sys.argv", ["slipway", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    return ended.value.code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "slipway.yaml").write_text("hosts: {backend: pulumi, cloud: hetzner}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_script_has_to_say_yes(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, "hosts", "create") == 2
    told = capsys.readouterr().err
    assert "about EUR" in told and "--yes" in told
    assert stack.asked == ["preview"]
    assert typed(monkeypatch, "hosts", "create", "--yes", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["made"] is True and document["changed"] == ["create Server slipway-cp"]
    assert document["cost_an_hour"] == pytest.approx(0.033)
    assert typed(monkeypatch, "hosts", "destroy", "--json") == 0
    assert "remove Server slipway-cp" in json.loads(capsys.readouterr().out)["removed"]


WRONG = [
    ("hosts: {backend: pulumi}", "hosts.cloud"),
    ("hosts: {cloud: aws}", "hosts.backend: pulumi"),
    ("hosts: {backend: pulumi, cloud: aws, allow: [0.0.0.0/0]}", "/8 or narrower"),
    ("hosts: {backend: pulumi, cloud: aws, external_network: x}", "hosts.cloud: openstack"),
    ("hosts: {backend: pulumi, cloud: openstack, allow: [203.0.113.7/32]}", "size: missing"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_settings_that_cannot_work_are_refused(
    text: str,
    words: str,
    folder: Path,
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "slipway.yaml").write_text(text)
    assert typed(monkeypatch, "hosts", "create", "--yes") == 2
    assert words in capsys.readouterr().err
    assert stack.asked == []
