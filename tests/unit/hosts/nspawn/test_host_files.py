from __future__ import annotations

import configparser
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from slipway.clients import apt
from slipway.core.context import Context
from slipway.core.schema import SERVICE_NETWORK, Settings
from slipway.core.state import State
from slipway.hosts.nspawn import host_files, kernel_modules

from tests.unit.hosts.nspawn.test_labs import HOST
from tests.unit.hosts.nspawn.test_network import LAB
from tests.unit.hosts.nspawn.test_roots import SITE

LAB_OF_TWO = replace(LAB, hosts=(HOST, replace(HOST, name="worker-1", address="10.77.4.3")))


def context(folder: Path) -> Context:
    return Context(State(folder), folder / "run", folder)


def test_a_host_gets_its_own_keys_names_and_resolver(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    host_files.prepare(ctx, Settings(), LAB_OF_TWO, HOST, SITE)
    upper = tmp_path / "hosts/cp/upper"
    assert (upper / "etc/hostname").read_text() == "cp\n"
    assert "10.77.4.3 worker-1\n" in (upper / "etc/hosts").read_text()
    assert (upper / "etc/resolv.conf").read_text() == "nameserver 192.0.2.1\n"
    assert (upper / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (upper / "root/.ssh/authorized_keys").read_text().startswith("ssh-ed25519 ")
    assert not (upper / "etc/environment").exists()
    before = (upper / "etc/ssh/ssh_host_ed25519_key").read_bytes()
    (upper / "etc/half").write_text("")
    host_files.prepare(
        ctx, Settings(), LAB_OF_TWO, HOST, SITE
    )  # again after a kill: whole, and the pinned key stays
    assert not (upper / "etc/half").exists()
    assert (upper / "etc/ssh/ssh_host_ed25519_key").read_bytes() == before


def test_a_network_the_settings_give_the_cluster_is_not_proxied(tmp_path: Path) -> None:
    site = replace(SITE, proxies=(("https_proxy", "http://proxy.example:1"),))
    settings = Settings.model_validate(
        {"cluster": {"pod_subnet": "10.100.0.0/16", "service_subnet": "10.101.0.0/16"}}
    )
    host_files.prepare(context(tmp_path), settings, LAB_OF_TWO, HOST, site)
    text = (tmp_path / "hosts/cp/upper/etc/environment").read_text()
    direct = dict(line.split("=", 1) for line in text.splitlines())["NO_PROXY"].strip('"').split(",")
    assert {"10.100.0.0/16", "10.101.0.0/16"} <= set(direct)


def test_the_networks_the_role_gives_a_cluster_are_not_proxied() -> None:
    (defaults,) = (Path(__file__).parents[4] / "playbooks").rglob("control_plane/defaults/main.yml")
    role = yaml.safe_load(defaults.read_text(encoding="utf-8"))
    networks = {role["control_plane_service_subnet"], role["control_plane_pod_subnet"]}
    assert networks == {name for name in host_files._CLUSTER if "/" in name}
    assert role["control_plane_service_subnet"] == SERVICE_NETWORK


def test_proxies_reach_logins_and_engines_but_not_the_lab(tmp_path: Path) -> None:
    site = replace(
        SITE, proxies=(("http_proxy", "http://p%40:x@proxy.example:1"), ("no_proxy", "corp.example"))
    )
    host_files.prepare(context(tmp_path), Settings(), LAB_OF_TWO, HOST, site)
    upper = tmp_path / "hosts/cp/upper"
    environment = (upper / "etc/environment").read_text()
    assert 'HTTP_PROXY="http://p%40:x@proxy.example:1"' in environment
    for name in ("corp.example", LAB.subnet, "worker-1", ".svc"):
        assert name in environment
    for service in ("containerd", "docker"):
        drop_in = (upper / f"etc/systemd/system/{service}.service.d/10-site.conf").read_text()
        assert drop_in == "[Service]\nEnvironmentFile=-/etc/environment\n"


def test_no_login_is_in_a_file_that_others_can_read(tmp_path: Path) -> None:
    canary = "canary-7f3a"
    site = replace(
        SITE,
        apt_logins=(apt.Login("https://mirror.example/", "bob", canary),),
        proxies=(("https_proxy", f"http://bob:{canary}@proxy.example:1"),),
        pip=(
            ("index-url", "https://open.example/simple"),
            ("extra-index-url", f"https://a.example\nhttps://{canary}@b.example"),
        ),
    )
    host_files.prepare(context(tmp_path), Settings(), LAB_OF_TWO, HOST, site)
    upper = tmp_path / "hosts/cp/upper"
    files = [path for path in upper.rglob("*") if path.is_file()]
    holding = {str(path.relative_to(upper)) for path in files if canary.encode() in path.read_bytes()}
    assert holding == {"etc/apt/auth.conf.d/10-site.conf", "etc/environment", "etc/pip.conf"}
    assert {(upper / name).stat().st_mode & 0o777 for name in holding} == {0o600}
    host_files.prepare(
        context(tmp_path),
        Settings(),
        LAB_OF_TWO,
        HOST,
        replace(SITE, proxies=(("http_proxy", "http://proxy.example"),), pip=site.pip[:1]),
    )
    open_ones = ("etc/environment", "etc/pip.conf")
    assert {(upper / name).stat().st_mode & 0o777 for name in open_ones} == {0o644}
    assert not (upper / "etc/apt").exists()


def test_pips_own_settings_keep_their_lines_apart(tmp_path: Path) -> None:
    site = replace(SITE, pip=(("extra-index-url", "https://a.example\nhttps://b.example"), ("timeout", "9")))
    host_files.prepare(context(tmp_path), Settings(), LAB_OF_TWO, HOST, site)
    parser = configparser.RawConfigParser()
    parser.read(tmp_path / "hosts/cp/upper/etc/pip.conf")
    values = dict(parser.items("global"))
    assert values.pop("cert") == "/etc/ssl/certs/ca-certificates.crt"
    assert values == {"extra-index-url": "https://a.example\nhttps://b.example", "timeout": "9"}


def test_a_folder_is_whole_only_when_everything_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_release: str) -> list[str]:
        raise KeyboardInterrupt

    folder = tmp_path / "hosts/cp"
    assert not host_files.prepared(folder)
    with monkeypatch.context() as half, pytest.raises(KeyboardInterrupt):
        half.setattr(kernel_modules, "there", fail)
        host_files.prepare(context(tmp_path), Settings(), LAB_OF_TWO, HOST, SITE)
    assert folder.is_dir()
    assert not host_files.prepared(folder)
    host_files.prepare(context(tmp_path), Settings(), LAB_OF_TWO, HOST, SITE)
    assert host_files.prepared(folder)
