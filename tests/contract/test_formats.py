"""A root as people take it elsewhere boots there, and says nothing of the site that made it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slipway.clients import ssh
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.hosts.formats import writing
from slipway.hosts.nspawn import inherit
from slipway.hosts.nspawn.backend import Nspawn
from slipway.hosts.nspawn.inherit import Site

from tests.contract.contract_lab import Lab
from tests.lab_traces import traces

pytestmark = pytest.mark.lab

CANARY = "canary-of-the-site"
CERTIFICATE = "CANARY" * 10
BARE = Settings.model_validate({"hosts": {"workers": 0, "golden": False}})


class FromElsewhere(Nspawn):
    """Hosts from a root that was brought along."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.brought = root

    def _make_root(self, ctx: Context, settings: Settings, site: Site) -> tuple[Path, int]:
        return self.brought, 0


def sited(root: Path, folder: Path) -> Path:
    """A copy of a root as one has it that was made behind somebody's mirror and proxy, with their own CA."""
    copy = folder / "golden-sited"
    subprocess.run(["cp", "-a", root, copy], check=True)
    (sources,) = (copy / "etc/apt/sources.list.d").glob("*.sources")
    sources.write_text(
        re.sub(r"(?m)^URIs: \S+", f"URIs: http://{CANARY}.example/debian", sources.read_text())
    )
    with (copy / "etc/apt/apt.conf.d/90site").open("a") as options:
        options.write(f'Acquire::http::Proxy "http://{CANARY}.example:3128";\n')
    pem = f"-----BEGIN CERTIFICATE-----\n{CERTIFICATE}\n-----END CERTIFICATE-----\n"
    for name in ("usr/local/share/ca-certificates/site-9.crt", "etc/ssl/certs/ca-certificates.crt"):
        with (copy / name).open("a") as file:
            file.write(pem)
    listing = copy / "usr/lib/modules" / f"0.0-{CANARY}" / "modules.order"  # of the kernel that baked it
    listing.parent.mkdir(parents=True)
    listing.touch()
    return copy


def of_the_site(site: Site) -> list[bytes]:
    """What no file may hold: what was planted, and the certificates that this machine trusts by itself."""
    own = [pem.splitlines()[1] for pem in site.certificates]
    return [text.encode() for text in (CANARY, CERTIFICATE, *own)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Context, Path]]:
    """A context, and a tar of a bare root as people take it elsewhere."""
    folder = tmp_path_factory.mktemp("formats")
    ctx = Context(State(folder / "state"), folder / "run", folder)
    root = sited(Nspawn().bake(ctx, BARE)[0], folder)
    written = writing.write(ctx, BARE, root, "tar", folder / "node.tar")
    assert written.bytes == written.file.stat().st_size
    shutil.rmtree(root)
    yield ctx, written.file


def test_nothing_of_the_site_is_in_it(made: tuple[Context, Path]) -> None:
    secrets = of_the_site(inherit.site(BARE.site, None))
    found, named = [], set()
    with tarfile.open(made[1]) as tar:
        for member in tar:
            named.add(member.name)
            held = tar.extractfile(member) if member.isreg() else None
            data = held.read() if held is not None else member.linkname.encode()
            where = member.name.encode()
            found += [f"{member.name}: {secret!r}" for secret in secrets if secret in data or secret in where]
            if member.name.startswith("./etc/apt/sources.list.d/debian"):
                public = data.decode()
    assert found == []
    own = re.compile(
        r"\./(etc/ssh/ssh_host_.*|etc/(hostname|resolv\.conf|pip\.conf)|root/\.ssh/.*|var/log/.+)"
    )
    assert [name for name in named if own.fullmatch(name)] == []
    assert len(named) > 5000
    # the distribution's own archives instead, as it names them itself
    assert re.findall(r"(?m)^Suites: (\S+)", public) == ["trixie", "trixie-updates", "trixie-security"]
    assert len(re.findall(r"(?m)^URIs: https://\S+\.debian\.org/", public)) == 3


def test_a_tar_boots_with_keys_and_a_name_of_its_own(made: tuple[Context, Path], tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with_xattrs = ["--xattrs", "--xattrs-include=*", "--numeric-owner"]
    subprocess.run(["tar", "--extract", *with_xattrs, "--file", made[1], "--directory", root], check=True)
    lab = Lab(FromElsewhere(root), BARE, tmp_path / "state")
    try:
        (host,) = lab.up().value.hosts
        with ssh.connect(host) as connection:
            connection.run(["systemctl", "is-active", "--quiet", "systemd-networkd.service", "ssh.service"])
            machine_id = connection.run(["cat", "/etc/machine-id"]).stdout.strip()
            made_keys = connection.run(["sh", "-c", "ls /etc/ssh/ssh_host_*_key"]).stdout.split()
            address = connection.run(["ip", "-4", "-json", "address", "show", "dev", "eth0"]).stdout
            failed = connection.run(["systemctl", "--failed", "--plain", "--no-legend"]).stdout
    finally:
        lab.down()
        assert traces(lab.name) == []
    assert len(machine_id) == 32
    assert "/etc/ssh/ssh_host_ed25519_key" in made_keys
    assert json.loads(address)[0]["addr_info"][0]["local"] == host.address  # networkd leaves it alone
    assert failed == ""
