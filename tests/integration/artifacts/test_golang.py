"""Which Go builds: the newest installed one that is new enough, else the one fetched as a module."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from slipway.artifacts import cache, go_modules, golang, pins
from slipway.artifacts.pins import Row
from slipway.core import process
from slipway.core.errors import ArtifactError, CommandError, EnvironmentFault
from slipway.core.events import Note, ProgressAdvanced, ProgressStarted


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
        os,
        "access",
        lambda path, mode: not str(path).startswith("/usr/local/go") and real_access(path, mode),
    )

    def use(folder: Path) -> None:
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    use(tmp_path / "nothing")
    monkeypatch.setattr(shutil, "which", _which)
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


def test_old_one_is_left_for_the_fetched_one(
    lab, tmp_path: Path, only_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = golang.Go(tmp_path / "fetched", "go1.26.8")
    monkeypatch.setattr(golang, "_fetched", lambda _ctx: fetched)
    fake_go(tmp_path / "go", "go1.24.4")
    only_path(tmp_path / "go")
    assert golang.ensure(lab.ctx) is fetched


def test_without_the_module_an_old_one_switches_toolchains(
    lab, tmp_path: Path, only_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_ctx: object) -> golang.Go:
        raise ArtifactError("no proxy")

    monkeypatch.setattr(golang, "_fetched", fail)
    fake_go(tmp_path / "go", "go1.24.4")
    only_path(tmp_path / "go")
    go = golang.ensure(lab.ctx)
    assert go.version == "go1.24.4"
    assert go.environment()["GOTOOLCHAIN"] == "auto"
    assert "no proxy" in next(event.text for event in lab.events if isinstance(event, Note))


def test_no_go_at_all_says_what_to_do(lab, only_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_ctx: object) -> golang.Go:
        raise ArtifactError("no proxy", tail="name resolution failed")

    monkeypatch.setattr(golang, "_fetched", fail)
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


def toolchain(folder: Path, version: str) -> bytes:
    """The zip of a toolchain module: no modes, inner modules under another name."""
    prefix = f"golang.org/toolchain@{version}"
    path = folder / "toolchain.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{prefix}/bin/go", "#!/bin/sh\necho compiled\n")
        archive.writestr(f"{prefix}/pkg/tool/linux_amd64/compile", "")
        archive.writestr(f"{prefix}/src/cmd/_go.mod", "module cmd\n")
    return path.read_bytes()


@pytest.fixture
def proxies(lab, stand_in, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No Go here, the pinned toolchain is a small one, and GOPROXY leads to a stand-in."""
    monkeypatch.setattr(golang, "installed", lambda: None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    stand_in.content = toolchain(tmp_path, "v0.0.1-go1.26.8.linux-amd64")
    row = Row(
        "go-toolchain", "1.26.8", "linux/amd64", h1=go_modules.h1(tmp_path / "toolchain.zip"), hash_source="x"
    )
    monkeypatch.setattr(pins, "rows", lambda path=pins.PATH: (row,))
    monkeypatch.setenv("GOPROXY", stand_in.url)
    return stand_in


def test_the_toolchain_is_fetched_as_a_module(lab, proxies) -> None:
    go = golang.ensure(lab.ctx)
    assert process.run([go.command]).stdout == "compiled\n"
    goroot = go.command.parents[1]
    assert (goroot / "src/cmd/go.mod").is_file()
    assert os.access(goroot / "pkg/tool/linux_amd64/compile", os.X_OK)
    assert not list(goroot.parent.glob("*.zip"))
    assert {path for path, _ in proxies.asked} == {"/golang.org/toolchain/@v/v0.0.1-go1.26.8.linux-amd64.zip"}


def test_a_changed_toolchain_is_refused_and_leaves_nothing(lab, proxies) -> None:
    proxies.content = proxies.content.replace(b"echo compiled", b"echo replaced")
    with pytest.raises(EnvironmentFault) as error:
        golang.ensure(lab.ctx)
    assert "not the pinned file" in error.value.tail
    assert [path.name for path in cache.home(lab.ctx).glob("go-toolchain*")] == []


def test_a_silent_proxy_is_passed_over(lab, proxies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", f"https://127.0.0.1:1/none,{proxies.url}")
    assert process.run([golang.ensure(lab.ctx).command]).stdout == "compiled\n"
    assert any("does not answer" in event.text for event in lab.events if isinstance(event, Note))


def test_no_proxy_to_ask_says_what_to_set(lab, proxies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "off")
    with pytest.raises(EnvironmentFault) as error:
        golang.ensure(lab.ctx)
    assert "GOPROXY names no proxy" in error.value.tail
