"""What this machine's apt says, and what is made of it for another suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.clients import apt
from infra.core import process
from infra.core.errors import EnvironmentFault
from infra.core.schema import Site

DEBIAN = apt.DISTRIBUTIONS["debian"]
DEB822 = """\
# a comment
Types: deb deb-src
URIs: https://mirror.example/debian
 https://second.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
Check-Valid-Until: no

Types: deb
URIs: https://security.example/debian-security/
Suites: bookworm-security
Components: main

Types: deb
URIs: https://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: https://source.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
# deb https://off.example/debian bookworm main
deb [arch=amd64 trusted=yes] https://mirror.example/debian bookworm main contrib # why
deb-src https://mirror.example/debian bookworm main
deb https://security.example/debian-security bookworm-security main
deb https://third.example/apt bookworm-pgdg main
deb https://vendor.example/apt nodistro main
"""


def test_deb822_and_one_line_sources_are_both_read() -> None:
    found = apt.parse_sources(DEB822, "sources")
    assert [(source.uri, source.suite) for source in found] == [
        ("https://mirror.example/debian", "bookworm"),
        ("https://mirror.example/debian", "bookworm-updates"),
        ("https://second.example/debian", "bookworm"),
        ("https://second.example/debian", "bookworm-updates"),
        ("https://security.example/debian-security/", "bookworm-security"),
    ]
    assert dict(found[0].options)["Check-Valid-Until"] == "no"
    lines = apt.parse_sources(ONE_LINE, "list")
    assert lines[0] == apt.Source(
        "https://mirror.example/debian",
        "bookworm",
        ("main", "contrib"),
        (("Arch", "amd64"), ("Trusted", "yes")),
    )
    assert len(lines) == 4


@pytest.mark.parametrize(("text", "kind"), [(DEB822, "sources"), (ONE_LINE, "list")])
def test_the_suite_is_replaced_and_third_parties_are_left_out(text: str, kind: str) -> None:
    found = apt.archives(apt.parse_sources(text, kind), DEBIAN, "bookworm", "trixie", Site())
    assert {source.suite for source in found} <= {"trixie", "trixie-updates", "trixie-security"}
    assert found[0].uri == "https://mirror.example/debian"
    assert found[-1].uri.startswith("https://security.example/debian-security")
    assert not [source for source in found if "third" in source.uri or "vendor" in source.uri]


def test_trust_and_validity_options_come_along_and_keyrings_do_not() -> None:
    source = apt.archives(apt.parse_sources(DEB822, "sources"), DEBIAN, "bookworm", "trixie", Site())[0]
    assert source.options == (("Check-Valid-Until", "no"),)
    assert "Check-Valid-Until: no\n" in source.deb822()
    assert source.one_line() == "deb [check-valid-until=no] https://mirror.example/debian trixie main"


def test_a_third_party_archive_with_the_same_suite_is_not_the_distribution() -> None:
    vendor = apt.Source(
        "https://vendor.example", "bookworm", ("main",), (("Signed-By", "/etc/apt/keyrings/v.gpg"),)
    )
    assert apt.archives([vendor], DEBIAN, "bookworm", "trixie", Site()) == ()


def test_site_settings_win() -> None:
    site = Site(apt_mirror="https://own.example/debian", apt_security_mirror="https://own.example/security")
    found = apt.archives(apt.parse_sources(DEB822, "sources"), DEBIAN, "bookworm", "trixie", site)
    assert [source.uri for source in found] == [
        "https://own.example/debian",
        "https://own.example/debian",
        "https://own.example/security",
    ]


def test_only_options_of_fetching_are_inherited() -> None:
    dump = """\
APT::Architecture "amd64";
Acquire::Check-Valid-Until "false";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::CaInfo "/etc/ssl/own.pem";
Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";
Acquire::IndexTargets::deb::Packages::Optional "0";
Acquire::Retries "";
DPkg::Post-Invoke:: "rm something";
"""
    assert apt.options(dump) == {
        "Acquire::Check-Valid-Until": "false",
        "Acquire::http::Proxy": "http://proxy.example:3128",
        "Acquire::https::CaInfo": "/etc/ssl/own.pem",
        "Acquire::http::Proxy-Auto-Detect": "/usr/bin/detect",
    }
    assert [name for name in apt.options(dump) if apt.is_of_this_machine(name)] == [
        "Acquire::http::Proxy-Auto-Detect"
    ]


def test_a_sites_proxy_wins_over_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    dumped = process.Completed(
        (), 0, 'Acquire::http::Proxy "http://one.example";\nAcquire::Retries "3";\n', ""
    )
    monkeypatch.setattr(apt.process, "run", lambda argv, **_more: dumped)
    monkeypatch.setattr(apt.shutil, "which", lambda _program: "/usr/bin/x")
    assert apt.own_options(None) == {"Acquire::http::Proxy": "http://one.example", "Acquire::Retries": "3"}
    assert apt.own_options("http://two.example") == {
        "Acquire::http::Proxy": "http://two.example",
        "Acquire::https::Proxy": "http://two.example",
        "Acquire::Retries": "3",
    }
    monkeypatch.setattr(apt.shutil, "which", lambda _program: None)
    assert apt.own_options(None) == {}


def test_every_file_of_sources_is_read_in_apts_order(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb https://one.example trixie main\n")
    (tmp_path / "sources.list.d" / "b.sources").write_text(
        "Types: deb\nURIs: https://two.example\nSuites: trixie\nComponents: main\n"
    )
    (tmp_path / "sources.list.d" / "a.list.save").write_text("deb https://old.example trixie main\n")
    assert [source.uri for source in apt.own_sources(tmp_path)] == [
        "https://one.example",
        "https://two.example",
    ]
    assert apt.own_sources(tmp_path / "none") == []


def test_this_distribution_by_id_and_kin(tmp_path: Path) -> None:
    file = tmp_path / "os-release"
    file.write_text('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n')
    assert apt.this_distribution(file) == (apt.DISTRIBUTIONS["ubuntu"], "noble")
    file.write_text('ID=fedora\nPRETTY_NAME="Fedora Linux"\n')
    with pytest.raises(EnvironmentFault, match="Fedora Linux"):
        apt.this_distribution(file)


def test_os_release_quotes_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text("# comment\nID=debian\nVERSION_CODENAME='trixie'\nNAME=\"Debian GNU/Linux\"\n\n")
    assert apt.os_release(path) == {
        "ID": "debian",
        "VERSION_CODENAME": "trixie",
        "NAME": "Debian GNU/Linux",
    }
    assert apt.os_release(tmp_path / "none") == {}
