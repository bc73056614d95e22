from __future__ import annotations

from pathlib import Path

import pytest

from infra.backends import inherit
from infra.backends.inherit import DISTRIBUTIONS, AptSource, lab_sources, parse_sources
from infra.core.errors import EnvironmentFault
from infra.core.schema import Site

DEBIAN = DISTRIBUTIONS["debian"]
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
    found = parse_sources(DEB822, "sources")
    assert [(source.uri, source.suite) for source in found] == [
        ("https://mirror.example/debian", "bookworm"),
        ("https://mirror.example/debian", "bookworm-updates"),
        ("https://second.example/debian", "bookworm"),
        ("https://second.example/debian", "bookworm-updates"),
        ("https://security.example/debian-security/", "bookworm-security"),
    ]
    assert dict(found[0].options)["Check-Valid-Until"] == "no"
    lines = parse_sources(ONE_LINE, "list")
    assert lines[0] == AptSource(
        "https://mirror.example/debian",
        "bookworm",
        ("main", "contrib"),
        (("Arch", "amd64"), ("Trusted", "yes")),
    )
    assert len(lines) == 4


@pytest.mark.parametrize(("text", "kind"), [(DEB822, "sources"), (ONE_LINE, "list")])
def test_the_suite_is_replaced_and_third_parties_are_left_out(text: str, kind: str) -> None:
    found = lab_sources(parse_sources(text, kind), DEBIAN, "bookworm", "trixie", Site())
    assert {source.suite for source in found} <= {"trixie", "trixie-updates", "trixie-security"}
    assert found[0].uri == "https://mirror.example/debian"
    assert found[-1].uri.startswith("https://security.example/debian-security")
    assert not [source for source in found if "third" in source.uri or "vendor" in source.uri]


def test_trust_and_validity_options_come_along_and_keyrings_do_not() -> None:
    source = lab_sources(parse_sources(DEB822, "sources"), DEBIAN, "bookworm", "trixie", Site())[0]
    assert source.options == (("Check-Valid-Until", "no"),)
    assert "Check-Valid-Until: no\n" in source.deb822()
    assert source.one_line() == "deb [check-valid-until=no] https://mirror.example/debian trixie main"


def test_a_third_party_archive_with_the_same_suite_is_not_the_distribution() -> None:
    vendor = AptSource(
        "https://vendor.example", "bookworm", ("main",), (("Signed-By", "/etc/apt/keyrings/v.gpg"),)
    )
    with pytest.raises(EnvironmentFault, match="no apt archive"):
        lab_sources([vendor], DEBIAN, "bookworm", "trixie", Site())


def test_site_settings_win() -> None:
    site = Site(apt_mirror="https://own.example/debian", apt_security_mirror="https://own.example/security")
    found = lab_sources(parse_sources(DEB822, "sources"), DEBIAN, "bookworm", "trixie", site)
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
    assert inherit.apt_options(dump) == (
        ("Acquire::Check-Valid-Until", "false"),
        ("Acquire::http::Proxy", "http://proxy.example:3128"),
        ("Acquire::https::CaInfo", "/etc/ssl/own.pem"),
    )


def test_a_resolver_stub_is_looked_through(tmp_path: Path) -> None:
    etc, run = tmp_path / "etc", tmp_path / "run"
    (run / "systemd/resolve").mkdir(parents=True)
    etc.mkdir()
    (etc / "resolv.conf").write_text("nameserver 127.0.0.53\nnameserver ::1\n")
    with pytest.raises(EnvironmentFault, match="loopback"):
        inherit.resolvers(etc, run)
    (run / "systemd/resolve/resolv.conf").write_text("nameserver 192.0.2.53\nnameserver fe80::1%eth0\n")
    assert inherit.resolvers(etc, run) == ("192.0.2.53",)
    (etc / "resolv.conf").write_text("search example\nnameserver 192.0.2.1\n")
    assert inherit.resolvers(etc, run) == ("192.0.2.1",)


def pem(body: str, width: int = 64) -> str:
    rows = [body[at : at + width] for at in range(0, len(body), width)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *rows, "-----END CERTIFICATE-----", ""])


def test_added_certificates_are_those_the_package_does_not_ship(tmp_path: Path) -> None:
    shipped, local, bundle, extra = (tmp_path / name for name in ("shipped", "local", "bundle", "extra"))
    (shipped / "mozilla").mkdir(parents=True)
    local.mkdir()
    (shipped / "mozilla/a.crt").write_text(pem("A" * 100))
    (local / "own.crt").write_text(pem("B" * 100))
    bundle.write_text(pem("A" * 100, width=76) + pem("B" * 100) + "comment\n" + pem("C" * 100))
    extra.write_text(pem("D" * 100))
    found = inherit.certificates(bundle, local, shipped, extra)
    assert found == (pem("B" * 100), pem("C" * 100), pem("D" * 100))


def test_proxies_of_either_case_and_none_without_a_proxy() -> None:
    assert inherit.proxies({"no_proxy": "example"}, None) == ()
    found = dict(inherit.proxies({"HTTPS_PROXY": "http://p.example:1", "no_proxy": "x"}, None))
    assert found == {"https_proxy": "http://p.example:1", "no_proxy": "x"}
    assert dict(inherit.proxies({}, "http://s.example"))["http_proxy"] == "http://s.example"


def test_pip_variables_win_over_files(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text("[global]\nindex-url = https://one.example/simple\ntimeout = 9\ncert = /x\n")
    found = dict(
        inherit.pip_settings({"PIP_INDEX_URL": "https://two.example/simple"}, [file, tmp_path / "none"])
    )
    assert found == {"index-url": "https://two.example/simple", "timeout": "9"}


def test_this_distribution_by_id_and_kin(tmp_path: Path) -> None:
    file = tmp_path / "os-release"
    file.write_text('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n')
    assert inherit.this_distribution(file) == (DISTRIBUTIONS["ubuntu"], "noble")
    file.write_text('ID=fedora\nPRETTY_NAME="Fedora Linux"\n')
    with pytest.raises(EnvironmentFault, match="Fedora Linux"):
        inherit.this_distribution(file)


def test_digest_changes_with_what_is_built_in_only() -> None:
    from dataclasses import replace

    one = inherit.Site(
        "trixie", "debian", "k", (AptSource("https://a.example", "trixie", ("main",)),), ("192.0.2.1",)
    )
    assert replace(one, resolvers=("192.0.2.2",)).digest == one.digest
    assert replace(one, certificates=("x",)).digest != one.digest
    assert replace(one, apt_options=(("Acquire::Retries", "3"),)).digest != one.digest


def test_servers_are_hosts_of_mirrors_proxies_and_resolvers() -> None:
    site = inherit.Site(
        "trixie",
        "debian",
        "k",
        (AptSource("https://a.example/debian", "trixie", ("main",)),),
        ("192.0.2.1",),
        apt_options=(("Acquire::http::Proxy", "http://u:p@proxy.example:3128/"),),
        proxies=(("no_proxy", "skip.example"),),
        pip=(("index-url", "https://pip.example/simple"), ("timeout", "5")),
    )
    assert set(site.servers()) == {"192.0.2.1", "a.example", "proxy.example", "pip.example"}
