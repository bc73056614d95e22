"""The sources in order: what is cached first, then each until one has it, and why one was passed over."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from slipway import artifacts
from slipway.artifacts import answers, cache, from_modules, from_release, machine, pins
from slipway.artifacts.pins import Row
from slipway.artifacts.values import BaseImage, KubernetesArtifacts
from slipway.core.errors import ArtifactError, EnvironmentFault
from slipway.core.events import Note
from slipway.core.schema import ArtifactsSettings, Settings


def settings(*sources: str) -> Settings:
    return Settings(artifacts=ArtifactsSettings(sources=sources))


BUILT = KubernetesArtifacts(
    "modules", "1.36.3", Path("bin"), Path("bin/kubectl"), (Path("a"),), (Path("a"),), "f", "n", "m", "s"
)


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Source modules replaced by one that builds in no time; the list says how it was asked."""
    asked: list[bool] = []

    def offer(_ctx: object, _settings: object, *, network: bool) -> KubernetesArtifacts | None:
        asked.append(network)
        return BUILT if network else None

    monkeypatch.setattr(from_modules, "kubernetes", offer)
    return asked


@pytest.fixture
def released(stand_in, monkeypatch: pytest.MonkeyPatch):
    """The release rows point at the stand-in server, which has the pinned file."""
    stand_in.content = b"official program"

    def row(name: str, platform: str = "", path: Path = pins.PATH, *, version: str = "") -> Row:
        return Row(
            name,
            "1.36.3",
            "linux/amd64",
            url=f"{stand_in.url}/{name}",
            sha256=hashlib.sha256(b"official program").hexdigest(),
            hash_source="this test",
        )

    monkeypatch.setattr(pins, "row", row)
    monkeypatch.setattr(from_release, "_NODES_PULL_FROM", (f"{stand_in.url}/v2/",))
    monkeypatch.setattr(from_release, "_PYTHON_REGISTRY", f"{stand_in.url}/v2/")
    return stand_in


def notes(lab) -> list[str]:
    return [event.text for event in lab.events if isinstance(event, Note)]


def test_release_that_answers_is_used_and_cached(lab, released, modules: list[bool]) -> None:
    got = artifacts.kubernetes(lab.ctx, settings("release", "modules"))
    assert got.source == "release"
    assert {path.name for path in got.binaries.iterdir()} == {"kubelet", "kubeadm", "kubectl"}
    assert all(path.stat().st_mode & 0o111 for path in got.binaries.iterdir())
    assert got.images == got.worker_images == ()
    assert notes(lab) == [from_release.BY_TAG]
    # the network is gone, the cache is whole: nothing is asked and nothing changes
    released.status, released.asked = [500] * 99, []
    answers._known.clear()
    assert artifacts.kubernetes(lab.ctx, settings("release", "modules")) == got
    assert released.asked == []
    assert modules == [False]  # only whether it has it cached, before the first fetch


def test_silent_release_is_passed_over_in_one_line(lab, released, modules: list[bool]) -> None:
    released.status = [503] * 99
    assert artifacts.kubernetes(lab.ctx, settings("release", "modules")) is BUILT
    assert notes(lab) == ["release: 127.0.0.1 answers HTTP 503; using modules"]
    assert len(released.asked) == 1
    artifacts.kubernetes(lab.ctx, settings("release", "modules"))
    assert len(released.asked) == 1  # asked once a run


def test_release_that_gives_another_file_is_never_used(lab, released, modules: list[bool]) -> None:
    released.content = b"tampered program"
    assert artifacts.kubernetes(lab.ctx, settings("release", "modules")) is BUILT
    assert "is not the pinned file: sha256" in notes(lab)[0]
    found = [path.name for path in cache.home(lab.ctx).rglob("*") if path.name in from_release.NODE_BINARIES]
    assert found == []


def test_cached_modules_come_before_the_network(lab, released, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_modules, "kubernetes", lambda *_a, network: BUILT)
    assert artifacts.kubernetes(lab.ctx, settings("release", "modules")) is BUILT
    assert released.asked == []


def test_last_error_carries_the_others(lab, released, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_ctx: object, _settings: object, *, network: bool) -> None:
        if network:
            raise EnvironmentFault("no mmdebstrap", tail="its own tail", action="apt-get install mmdebstrap")

    monkeypatch.setattr(from_modules, "kubernetes", fail)
    released.status = [503] * 99
    with pytest.raises(EnvironmentFault, match="no mmdebstrap") as error:
        artifacts.kubernetes(lab.ctx, settings("release", "modules"))
    assert error.value.tail == "release: 127.0.0.1 answers HTTP 503\nits own tail"
    assert error.value.action == "apt-get install mmdebstrap"


def test_only_release_wanted_and_silent(lab, released, modules: list[bool]) -> None:
    released.status = [503] * 99
    with pytest.raises(ArtifactError, match=r"127\.0\.0\.1 answers HTTP 503") as error:
        artifacts.kubernetes(lab.ctx, settings("release"))
    assert "artifacts.sources" in error.value.action
    assert modules == []


def test_base_image_of_release_is_by_digest(lab, released, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_modules, "base_image", lambda *_a, network: None)
    image = artifacts.base_image(lab.ctx, settings("release", "modules"))
    digest = hashlib.sha256(b"official program").hexdigest()
    assert image == BaseImage("release", f"docker.io/library/python@sha256:{digest}", None, "3.13")


def test_base_image_without_a_pinned_digest_is_refused(
    lab, released, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = pins.row
    monkeypatch.setattr(
        pins, "row", lambda name, platform="": replace(pinned(name), sha256="", hash_source="")
    )
    with pytest.raises(ArtifactError, match="no public source"):
        artifacts.base_image(lab.ctx, settings("release"))


def test_pulumi_without_hash_is_said_and_not_asked_for(
    lab, stand_in, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = functools.partial(Row, version="1.0", platform="any", url=f"{stand_in.url}/pulumi")
    monkeypatch.setattr(pins, "row", row)
    built = Path("built")
    monkeypatch.setattr(from_modules, "pulumi", lambda _, network: built if network else None)
    assert artifacts.cached_pulumi(lab.ctx, settings("release", "modules")) is None
    assert artifacts.pulumi(lab.ctx, settings("release", "modules")) == built
    assert "no public source known to slipway gives its hash" in notes(lab)[0]
    assert stand_in.asked == []
    with pytest.raises(ArtifactError, match="no public source"):
        artifacts.pulumi(lab.ctx, settings("release"))


def test_a_machine_too_small_to_link_the_engine_is_told(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_gb", lambda: 2.0)
    with pytest.raises(EnvironmentFault, match=r"2\.0 GB of memory") as error:
        from_modules.pulumi(lab.ctx, network=True)
    assert "deploy.by: render" in error.value.action


def test_pulumi_is_unpacked_with_its_plugin(
    lab, stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tarfile

    folder = tmp_path / "pulumi"
    folder.mkdir()
    for name in ("pulumi", "pulumi-language-python", "pulumi-resource-kubernetes"):
        (folder / name).write_text(f"#!/bin/sh\necho {name}\n")
        (folder / name).chmod(0o755)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(folder, "pulumi")
    stand_in.content = (tmp_path / "a.tar.gz").read_bytes()
    digest = hashlib.sha256(stand_in.content).hexdigest()
    monkeypatch.setattr(
        pins,
        "row",
        lambda name: Row(name, "1.0", "any", url=f"{stand_in.url}/{name}", sha256=digest, hash_source="test"),
    )
    program = artifacts.pulumi(lab.ctx, settings("release"))
    assert program is not None
    assert program.name == "pulumi"
    assert program.stat().st_mode & 0o111
    assert (program.parent / "pulumi-language-python").is_file()
    plugin = program.parent.parent / "home" / "plugins" / "resource-kubernetes-v1.0"
    assert (plugin / "pulumi-resource-kubernetes").is_file()
    assert not (program.parent.parent / "archive").exists()
