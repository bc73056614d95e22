"""Whose folder it is: what somebody else can write is neither run nor believed.

A state folder names programs (`values/*.json`, `bin/`), slipway.yaml names inventories and clusters, a cache
holds programs beside the checksums they are held against; and slipway mostly runs as root. So whatever it
reads of them must be out of everybody's reach but root's and the caller's, as ssh wants of a user's keys
(StrictModes) and git of a repository (safe.directory).

Every folder on the way is looked at from the root down. Once one is found to be safe nobody else can
exchange what lies in it, so what is used afterwards is what was looked at.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slipway.core.errors import EnvironmentFault, UsageError

# Folders that are used all the same, separated as in PATH. Never a key of slipway.yaml, which others may have
# written.
SAFE_FOLDERS = "SLIPWAY_SAFE_FOLDERS"
_ACCESS_LIST = "system.posix_acl_access"


@dataclass(frozen=True)
class Fault:
    """What lets others at a file or folder, in words that follow its name, and what mends it."""

    words: str
    advice: str


def require_own(what: str, path: Path) -> None:
    """Raise EnvironmentFault if somebody else can change this file or folder, or put another in its place.

    what: in words, e.g. "the state folder". Somebody else is whoever is neither root nor the caller, under
    sudo also the user who called it. What does not exist is judged by the folders it would lie in, of which
    one that everybody can write must have the sticky bit, as /tmp has. A symlink is refused: its target may
    be named instead. Nothing is looked at below a folder of SLIPWAY_SAFE_FOLDERS.
    """
    if _declared_safe(path):
        return
    for folder in _above(path):
        _judge(what, path, folder, above=True)
    _judge(what, path, path, above=False)


def require_own_target(what: str, path: Path) -> None:
    """As `require_own`, for a path that may be a symlink: whoever owns it and what it leads to are judged."""
    if path.is_symlink() and not _declared_safe(path):
        for link in (*_above(path), path):
            _judge(what, path, link, above=True)
        path = _led_to(path)
    require_own(what, path)


def require_own_tree(what: str, folder: Path, depth: int) -> None:
    """As `require_own`, for a folder, everything in it, and so on `depth` levels down.

    Inside of it links may stand; they are judged as `require_own_target` does.
    """
    require_own(what, folder)
    if not folder.is_dir() or _declared_safe(folder):
        return
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            require_own_target(what, path)
        elif depth > 1 and path.is_dir():
            require_own_tree(what, path, depth - 1)
        else:
            _judge(what, folder, path, above=False)


def _declared_safe(path: Path) -> bool:
    """Whether the user says so. Raises UsageError for a folder that is not named by its whole path."""
    named = [Path(name) for name in os.environ.get(SAFE_FOLDERS, "").split(os.pathsep) if name]
    for folder in named:
        if not folder.is_absolute():
            raise UsageError(
                f"{SAFE_FOLDERS}: {folder} is relative", action="name folders by their whole paths"
            )
    return any(path.absolute().is_relative_to(folder) for folder in named)


def _above(path: Path) -> Iterator[Path]:
    """The folders that lead to it, from the root down: as it is named, then as the links in it lead."""
    named = path.absolute().parents
    yield from dict.fromkeys([*reversed(named), *reversed((_led_to(path.parent) / "_").parents)])


def _fault(path: Path, *, above: bool) -> Fault | None:
    """What lets others at it; None if nothing does, or it does not exist.

    above: it only leads to what is used: a link may stand there, and with the sticky bit nobody else can
    remove or rename what lies in it.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    trusted = _trusted()
    if found.st_uid not in trusted:
        advice = "work as its owner, or in a folder of your own"
        return Fault(f"belongs to {_user(found.st_uid)}", advice)
    if stat.S_ISLNK(found.st_mode):
        advice = f"name what it leads to instead, {_led_to(path)}"
        return None if above else Fault("is a symlink", advice)
    if (above and found.st_mode & stat.S_ISVTX) or not (others := _others(path, found, trusted)):
        return None
    return Fault(f"can be written by {others}", f"`chmod go-w {path}`, once you know that all of it is yours")


def _others(path: Path, found: os.stat_result, trusted: frozenset[int]) -> str:
    """Who else may write it, in words; empty for nobody."""
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    if found.st_mode & stat.S_IWGRP and not _private(found.st_gid, trusted):
        return f"the group {_group(found.st_gid)}"
    if found.st_mode & stat.S_IWGRP and _has_access_list(path):
        return "those whom its access list names"
    return ""


def _led_to(path: Path) -> Path:
    """Where a path ends, its links followed; unlike Path.resolve it raises for no circle of links."""
    return Path(os.path.realpath(path))


def _trusted() -> frozenset[int]:
    """Root, the caller, and whoever became root by sudo."""
    before = os.environ.get("SUDO_UID", "")
    sudo = {int(before)} if os.geteuid() == 0 and before.isdecimal() else set()
    return frozenset({0, os.geteuid()} | sudo)


def _private(gid: int, trusted: frozenset[int]) -> bool:
    """Whether a group is one trusted user's own, named after them and without other members.

    Debian and others give every user such a group, and a umask of 002 with it.
    """
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    for uid in trusted:
        try:
            user = pwd.getpwuid(uid)
        except KeyError:
            continue
        if (user.pw_gid, user.pw_name) == (gid, group.gr_name):
            return set(group.gr_mem) <= {user.pw_name}
    return False


def _has_access_list(path: Path) -> bool:
    """Whether an access list says who may write: its mask then stands in place of the group's bits."""
    return sys.platform == "linux" and _ACCESS_LIST in os.listxattr(path, follow_symlinks=False)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _judge(what: str, path: Path, offender: Path, *, above: bool) -> None:
    """Raise EnvironmentFault for `path` if others can get at `offender`: itself, or what leads to it."""
    fault = _fault(offender, above=above)
    if fault is None:
        return
    folder = path if path.is_dir() else path.parent
    raise EnvironmentFault(
        f"{what} {path} is not used: {'it' if offender == path else offender} {fault.words}",
        action=f"{fault.advice}; if you trust everybody who can write there: "
        f"{SAFE_FOLDERS}={folder.absolute()}",
    )
