from __future__ import annotations

import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from infra.core.context import Context
from infra.core.schema import DeploySettings, HostsSettings, Settings
from infra.core.state import State
from infra.overview.doctor import Check, examine

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(State(tmp_path / "s"), tmp_path / "run", tmp_path, cache=tmp_path / "c")


def find(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_no_root_matters_for_hosts_made_here_only(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own = find(examine(ctx, Settings()), "root")
    assert (own.ok, own.needed) == (False, True)
    assert "run as root" in own.line()
    theirs = Settings(hosts=HostsSettings(backend="ssh", inventory=tmp_path))
    assert find(examine(ctx, theirs), "root").needed is False


def test_too_little_disk_is_told_with_what_is_needed(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**11, 10**11, 3 * 10**9))
    check = find(examine(ctx, Settings()), "disk for state")
    assert not check.ok
    assert check.line().startswith("missing")
    assert "3 GB free" in check.line()
    assert "13 GB are needed" in check.line()  # three hosts and the cache are on one disk


@pytest.mark.parametrize(
    ("workers", "apart", "state", "cache"),
    [(5, False, 22, 22), (5, True, 19, 3), (None, False, 4, 4), (None, True, 1, 3)],
)
def test_the_disk_needed_follows_from_hosts_and_disks(
    ctx: Context,
    tmp_path: Path,
    workers: int | None,
    apart: bool,
    state: int,
    cache: int,
) -> None:
    theirs = HostsSettings(backend="ssh", inventory=tmp_path)
    hosts = theirs if workers is None else HostsSettings(workers=workers)
    if apart:  # a file system of its own, as every Linux has it here
        ctx = replace(ctx, cache=Path("/proc/none"))
    checks = examine(ctx, Settings(hosts=hosts))
    for name, size in (("state", state), ("cache", cache)):
        assert find(checks, f"disk for {name}").action.startswith(f"{size} GB are needed")


def test_pulumi_is_needed_only_when_it_was_asked_for(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert find(examine(ctx, Settings()), "pulumi").needed is False
    asked = find(examine(ctx, Settings(deploy=DeploySettings(by="engine"))), "pulumi")
    assert (asked.ok, asked.needed) == (False, True)


def test_nothing_is_made_by_looking(ctx: Context, tmp_path: Path) -> None:
    examine(ctx, Settings())
    assert list(tmp_path.iterdir()) == []
