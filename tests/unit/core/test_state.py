from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slipway.core.errors import EnvironmentFault
from slipway.core.state import State, cache_home, create_once, link_atomically, write_atomically
from slipway.core.types import Cluster, ExportedModel, Hosts, ImageRef


def test_writing_tells_whether_anything_changed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    assert write_atomically(path, "one", 0o600) is True
    assert path.stat().st_mode & 0o777 == 0o600
    assert write_atomically(path, b"one", 0o600) is False
    assert write_atomically(path, "two", 0o600) is True
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_mode_that_drifted_is_put_right(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_atomically(path, "s", 0o600)
    path.chmod(0o644)
    assert write_atomically(path, "s", 0o600) is False
    assert path.stat().st_mode & 0o777 == 0o600


def test_of_several_who_make_a_file_one_wins_and_all_find_its_content(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "passphrase"
    together = threading.Barrier(8, timeout=10)

    def make(number: int) -> bool:
        together.wait()
        return create_once(path, f"{number}", 0o600)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    assert made.count(True) == 1
    assert path.read_text() == str(made.index(True))
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["passphrase"]
    assert create_once(path, "later", 0o600) is False
    assert path.read_text() == str(made.index(True))


def test_the_cache_follows_the_users_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_CACHE", "/a")
    assert cache_home() == Path("/a")
    monkeypatch.delenv("SLIPWAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_home() == Path("/b/slipway")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_home() == Path("/c/.cache/slipway")


@pytest.fixture
def programs(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A place for a link, and two programs."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    return tmp_path / "bin" / "kubectl", tmp_path / "one", tmp_path / "two"


def test_a_link_leads_to_the_last_program_named(programs: tuple[Path, Path, Path]) -> None:
    link, one, two = programs
    link_atomically(link, one)
    assert link.read_text() == "one"
    link_atomically(link, two)
    assert link.read_text() == "two"
    two.rename(two.with_name("moved"))  # it leads nowhere now
    link_atomically(link, one)
    assert link.read_text() == "one"
    assert [path.name for path in link.parent.iterdir()] == ["kubectl"]


def test_a_link_is_never_made_to_lead_to_itself(programs: tuple[Path, Path, Path]) -> None:
    link, one, _ = programs
    link_atomically(link, one)
    link_atomically(link, link)  # what `which kubectl` finds in a shell with `slipway env`
    assert link.read_text() == "one"


def test_a_link_that_leads_nowhere_is_no_target(programs: tuple[Path, Path, Path]) -> None:
    link, one, two = programs
    link_atomically(link, one)
    one.unlink()  # as an emptied cache does
    for gone in (link, one):
        with pytest.raises(EnvironmentFault, match=f"{gone} does not exist") as refused:
            link_atomically(link, gone)
        assert "slipway up" in refused.value.action
        assert link.readlink() == one
    link_atomically(link, two)
    assert link.read_text() == "two"
    with pytest.raises(EnvironmentFault, match=f"{one} does not exist"):
        link_atomically(link, one)
    assert link.read_text() == "two"


def test_a_program_is_followed_through_its_own_links(programs: tuple[Path, Path, Path]) -> None:
    link, one, two = programs
    alternative = one.with_name("alternative")
    alternative.symlink_to(one)
    link_atomically(link, alternative)
    alternative.unlink()
    alternative.symlink_to(two)  # as an upgrade does
    assert link.read_text() == "two"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_person_put_there_is_neither_lost_nor_used(
    programs: tuple[Path, Path, Path], kind: str
) -> None:
    link, one, _ = programs
    link.parent.mkdir()
    theirs = link if kind == "file" else link / "inside"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("theirs")
    with pytest.raises(EnvironmentFault, match="in the way") as refused:
        link_atomically(link, one)
    assert str(link) in refused.value.what
    assert str(one) in refused.value.what
    assert "move it" in refused.value.action
    assert theirs.read_text() == "theirs"


CLUSTER = Cluster(Path("k"), Path("kubectl"), "", (), None)


def exported(name: str) -> ExportedModel:
    return ExportedModel(Path("m"), name, 1, "00", Path("r"))


def test_one_of_several_models_has_its_own_values_and_shares_the_cluster(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    one, other = state.of("one"), state.of("other")
    for value in (Hosts("ssh", ()), CLUSTER, exported("alone")):
        state.keep(value)
    one.keep(exported("one"))
    assert (one.kept(Hosts), one.kept(Cluster)) == (state.kept(Hosts), CLUSTER)
    assert [each.kept(ExportedModel) for each in (state, one, other)] == [
        exported("alone"),
        exported("one"),
        None,
    ]
    assert state.kept_models == other.kept_models == ("one",)
    assert (one.models, one.pulumi, one.runs) == (state.models, state.pulumi, state.runs)
    assert (
        len({state.image, one.image, other.image}) == len({state.deployed, one.deployed, other.deployed}) == 3
    )
    assert one.of("") == state


def test_what_is_kept_of_one_model_goes_alone(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    state.keep(CLUSTER)
    for name in ("", "one", "other"):
        state.of(name).keep(exported(name))
        state.of(name).image.mkdir()
        state.of(name).deployed.write_text("{}")
    assert state.of("one").clear_model() == [f"folder {state.by_model / 'one'}"]
    assert state.of("one").clear_model() == []
    assert state.kept_models == ("other",)
    assert state.clear_model() == [
        f"file {state.values / 'model.json'}",
        f"folder {state.image}",
        f"file {state.deployed}",
    ]
    assert (state.kept(Cluster), state.kept(ImageRef)) == (CLUSTER, None)
    assert state.of("other").kept(ExportedModel) == exported("other")
    state.of("other").clear_model()
    assert not state.by_model.exists()


def test_what_somebody_else_can_write_of_a_model_is_not_read(tmp_path: Path) -> None:
    state = State(tmp_path / ".slipway")
    state.of("one").keep(exported("one"))
    state.require_own()
    file = state.of("one").values / "model.json"
    file.chmod(0o666)
    with pytest.raises(EnvironmentFault, match=r"model\.json can be written by everybody"):
        state.require_own()
