"""Where Debian packages come from: this machine's own mirror, or the site's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.artifacts import debian
from slipway.clients import apt, mmdebstrap
from slipway.core.errors import EnvironmentFault
from slipway.core.events import Event, Note
from slipway.core.schema import Settings, Site

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
        monkeypatch.setattr(apt, "own_origins", dict)

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


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[apt.Fetching]:
    """What mmdebstrap is given, without running it."""
    given: list[apt.Fetching] = []
    monkeypatch.setattr(mmdebstrap, "make", lambda *_words, fetching, **_more: given.append(fetching))
    return given


def test_options_of_this_machine_are_inherited_and_logins_are_taken_out(
    lab, machine, made: list[apt.Fetching], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine("debian", "trixie", "deb [trusted=yes] http://bob:pw@mirror.example/debian trixie main\n")
    here = {"Acquire::http::Proxy-Auto-Detect": "/usr/bin/detect", "Acquire::Check-Date": "false"}
    monkeypatch.setattr(apt, "own_options", lambda proxy: {**here, "Acquire::http::Proxy": str(proxy)})
    monkeypatch.setattr(apt, "own_logins", lambda: (apt.Login("mirror.example/debian", "ann", "pw2"),))
    events: list[Event] = []
    settings = Settings(site=Site(proxy="http://joe:pw3@site.example:8080"))
    ctx = replace(lab.ctx, emit=events.append)
    debian.root(ctx, settings, ("iptables",), tmp_path / "root.tar", epoch=0)
    assert dict(made[0].options) == {**here, "Acquire::http::Proxy": "http://site.example:8080"}
    assert [one.uri for one in made[0].sources] == ["http://mirror.example/debian"]
    assert {login.user for login in made[0].logins} == {"bob", "joe", "ann"}
    told = [event.text for event in events if isinstance(event, Note)]
    assert told == [
        "not verified, as on this machine: Trusted: yes for http://mirror.example/debian trixie",
        "not verified, as on this machine: Acquire::Check-Date false",
    ]


def test_without_mmdebstrap_says_what_to_install(
    lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    with pytest.raises(EnvironmentFault, match="mmdebstrap is not installed") as error:
        debian.root(lab.ctx, Settings(), ("iptables",), tmp_path / "root.tar", epoch=0)
    assert error.value.action == "apt-get install mmdebstrap"
