from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from slipway.clients import apt
from slipway.core import process
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.core.events import silent
from slipway.hosts.nspawn import roots
from slipway.hosts.nspawn.inherit import Site

SITE = Site(
    "trixie",
    "debian",
    "debian-archive-keyring",
    (apt.Source("https://mirror.example/debian", "trixie", ("main",)),),
    ("192.0.2.1",),
    apt_options=(("Acquire::Check-Valid-Until", "false"),),
)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """mmdebstrap's command line; a file it names stands there with its content. It fails."""
    argv: list[str] = []

    def fail(words: list[str], **_: object) -> None:
        for word in words:
            option, _equals, file = word.rpartition("=")
            path = Path(file)
            argv.append(f"{option}: {path.read_text()}" if path.parent.name.startswith("slipway-") else word)
        raise CommandError(tuple(words), 25, "E: apt-get update failed\nConnection timed out")

    monkeypatch.setattr(process, "run", fail)
    monkeypatch.setattr(shutil, "which", lambda _program: "/usr/bin/mmdebstrap")
    return argv


def test_the_builder_dies_with_us_and_takes_the_sites_sources(tmp_path: Path, asked: list[str]) -> None:
    with pytest.raises(EnvironmentFault):
        roots.ensure(tmp_path, SITE, silent, refresh_days=7)
    assert asked[:2] == ["setpriv", "--pdeathsig=KILL"]
    assert "--kill-child=KILL" in asked[: asked.index("mmdebstrap")]
    partial = f"{roots.path(tmp_path, SITE, 7)}.partial"
    assert asked[-3:] == ["trixie", partial, ": deb https://mirror.example/debian trixie main\n"]
    options = next(word for word in asked if 'Acquire::Check-Valid-Until "false";\n' in word)
    assert options.startswith("--aptopt: ")


def test_logins_go_through_a_file_and_are_in_no_word_or_error(tmp_path: Path, asked: list[str]) -> None:
    login = apt.Login("https://mirror.example/debian/", "bob", "canary-7f3a")
    site = replace(SITE, apt_logins=(login,), proxies=(("http_proxy", "http://bob:canary-7f3a@proxy"),))
    with pytest.raises(EnvironmentFault) as failed:
        roots.ensure(tmp_path, site, silent, refresh_days=7)
    assert "canary" not in " ".join([*asked, *failed.value.lines(), repr(site.fetching)])
    options = next(word for word in asked if "Dir::Etc::netrc" in word)
    auth = Path(options.split('Dir::Etc::netrc "')[1].split('"')[0])
    assert auth.name == "auth.conf"
    assert not auth.parent.exists()  # removed with what was in it
    assert roots.path(tmp_path, site, 7) == roots.path(tmp_path, SITE, 7)


def test_engines_are_the_playbooks_part() -> None:
    assert not {"docker.io", "containerd", "runc", "kubelet"} & set(roots.PACKAGES)
    assert {"python3-apt", "python3-debian", "openssh-server", "systemd"} <= set(roots.PACKAGES)


def test_another_site_has_another_root(tmp_path: Path) -> None:
    assert roots.path(tmp_path, SITE, 7) == roots.path(tmp_path, replace(SITE, resolvers=("192.0.2.9",)), 7)
    assert roots.path(tmp_path, SITE, 7) != roots.path(tmp_path, replace(SITE, certificates=("x",)), 7)
    assert roots.path(tmp_path, SITE, 7).name.startswith("trixie-")


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """mmdebstrap and sync replaced by ones that write two files; the list says what ran."""
    ran: list[str] = []

    def build(site: Site, target: Path, emit: object) -> None:
        ran.append("build")
        (target / "usr/lib").mkdir(parents=True)
        (target / "usr/lib/libc.so.6").write_bytes(b"x" * 1000)
        (target / "usr/lib/os-release").write_text("ID=debian\n")

    monkeypatch.setattr(roots, "_build", build)
    monkeypatch.setattr(roots, "_finish", lambda site, root: None)
    monkeypatch.setattr(process, "run", lambda words, **_: ran.append(" ".join(map(str, words[:2]))))
    return ran


def make(cache: Path, **more: Any) -> tuple[Path, bool]:
    return roots.ensure(cache, SITE, silent, **{"refresh_days": 7, **more})


def aged(root: Path, days: float) -> None:
    """Let a root be that old."""
    mark = json.loads((root / roots._MARK).read_text())
    mark["made"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    (root / roots._MARK).write_text(json.dumps(mark) + "\n")


def test_a_root_is_on_the_disk_before_it_has_its_name_and_is_taken_as_it_is(
    tmp_path: Path, builder: list[str]
) -> None:
    root, made = make(tmp_path)
    assert made and builder == ["build", "sync --file-system"]
    assert make(tmp_path) == (root, False)
    aged(root, 6.9)
    assert make(tmp_path) == (root, False)
    assert builder == ["build", "sync --file-system"]


TORN: dict[str, Callable[[Path], object]] = {
    "a truncated file": lambda root: (root / "usr/lib/libc.so.6").write_bytes(b""),
    "a missing file": lambda root: (root / "usr/lib/os-release").unlink(),
    "a missing mark": lambda root: (root / roots._MARK).unlink(),
    "an empty mark": lambda root: (root / roots._MARK).write_bytes(b""),
    "a mark of zeros": lambda root: (root / roots._MARK).write_bytes(bytes(80)),
}


@pytest.mark.parametrize("how", TORN)
def test_a_torn_root_is_recognised_and_made_anew(tmp_path: Path, builder: list[str], how: str) -> None:
    root, _ = make(tmp_path)
    TORN[how](root)
    again, made = make(tmp_path)
    assert made and again != root
    assert (again / "usr/lib/libc.so.6").stat().st_size == 1000
    assert not root.exists()
    assert make(tmp_path) == (again, False)


def test_an_old_root_is_made_anew_and_stays_for_the_labs_that_run_on_it(
    tmp_path: Path, builder: list[str]
) -> None:
    first, _ = make(tmp_path)
    aged(first, 7.1)
    second, made = make(tmp_path, in_use={first})
    assert made and second != first and first.is_dir()
    assert make(tmp_path) == (second, False)
    aged(second, 8)
    third, _ = make(tmp_path, in_use={second})
    assert not first.exists() and second.is_dir() and third not in (first, second)
    aged(third, 30)
    assert make(tmp_path, refresh_days=31) == (third, False)


def test_without_the_mirror_the_old_root_is_used_and_that_is_told(
    tmp_path: Path, builder: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = make(tmp_path)
    aged(root, 40)

    def unreachable(*_: object) -> None:
        raise EnvironmentFault("the root of the hosts (trixie) could not be made from mirror.example")

    monkeypatch.setattr(roots, "_build", unreachable)
    told: list[str] = []
    again = roots.ensure(
        tmp_path, SITE, lambda event: told.append(getattr(event, "text", "")), refresh_days=7
    )
    assert again == (root, False)
    assert any("could not be made from mirror.example; the root of 20" in text for text in told)
    TORN["a truncated file"](root)
    with pytest.raises(EnvironmentFault, match="could not be made"):
        make(tmp_path)


def test_too_little_disk_says_how_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10, 10, 200_000_000))
    with pytest.raises(EnvironmentFault, match=r"1\.5 GB needed .*, 0\.2 GB free"):
        roots.ensure(tmp_path, SITE, silent, refresh_days=7)


def test_a_failed_builder_shows_its_last_lines_and_what_it_left_is_removed(
    tmp_path: Path, asked: list[str]
) -> None:
    partial = roots.path(tmp_path, SITE, 7).with_name(roots.path(tmp_path, SITE, 7).name + ".partial")
    (partial / "left").mkdir(parents=True)

    with pytest.raises(EnvironmentFault, match=r"mirror\.example") as failed:
        roots.ensure(tmp_path, SITE, silent, refresh_days=7)
    assert "Connection timed out" in failed.value.tail
    assert not roots.path(tmp_path, SITE, 7).exists()
    assert not partial.exists()
