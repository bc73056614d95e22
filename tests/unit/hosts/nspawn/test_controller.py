from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.core import process
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.core.events import Event, Note, silent
from slipway.hosts.nspawn import controller

from tests.unit.hosts.nspawn.test_roots import SITE

Usage = namedtuple("Usage", "total used free")


def test_a_program_that_is_not_here_is_named_by_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("systemd-nspawn", "ip", "iptables", "nsenter", "depmod"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    site = replace(SITE, distribution="nowhere", keyring_package="nowhere-keyring")
    assert controller.missing(site) == ("mmdebstrap", "nowhere-keyring")


def test_packages_are_installed_by_name_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    said: list[Event] = []
    monkeypatch.setattr(process, "run", lambda argv, **_: asked.append(argv))
    controller.install(("kmod", "mmdebstrap"), said.append)
    assert [argv[:2] for argv in asked] == [["apt-get", "update"], ["apt-get", "install"]]
    assert asked[1][-2:] == ["kmod", "mmdebstrap"]
    assert said == [Note("installing kmod mmdebstrap")]


def test_what_apt_cannot_install_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: list[str], **_: object) -> None:
        raise CommandError(tuple(argv), 100, "E: Unable to locate package mmdebstrap")

    monkeypatch.setattr(process, "run", fail)
    with pytest.raises(EnvironmentFault, match="lacks mmdebstrap") as refused:
        controller.install(("mmdebstrap",), silent)
    assert "Unable to locate" in refused.value.tail
    assert "by hand" in refused.value.action


def test_too_little_disk_says_how_much_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 200_000_000))
    controller.need_disk(tmp_path, 200_000_000, "a host")
    wanted = r"a host: 6\.0 GB needed at .*/not/yet, 0\.2 GB free"
    with pytest.raises(EnvironmentFault, match=wanted):
        controller.need_disk(tmp_path / "not" / "yet", 6_000_000_000, "a host")
