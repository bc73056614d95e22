"""The modules for LXD and for containers of a host's own programs, against a stand-in and without a host."""

from __future__ import annotations

import importlib
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slipway.core.errors import CommandError

from tests.plugins import ended, load, of
from tests.standins import lxd as standin

lxd_api = importlib.import_module("ansible_collections.slipway.serving.plugins.module_utils.lxd_api")
lxd_preseed = load("modules/lxd_preseed.py")
lxd_emptied = load("modules/lxd_emptied.py")
lxd_trial = load("modules/lxd_trial.py")
program_archive = load("modules/program_archive.py")
clashing_interfaces = load("filter/clashing_interfaces.py").clashing_interfaces
host_facts = load("modules/host_facts.py")

PRESEED: dict[str, Any] = {
    "config": {"images.auto_update_interval": 0},
    "storage_pools": [{"name": "default", "driver": "dir"}],
    "networks": [{"name": "lxdbr0", "type": "bridge", "config": {"ipv4.address": "auto", "ipv4.nat": True}}],
    "profiles": [
        {"name": "default", "devices": {"eth0": {"type": "nic", "name": "eth0", "network": "lxdbr0"}}},
        {"name": "default", "devices": {"eth0": {"mtu": 1400}}},
    ],
}


@pytest.fixture
def lxd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.Lxd]:
    path = tmp_path / "unix.socket"
    monkeypatch.setattr(lxd_api, "SOCKETS", (str(tmp_path / "none"), str(path)))
    with standin.running(path) as here:
        yield here


class TestPreseed:
    def test_what_is_missing_is_made_and_then_left_alone(
        self, lxd: standin.Lxd, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dry = ended(lxd_preseed, capsys, preseed=PRESEED, _ansible_check_mode=True)
        assert dry["changed"] and lxd.told == []
        assert "storage_pools/default" in dry["differing"] and "networks/lxdbr0" in dry["differing"]
        first = ended(lxd_preseed, capsys, preseed=PRESEED)
        assert first["changed"] and first["differing"] == dry["differing"]
        assert lxd.config == {"images.auto_update_interval": "0"}
        assert lxd.state["networks"]["lxdbr0"]["config"] == {
            "ipv4.address": "10.1.2.1/24",
            "ipv4.nat": "true",
        }
        assert lxd.state["profiles"]["default"]["devices"]["eth0"]["mtu"] == "1400"
        lxd.told.clear()
        assert not ended(lxd_preseed, capsys, preseed=PRESEED)["changed"]
        assert lxd.told == []

    def test_what_lxd_takes_without_a_word_and_does_not_do(
        self, lxd: standin.Lxd, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ended(lxd_preseed, capsys, preseed=PRESEED)
        lxd.state["networks"]["lxdbr0"]["config"]["ipv4.nat"] = "false"
        lxd.keeps = {"networks"}
        told = ended(lxd_preseed, capsys, preseed=PRESEED)
        assert told["failed"] and told["differing"] == ["networks/lxdbr0 ipv4.nat"]

    def test_what_differs_is_set_and_other_keys_stay(
        self, lxd: standin.Lxd, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ended(lxd_preseed, capsys, preseed=PRESEED)
        bridge, profile = lxd.state["networks"]["lxdbr0"], lxd.state["profiles"]["default"]
        bridge["config"] = {"ipv4.address": "10.9.8.1/24", "ipv4.nat": "false", "user.of": "somebody"}
        bridge["description"] = "ours"
        profile["config"]["limits.cpu"] = "2"
        profile["devices"]["eth0"] |= {"mtu": "9000", "hwaddr": "00:16:3e:00:00:01"}
        profile["devices"]["disk"] = {"type": "disk", "path": "/srv"}
        lxd.told.clear()
        done = ended(lxd_preseed, capsys, preseed=PRESEED)
        assert done["differing"] == ["networks/lxdbr0 ipv4.nat", "profiles/default eth0.mtu"]
        assert done["diff"]["before"].splitlines() == [
            *("networks/lxdbr0 ipv4.nat: false", "profiles/default eth0 mtu: 9000"),
        ]
        assert [(method, path) for method, path, _ in lxd.told] == [
            *(("PATCH", "/1.0/networks/lxdbr0"), ("PATCH", "/1.0/profiles/default")),
        ]
        wanted = {"ipv4.address": "10.9.8.1/24", "ipv4.nat": "true", "user.of": "somebody"}
        assert (bridge["config"], bridge["description"]) == (wanted, "ours")
        assert profile["devices"]["eth0"] == {
            **{"type": "nic", "name": "eth0", "network": "lxdbr0", "mtu": "1400"},
            "hwaddr": "00:16:3e:00:00:01",
        }
        assert (profile["devices"]["disk"]["path"], profile["config"]) == ("/srv", {"limits.cpu": "2"})
        again = ended(lxd_preseed, capsys, preseed=PRESEED)
        assert (again["changed"], again["differing"]) == (False, [])
        assert len(lxd.told) == 2

    def test_an_empty_value_is_none_and_a_source_is_what_it_was_first(self) -> None:
        assert lxd_preseed.differing({"ipv4.dhcp": ""}, {}) == {}
        assert lxd_preseed.differing({"ipv4.dhcp": ""}, {"ipv4.dhcp": "false"}) == {"ipv4.dhcp": ""}
        there = {"source": "/dev/disk/by-uuid/1", "volatile.initial_source": "/dev/sdb"}
        assert lxd_preseed.differing({"source": "/dev/sdb"}, there) == {}
        assert lxd_preseed.differing({"source": "/dev/sdc"}, there) == {"source": "/dev/sdc"}
        assert lxd_preseed.differing({"ipv4.address": "auto"}, {"ipv4.address": "none"}) != {}

    def test_the_driver_of_a_pool_is_not_changed(
        self, lxd: standin.Lxd, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lxd.state["storage-pools"]["default"] = {"name": "default", "driver": "zfs", "config": {}}
        told = ended(lxd_preseed, capsys, preseed=PRESEED)
        assert "storage_pools/default has driver zfs, not dir" in told["msg"]
        assert lxd.told == []

    def test_what_lxd_says_is_told(self, lxd: standin.Lxd, capsys: pytest.CaptureFixture[str]) -> None:
        lxd.refused = "/1.0/storage-pools"
        told = ended(lxd_preseed, capsys, preseed=PRESEED)
        assert told["msg"] == "POST /1.0/storage-pools: it will not do"
        assert "foo is not known" in ended(lxd_preseed, capsys, preseed={"foo": 1})["msg"]

    def test_a_host_without_lxd(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(lxd_api, "SOCKETS", (str(tmp_path / "none"),))
        assert "LXD has no socket" in ended(lxd_preseed, capsys, preseed=PRESEED)["msg"]
        assert ended(lxd_emptied, capsys)["changed"] is False


def with_bridge(lxd: standin.Lxd) -> None:
    """As after a preseed."""
    lxd.state["networks"]["lxdbr0"] = {
        **{"name": "lxdbr0", "managed": True, "type": "bridge"},
        "config": {"ipv4.address": "10.79.0.1/24"},
    }
    lxd.state["storage-pools"]["default"] = {"name": "default", "driver": "dir", "config": {}}
    lxd.state["profiles"]["default"]["devices"] = {
        "nic": {"type": "nic", "name": "eth0", "network": "lxdbr0"}
    }


class TestTrial:
    def test_a_container_is_launched_and_leaves_nothing(
        self, lxd: standin.Lxd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with_bridge(lxd)
        lxd.state["images"]["cafe"] = {"fingerprint": "cafe"}
        lxd.state["instances"]["slipway-trial"] = {"name": "slipway-trial", "status": "Running"}
        archive = tmp_path / "image.tar"
        archive.write_bytes(b"tar")
        told = ended(lxd_trial, capsys, archive=str(archive), network="lxdbr0")
        # .254 is leased
        assert (told["changed"], told["address"]) == (False, "10.79.0.253")
        assert lxd.state["instances"] == {} and list(lxd.state["images"]) == ["cafe"]
        run = [body["command"] for _, path, body in lxd.told if path.endswith("/exec")]
        assert run[0] == ["sh", "-c", "exit 0"] and "/dev/tcp/10.79.0.1/53" in run[-1][-1]

    @pytest.mark.parametrize("program", ["sh", "timeout"])
    def test_a_container_that_does_not_work_leaves_nothing_either(
        self, program: str, lxd: standin.Lxd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with_bridge(lxd)
        lxd.returns[program] = 7
        archive = tmp_path / "image.tar"
        archive.write_bytes(b"tar")
        told = ended(lxd_trial, capsys, archive=str(archive), network="lxdbr0")
        assert told["failed"] and f"`{program} " in told["msg"] and "ended with 7" in told["msg"]
        assert lxd.state["instances"] == {} and lxd.state["images"] == {}

    def test_a_container_that_nothing_connects(
        self, lxd: standin.Lxd, capsys: pytest.CaptureFixture[str]
    ) -> None:
        told = ended(lxd_trial, capsys, image="ubuntu:24.04", network="lxdbr0")
        assert told["msg"] == "the default profile connects nothing with lxdbr0"
        (asked,) = [body for method, path, body in lxd.told if (method, path) == ("POST", "/1.0/instances")]
        assert asked["source"]["server"] == "https://cloud-images.ubuntu.com/releases"
        assert asked["source"]["alias"] == "24.04"

    def test_images_of_servers(self) -> None:
        assert lxd_trial.source("https://images.invalid debian/13")["server"] == "https://images.invalid"
        for wrong in ("debian:13", "ubuntu:", "http://images.invalid debian/13", "24.04"):
            with pytest.raises(lxd_api.LxdError, match="is no image"):
                lxd_trial.source(wrong)

    def test_a_full_network_has_no_address(self) -> None:
        with pytest.raises(lxd_api.LxdError, match="no free address"):
            lxd_trial.free_address("10.79.0.1/30", {"10.79.0.2"})


def test_lxd_is_emptied(lxd: standin.Lxd, capsys: pytest.CaptureFixture[str]) -> None:
    with_bridge(lxd)
    lxd.state["networks"]["eth0"] = {"name": "eth0", "managed": False}
    lxd.state["instances"]["web/1"] = {"name": "web/1", "status": "Running"}
    lxd.state["instances"]["db"] = {"name": "db", "status": "Stopped"}
    lxd.state["images"]["cafe"] = {"fingerprint": "cafe"}
    # it has instances of its own; of all else the stand-in, as LXD, lists that of the first project
    lxd.state["projects"]["other"] = {"name": "other", "config": {"features.images": "false"}}
    lxd.listed["other"] = {"instances": {}}
    dry = ended(lxd_emptied, capsys, _ansible_check_mode=True)
    assert dry["changed"] and lxd.told == []
    done = ended(lxd_emptied, capsys)
    assert done["removed"] == dry["removed"]
    assert [path for method, path, _ in lxd.told if method == "DELETE"] == [
        *("/1.0/instances/web%2F1", "/1.0/instances/db", "/1.0/images/cafe"),
        *("/1.0/networks/lxdbr0", "/1.0/storage-pools/default", "/1.0/projects/other"),
    ]
    assert next(body for _, path, body in lxd.told if path.endswith("/web%2F1/state"))["force"] is True
    assert not ended(lxd_emptied, capsys)["changed"]


class TestProgramArchive:
    PRINTED = (
        "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n"
        "\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n"
    )

    def test_programs_have_the_libraries_that_they_load(self) -> None:
        assert program_archive.members({"/usr/bin/bash": self.PRINTED, "/bin/static": "not a dynamic\n"}) == {
            "bin/bash": "/usr/bin/bash",
            "bin/static": "/bin/static",
            "lib/x86_64-linux-gnu/libc.so.6": "/lib/x86_64-linux-gnu/libc.so.6",
            "lib64/ld-linux-x86-64.so.2": "/lib64/ld-linux-x86-64.so.2",
        }

    def test_the_root_of_a_container(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        tar = tmp_path / "root.tar"
        files = {"metadata.yaml": "creation_date: 1\n", "rootfs/sbin/init": "#!/bin/sh\n"}
        told = ended(program_archive, capsys, dest=str(tar), programs=["sh"], folder="rootfs", files=files)
        assert tar.stat().st_mode & 0o777 == 0o600
        with tarfile.open(tar) as opened:
            modes = {member.name: member.mode for member in opened.getmembers()}
        assert list(modes) == told["members"]
        assert (modes["metadata.yaml"], modes["rootfs/sbin/init"], modes["rootfs/bin/sh"]) == (
            *(0o644, 0o755, 0o755),
        )
        assert {"rootfs/proc", "rootfs/sys", "rootfs/dev"} <= set(modes)
        root = tmp_path / "root"
        with tarfile.open(tar) as opened:
            opened.extractall(root, filter="fully_trusted")
        assert any(path.name.startswith("libc.so") for path in root.rglob("*")), "a shell needs it"


class TestFacts:
    def test_members_of_groups(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host_facts, "GROUPS", ("root", "no-such-group"))
        assert list(host_facts.group_members()) == ["root"]

    def test_installed_snaps(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "lxd/current").mkdir(parents=True)
        (tmp_path / "half").mkdir()
        monkeypatch.setattr(host_facts, "SNAPS", tmp_path)
        assert host_facts.facts(lambda _argv: "")["snaps"] == ["lxd"]


def test_networks_in_the_way_of_a_bridge() -> None:
    facts = {
        "interfaces": ["lo", "eth0", "br-lan", "lxdbr0"],
        "lo": {"ipv4": {"address": "127.0.0.1", "netmask": "255.0.0.0"}},
        "eth0": {
            "ipv4": {"address": "192.0.2.7", "netmask": "255.255.255.0"},
            "ipv4_secondaries": [{"address": "10.79.5.1", "netmask": "255.255.0.0"}],
        },
        "br_lan": {},
        "lxdbr0": {"ipv4": {"address": "10.80.0.1", "netmask": "255.255.255.0"}},
    }
    assert clashing_interfaces("10.79.0.1/24", facts, "lxdbr0") == [
        "10.79.0.0/24 overlaps 10.79.0.0/16, the network of interface eth0; set it to another"
    ]
    for free in ("10.80.0.1/24", "auto", "none"):
        assert clashing_interfaces(free, facts, "lxdbr0") == []
    for wrong in ("10.79.0.300/24", "10.81.0.1", "fd00::1/64"):
        assert len(clashing_interfaces(wrong, facts, "lxdbr0")) == 1


@pytest.mark.parametrize("version", ["22.04", "24.04", "26.04"])
def test_ubuntu_has_lxd_as_a_snap(version: str, decided: Callable[..., dict[str, Any]]) -> None:
    names = ["_lxd_lacking_packages", "_lxd_installed", "_lxd_unit", "_lxd_socket"]
    lacking = decided("lxd", names, of("Ubuntu", version, packages={"lxd-installer": "4"}))
    assert (lacking["_lxd_lacking_packages"], lacking["_lxd_installed"]) == (["snapd"], False)
    assert lacking["_lxd_unit"] == "snap.lxd.daemon.unix.socket"
    assert lacking["_lxd_socket"] == lxd_api.SOCKETS[0]
    there = decided("lxd", names, of("Ubuntu", version, packages={"snapd": "2"}, snaps=["core22", "lxd"]))
    assert (there["_lxd_lacking_packages"], there["_lxd_installed"]) == ([], True)


@pytest.mark.parametrize("version", ["12", "13"])
def test_debian_has_lxd_as_a_package(version: str, decided: Callable[..., dict[str, Any]]) -> None:
    names = ["_lxd_lacking_packages", "_lxd_installed", "_lxd_unit", "_lxd_socket", "_lxd_wanted"]
    bare = decided("lxd", names, of("Debian", version), lxd_storage_driver="btrfs", lxd_bridge_ipv4="none")
    assert bare["_lxd_lacking_packages"] == ["apparmor", "btrfs-progs", "dnsmasq-base", "lxd", "nftables"]
    assert (bare["_lxd_installed"], bare["_lxd_unit"]) == (False, "lxd.socket")
    assert bare["_lxd_socket"] == lxd_api.SOCKETS[1]
    config = bare["_lxd_wanted"]["networks"][0]["config"]
    assert (config["ipv4.nat"], str(config["bridge.mtu"])) == ("", "1400")


def test_lxd_says_before_anything_changes_what_it_cannot_work_with(
    decided: Callable[..., dict[str, Any]],
) -> None:
    facts = of("Debian", "11") | {
        "interfaces": ["eth0"],
        "eth0": {"ipv4": {"address": "10.79.3.4", "netmask": "255.255.0.0"}},
    }
    preseed = {"config": {"core.trust_password": "x"}, "cluster": {}}
    with pytest.raises(CommandError) as caught:
        decided("lxd", [], facts, lxd_preseed=preseed, lxd_storage_driver="zfs")
    said = caught.value.output
    for words in (
        "lxd: Debian 11 has no LXD that this role knows",
        "lxd: lxd_bridge_ipv4: 10.79.0.0/24 overlaps 10.79.0.0/16, the network of interface eth0",
        "lxd: lxd_preseed has cluster; expected config, networks",
        "lxd: lxd_preseed sets core.trust_password",
        "lxd: lxd_storage_driver: zfs needs zfsutils-linux",
    ):
        assert words in said
