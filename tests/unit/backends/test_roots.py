from __future__ import annotations

from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from infra.backends import roots
from infra.backends.inherit import Site
from infra.clients import apt
from infra.core import process
from infra.core.errors import CommandError, EnvironmentFault
from infra.core.events import silent

SITE = Site(
    "trixie",
    "debian",
    "debian-archive-keyring",
    (apt.Source("https://mirror.example/debian", "trixie", ("main",)),),
    ("192.0.2.1",),
    apt_options=(("Acquire::Check-Valid-Until", "false"),),
)
Usage = namedtuple("Usage", "total used free")


def test_the_builder_dies_with_us_and_takes_the_sites_sources() -> None:
    argv = roots.mmdebstrap_argv(SITE, Path("/cache/x.partial"))
    assert argv[:2] == ["setpriv", "--pdeathsig=KILL"]
    assert "--kill-child=KILL" in argv[: argv.index("mmdebstrap")]
    assert argv[-3:] == ["trixie", "/cache/x.partial", "deb https://mirror.example/debian trixie main"]
    assert '--aptopt=Acquire::Check-Valid-Until "false"' in argv


def test_engines_are_the_playbooks_part() -> None:
    assert not {"docker.io", "containerd", "runc", "kubelet"} & set(roots.PACKAGES)
    assert {"python3-apt", "python3-debian", "openssh-server", "systemd"} <= set(roots.PACKAGES)


def test_another_site_has_another_root(tmp_path: Path) -> None:
    assert roots.path(tmp_path, SITE) == roots.path(tmp_path, replace(SITE, resolvers=("192.0.2.9",)))
    assert roots.path(tmp_path, SITE) != roots.path(tmp_path, replace(SITE, certificates=("x",)))
    assert roots.path(tmp_path, SITE).name.startswith("trixie-")


def test_a_root_that_exists_is_taken(tmp_path: Path) -> None:
    roots.path(tmp_path, SITE).mkdir(parents=True)
    assert roots.ensure(tmp_path, SITE, silent) == (roots.path(tmp_path, SITE), False)


def test_too_little_disk_says_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots.shutil, "disk_usage", lambda path: Usage(10, 10, 200_000_000))
    with pytest.raises(EnvironmentFault, match=r"1\.5 GB needed .*, 0\.2 GB free"):
        roots.ensure(tmp_path, SITE, silent)


def test_a_failed_builder_shows_its_last_lines_and_what_it_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = roots.path(tmp_path, SITE).with_name(roots.path(tmp_path, SITE).name + ".partial")
    (partial / "left").mkdir(parents=True)

    def fail(argv: list[str], **_: object) -> None:
        assert not partial.exists()
        raise CommandError(tuple(argv), 25, "E: apt-get update failed\nConnection timed out")

    monkeypatch.setattr(process, "run", fail)
    with pytest.raises(EnvironmentFault, match=r"mirror\.example") as failed:
        roots.ensure(tmp_path, SITE, silent)
    assert "Connection timed out" in failed.value.tail
    assert not roots.path(tmp_path, SITE).exists()
