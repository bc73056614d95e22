"""What is to build, on which host, and that only an image that answered is pushed."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from infra import artifacts
from infra.artifacts import BaseImage
from infra.clients import docker as docker_client
from infra.clients import registry as registries
from infra.clients import ssh
from infra.clients.docker import Daemon, Docker
from infra.core.context import Context
from infra.core.errors import ImageError, UsageError
from infra.core.events import Event, Note
from infra.core.schema import Settings
from infra.core.state import State
from infra.core.types import Cluster, ExportedModel, Host, Hosts, Registry
from infra.image import BuildImage
from infra.images import build, context

DIGEST = "sha256:" + "d" * 64


def cluster(registry: Registry | None) -> Cluster:
    return Cluster(Path("kubeconfig"), Path("kubectl"), "https://x", (), registry)


def host(name: str, *groups: str) -> Host:
    return Host(name, "10.0.0.1", "root", "ssh-ed25519 AAAA", groups)


@dataclass(frozen=True)
class FakeDocker(Docker):
    """A build host that remembers what it was asked for, in order."""

    architecture: str = "amd64"
    images: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    digest: str = DIGEST

    def daemon(self) -> Daemon:
        return Daemon("26.1", self.architecture, True)

    def has(self, reference: str) -> bool:
        return reference in self.images

    def import_root(self, archive: Path, reference: str) -> None:
        self.done.append(f"import {reference}")
        self.images.add(reference)

    def build(self, context: Path, tag: str, **options: Any) -> str:
        assert context.is_file()
        self.done.append(f"build {tag.partition(':')[0]} network={options.get('network', 'none')}")
        self.images.add(tag)
        return "built"

    def trust(self, registry: Registry) -> bool:
        self.done.append("trust")
        return True

    def tag(self, reference: str, name: str) -> None:
        self.done.append(f"tag {name.rpartition(':')[0]}")

    def push(self, name: str, registry: Registry) -> str:
        self.done.append("push")
        return self.digest

    def layers(self, reference: str) -> tuple[int, ...]:
        return (100_000_000, 700_000_000)


@dataclass
class Scene:
    ctx: Context
    hosts: Hosts
    cluster: Cluster
    model: ExportedModel
    docker: FakeDocker
    in_registry: dict[str, str | None]
    labels: dict[str, str]
    events: list[Event]

    def run(self, settings: Settings | None = None) -> Any:
        return BuildImage().run(self.ctx, settings or Settings(), self.hosts, self.cluster, self.model)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    for name, content in (("saved_model.pb", "graph"), ("base.tar", "root"), ("password", "x")):
        (tmp_path / name).write_text(content)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_text("graph")
    (tmp_path / "wheels").mkdir()
    base = BaseImage("modules", "slipway.local/python:3.13-abc", tmp_path / "base.tar", "3.13")
    events: list[Event] = []
    made = Scene(
        ctx=Context(
            State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, tmp_path / "cache", events.append
        ),
        hosts=Hosts("nspawn", (host("w", "worker"), host("cp", "docker", "registry")), tmp_path / "id"),
        cluster=cluster(Registry("10.0.0.1:5000", "slipway", tmp_path / "password")),
        model=ExportedModel(tmp_path / "model", "mnist", 1, "ab" * 32, tmp_path / "requests.jsonl"),
        docker=FakeDocker(None, "cp"),  # type: ignore[arg-type]  # nothing reaches its shell
        in_registry={},
        labels={},
        events=events,
    )
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(artifacts, "base_image", lambda ctx, settings: base)
    monkeypatch.setattr(artifacts, "wheels", lambda ctx, lock, python: tmp_path / "wheels")
    monkeypatch.setattr(context, "write_runtime", lambda out, wheels, server: _touch(out))

    def digest_of(registry: Registry, repository: str, tag: str) -> str | None:
        if "push" in made.docker.done:
            made.in_registry.setdefault(tag, DIGEST)
        return made.in_registry.get(tag)

    monkeypatch.setattr(registries, "manifest_digest", digest_of)
    monkeypatch.setattr(registries, "labels", lambda registry, repository, digest: made.labels)

    def answer(ctx: Context, docker: Docker, reference: str, model: ExportedModel) -> int:
        made.docker.done.append("check")
        return 110

    monkeypatch.setattr(build, "run_and_ask", answer)

    @contextmanager
    def connect(host: Host, identity: Path | None) -> Iterator[Any]:
        made.docker.done.append(f"connect {host.name}")
        yield None

    monkeypatch.setattr(ssh, "connect", connect)
    monkeypatch.setattr(build, "Docker", lambda shell, where, on_line: made.docker)
    return made


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def test_an_image_is_built_checked_and_only_then_pushed(scene: Scene) -> None:
    outcome = scene.run()
    assert scene.docker.done == [
        "connect cp",
        "import slipway.local/python:3.13-abc",
        "build slipway.local/runtime network=none",
        "build slipway.local/serving network=none",
        "check",
        "trust",
        "tag 10.0.0.1:5000/slipway/mnist",
        "push",
    ]
    image = outcome.value
    assert image.reference == f"10.0.0.1:5000/slipway/mnist@{DIGEST}"
    assert (image.server, image.model_name, image.model_version) == ("portable", "mnist", 1)
    assert image.model_sha256 == scene.model.sha256
    assert outcome.changed == 1 and "800 MB" in outcome.summary


def test_the_same_image_in_the_registry_is_left_alone(scene: Scene) -> None:
    made = scene.run().value
    scene.docker.done.clear()
    scene.labels["slipway.model.sha256"] = scene.model.sha256
    assert BuildImage().plan(scene.ctx, Settings(), scene.hosts, scene.cluster, scene.model) == []
    outcome = scene.run()
    assert outcome.changed == 0 and outcome.value == made
    assert scene.docker.done == []


def test_a_tag_that_holds_another_model_does_not_count(scene: Scene) -> None:
    scene.run()
    scene.docker.done.clear()
    scene.labels["slipway.model.sha256"] = "ff" * 32
    assert scene.run().changed == 1
    assert "push" in scene.docker.done


def test_a_new_model_builds_only_the_small_image(scene: Scene) -> None:
    first = scene.run().value
    scene.docker.done.clear()
    scene.model = replace(scene.model, version=2, sha256="cd" * 32)
    second = scene.run().value
    assert second.tag != first.tag
    assert [step for step in scene.docker.done if step.startswith(("build", "import"))] == [
        "build slipway.local/serving network=none"
    ]
    assert len(list(scene.ctx.state.image.glob("*"))) == 1, "old contexts do not pile up"


def test_wrong_answers_are_never_pushed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> int:
        raise ImageError("the image answers wrongly", where="cp")

    monkeypatch.setattr(build, "run_and_ask", wrong)
    with pytest.raises(ImageError, match="wrongly"):
        scene.run()
    assert not {"push", "trust"} & set(scene.docker.done)


def test_a_digest_the_registry_does_not_confirm_is_refused(scene: Scene) -> None:
    object.__setattr__(scene.docker, "digest", "sha256:" + "e" * 64)
    with pytest.raises(ImageError, match="the registry has"):
        scene.run()


def test_a_build_host_of_another_architecture_is_refused_before_any_work(scene: Scene) -> None:
    object.__setattr__(scene.docker, "architecture", "arm64")
    with pytest.raises(ImageError, match="arm64") as caught:
        scene.run()
    assert scene.docker.done == ["connect cp"] and "image.build_host" in caught.value.action


def test_googles_server_needs_the_network_for_its_own_step_only(scene: Scene) -> None:
    scene.run(Settings.model_validate({"image": {"server": "tensorflow"}}))
    assert [step for step in scene.docker.done if step.startswith("build")] == [
        "build slipway.local/runtime network=none",
        "build slipway.local/serving network=default",
    ]


def test_old_contexts_do_not_fill_the_cache(scene: Scene) -> None:
    cache = scene.ctx.cache / "image"
    for age in range(6):
        _touch(cache / f"{age}.tar.gz")
        os.utime(cache / f"{age}.tar.gz", (age, age))
    scene.run()
    left = {path.name for path in cache.glob("*.tar.gz")}
    assert len(left) == 3 and {"5.tar.gz", "4.tar.gz"} < left


def test_a_named_build_host_is_used(scene: Scene) -> None:
    scene.run(Settings.model_validate({"image": {"build_host": "w"}}))
    assert scene.docker.done[0] == "connect w"


def test_a_build_host_that_is_not_there_is_refused_with_those_that_are(scene: Scene) -> None:
    with pytest.raises(UsageError) as caught:
        scene.run(Settings.model_validate({"image": {"build_host": "nope"}}))
    assert "w, cp" in caught.value.action


@pytest.mark.parametrize("hosts", [None, Hosts("ssh", (host("w", "worker"),))])
def test_without_a_docker_host_this_machine_builds(scene: Scene, hosts: Hosts | None) -> None:
    scene.hosts = hosts  # type: ignore[assignment]
    assert scene.run().changed == 1
    assert not [step for step in scene.docker.done if step.startswith("connect")]
    assert any("on this machine" in event.text for event in scene.events if isinstance(event, Note))


def test_without_any_docker_it_says_what_to_do(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "Docker", docker_client.Docker)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # a machine without Docker
    scene.hosts = Hosts("ssh", ())
    with pytest.raises(ImageError) as caught, build.build_host(scene.ctx, Settings(), scene.hosts):
        pytest.fail("there is no Docker here")
    assert "group docker" in caught.value.action


def test_the_users_registry_goes_before_the_labs(scene: Scene, tmp_path: Path) -> None:
    own = Settings.model_validate(
        {
            "image": {
                "registry": "registry.example:443",
                "username": "me",
                "password_file": tmp_path / "password",
            }
        }
    )
    assert build.registry_of(own, scene.cluster).address == "registry.example:443"
    assert build.registry_of(own, scene.cluster).username == "me"
    assert build.registry_of(Settings(), scene.cluster).address == "10.0.0.1:5000"
    with pytest.raises(UsageError, match="no registry"):
        build.registry_of(Settings(), cluster(None))


def test_plan_says_what_is_to_do_also_when_nothing_is_there_yet(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = BuildImage()
    (line,) = stage.plan(scene.ctx, Settings(), None, None, None)
    assert "not there yet" in line
    (line,) = stage.plan(scene.ctx, Settings(), scene.hosts, scene.cluster, scene.model)
    assert line.startswith("build, check and push 10.0.0.1:5000/slipway/mnist:1-")

    def unreachable(*_: object) -> None:
        raise ImageError("the registry cannot be reached: refused")

    monkeypatch.setattr(registries, "manifest_digest", unreachable)
    (line,) = stage.plan(scene.ctx, Settings(), scene.hosts, scene.cluster, scene.model)
    assert "cannot be reached" in line
    assert scene.docker.done == []
