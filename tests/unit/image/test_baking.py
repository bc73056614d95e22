"""What is put into a root for the image: layers in Docker's, the registry's and containerd's stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from slipway.clients import ssh
from slipway.core.errors import CommandError, ImageError
from slipway.core.process import Completed
from slipway.core.schema import Settings
from slipway.core.types import Host, Hosts, Registry
from slipway.image import baking
from slipway.image.stage import BuildImage

from tests.unit.image.test_image_stage import FakeDocker, Scene, host, scene

__all__ = ["scene"]


@dataclass
class FakeShell:
    """Remembers programs and their first words; what `refused` names fails."""

    done: list[str] = field(default_factory=list)
    refused: str = ""

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        words = " ".join(argv)
        if self.refused and self.refused in words:
            raise CommandError(tuple(argv), 1, "no")
        self.done.append(words)
        return Completed(tuple(argv), 0, "", "")


@pytest.fixture
def shell(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> FakeShell:
    shell = FakeShell()

    @contextmanager
    def connect(_host: Host) -> Iterator[FakeShell]:
        yield shell

    class Pushing(FakeDocker):
        def push(self, name: str, registry: Registry) -> str:
            shell.run(["docker", "push", name])
            return ""

    docker = Pushing(shell, "cp", done=shell.done)  # type: ignore[arg-type]  # no more of a shell than that
    monkeypatch.setattr(ssh, "connect", connect)
    monkeypatch.setattr(baking, "Docker", lambda *_: docker)
    return shell


def bake(scene: Scene, *groups: str, settings: Settings | None = None) -> None:
    BuildImage().bake(scene.ctx, settings or Settings(), Hosts("nspawn", (host("cp", *groups),)))


def steps(shell: FakeShell) -> list[str]:
    return [" ".join(step.split()[:2]) for step in shell.done]


def test_layers_go_where_a_push_and_a_pull_look_for_them(scene: Scene, shell: FakeShell) -> None:
    bake(scene, "control_plane", "docker", "registry")
    assert steps(shell) == [
        *("systemctl start", "import slipway.local/python:3.13-abc", "build slipway.local/runtime"),
        *("sh -c", "systemd-run --quiet", "bash -c", "tag 127.0.0.1:5000/slipway/mnist", "docker push"),
        *("ctr --namespace", "ctr --namespace", "ctr --namespace", "docker image"),
        *("systemctl stop", "systemctl stop"),
    ]
    assert shell.done[-1] == "systemctl stop docker.service docker.socket"
    pulled = next(step for step in shell.done if " pull " in step)
    assert pulled.startswith("ctr --namespace k8s.io images pull --plain-http 127.0.0.1:5000/slipway/mnist:")


@pytest.mark.parametrize(
    "registry", [None, "registry.example.com"], ids=["no registry here", "the user's own"]
)
def test_without_a_registry_of_the_lab_only_docker_has_it(
    scene: Scene, shell: FakeShell, registry: str | None
) -> None:
    settings = Settings.model_validate({"image": {"registry": registry}})
    bake(scene, "docker", *(["registry"] if registry else []), settings=settings)
    assert "build slipway.local/runtime" in steps(shell)
    assert not [step for step in shell.done if "push" in step or "ctr" in step]


def test_hosts_without_docker_get_nothing(scene: Scene, shell: FakeShell) -> None:
    bake(scene, "worker")
    assert shell.done == []


def test_the_registry_ends_whatever_happens(scene: Scene, shell: FakeShell) -> None:
    shell.refused = "pull"
    with pytest.raises(CommandError):
        bake(scene, "docker", "registry")
    assert shell.done[-1] == "systemctl stop slipway-bake-registry.service"


def test_an_image_that_cannot_be_built_is_told(
    scene: Scene, shell: FakeShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> str:
        raise ImageError("the image cannot be built", action="")

    monkeypatch.setattr(FakeDocker, "build", fails)
    with pytest.raises(ImageError, match="cannot be built"):
        bake(scene, "docker", "registry")


def test_the_key_follows_what_is_put_in(scene: Scene) -> None:
    def key(**settings: object) -> str:
        return BuildImage().bake_key(scene.ctx, Settings.model_validate(settings))

    keys = [
        key(),
        key(image={"repository": "other"}),
        key(image={"server": "tensorflow"}),
        key(image={"registry": "registry.example.com"}),
        key(models={"one": {"model": {"name": "one"}}, "two": {"model": {"name": "two"}}}),
    ]
    assert key() == keys[0]
    assert len(set(keys)) == len(keys)
