from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_labs import HOST
from test_network import LAB
from test_roots import SITE

from infra.backends import nspawn
from infra.backends.labs import Records
from infra.core.context import Context
from infra.core.errors import EnvironmentFault, HostError
from infra.core.schema import Settings
from infra.core.state import State

LAB_OF_TWO = replace(LAB, hosts=(HOST, replace(HOST, name="worker-1", address="10.77.4.3")))


def context(folder: Path) -> Context:
    return Context(State(folder), folder / "run", folder)


def test_a_host_gets_its_own_keys_names_and_resolver(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    nspawn.prepare(ctx, LAB_OF_TWO, HOST, SITE)
    upper = tmp_path / "hosts/cp/upper"
    assert (upper / "etc/hostname").read_text() == "cp\n"
    assert "10.77.4.3 worker-1\n" in (upper / "etc/hosts").read_text()
    assert (upper / "etc/resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert (upper / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (upper / "root/.ssh/authorized_keys").read_text().startswith("ssh-ed25519 ")
    assert not (upper / "etc/environment").exists()
    before = (upper / "etc/ssh/ssh_host_ed25519_key").read_bytes()
    (upper / "etc/half").write_text("")
    nspawn.prepare(ctx, LAB_OF_TWO, HOST, SITE)  # again after a kill: whole, and the pinned key stays
    assert not (upper / "etc/half").exists()
    assert (upper / "etc/ssh/ssh_host_ed25519_key").read_bytes() == before


def test_proxies_reach_logins_and_services_but_not_the_lab(tmp_path: Path) -> None:
    site = replace(
        SITE, proxies=(("http_proxy", "http://p%40:x@proxy.example:1"), ("no_proxy", "corp.example"))
    )
    nspawn.prepare(context(tmp_path), LAB_OF_TWO, HOST, site)
    upper = tmp_path / "hosts/cp/upper"
    environment = (upper / "etc/environment").read_text()
    assert 'HTTP_PROXY="http://p%40:x@proxy.example:1"' in environment
    for name in ("corp.example", LAB.subnet, "worker-1", ".svc"):
        assert name in environment
    assert "p%%40" in (upper / "etc/systemd/system.conf.d/10-site.conf").read_text()


def test_only_modules_the_kernel_has_are_listed(tmp_path: Path) -> None:
    assert "kernel/lab/br_netfilter.ko\n" in nspawn.builtin_modules(
        "1.0", tmp_path
    )  # no modules: all built in
    (tmp_path / "1.0").mkdir()
    (tmp_path / "1.0/modules.builtin").write_text("kernel/fs/overlayfs/overlay.ko\nkernel/x/iptable-nat.ko\n")
    (tmp_path / "proc").write_text("vxlan 147456 0 - Live 0x0\n")
    text = nspawn.builtin_modules("1.0", tmp_path, tmp_path / "proc")
    assert text.split() == ["kernel/lab/overlay.ko", "kernel/lab/iptable_nat.ko", "kernel/lab/vxlan.ko"]


def test_root_and_linux_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = nspawn.Nspawn(Records(tmp_path / "labs"))
    monkeypatch.setattr(nspawn.os, "geteuid", lambda: 1000)
    with pytest.raises(EnvironmentFault, match="needs root") as refused:
        backend.up(context(tmp_path), Settings())
    assert refused.value.exit_code == 3
    monkeypatch.setattr(nspawn.sys, "platform", "darwin")
    with pytest.raises(EnvironmentFault, match="darwin"):
        backend.plan(context(tmp_path), Settings())


def test_down_without_a_lab_does_nothing(tmp_path: Path) -> None:
    assert nspawn.Nspawn(Records(tmp_path / "labs")).down(context(tmp_path)) == []
    assert nspawn.Nspawn(Records(tmp_path / "labs")).status(context(tmp_path)) == ()


def test_down_refuses_a_record_of_another_state_folder(tmp_path: Path) -> None:
    from infra.backends.labs import lab_name

    records = Records(tmp_path / "labs")
    records.folder.mkdir()
    records.write(replace(LAB, name=lab_name(tmp_path / "mine"), state=tmp_path / "yours"))
    with pytest.raises(HostError, match="yours"):
        nspawn.Nspawn(records).down(context(tmp_path / "mine"))
