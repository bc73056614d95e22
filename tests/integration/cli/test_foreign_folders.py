"""Root in a folder that somebody else can write: nothing in it is run, believed or changed."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from slipway.cli import app
from slipway.core.types import Cluster, dump

from tests.conftest import can_make_hosts
from tests.integration.cli.verbs import VERBS

pytestmark = pytest.mark.skipif(not can_make_hosts(), reason="only root can give a folder away")

# What they print or read is not this folder's.
WITHOUT_A_FOLDER = ("settings --schema", "model inspect saved.weights.h5")
Slipway = Callable[..., tuple[int, str, str]]


@pytest.fixture
def slipway(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Slipway:
    """`slipway WORDS`: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["slipway", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        return int(ended.value.code or 0), *capfd.readouterr()

    return run


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Written by the program that values/provision.json names in place of kubectl."""
    return tmp_path / "ran"


@pytest.fixture
def project(tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder: root's own, with a state folder that names a program of this folder."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "project"
    (folder / ".slipway" / "values").mkdir(parents=True)
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\nid -u >>{ran}\necho '{{\"items\": []}}'\n")
    program.chmod(0o755)
    cluster = Cluster(folder / "kubeconfig", program, "https://192.0.2.1:6443", (), None)
    (folder / ".slipway" / "values" / "provision.json").write_bytes(dump(cluster))
    (folder / "inventory.yml").write_text("all: {}\n")
    (folder / "slipway.yaml").write_text("hosts: {backend: ssh, inventory: inventory.yml}\n")
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    yield folder
    monkeypatch.chdir(tmp_path)


def give_away(*paths: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    for path in paths:
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)


def lead_away(path: Path) -> None:
    """Put a link of nobody's, to root's own file or folder, in a path's place."""
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")
    give_away(path)


FOREIGN: dict[str, Callable[[Path], None]] = {
    "the whole folder": lambda project: give_away(project, *project.rglob("*")),
    "slipway.yaml": lambda project: give_away(project / "slipway.yaml"),
    "slipway.yaml, a link": lambda project: lead_away(project / "slipway.yaml"),
    "the state folder": lambda project: give_away(project / ".slipway"),
    "the state folder, a link": lambda project: lead_away(project / ".slipway"),
    "a folder of the state": lambda project: give_away(project / ".slipway" / "values"),
    "a value": lambda project: give_away(project / ".slipway" / "values" / "provision.json"),
    "what everybody can write": lambda project: project.chmod(0o777),
    "the cache": lambda project: give_away(project.parent / "cache"),
}


def files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder, with what a change of it would show in."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_uid, path.lstat().st_mode)
        for path in sorted(folder.rglob("*"))
    }


def test_without_anybody_else_the_program_is_run(project: Path, ran: Path, slipway: Slipway) -> None:
    assert slipway("status")[0] == 0
    assert ran.read_text().split() == ["0"]


@pytest.mark.parametrize("what", FOREIGN)
def test_nothing_that_somebody_else_can_write_is_run_or_changed(
    what: str, project: Path, ran: Path, slipway: Slipway
) -> None:
    FOREIGN[what](project)
    before = files(project.parent)
    for verb in VERBS if what == "the whole folder" else ("status", "env", "up"):
        if verb in WITHOUT_A_FOLDER:
            continue
        code, out, error = slipway(*verb.split())
        assert (verb, code, out) == (verb, 3, "")  # nothing for `eval "$(slipway env)"` either
        assert "is not used: " in error, verb
        assert "SLIPWAY_SAFE_FOLDERS=" in error, verb
    assert not ran.exists()
    assert files(project.parent) == before


def test_a_folder_that_is_declared_safe_is_used(
    project: Path, ran: Path, slipway: Slipway, monkeypatch: pytest.MonkeyPatch
) -> None:
    FOREIGN["the whole folder"](project)
    monkeypatch.setenv("SLIPWAY_SAFE_FOLDERS", str(project))
    assert slipway("status")[0] == 0
    assert ran.exists()
    assert slipway("status", "--set", "hosts.workers=x")[0] == 2


@pytest.mark.parametrize("key", ["hosts.inventory", "cluster.kubeconfig"])
def test_files_of_the_settings_that_name_programs_are_judged_too(
    key: str, project: Path, slipway: Slipway
) -> None:
    """An inventory can name a connection program, a kubeconfig a login program: both run here."""
    file = project / "named.yml"
    file.write_text("all: {}\n")
    assert slipway("settings", "--set", f"{key}={file}")[0] == 0
    give_away(file)
    code, out, error = slipway("settings", "--set", f"{key}={file}")
    assert (code, out) == (3, "")
    assert "belongs to nobody" in error


def test_init_begins_nothing_in_a_folder_that_no_other_verb_would_use(
    project: Path, slipway: Slipway
) -> None:
    (project / "slipway.yaml").unlink()
    give_away(project)
    before = files(project)
    assert slipway("init")[0] == 3
    assert files(project) == before


def test_env_gives_a_shell_no_folder_of_somebody_else(project: Path, slipway: Slipway) -> None:
    code, out, _ = slipway("env", "--json")
    assert (code, json.loads(out)["PATH"]) == (0, str(project / ".slipway" / "bin"))
    (project / ".slipway" / "bin").mkdir()
    (project / ".slipway" / "bin" / "kubectl").symlink_to(project / "kubectl")
    assert slipway("env")[0] == 0
    give_away(project / "kubectl")
    code, out, _ = slipway("env")
    assert (code, out) == (3, "")
