"""Whose folder it is: owners, modes, groups, links and sticky folders, without the privilege to change any."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.core import ownership
from slipway.core.errors import EnvironmentFault, UsageError
from slipway.core.lock import held
from slipway.core.state import State, cache_folder
from slipway.core.types import ExportedModel

ME, ALICE, MALLORY = 1000, 1001, 1002
OWN, SHARED = 2000, 2001


class Disk:
    """Files on the real disk whose owners, groups and modes are those that a test says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: dict[Path, dict[str, int]] = {}

    def made(self, name: str, *, mode: int | None = None, uid: int | None = None, gid: int = OWN) -> Path:
        """A folder, or a file where the name has a dot, and what is told of it."""
        path = self.root / name
        if "." in Path(name).name[1:]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        else:
            path.mkdir(parents=True, exist_ok=True)
        return self.told(path, mode=mode, uid=uid, gid=gid)

    def told(self, path: Path, *, mode: int | None = None, uid: int | None = None, gid: int = OWN) -> Path:
        said = {"mode": mode, "uid": uid, "gid": gid}
        self.said[path] = {name: value for name, value in said.items() if value is not None}
        return path

    def lstat(self, path: Path) -> os.stat_result:
        real = os.lstat(path)
        said = self.said.get(path, {})
        fields = list(real)
        inside = path == self.root or self.root in path.parents
        fields[stat.ST_UID] = said.get("uid", ME if inside else 0)
        fields[stat.ST_GID] = said.get("gid", OWN)
        if "mode" in said:
            fields[stat.ST_MODE] = stat.S_IFMT(real.st_mode) | said["mode"]
        return os.stat_result(fields)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk of ME's below folders of root's, where OWN is ME's private group and SHARED is not."""
    disk = Disk(tmp_path)
    users = {0: ("root", 0), ME: ("me", OWN), ALICE: ("alice", SHARED), MALLORY: ("mallory", SHARED)}
    groups = {0: ("root", []), OWN: ("me", []), SHARED: ("devs", ["alice"])}

    def user(uid: int) -> pwd.struct_passwd:
        name, gid = users[uid]
        return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/sh"))

    def group(gid: int) -> grp.struct_group:
        name, members = groups[gid]
        return grp.struct_group((name, "x", gid, members))

    def lstat(path: Path) -> os.stat_result:
        return disk.lstat(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    monkeypatch.setattr(pwd, "getpwuid", user)
    monkeypatch.setattr(grp, "getgrgid", group)
    monkeypatch.setattr(os, "geteuid", lambda: ME)
    monkeypatch.setattr(os, "listxattr", lambda path, follow_symlinks: [])
    monkeypatch.delenv(ownership.SAFE_FOLDERS, raising=False)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return disk


MINE = {
    "read by all": {"mode": 0o755},
    "root's": {"mode": 0o755, "uid": 0, "gid": 0},
    "written by my own group, as umask 002 has it": {"mode": 0o775},
}
SOMEBODY_ELSES = {
    "belongs to mallory": {"mode": 0o700, "uid": MALLORY},
    "can be written by everybody": {"mode": 0o777},
    "can be written by the group devs": {"mode": 0o775, "gid": SHARED},
}


@pytest.mark.parametrize("how", MINE)
@pytest.mark.parametrize("name", ["project", "project/.slipway", "project/.slipway/values"])
def test_what_only_i_and_root_can_write_is_used(disk: Disk, name: str, how: str) -> None:
    state = State(disk.made("project/.slipway"))
    disk.made("project/.slipway/values")
    disk.made(name, **MINE[how])
    state.require_own()


@pytest.mark.parametrize("how", SOMEBODY_ELSES)
@pytest.mark.parametrize(
    "name",
    [
        *("project", "project/.slipway", "project/.slipway/bin", "project/.slipway/values"),
        *("project/.slipway/values/provision.json", "project/.slipway/deployed.json"),
    ],
)
def test_what_somebody_else_can_write_is_not(disk: Disk, name: str, how: str) -> None:
    state = State(disk.made("project/.slipway"))
    disk.made("project/.slipway/values")
    wrong = disk.made(name, **SOMEBODY_ELSES[how])
    with pytest.raises(EnvironmentFault, match=how) as refused:
        state.require_own()
    assert str(wrong) in refused.value.what
    assert f"{ownership.SAFE_FOLDERS}=" in refused.value.action


def test_a_folder_on_the_way_that_everybody_can_write_needs_the_sticky_bit(disk: Disk) -> None:
    mine = disk.made("tmp/mine")
    disk.made("tmp", mode=0o1777, uid=0)
    ownership.require_own("the cache", mine)
    ownership.require_own("the cache", mine.with_name("missing"))
    disk.made("tmp", mode=0o1777, uid=MALLORY)  # whose owner can rename what lies in it all the same
    with pytest.raises(EnvironmentFault, match="belongs to mallory"):
        ownership.require_own("the cache", mine)
    disk.made("tmp", mode=0o777, uid=0)
    with pytest.raises(EnvironmentFault, match="written by everybody"):
        ownership.require_own("the cache", mine)
    disk.made("tmp", mode=0o1777, uid=0)
    with pytest.raises(EnvironmentFault, match="written by everybody"):  # /tmp itself is nobody's own
        ownership.require_own("the cache", disk.root / "tmp")


def test_the_user_who_called_sudo_is_trusted_by_root_alone(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = disk.made("home/project", uid=ALICE)
    monkeypatch.setenv("SUDO_UID", str(ALICE))
    with pytest.raises(EnvironmentFault, match="belongs to alice"):
        ownership.require_own("the cache", theirs)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    disk.told(disk.root, uid=0)
    disk.made("home", uid=0)
    ownership.require_own("the cache", theirs)
    disk.told(theirs, uid=MALLORY)
    with pytest.raises(EnvironmentFault, match="belongs to mallory"):
        ownership.require_own("the cache", theirs)
    monkeypatch.setenv("SUDO_UID", "nonsense")
    with pytest.raises(EnvironmentFault, match="belongs to mallory"):
        ownership.require_own("the cache", theirs)


def test_a_private_group_has_no_other_member_and_no_access_list(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = disk.made("project", mode=0o775)
    ownership.require_own("the cache", folder)
    monkeypatch.setattr(os, "listxattr", lambda path, follow_symlinks: ["system.posix_acl_access"])
    with pytest.raises(EnvironmentFault, match="whom its access list names"):
        ownership.require_own("the cache", folder)
    monkeypatch.setattr(os, "listxattr", lambda path, follow_symlinks: [])
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("me", "x", OWN, ["me", "mallory"])))
    with pytest.raises(EnvironmentFault, match="written by the group me"):
        ownership.require_own("the cache", folder)

    def unknown(_number: int) -> grp.struct_group:
        raise KeyError

    monkeypatch.setattr(grp, "getgrgid", unknown)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(EnvironmentFault, match=f"written by the group {OWN}"):
        ownership.require_own("the cache", folder)
    disk.told(folder, uid=4711)
    with pytest.raises(EnvironmentFault, match="belongs to user 4711"):
        ownership.require_own("the cache", folder)


def test_a_link_is_not_followed_and_what_it_leads_to_is_named(disk: Disk) -> None:
    there = disk.made("there")
    link = disk.root / "link"
    link.symlink_to(there)
    disk.told(link, mode=0o777)
    with pytest.raises(EnvironmentFault, match="is a symlink") as refused:
        ownership.require_own("the cache", link)
    assert str(there) in refused.value.action
    link.unlink()
    link.symlink_to(link.name)
    with pytest.raises(EnvironmentFault, match="is a symlink"):
        ownership.require_own("the cache", link)


def test_links_on_the_way_and_inside_are_judged_by_their_owner_and_their_end(disk: Disk) -> None:
    state = State(disk.made("project/.slipway"))
    program = disk.made("cache/kubectl.bin")
    disk.made("project/.slipway/bin")
    link = state.bin / "kubectl"
    link.symlink_to(program)
    disk.told(link, mode=0o777)
    state.require_own()
    disk.told(program, mode=0o777)
    with pytest.raises(EnvironmentFault, match=r"kubectl\.bin is not used: it can be written by everybody"):
        state.require_own()
    disk.told(program)
    disk.made("cache", uid=MALLORY)
    with pytest.raises(EnvironmentFault, match="belongs to mallory"):
        state.require_own()
    disk.made("cache")
    disk.told(link, mode=0o777, uid=MALLORY)
    with pytest.raises(EnvironmentFault, match="belongs to mallory"):
        state.require_own()
    way = disk.root / "way"
    way.symlink_to(disk.root / "cache")
    disk.told(way, mode=0o777, uid=MALLORY)
    with pytest.raises(EnvironmentFault, match="belongs to mallory"):
        ownership.require_own("the settings file", way / "kubectl.bin")
    disk.told(way, mode=0o777)
    ownership.require_own("the settings file", way / "kubectl.bin")


def test_a_folder_that_is_declared_safe_is_used_with_all_below_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(disk.made("project/.slipway", mode=0o777, uid=MALLORY))
    disk.made("project", uid=MALLORY)
    monkeypatch.setenv(ownership.SAFE_FOLDERS, f"/elsewhere:{disk.root / 'proj'}")
    with pytest.raises(EnvironmentFault):
        state.require_own()
    monkeypatch.setenv(ownership.SAFE_FOLDERS, f"/elsewhere:{disk.root / 'project'}")
    state.require_own()
    monkeypatch.setenv(ownership.SAFE_FOLDERS, "project")
    with pytest.raises(UsageError, match="project is relative"):
        state.require_own()


def _lock(folder: Path) -> None:
    with held(State(folder), "up"):
        raise AssertionError("held")


def _cache(folder: Path) -> None:
    cache_folder(folder.parent, "roots")


@pytest.mark.parametrize(("name", "make"), [(".slipway", _lock), ("roots", _cache)])
def test_a_folder_that_somebody_made_meanwhile_is_found_out(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[[Path], None]
) -> None:
    """In /tmp another user may be first between the look and the making of the folder."""
    disk.made("tmp", mode=0o1777, uid=0)
    folder = disk.root / "tmp" / name
    State(folder).require_own()
    disk.told(folder, uid=MALLORY)  # as soon as it is there
    with pytest.raises(EnvironmentFault, match="belongs to mallory"):
        make(folder)


def test_a_value_is_not_read_from_a_folder_that_is_missing(tmp_path: Path) -> None:
    State(tmp_path / "missing").require_own()
    assert State(tmp_path / "missing").kept(ExportedModel) is None
