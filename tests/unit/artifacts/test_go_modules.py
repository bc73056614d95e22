"""Which module proxies GOPROXY names, by every way Go itself reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway.artifacts import go_modules


@pytest.mark.parametrize(
    ("named", "urls"),
    [
        ("", ["https://default.example"]),
        ("https://a.example/go/,direct", ["https://a.example/go"]),
        ("https://a.example|http://b.example:8080", ["https://a.example", "http://b.example:8080"]),
        ("off", []),
        ("direct", []),
        ("file:///srv/modules", []),
    ],
)
def test_proxies_of_the_environment(named: str, urls: list[str], tmp_path: Path) -> None:
    found = go_modules.proxies(
        {"GOPROXY": named, "GOENV": str(tmp_path / "none")}, "https://default.example,direct"
    )
    assert [proxy.url for proxy in found] == urls


def test_what_go_env_wrote_counts_when_the_environment_is_silent(tmp_path: Path) -> None:
    written = tmp_path / "go" / "env"
    written.parent.mkdir()
    written.write_text("GOFLAGS=-x\nGOPROXY=https://written.example\n")
    for environment in ({"XDG_CONFIG_HOME": str(tmp_path)}, {"GOENV": str(written)}):
        (proxy,) = go_modules.proxies(environment)
        assert proxy.url == "https://written.example"
    (proxy,) = go_modules.proxies({"GOENV": str(written), "GOPROXY": "https://first.example"})
    assert proxy.url == "https://first.example"


def test_a_login_is_in_no_address_and_in_no_representation() -> None:
    (proxy,) = go_modules.proxies({"GOPROXY": "https://bob:p%40ss@go.example/x"})
    assert proxy.zip_url("m", "v1") == "https://go.example/x/m/@v/v1.zip"
    assert proxy.headers == {"Authorization": "Basic Ym9iOnBAc3M="}
    assert "Ym9i" not in repr(proxy)
