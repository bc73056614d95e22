"""`slipway clean`: what slipway made goes, whatever else lies beside it stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.artifacts import cache as artifact_cache
from slipway.artifacts.cache import mounted_below
from slipway.core.lock import flock, held
from slipway.core.state import CACHED, State
from slipway.hosts.nspawn.labs import Lab, LabHost, Records

Slipway = Callable[..., int]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos that somebody named as slipway's cache, in use since."""
    folder = tmp_path / "pictures"
    for name in (*CACHED, "photos"):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.jpg").write_text("x")
    (folder / "2.jpg").write_text("x")
    monkeypatch.setenv("SLIPWAY_CACHE", str(folder))
    return folder


@pytest.fixture
def slipway(slipway: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slipway:
    """`slipway WORDS` in a working folder, on a machine without labs: its exit code."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(Records.__init__, "__defaults__", (tmp_path / "labs",))
    return slipway


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Put a lab on record whose hosts have this root."""
    host = LabHost("cp", "10.0.0.2", (), "slip-1-cp", "id", "slip-1-cp", "slip1-1", Path())
    lab = Lab(
        "slip-1", "t", Path("/other/.slipway"), "10.0.0.0/24", "10.0.0.1", 1400, "s", "b", "f", "n", "0"
    )

    def write(root: Path) -> None:
        Records(tmp_path / "labs").write(replace(lab, hosts=(replace(host, root=root),)))

    yield write


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


PHOTOS = ["2.jpg", "photos", "photos/1.jpg"]


def test_only_slipways_own_folders_of_the_cache_go(
    cache: Path, slipway: Slipway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slipway("clean") == 0
    assert left(cache) == PHOTOS
    assert {line.split("/")[-1] for line in capsys.readouterr().out.splitlines()} == set(CACHED)
    assert slipway("clean") == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert list(Path.cwd().iterdir()) == []


def test_of_a_link_to_somewhere_else_the_link_goes(cache: Path, slipway: Slipway, tmp_path: Path) -> None:
    for path in (cache / "roots").iterdir():
        path.unlink()
    (cache / "roots").rmdir()
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "3.jpg").write_text("x")
    (cache / "roots").symlink_to(tmp_path / "album")
    assert slipway("clean") == 0
    assert left(cache) == PHOTOS
    assert left(tmp_path / "album") == ["3.jpg"]


@pytest.mark.parametrize("words", [("clean",), ("clean", "--reports")])
def test_a_cache_that_a_lab_runs_on_stays(
    words: tuple[str, ...],
    cache: Path,
    slipway: Slipway,
    record: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = left(cache)
    record(cache / "roots" / "trixie-1")
    assert slipway(*words) == 3
    assert "slip-1 of /other/.slipway runs on what is in" in (said := capsys.readouterr().err)
    assert "`slipway down` in /other" in said
    record(Path())
    assert slipway(*words) == 3
    assert "is being made" in capsys.readouterr().err
    assert left(cache) == before
    record(Path("/another/cache/roots/trixie-1"))
    assert slipway(*words) == 0
    assert left(cache) == PHOTOS


def test_where_nobody_can_tell_which_labs_there_are_nothing_goes(
    cache: Path, slipway: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = left(cache)
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "slip-1.json").write_text("of another version")
    assert slipway("clean") == 3
    (tmp_path / "labs" / "slip-1.json").unlink()

    def refuse(folder: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(folder))

    real = Path.iterdir
    monkeypatch.setattr(
        Path, "iterdir", lambda folder: (refuse if folder == tmp_path / "labs" else real)(folder)
    )
    assert slipway("clean") == 3
    monkeypatch.setattr(Path, "iterdir", real)
    assert left(cache) == before


@pytest.mark.parametrize("lock", ["roots", "artifacts/.kubernetes-1.lock"])
def test_a_cache_that_a_run_fills_stays(cache: Path, slipway: Slipway, lock: str) -> None:
    with flock(cache / lock, "a run", timeout=0):
        before = left(cache)
        assert slipway("clean") == 3
        assert left(cache) == before
    assert slipway("clean") == 0
    assert left(cache) == PHOTOS


def test_what_is_mounted_in_the_cache_stays(
    cache: Path, slipway: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        f"22 1 0:5 / {cache}/roots/my\\040disk rw - ext4 /dev/sdb1 rw\n23 1 0:6 / /proc rw - proc proc rw\n"
    )
    assert mounted_below([cache / "roots"], table) == [cache / "roots" / "my disk"]
    assert mounted_below([cache / "artifacts"], table) == []
    assert mounted_below([cache], tmp_path / "missing") == []
    monkeypatch.setattr(artifact_cache, "mounted_below", lambda _: [cache / "roots" / "my disk"])
    before = left(cache)
    assert slipway("clean") == 3
    assert left(cache) == before


def test_reports_go_when_they_are_asked_for_and_a_persons_files_stay(cache: Path, slipway: Slipway) -> None:
    state = State(Path.cwd() / ".slipway")
    state.new_run()
    state.new_log("down").mkdir(parents=True)
    (state.root / "photo.jpg").write_text("x")
    assert slipway("clean") == 0
    assert sorted(path.name for path in state.root.iterdir()) == ["lock", "logs", "photo.jpg", "runs"]
    assert slipway("clean", "--reports") == 0
    assert sorted(path.name for path in state.root.iterdir()) == ["lock", "photo.jpg"]
    (state.root / "photo.jpg").unlink()
    assert slipway("clean", "--reports") == 0
    assert not state.root.exists()


def test_nothing_goes_beside_a_run(cache: Path, slipway: Slipway) -> None:
    with held(State(Path.cwd() / ".slipway"), "up"):
        before = left(cache)
        assert slipway("clean", "--reports") == 3
        assert left(cache) == before


def test_every_folder_of_the_cache_is_known(tmp_path: Path) -> None:
    """Whoever makes another one names it where `clean` looks."""

    root = Path(__file__).parents[3]
    named = re.compile(r'(?:cache|cache_home\(\)) / "(\w+)"|cache_folder\([\w.]+, "(\w+)"\)')
    used = {
        first or second
        for folder in ("infra", "tests")
        for path in (root / folder).rglob("*.py")
        if path != Path(__file__)
        for first, second in named.findall(path.read_text(encoding="utf-8"))
    }
    assert used <= set(CACHED)
    assert {"artifacts", "image", "roots", "kubectl"} <= used


def test_down_leaves_a_persons_files_in_the_state_folder(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    state.new_run()
    for path in state.made:
        path.mkdir()
        (path / "made").write_text("x")
    (state.root / "photo.jpg").write_text("x")
    (state.root / ".kubeconfig.k3j2").write_text("half written by a run that was killed")
    assert state.clear() == [f"folder {path}" for path in state.made]
    assert sorted(path.name for path in state.root.iterdir()) == ["photo.jpg", "runs"]
    assert state.clear() == []


def test_everything_that_the_stages_keep_is_removed_by_down(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    paths = {
        path
        for name, member in vars(State).items()
        if isinstance(member, property) and isinstance(path := getattr(state, name), Path)
    }
    assert {path for path in paths if path.parent == state.root} == {
        *state.made,
        state.machines,  # paid ones must not be forgotten: `hosts destroy` removes them and it
        state.runs,
        state.logs,
        state.lock,
    }
