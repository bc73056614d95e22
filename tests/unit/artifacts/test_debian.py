"""Where Debian packages come from: this machine's own mirror, or the site's."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.artifacts import debian
from infra.core import process
from infra.core.errors import EnvironmentFault
from infra.core.schema import Settings, Site

TARGETS = """http://mirror.example/debian/|bookworm|main
http://mirror.example/debian/|bookworm|contrib
http://mirror.example/debian/|bookworm-updates|main
http://mirror.example/debian-security/|bookworm-security|main
http://other.example/repo/|stable|main
"""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine of a given distribution with the apt sources above."""

    def become(name: str, codename: str, targets: str = TARGETS) -> None:
        monkeypatch.setattr(debian, "os_release", lambda: {"ID": name, "VERSION_CODENAME": codename})
        monkeypatch.setattr(debian.shutil, "which", lambda _program: "/usr/bin/x")
        monkeypatch.setattr(
            debian.process, "run", lambda argv, **_more: process.Completed(tuple(argv), 0, targets, "")
        )

    return become


def lines(settings: Settings) -> list[str]:
    return [f"{one.uri} {one.suite}" for one in debian.debian_sources(settings)]


def test_mirror_is_this_machines_own_and_the_suite_the_images(machine) -> None:
    machine("debian", "bookworm")
    assert lines(Settings()) == [
        "http://mirror.example/debian/ trixie",
        "http://mirror.example/debian/ trixie-updates",
        "http://mirror.example/debian-security/ trixie-security",
    ]


def test_the_sites_mirror_wins(machine) -> None:
    machine("debian", "bookworm")
    site = Site(apt_mirror="https://site.example/debian", apt_security_mirror="https://site.example/security")
    assert lines(Settings(site=site)) == [
        "https://site.example/debian trixie",
        "https://site.example/debian trixie-updates",
        "https://site.example/security trixie-security",
    ]


def test_ubuntu_has_no_debian_mirror_of_its_own(machine) -> None:
    machine("ubuntu", "noble", "http://mirror.example/ubuntu/|noble|main\n")
    assert lines(Settings()) == []
    assert lines(Settings(site=Site(apt_mirror="http://mirror.example/ubuntu"))) == []
    assert lines(Settings(site=Site(apt_mirror="http://mirror.example/debian"))) == [
        "http://mirror.example/debian trixie",
        "http://mirror.example/debian trixie-updates",
    ]


def test_apt_without_sources(machine) -> None:
    machine("debian", "bookworm", "")
    assert lines(Settings()) == []


def test_options_of_this_machine_are_inherited_and_logins_stay_in_their_files(machine) -> None:
    machine(
        "debian",
        "bookworm",
        'Acquire "";\nAcquire::http::Proxy "http://proxy.example:3128";\nAcquire::Check-Date "false";\n'
        'APT::Install-Recommends "1";\nAcquire::https "";\nAcquire::IndexTargets::deb::Packages::MetaKey "x";\n',
    )
    text = debian.inherited_options(None)
    assert text.splitlines()[:2] == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::Check-Date "false";',
    ]
    assert "IndexTargets" not in text
    assert "Recommends" not in text
    assert 'Acquire::http::Proxy "http://site.example:8080";' in debian.inherited_options(
        "http://site.example:8080"
    )


def test_os_release_quotes_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text("# comment\nID=debian\nVERSION_CODENAME='trixie'\nNAME=\"Debian GNU/Linux\"\n\n")
    assert debian.os_release(path) == {
        "ID": "debian",
        "VERSION_CODENAME": "trixie",
        "NAME": "Debian GNU/Linux",
    }
    assert debian.os_release(tmp_path / "none") == {}


def test_without_mmdebstrap_says_what_to_install(
    lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda _program: None)
    with pytest.raises(EnvironmentFault, match="mmdebstrap is not installed") as error:
        debian.root(lab.ctx, Settings(), ("iptables",), tmp_path / "root.tar", epoch=0)
    assert error.value.action == "apt-get install mmdebstrap"
