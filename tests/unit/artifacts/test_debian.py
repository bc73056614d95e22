"""Where Debian packages come from: this machine's own mirror, or the site's."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.artifacts import debian
from infra.clients import apt
from infra.core.errors import EnvironmentFault
from infra.core.schema import Settings, Site

OWN = """deb http://mirror.example/debian bookworm main contrib
deb [trusted=yes] http://mirror.example/debian bookworm-updates main
deb http://mirror.example/debian-security bookworm-security main
deb http://other.example/repo nodistro main
"""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine of a given distribution with the apt sources above."""

    def become(name: str, codename: str, sources: str = OWN) -> None:
        monkeypatch.setattr(apt, "os_release", lambda: {"ID": name, "VERSION_CODENAME": codename})
        monkeypatch.setattr(apt, "own_sources", lambda: apt.parse_sources(sources, "list"))

    return become


def lines(settings: Settings) -> list[str]:
    return [one.one_line() for one in debian.debian_sources(settings)]


def test_mirror_is_this_machines_own_and_the_suite_the_images(machine) -> None:
    machine("debian", "bookworm")
    assert lines(Settings()) == [
        "deb http://mirror.example/debian trixie main",
        "deb [trusted=yes] http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main",
    ]


def test_the_sites_mirror_wins(machine) -> None:
    machine("debian", "bookworm")
    site = Site(apt_mirror="https://site.example/debian", apt_security_mirror="https://site.example/security")
    assert lines(Settings(site=site)) == [
        "deb https://site.example/debian trixie main",
        "deb https://site.example/debian trixie-updates main",
        "deb https://site.example/security trixie-security main",
    ]


def test_ubuntu_has_no_debian_mirror_of_its_own(machine) -> None:
    machine("ubuntu", "noble", "deb http://mirror.example/ubuntu noble main\n")
    assert lines(Settings()) == []
    assert lines(Settings(site=Site(apt_mirror="http://mirror.example/ubuntu"))) == []
    assert lines(Settings(site=Site(apt_mirror="http://mirror.example/debian"))) == [
        "deb http://mirror.example/debian trixie main",
        "deb http://mirror.example/debian trixie-updates main",
    ]


def test_apt_without_sources(machine) -> None:
    machine("debian", "bookworm", "")
    assert lines(Settings()) == []


def test_options_of_this_machine_are_inherited_and_logins_stay_in_their_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {"Acquire::http::Proxy-Auto-Detect": "/usr/bin/detect", "Acquire::Check-Date": "false"}
    monkeypatch.setattr(apt, "own_options", lambda proxy: {**here, "Acquire::http::Proxy": str(proxy)})
    monkeypatch.setattr(debian.os, "access", lambda path, _mode: path == "/etc/apt/auth.conf")
    assert debian.inherited_options("http://site.example:8080").splitlines() == [
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";',
        'Acquire::Check-Date "false";',
        'Acquire::http::Proxy "http://site.example:8080";',
        'Dir::Etc::netrc "/etc/apt/auth.conf";',
    ]


def test_without_mmdebstrap_says_what_to_install(
    lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda _program: None)
    with pytest.raises(EnvironmentFault, match="mmdebstrap is not installed") as error:
        debian.root(lab.ctx, Settings(), ("iptables",), tmp_path / "root.tar", epoch=0)
    assert error.value.action == "apt-get install mmdebstrap"
