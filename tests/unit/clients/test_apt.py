"""What this machine's apt says, and what is made of it for another suite."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from slipway.clients import apt
from slipway.core import process
from slipway.core.errors import EnvironmentFault
from slipway.core.schema import Site

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


THIRD_PARTIES = (
    "deb [arch=amd64] https://dl.vendor.example/linux/chrome/deb/ stable main",
    "deb https://dl.vendor.example/debian/12/prod stable main",
    "deb [signed-by=/etc/apt/keyrings/vendor.gpg] https://vendor.example/debian bookworm main",
    "deb https://vendor.example/apt bookworm main",  # says so itself, in lists that apt checked
)
ORIGINS = {"https://vendor.example/apt": "Vendor Inc.", "http://own.example/mirror": "Debian"}


@pytest.mark.parametrize("third", THIRD_PARTIES)
@pytest.mark.parametrize(
    "ours",
    [
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian stable main",
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://any.example/x bookworm main",
        "deb http://own.example/mirror stable main",
    ],
)
def test_a_third_party_is_never_the_mirror_of_hosts(third: str, ours: str) -> None:
    alone = apt.parse_sources(third, "list")
    assert apt.archives(alone, DEBIAN, "bookworm", "trixie", Site(), origins=ORIGINS) == ()
    for text in (f"{third}\n{ours}", f"{ours}\n{third}"):
        found = apt.archives(
            apt.parse_sources(text, "list"), DEBIAN, "bookworm", "trixie", Site(), origins=ORIGINS
        )
        assert [source.uri for source in found] == [apt.parse_sources(ours, "list")[0].uri]


def test_of_two_mirrors_the_surer_one_is_taken_and_else_the_first() -> None:
    lines = (
        "deb http://one.example/apt bookworm main",
        "deb http://two.example/debian bookworm main",
        "deb http://three.example/debian bookworm main",
    )
    for given, taken in ((lines, "two"), (lines[:1], "one"), (lines[1:], "two"), (lines[::-1], "three")):
        sources = apt.parse_sources("\n".join(given), "list")
        assert apt.archives(sources, DEBIAN, "bookworm", "trixie", Site())[0].uri.startswith(
            f"http://{taken}."
        )
    own = {"http://one.example/apt": "Debian"}
    sources = apt.parse_sources("\n".join(lines), "list")
    assert (
        apt.archives(sources, DEBIAN, "bookworm", "trixie", Site(), origins=own)[0].uri
        == "http://one.example/apt"
    )


def test_origins_are_what_checked_lists_say(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "http://a.example/debian/ Debian\nhttp://b.example/deb/ Vendor Inc.\nhttp://c.example/ $(ORIGIN)\n"
    monkeypatch.setattr(process, "run", lambda argv, **_more: process.Completed((), 0, said, ""))
    monkeypatch.setattr(shutil, "which", lambda _program: "/usr/bin/x")
    assert apt.own_origins() == {"http://a.example/debian": "Debian", "http://b.example/deb": "Vendor Inc."}
    monkeypatch.setattr(shutil, "which", lambda _program: None)
    assert apt.own_origins() == {}


def test_logins_are_taken_out_of_sources_and_options() -> None:
    sources = [
        apt.Source("http://bob:p%40ss@mirror.example/debian", "trixie", ("main",)),
        apt.Source("http://ann@mirror.example/debian-security/", "trixie-security", ("main",)),
        apt.Source("https://open.example/debian", "trixie", ("main",)),
    ]
    options = {"Acquire::http::Proxy": "http://joe:pw@proxy.example:3128", "Acquire::Retries": "3"}
    own = (apt.Login("open.example", "eve", "pw"), apt.Login("https://else.example/", "eve", "pw"))
    found = apt.fetching(sources, options, own)
    assert [source.uri for source in found.sources] == [
        "http://mirror.example/debian",
        "http://mirror.example/debian-security/",
        "https://open.example/debian",
    ]
    assert dict(found.options) == {
        "Acquire::http::Proxy": "http://proxy.example:3128",
        "Acquire::Retries": "3",
    }
    assert found.auth_conf.splitlines() == [
        "machine http://mirror.example/debian-security/ login ann",
        "machine http://mirror.example/debian/ login bob password p@ss",
        "machine http://proxy.example:3128/ login joe password pw",
        "machine open.example login eve password pw",
    ]
    assert "pw" not in repr(found)
    assert apt.fetching(found.sources, dict(found.options)).auth_conf == ""


@pytest.mark.parametrize("who", ["bob:a%20b", "bob:a%0Ab", "a%09b:c", ":pw", ""])
def test_a_login_that_auth_conf_cannot_hold_is_refused_without_telling_it(who: str) -> None:
    with pytest.raises(EnvironmentFault, match=r"login of http://m\.example/debian") as refused:
        apt.split_login(f"http://{who}@m.example/debian")
    assert not who or who not in " ".join(refused.value.lines())


def test_this_machines_logins_are_read_as_apt_reads_them(tmp_path: Path) -> None:
    (tmp_path / "auth.conf.d").mkdir()
    (tmp_path / "auth.conf").write_text(
        "# machine no.example login no\nmachine a.example login bob\n password pw\n"
    )
    (tmp_path / "auth.conf.d/b.conf").write_text("machine https://b.example:8/x login ann password two")
    (tmp_path / "auth.conf.d/c.save").write_text("machine c.example login old password old")
    (tmp_path / "auth.conf.d/d.conf").mkdir()
    found = apt.own_logins(tmp_path)
    assert found == (
        apt.Login("a.example", "bob", "pw"),
        apt.Login("https://b.example:8/x", "ann", "two"),
    )
    assert [login.host for login in found] == ["a.example", "b.example"]
    assert apt.own_logins(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[trusted=yes]", "Trusted: yes"),
        ("[allow-insecure=yes]", "Allow-Insecure: yes"),
        ("[allow-weak=true]", "Allow-Weak: true"),
        ("[allow-downgrade-to-insecure=yes]", "Allow-Downgrade-To-Insecure: yes"),
        ("[check-valid-until=no]", "Check-Valid-Until: no"),
        ("[trusted=no]", ""),
        ("[check-date=yes]", ""),
        ("[arch=amd64]", ""),
    ],
)
def test_what_a_source_switches_off_is_told(line: str, told: str) -> None:
    sources = apt.parse_sources(f"deb {line} http://m.example/debian bookworm main", "list")
    found = apt.fetching(apt.archives(sources, DEBIAN, "bookworm", "trixie", Site()), {})
    assert found.unverified() == ((f"{told} for http://m.example/debian trixie",) if told else ())


def test_what_options_switch_off_is_told() -> None:
    options = {
        "Acquire::https::Verify-Peer": "false",
        "Acquire::https::m.example::Verify-Host": "false",
        "Acquire::Check-Valid-Until": "0",
        "Acquire::https::Verify-Host": "true",
        "Acquire::Retries": "0",
    }
    assert apt.fetching((), options).unverified() == (
        "Acquire::Check-Valid-Until 0",
        "Acquire::https::Verify-Peer false",
        "Acquire::https::m.example::Verify-Host false",
    )


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
    monkeypatch.setattr(process, "run", lambda argv, **_more: dumped)
    monkeypatch.setattr(shutil, "which", lambda _program: "/usr/bin/x")
    assert apt.own_options(None) == {"Acquire::http::Proxy": "http://one.example", "Acquire::Retries": "3"}
    assert apt.own_options("http://two.example") == {
        "Acquire::http::Proxy": "http://two.example",
        "Acquire::https::Proxy": "http://two.example",
        "Acquire::Retries": "3",
    }
    monkeypatch.setattr(shutil, "which", lambda _program: None)
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
