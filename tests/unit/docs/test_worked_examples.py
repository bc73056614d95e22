"""The examples of CONTRIBUTING.md work: the stage and the backend are run, the role's files agree."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from slipway.core import process, types
from slipway.core.context import Context
from slipway.core.schema import HostsSettings, Settings
from slipway.core.stage import name_of, needs, produces
from slipway.core.state import State
from slipway.core.types import Host, Hosts, ImageRef
from slipway.hosts import base

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
IMAGE = ImageRef("registry.lab:5000/mnist", f"sha256:{'a' * 64}", "1", "portable", "mnist", 1, "b" * 64)


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of one language below a heading of the page."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)


def module(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The text as a module of that name, so that its annotations resolve."""
    made = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, made)
    exec(compile(text, f"CONTRIBUTING.md ({name})", "exec"), vars(made))
    return made


class Programs:
    """Stands in for process.run: answers by the first words and remembers what was run."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.ran: list[str] = []
        self.inputs: list[str] = []

    def run(self, argv: Sequence[str | Path], *, input: str = "", **_options: object) -> process.Completed:
        words = " ".join(str(word) for word in argv)
        self.ran.append(words)
        self.inputs.append(input)
        (answer,) = [text for start, text in self.answers.items() if words.startswith(start)]
        return process.Completed(tuple(words.split()), 0, answer, "")


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(State(tmp_path / ".slipway"), tmp_path / "run", ROOT)


def test_the_stage_makes_its_value_once(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    value, stage_file = blocks("Adding a stage", "python")
    imports = "from dataclasses import dataclass\nfrom pathlib import Path\n"
    values = module("slipway.sbom.value", imports + value, monkeypatch)
    monkeypatch.setattr(types, "Sbom", values.Sbom, raising=False)
    stage = module("slipway.sbom.stage", stage_file, monkeypatch).ListImage()
    assert name_of(stage) == "sbom"
    assert needs(stage) == {"image": (ImageRef, False)}
    assert needs(stage, "plan") == {"image": (ImageRef, True)}
    assert produces(stage) is values.Sbom
    programs = Programs({"syft ": json.dumps({"packages": ["a", "b"]})})
    monkeypatch.setattr(process, "run", programs.run)
    assert len(stage.plan(ctx, None)) == len(stage.plan(ctx, IMAGE)) == 1
    assert programs.ran == []
    first, second = stage.run(ctx, IMAGE), stage.run(ctx, IMAGE)
    assert (first.value.packages, first.changed, second.changed) == (2, 1, 0)
    assert first.value == second.value
    assert programs.ran == [f"syft registry:{IMAGE.reference} -o spdx-json"]
    assert stage.plan(ctx, IMAGE) == []


def test_the_backend_does_what_the_contract_asks(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = blocks("Adding a backend", "python")
    made = module("slipway.hosts.multipass", text, monkeypatch)
    backend = made.Multipass()
    contract = {name: call for name, call in vars(base.Backend).items() if inspect.isfunction(call)}
    for name in ("plan", "up", "down", "status", "collect"):
        assert inspect.signature(getattr(made.Multipass, name)) == inspect.signature(contract[name]), name
    machines = {f"slip-x-{name}": f"192.0.2.{last}" for last, name in enumerate(("cp", "worker-1"), 10)}
    monkeypatch.setattr(made, "_machine", lambda _ctx, name: f"slip-x-{name}")
    listed = [{"name": name, "ipv4": [address]} for name, address in machines.items()]
    foreign = {"name": "primary", "ipv4": []}
    answers = {
        "multipass list": json.dumps({"list": [foreign]}),
        "multipass launch --name slip-x-worker-1": "",
        "multipass launch --name slip-x-cp": "",
        "multipass delete --purge slip-x-": "",
    }
    programs = Programs(answers)

    def launched(argv: Sequence[str | Path], **options: Any) -> process.Completed:
        done = programs.run(argv, **options)
        if argv[1] == "launch":
            answers["multipass list"] = json.dumps({"list": [foreign, *listed]})
        return done

    asked: list[Host] = []
    monkeypatch.setattr(process, "run", launched)
    monkeypatch.setattr(base, "need_root", asked.append)
    settings = Settings(hosts=HostsSettings(workers=1))
    assert len(backend.plan(ctx, settings)) == 2
    outcome = backend.up(ctx, settings)
    assert outcome.changed == 2
    assert [(host.name, host.address) for host in outcome.value.hosts] == [
        ("cp", "192.0.2.10"),
        ("worker-1", "192.0.2.11"),
    ]
    assert sorted(asked, key=lambda host: host.name) == list(outcome.value.hosts)
    first_boots = [json.loads(text.partition("\n")[2]) for text in programs.inputs if text]
    assert [boot["ssh_keys"]["ed25519_public"] for boot in first_boots] == [
        host.host_key for host in outcome.value.hosts
    ]
    assert backend.up(ctx, settings).changed == 0
    assert backend.plan(ctx, settings) == []
    assert {line.state for line in backend.status(ctx)} == {"running"}
    assert ctx.state.kept(Hosts) == outcome.value
    removed = backend.down(ctx)
    assert [line for line in removed if line.startswith("virtual machine")] == [
        f"virtual machine {name}" for name in machines
    ]
    assert ctx.state.kept(Hosts) is None
    assert not any("primary" in words for words in programs.ran)
    assert isinstance(outcome.value.hosts[0], Host)


def test_the_roles_files_agree() -> None:
    defaults, spec, tasks, preflight, variables = [
        yaml.safe_load(text) for text in blocks("Adding a role", "yaml")
    ]
    assert {name for entry in spec["argument_specs"].values() for name in entry["options"]} == set(defaults)
    page = runpy.run_path(str(ROOT / "playbooks" / "readmes.py"))["page"]("chrony", spec, defaults)
    assert "| `chrony_servers` | list of str | `[]` |" in page
    docker = next((ROOT / "playbooks").rglob("roles/docker/tasks/main.yml")).parents[1]
    assert tasks == as_chrony(docker / "tasks/main.yml")
    # the form of a preflight is that of the roles there are, and so is its first point
    assert preflight == as_chrony(docker / "tasks/preflight.yml")
    of_docker = as_chrony(docker / "vars/main.yml")
    assert variables["_chrony_checks"] == of_docker["_chrony_checks"][:1]
    assert set(variables) <= set(of_docker)


def as_chrony(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return yaml.safe_load(text.replace("docker_", "chrony_").replace("docker:", "chrony:"))
