from __future__ import annotations

from pathlib import Path

import pytest
from slipway.clients import apt
from slipway.core.errors import EnvironmentFault
from slipway.core.schema import Site
from slipway.hosts.nspawn import inherit
from slipway.hosts.nspawn.inherit import Service
from slipway.hosts.nspawn.network import Opening


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


def test_digest_changes_with_what_is_built_in_only() -> None:
    from dataclasses import replace

    one = inherit.Site(
        "trixie", "debian", "k", (apt.Source("https://a.example", "trixie", ("main",)),), ("192.0.2.1",)
    )
    assert replace(one, resolvers=("192.0.2.2",)).digest == one.digest
    assert replace(one, certificates=("x",)).digest != one.digest
    login = apt.Login("http://a.example/", "bob", "pw")
    assert replace(one, apt_logins=(login,), proxies=(("http_proxy", "http://b"),)).digest == one.digest
    assert replace(one, apt_options=(("Acquire::Retries", "3"),)).digest != one.digest


def test_services_are_ports_of_mirrors_proxies_indexes_and_resolvers() -> None:
    site = inherit.Site(
        "trixie",
        "debian",
        "k",
        (apt.Source("https://a.example/debian", "trixie", ("main",)),),
        ("192.0.2.1",),
        apt_options=(("Acquire::http::Proxy", "http://u:p@proxy.example:3128/"),),
        proxies=(("no_proxy", "skip.example"),),
        pip=(("index-url", "https://pip.example/simple"), ("timeout", "5")),
    )
    assert set(site.services()) == {
        Service("192.0.2.1", "tcp", 53),
        Service("192.0.2.1", "udp", 53),
        Service("a.example", "tcp", 443),
        Service("proxy.example", "tcp", 3128),
        Service("pip.example", "tcp", 443),
    }


@pytest.mark.parametrize(
    ("url", "services"),
    [
        ("http://m.example/debian", [Service("m.example", "tcp", 80), Service("m.example", "tcp", 443)]),
        ("http://m.example:8080/", [Service("m.example", "tcp", 8080)]),
        ("registry.example:5000", [Service("registry.example", "tcp", 5000)]),
        ("registry.example", [Service("registry.example", "tcp", 443)]),
        ("socks5h://p.example", [Service("p.example")]),
        ("file:///srv/wheels", []),
        ("", []),
    ],
)
def test_a_url_says_which_ports_are_needed(url: str, services: list[Service]) -> None:
    assert list(inherit.service(url)) == services


def test_only_what_a_lab_is_kept_from_is_opened() -> None:
    services = [Service("192.168.1.7", "tcp", 80), Service("203.0.113.7", "tcp", 80), Service("no.invalid")]
    assert inherit.openings(services, ["192.168.0.0/16"]) == (Opening("192.168.1.7/32", "tcp", 80),)
    assert inherit.openings([], ["192.168.0.0/16"]) == ()


def test_a_machine_without_an_archive_of_its_distribution_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "this_distribution", lambda: (apt.DISTRIBUTIONS["debian"], "bookworm"))
    monkeypatch.setattr(apt, "own_sources", lambda: [apt.Source("https://x.example", "nodistro", ("main",))])
    monkeypatch.setattr(apt, "own_origins", dict)
    with pytest.raises(EnvironmentFault, match="no apt archive of debian bookworm") as failed:
        inherit.site(Site(), None)
    assert "site.apt_mirror" in failed.value.action
    monkeypatch.setattr(apt, "this_distribution", lambda: (apt.DISTRIBUTIONS["ubuntu"], "noble"))
    with pytest.raises(EnvironmentFault, match=r"hosts\.suite trixie is of debian"):
        inherit.site(Site(), "trixie")


def test_what_is_this_machines_alone_stays_here(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"Acquire::http::Proxy-Auto-Detect": "/usr/bin/detect", "Acquire::Retries": "3"}
    monkeypatch.setattr(apt, "this_distribution", lambda: (apt.DISTRIBUTIONS["debian"], "trixie"))
    monkeypatch.setattr(apt, "own_sources", lambda: [apt.Source("https://x.example", "trixie", ("main",))])
    monkeypatch.setattr(apt, "own_options", lambda proxy: here)
    monkeypatch.setattr(apt, "own_origins", dict)
    monkeypatch.setattr(apt, "own_logins", lambda: ())
    assert inherit.site(Site(resolver="192.0.2.1"), None).apt_options == (("Acquire::Retries", "3"),)


def test_logins_are_kept_apart_and_what_is_not_verified_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = apt.parse_sources("deb [trusted=yes] http://bob:pw1@m.example/debian trixie main", "list")
    monkeypatch.setattr(apt, "this_distribution", lambda: (apt.DISTRIBUTIONS["debian"], "trixie"))
    monkeypatch.setattr(apt, "own_sources", lambda: sources)
    monkeypatch.setattr(apt, "own_origins", dict)
    monkeypatch.setattr(apt, "own_options", lambda proxy: {"Acquire::http::Proxy": f"{proxy}"})
    monkeypatch.setattr(apt, "own_logins", lambda: (apt.Login("m.example", "ann", "pw2"),))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "one.example two.example")
    site = inherit.site(Site(proxy="http://joe:pw3@proxy.example:3128", resolver="192.0.2.1"), None)
    assert [source.uri for source in site.sources] == ["http://m.example/debian"]
    assert dict(site.apt_options) == {"Acquire::http::Proxy": "http://proxy.example:3128"}
    assert [login.user for login in site.apt_logins] == ["bob", "joe", "ann"]
    assert {"m.example", "proxy.example"} <= {service.server for service in site.services()}
    assert site.unverified() == (
        "Trusted: yes for http://m.example/debian trixie",
        "pip's trusted-host one.example",
        "pip's trusted-host two.example",
    )
