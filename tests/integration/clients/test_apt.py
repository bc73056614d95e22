"""apt itself finds the logins where slipway puts them: in a file, out of every address."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from slipway.clients import apt

from tests.standins.demanding_server import Demanding

PASSWORDS = ["p@ss:w/rd#and%40", "quo'te\"d", ""]

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="this machine has no apt-get")


def update(folder: Path, fetching: apt.Fetching) -> str:
    """Run `apt-get update` in a folder of its own, as this user; returns what it printed."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "list").write_text("".join(f"{one.one_line()}\n" for one in fetching.sources))
    (folder / "auth.conf").write_text(fetching.auth_conf)
    options = {
        **dict(fetching.options),
        "Dir::State::lists": str(folder / "lists"),
        "Dir::Cache": str(folder / "cache"),
        "Dir::Etc::sourcelist": str(folder / "list"),
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::netrc": str(folder / "auth.conf"),
        "Dir::Etc::netrcparts": "-",
        "Acquire::Retries": "0",
        "APT::Sandbox::User": "",
    }
    (folder / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
    done = subprocess.run(
        ["apt-get", "update"],
        check=False,
        capture_output=True,
        text=True,
        env={"APT_CONFIG": str(folder / "apt.conf"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_mirrors_login_reaches_it(tmp_path: Path, password: str) -> None:
    with Demanding("bob", password).serving() as mirror:
        address = f"http://bob:{quote(password, safe='')}@{mirror.address}/debian"
        source = apt.Source(address, "trixie", ("main",), (("Trusted", "yes"),))
        printed = update(tmp_path, apt.fetching([source], {}))
    assert "/debian/dists/trixie/InRelease" in mirror.let_in
    assert not password or password not in printed
    assert quote(password, safe="") not in (tmp_path / "list").read_text() or not password


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_proxys_login_reaches_it(tmp_path: Path, password: str) -> None:
    with Demanding("bob", password).serving() as proxy:
        source = apt.Source("http://mirror.invalid/debian", "trixie", ("main",), (("Trusted", "yes"),))
        through = f"http://bob:{quote(password, safe='')}@{proxy.address}/"
        printed = update(tmp_path, apt.fetching([source], {"Acquire::http::Proxy": through}))
    assert "http://mirror.invalid/debian/dists/trixie/InRelease" in proxy.let_in
    assert not password or password not in printed
