"""Which Go builds: the newest installed one that is new enough, else the packaged one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.artifacts import golang
from infra.core.errors import ArtifactError, CommandError, EnvironmentFault
from infra.core.events import Note, ProgressAdvanced, ProgressStarted


def fake_go(folder: Path, version: str, listed: str = "", built: str = "", code: int = 0) -> Path:
    """A stand-in `go`: names its version, lists packages, and prints what `build -v` would."""
    folder.mkdir(parents=True)
    go = folder / "go"
    go.write_text(
        f"""#!/bin/sh
env | grep -E '^(GO|CGO)' | sort > '{folder}/environment'
case $1 in
env) echo {version};;
list) echo 'go: downloading example.org/a v1' >&2; printf '{listed}';;
build) printf '{built}' >&2; exit {code};;
esac
"""
    )
    go.chmod(0o755)
    return go


@pytest.fixture
def only_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """This machine has only the Go commands a test makes."""
    real = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, what: () if str(self) == "/usr/lib" else real(self, what))
    real_access = os.access
    monkeypatch.setattr(
        golang.os,
        "access",
        lambda path, mode: not str(path).startswith("/usr/local/go") and real_access(path, mode),
    )

    def use(folder: Path) -> None:
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    use(tmp_path / "nothing")
    monkeypatch.setattr(golang.shutil, "which", _which)
    return use


def _which(name: str) -> str | None:
    for folder in os.environ["PATH"].split(":"):
        if not folder.startswith("/usr") and Path(folder, name).exists():
            return str(Path(folder, name))
    return None


def test_new_enough_is_used_as_it_is(lab, tmp_path: Path, only_path) -> None:
    fake_go(tmp_path / "go", "go1.27.1")
    only_path(tmp_path / "go")
    go = golang.ensure(lab.ctx)
    assert go == golang.Go(tmp_path / "go" / "go", "go1.27.1")
    assert go.environment()["GOTOOLCHAIN"] == "local"


@pytest.mark.parametrize("version", ["go1.19.8", "go1.20", "devel", ""])
def test_too_old_to_switch_counts_as_none(tmp_path: Path, only_path, version: str) -> None:
    fake_go(tmp_path / "go", version)
    only_path(tmp_path / "go")
    assert golang.installed() is None


def test_old_one_is_left_for_the_packaged_one(
    lab, tmp_path: Path, only_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = golang.Go(tmp_path / "packaged", "go1.26.6")
    monkeypatch.setattr(golang, "_packaged", lambda _ctx: packaged)
    fake_go(tmp_path / "go", "go1.24.4")
    only_path(tmp_path / "go")
    assert golang.ensure(lab.ctx) is packaged


def test_without_the_package_an_old_one_switches_toolchains(
    lab, tmp_path: Path, only_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_ctx: object) -> golang.Go:
        raise ArtifactError("no index")

    monkeypatch.setattr(golang, "_packaged", fail)
    fake_go(tmp_path / "go", "go1.24.4")
    only_path(tmp_path / "go")
    go = golang.ensure(lab.ctx)
    assert go.version == "go1.24.4"
    assert go.environment()["GOTOOLCHAIN"] == "auto"
    assert "no index" in next(event.text for event in lab.events if isinstance(event, Note))


def test_no_go_at_all_says_what_to_do(lab, only_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_ctx: object) -> golang.Go:
        raise ArtifactError("no index", tail="name resolution failed")

    monkeypatch.setattr(golang, "_packaged", fail)
    with pytest.raises(EnvironmentFault, match=r"no Go 1\.26 or newer") as error:
        golang.ensure(lab.ctx)
    assert "name resolution failed" in error.value.tail
    assert "go.dev/dl" in error.value.action


def test_build_counts_packages_and_pins_its_environment(lab, tmp_path: Path) -> None:
    command = fake_go(tmp_path / "go", "go1.26.8", "a\\nb\\nc\\nd\\n", "b\\nd\\nwarning: a message\\n")
    golang.build(lab.ctx, golang.Go(command, "go1.26.8"), tmp_path, ["./x"], tmp_path / "out", label="x 1")
    assert ProgressStarted("build x 1", 4, "steps") in lab.events
    assert [
        event.done
        for event in lab.events
        if isinstance(event, ProgressAdvanced) and event.label == "build x 1"
    ] == [1, 2, 4]
    assert ProgressAdvanced("modules of x 1", 1) in lab.events
    environment = dict(
        line.split("=", 1) for line in (tmp_path / "go" / "environment").read_text().splitlines()
    )
    assert environment["CGO_ENABLED"] == "0"
    assert environment["GOFLAGS"] == "-mod=readonly -buildvcs=false"
    assert environment["GOWORK"] == "off"
    assert environment["GOTOOLCHAIN"] == "local"


def test_failed_build_says_which_and_why(lab, tmp_path: Path) -> None:
    command = fake_go(tmp_path / "go", "go1.26.8", "a\\n", "main.go:7: undefined: x\\n", code=1)
    with pytest.raises(CommandError) as error:
        golang.build(lab.ctx, golang.Go(command, "go1.26.8"), tmp_path, ["."], tmp_path / "out", label="x 1")
    assert error.value.where == "build of x 1"
    assert "undefined: x" in error.value.tail
