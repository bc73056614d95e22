"""What is to build, on which host, and that only an image that answered is pushed."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from slipway import artifacts
from slipway.artifacts import BaseImage
from slipway.clients import registry as registries
from slipway.clients import ssh
from slipway.clients.docker import Daemon, Docker
from slipway.core import project
from slipway.core.context import Context
from slipway.core.errors import ImageError, UsageError
from slipway.core.events import Event, Note
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, ExportedModel, Host, Hosts, Registry
from slipway.image import build, build_context
from slipway.image.signing import private_key
from slipway.image.stage import BuildImage

from tests.standins.image_store import LISTING, MemoryStore

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
    labels: dict[str, str] = field(default_factory=dict)
    store: MemoryStore = field(default_factory=MemoryStore)

    def daemon(self) -> Daemon:
        return Daemon("26.1", self.architecture, True)

    def has(self, reference: str) -> bool:
        return reference in self.images

    def import_root(self, archive: Path, reference: str) -> None:
        self.done.append(f"import {reference}")
        self.images.add(reference)

    def build(self, context: Path, tag: str, **options: Any) -> str:
        assert context.is_file()
        self.done.append(f"build {tag.partition(':')[0]}")
        self.images.add(tag)
        self.labels.update(options.get("labels") or {})
        return "built"

    def output(self, reference: str, argv: Sequence[str]) -> str:
        self.done.append("list")
        return LISTING

    def trust(self, registry: Registry) -> bool:
        self.done.append("trust")
        return True

    def tag(self, reference: str, name: str) -> None:
        self.done.append(f"tag {name.rpartition(':')[0]}")

    def push(self, name: str, registry: Registry) -> str:
        self.done.append("push")
        self.store.blobs[DIGEST] = self.store.blobs[self.store.image(self.labels)]
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
        hosts=Hosts("nspawn", (host("w", "worker"), host("cp", "docker", "registry"))),
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
    monkeypatch.setattr(build_context, "write_runtime", lambda out, wheels, server: _touch(out))

    def digest_of(registry: Registry, repository: str, tag: str) -> str | None:
        if "push" in made.docker.done:
            made.in_registry.setdefault(tag, DIGEST)
        return made.in_registry.get(tag)

    monkeypatch.setattr(registries, "manifest_digest", digest_of)
    monkeypatch.setattr(registries, "labels", lambda registry, repository, digest: made.labels)
    monkeypatch.setattr(registries, "Repository", lambda registry, name: made.docker.store)
    monkeypatch.setattr(project, "revision", lambda: "c" * 40)

    def answer(ctx: Context, docker: Docker, reference: str, model: ExportedModel) -> int:
        made.docker.done.append("check")
        return 110

    monkeypatch.setattr(build, "run_and_ask", answer)

    @contextmanager
    def connect(host: Host) -> Iterator[Any]:
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
        "build slipway.local/runtime",
        "build slipway.local/serving",
        "check",
        "trust",
        "tag 10.0.0.1:5000/slipway/mnist",
        "push",
        "list",
    ]
    image = outcome.value
    assert image.reference == f"10.0.0.1:5000/slipway/mnist@{DIGEST}"
    assert (image.server, image.model_name, image.model_version) == ("portable", "mnist", 1)
    assert image.model_sha256 == scene.model.sha256
    assert outcome.changed == 1 and "800 MB" in outcome.summary


def test_packages_are_prepared_without_a_host_and_made_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(out: Path, wheels: Path, server: str) -> None:
        written.append(out)
        _touch(out)

    monkeypatch.setattr(build_context, "write_runtime", write)
    BuildImage().prepare(scene.ctx, Settings())
    assert (len(written), scene.docker.done) == (1, [])
    BuildImage().prepare(scene.ctx, Settings())
    scene.run()
    assert len(written) == 1
    assert "build slipway.local/runtime" in scene.docker.done


def test_the_same_image_in_the_registry_is_left_alone(scene: Scene) -> None:
    made = scene.run().value
    scene.docker.done.clear()
    scene.labels["slipway.model.sha256"] = scene.model.sha256
    assert BuildImage().plan(scene.ctx, Settings(), scene.hosts, scene.cluster, scene.model) == []
    outcome = scene.run()
    assert outcome.changed == 0 and outcome.value == made
    assert scene.docker.done == []


def unproved(scene: Scene, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """What takes the proof from an image that is in the registry."""
    signing, store = scene.ctx.state.signing, scene.docker.store
    return {
        "unsigned": store.listed.clear,
        "half signed": lambda: store.listed[DIGEST].pop(),  # noqa: PLW0108  # the list is another one after each run
        "the key is gone": (signing / "key.pem").unlink,
        "another key": lambda: (signing / "key.pem").write_bytes(
            private_key(State(tmp_path / "other"), Settings()).signer.private_bytes
        ),
    }


@pytest.mark.parametrize("what", ["unsigned", "half signed", "the key is gone", "another key"])
def test_an_image_without_proof_is_made_and_signed_anew(scene: Scene, tmp_path: Path, what: str) -> None:
    scene.run()
    scene.labels["slipway.model.sha256"] = scene.model.sha256
    unproved(scene, tmp_path)[what]()
    scene.docker.done.clear()
    (line,) = BuildImage().plan(scene.ctx, Settings(), scene.hosts, scene.cluster, scene.model)
    assert line.startswith("build, check and push")
    outcome = scene.run()
    assert outcome.changed == 1 and scene.docker.done[-2:] == ["push", "list"]
    assert scene.run().changed == 0


def test_planning_makes_no_key(scene: Scene) -> None:
    BuildImage().plan(scene.ctx, Settings(), scene.hosts, scene.cluster, scene.model)
    assert not scene.ctx.state.signing.exists()


def test_the_image_is_labelled_with_what_decides_it(scene: Scene) -> None:
    scene.run()
    labels = scene.docker.labels
    assert labels["org.opencontainers.image.revision"] == "c" * 40
    assert labels["org.opencontainers.image.base.name"] == "slipway.local/python:3.13-abc"
    assert labels["org.opencontainers.image.base.digest"] == f"sha256:{hashlib.sha256(b'root').hexdigest()}"
    assert labels["slipway.lock.sha256"] == hashlib.sha256(build_context.LOCK.read_bytes()).hexdigest()


def test_a_tag_that_holds_another_model_does_not_count(scene: Scene) -> None:
    scene.run()
    scene.docker.done.clear()
    scene.labels["slipway.model.sha256"] = "ff" * 32
    assert scene.run().changed == 1
    assert "push" in scene.docker.done


def test_every_model_of_an_image_is_in_its_name_and_decides_whether_it_is_there(scene: Scene) -> None:
    scene.model = replace(scene.model, beside=(replace(scene.model, name="digits", version=4),))
    first = scene.run().value
    assert [(one.name, one.version) for one in first.servables] == [("mnist", 1), ("digits", 4)]
    scene.labels.update(scene.docker.labels)
    scene.docker.done.clear()
    assert scene.run().changed == 0
    # somebody gave its tag to an image with another second model
    scene.labels["slipway.models.beside"] = "letters/1@sha256:" + "ff" * 32
    assert scene.run().changed == 1
    assert "push" in scene.docker.done


def test_a_new_model_builds_only_the_small_image(scene: Scene) -> None:
    first = scene.run().value
    scene.docker.done.clear()
    scene.model = replace(scene.model, version=2, sha256="cd" * 32)
    second = scene.run().value
    assert second.tag != first.tag
    assert [step for step in scene.docker.done if step.startswith(("build", "import"))] == [
        "build slipway.local/serving"
    ]
    assert len(list(scene.ctx.state.image.glob("*.tar.gz"))) == 1, "old contexts do not pile up"


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


def test_googles_server_is_fetched_here_and_built_without_a_network(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "package"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tensorflow_model_server").write_bytes(b"program")
    monkeypatch.setattr(artifacts, "tensorflow_server", lambda ctx, settings: root)
    monkeypatch.setattr(artifacts, "tensorflow_server_key", lambda ctx, settings: "version and key")
    scene.run(Settings.model_validate({"image": {"server": "tensorflow"}}))
    assert [step for step in scene.docker.done if step.startswith("build")] == [
        "build slipway.local/runtime",
        "build slipway.local/serving",
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
    scene.hosts = hosts  # type: ignore[assignment]  # the others always have some
    assert scene.run().changed == 1
    assert not [step for step in scene.docker.done if step.startswith("connect")]
    assert any("on this machine" in event.text for event in scene.events if isinstance(event, Note))


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
