"""The collection's modules and filters, without a host."""

from __future__ import annotations

import base64
import hashlib
import io
import ipaddress
import json
import os
import pwd
import re
import struct
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible.errors import AnsibleFilterError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from jinja2 import Template

from tests.plugins import PLUGINS, ended, load

host_facts = load("modules/host_facts.py")
apt_source = load("modules/apt_source.py")
openpgp = apt_source.openpgp
apt_entries = apt_source.apt_entries
containerd_images = load("modules/containerd_images.py")
netfilter_chains = load("modules/netfilter_chains.py")
cluster_answer = load("modules/cluster_answer.py")
registry_logins = load("modules/registry_logins.py")
files_module = load("modules/files.py")
archive_images = load("filter/archive_images.py").archive_images
kubelet_requests = load("filter/kubelet_requests.py").kubelet_requests
short_disks = load("filter/short_disks.py").short_disks
clashing_networks = load("filter/clashing_networks.py").clashing_networks
waiting_nodes = load("filter/waiting_nodes.py").waiting_nodes
waiting_pods = load("filter/waiting_pods.py").waiting_pods
locked_wheels = load("filter/locked_wheels.py").locked_wheels
controller_folder = load("filter/controller_folder.py").controller_folder
armored_key = load("filter/armored_key.py").armored_key
differing_files = load("filter/differing_files.py").differing_files
controller_file = load("filter/controller_file.py").controller_file
lacking_archives = load("filter/lacking_archives.py").lacking_archives
standing = load("filter/standing.py").standing


def answer(*items: dict[str, Any]) -> str:
    """What kubectl prints of these objects."""
    return json.dumps({"kind": "List", "items": items})


class TestHostFacts:
    def test_room_is_told_once_for_each_file_system(self, tmp_path: Path) -> None:
        (tmp_path / "below").mkdir()
        folders = [str(tmp_path), str(tmp_path / "below"), str(tmp_path / "none")]
        told = host_facts.room(folders)
        assert list(told) == [str(tmp_path)]
        assert 0 <= told[str(tmp_path)] < 1_000_000_000

    def test_lists_are_what_apt_has_read_and_not_the_folder_of_them(self, tmp_path: Path) -> None:
        (tmp_path / "partial").mkdir()
        (tmp_path / "lock").touch()
        assert not host_facts.has_package_lists(tmp_path), "an image that was made just now"
        (tmp_path / "archive_dists_trixie_main_binary-amd64_Packages.lz4").touch()
        assert host_facts.has_package_lists(tmp_path)

    @pytest.mark.parametrize(("lists", "seconds"), [(False, "0"), (True, "3600")])
    def test_without_lists_they_are_fetched_whatever_the_folders_date(
        self, lists: bool, seconds: str
    ) -> None:
        text = (PLUGINS.parent / "roles/apt_source/tasks/packages.yml").read_text()
        (asked,) = re.findall(r'cache_valid_time: "(.*)"', text)
        facts = {"slipway_host": {"package_lists": lists}}
        assert Template(asked).render(ansible_facts=facts) == seconds

    def test_only_installed_packages_count(self) -> None:
        status = (
            "Package: containerd\nStatus: install ok installed\nVersion: 1.7.24~ds1-6\nDescription: x\n .\n more\n\n"
            "Package: docker.io\nStatus: deinstall ok config-files\nVersion: 26.1\n\n"
            "Package: kubelet\nStatus: hold ok installed\nVersion: 1.36.3-1.1\n"
        )
        assert host_facts.installed_packages(status) == {
            "containerd": "1.7.24~ds1-6",
            "kubelet": "1.36.3-1.1",
        }
        assert host_facts.held_packages(status) == ["kubelet"]

    def test_the_distributions_python(self, tmp_path: Path) -> None:
        (tmp_path / "python3.12").touch()
        (tmp_path / "python3").symlink_to("python3.12")
        assert host_facts.python_version(tmp_path / "python3") == "3.12"
        own = ".".join(map(str, sys.version_info[:2]))
        assert host_facts.python_version(tmp_path / "other") == own

    def test_swap(self) -> None:
        head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
        assert not host_facts.swap_in_use(head)
        assert host_facts.swap_in_use(head + "/dev/sda2 partition 8388604 0 -2\n")

    def test_the_oom_score_is_put_back(self, tmp_path: Path) -> None:
        file = tmp_path / "oom_score_adj"
        file.write_text("17\n")
        assert host_facts.lowers_oom_score(file)
        assert file.read_text() == "17\n"

    def test_a_host_that_may_not_lower_oom_scores(self) -> None:
        class Refusing:
            def read_text(self) -> str:
                return "0\n"

            def write_text(self, _text: str) -> None:
                raise PermissionError(13, "Permission denied")

        assert not host_facts.lowers_oom_score(Refusing())

    def test_conntrack(self, tmp_path: Path) -> None:
        file = tmp_path / "nf_conntrack_max"
        assert host_facts.sets_conntrack(file), "not loaded yet: nothing speaks against it"
        file.write_text("262144")
        file.chmod(0o644)
        assert host_facts.sets_conntrack(file)
        file.chmod(0o444)
        assert not host_facts.sets_conntrack(file)

    def test_the_disk_of_a_folder_that_is_not_there_yet(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # blocks of 4096, of which root could use 30 and everybody 20
        values = os.statvfs_result((512, 4096, 100, 30, 20, 1, 1, 1, 0, 255))
        asked = []

        def statvfs(path: Path) -> os.statvfs_result:
            asked.append(path)
            return values

        monkeypatch.setattr(host_facts.os, "statvfs", statvfs)
        found = host_facts.disk(tmp_path / "lib" / "containerd")
        assert found == {"path": str(tmp_path), "free": 20 * 4096, "size": 100 * 4096}
        assert asked == [tmp_path]

    def test_both_disks_of_the_kubelet_are_facts(self) -> None:
        assert set(host_facts.DISKS) == set(disks(0))

    def test_units_that_run_and_start_at_boot(self) -> None:
        shown = (
            "Id=containerd.service\nActiveState=active\nUnitFileState=enabled\nActiveEnterTimestampMonotonic=2500000\n\n"
            "Id=docker.service\nActiveState=active\nUnitFileState=disabled\n\n"
            "Id=kubelet.service\nActiveState=activating\nUnitFileState=enabled\n"
        )
        assert host_facts.running_units(shown) == {"containerd.service": 2.5}

    @pytest.mark.parametrize(
        ("written", "behind"),
        [((), False), ((899.0,), False), ((899.0, 900.5), True), ((1000.5,), False)],
        ids=["nothing", "before", "one-since", "dated-after-now"],
    )
    def test_a_unit_is_behind_what_was_written_since_it_began(
        self, written: tuple[float, ...], behind: bool
    ) -> None:
        assert host_facts.is_behind(began=20.0, written=written, uptime=120.0, now=1000.0) is behind

    def test_what_a_unit_reads_is_what_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = tmp_path / "daemon.json"
        monkeypatch.setattr(host_facts, "UNITS", {"docker.service": (str(file),), "lxd.socket": ()})
        began = time.monotonic()
        assert host_facts.units_behind({"docker.service": began, "lxd.socket": began}) == []
        file.touch()
        began -= 60
        assert host_facts.units_behind({"docker.service": began, "lxd.socket": began}) == ["docker.service"]

    def test_days_until_certificates_end(self) -> None:
        def entry(name: str, days: float, **more: object) -> dict[str, object]:
            return {"name": name, "residualTime": days * 86400, **more}

        entries = [
            entry("apiserver", 364.96),
            entry("admin.conf", -2),
            entry("super-admin.conf", 0, missing=True),
            entry("etcd-server", 20, externallyManaged=True),
        ]
        report = json.dumps({"certificates": entries, "certificateAuthorities": [entry("ca", 3650)]})
        assert host_facts.days_left(report) == {"apiserver": 365.0, "admin.conf": -2.0}
        assert host_facts.days_left("") == {}, "kubeadm could not tell"

    def test_days_until_a_served_certificate_ends(self) -> None:
        now = 1795629600.0  # 2026-11-25 18:00 UTC
        assert host_facts.days_until("notAfter=Nov 28 06:00:00 2026 GMT\n", now) == 2.5
        assert host_facts.days_until("notAfter=Nov  1 18:00:00 2026 GMT\n", now) == -24.0
        assert host_facts.days_until("", now) is None, "it could not be read"

    def test_what_is_trusted_is_told_file_by_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host_facts, "TRUST", (str(tmp_path / "none"), str(tmp_path)))
        for name, text in (("ca.crt", "CA"), ("hosts.toml", "server"), ("client.key", "secret")):
            file = tmp_path / "r.lab:5000" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        folder = tmp_path / "r.lab:5000"
        assert host_facts.trusted() == {str(folder / "ca.crt"): "CA", str(folder / "hosts.toml"): "server"}

    def test_a_file_is_told_by_digest_and_owner_and_only_a_certificate_by_its_text(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = {name: tmp_path / name for name in ("admin.conf", "ca.crt", "link", "folder", "none")}
        for name in ("admin.conf", "ca.crt"):
            paths[name].write_text(name)
            paths[name].chmod(0o640)
        paths["link"].symlink_to(paths["ca.crt"])
        paths["folder"].mkdir()
        monkeypatch.setattr(host_facts, "FILES", tuple(map(str, paths.values())))
        monkeypatch.setattr(host_facts, "PUBLIC_FILES", (str(paths["ca.crt"]),))
        found = host_facts.file_states()
        assert set(found) == {str(paths["admin.conf"]), str(paths["ca.crt"])}
        secret, public = found[str(paths["admin.conf"])], found[str(paths["ca.crt"])]
        assert secret["sha256"] == hashlib.sha256(b"admin.conf").hexdigest()
        assert (secret["mode"], "text" in secret, public["text"]) == ("0640", False, "ca.crt")
        assert secret["owner"] == pwd.getpwuid(os.getuid()).pw_name

    def test_no_private_key_and_no_login_is_among_the_files(self) -> None:
        paths = (*host_facts.FILES, *host_facts.PUBLIC_FILES)
        assert not [path for path in paths if path.endswith(".key") or "htpasswd" in path or "secret" in path]
        assert all(path.endswith(".crt") for path in host_facts.PUBLIC_FILES)

    def test_an_owner_without_a_name_is_told_by_number(self) -> None:
        assert host_facts._name(pwd.getpwuid, 4_000_000_001) == "4000000001"

    def test_pinned_images(self) -> None:
        listing = (
            "REF TYPE DIGEST SIZE PLATFORMS LABELS\n"
            "r/pause:1 application/x sha256:aa 1.0 MiB linux/amd64 io.cri-containerd.image=managed,"
            "io.cri-containerd.pinned=pinned\n"
            "r/other:1 application/x sha256:bb 1.0 MiB linux/amd64 io.cri-containerd.image=managed\n"
        )
        assert host_facts.pinned_images(listing) == {"r/pause:1": "sha256:aa"}
        assert host_facts.pinned_images("") == {}

    def test_what_a_certificate_is_for(self) -> None:
        shown = (
            "notAfter=Nov 28 06:00:00 2026 GMT\nX509v3 Subject Alternative Name: \n"
            "    IP Address:10.0.0.2, DNS:cp, DNS:localhost, IP Address:127.0.0.1\n"
        )
        assert host_facts.names_of(shown) == ["IP:10.0.0.2", "DNS:cp", "DNS:localhost", "IP:127.0.0.1"]
        assert host_facts.days_until(shown, 1795629600.0) == 2.5
        assert host_facts.names_of("No extensions in certificate\n") == []
        assert host_facts.names_of("IP Address:FD00:0:0:0:0:0:0:2, DNS:cp\n") == ["IP:fd00::2", "DNS:cp"]

    def test_the_address_a_kubelet_is_told_to_use(self) -> None:
        text = "KUBELET_EXTRA_ARGS=--config-dir=/etc/x --node-ip={}\n"
        assert host_facts.node_address(text.format("10.0.0.4,fd00::4")) == "10.0.0.4,fd00::4"
        assert host_facts.node_address("KUBELET_EXTRA_ARGS=\n") == ""

    def test_of_a_pods_cable_there_is_the_name_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = {
            "interfaces": ["eth0", "veth0a1b", "veth-mine", "cali77"],
            "eth0": {"ipv4": {"address": "192.0.2.7"}},
            "veth0a1b": {"active": True},
            "veth-mine": {"ipv4": {"address": "198.51.100.7"}},
            "cali77": {"active": True, "ipv6": [{"address": "fe80::1"}]},
        }
        monkeypatch.setattr(host_facts.NetworkCollector, "collect", lambda self, module: found)
        monkeypatch.setattr(host_facts.DistributionFactCollector, "collect", lambda self, module: {"os": "x"})
        told = host_facts.of_ansible(None)
        assert told == {
            "ansible_os": "x",
            "ansible_interfaces": found["interfaces"],
            "ansible_eth0": found["eth0"],
            "ansible_veth-mine": found["veth-mine"],
        }

    def test_ethtool_is_not_asked(self) -> None:
        asked: list[str] = []

        class Module:
            def get_bin_path(self, name: str, **_: Any) -> str:
                return name

            def run_command(self, argv: list[str] | str, **_: Any) -> tuple[int, str, str]:
                asked.append(argv.split()[0] if isinstance(argv, str) else argv[0])
                return 0, "", ""

        assert "interfaces" in host_facts.NetworkCollector().collect(module=Module())
        assert set(asked) == {"ip"}


class TestDifferingFiles:
    THERE: ClassVar = {
        "/a": {
            "sha256": hashlib.sha256("ä".encode()).hexdigest(),
            "mode": "0644",
            "owner": "root",
            "group": "docker-registry",
        }
    }

    @pytest.mark.parametrize(
        ("wanted", "differs"),
        [
            ({"content": "ä", "mode": "0644"}, False),
            ({"content": "ä", "mode": "0644", "owner": "root", "group": "docker-registry"}, False),
            ({"sha256": THERE["/a"]["sha256"]}, False),
            ({"content": "b", "mode": "0644"}, True),
            ({"content": "ä", "mode": "0600"}, True),
            ({"content": "ä", "owner": "bob"}, True),
            ({"content": "ä", "group": "root"}, True),
            ({"sha256": "00"}, True),
        ],
    )
    def test_what_is_asked_of_a_file_is_compared(self, wanted: dict[str, str], differs: bool) -> None:
        assert differing_files({"/a": wanted}, self.THERE) == (["/a"] if differs else [])

    def test_what_is_not_there_differs_even_if_nothing_is_asked_of_it(self) -> None:
        assert differing_files({"/c": {}, "/b": {"content": ""}}, self.THERE) == ["/b", "/c"]
        assert differing_files({}, self.THERE) == []


class TestControllerFile:
    def test_digest_and_mode(self, tmp_path: Path) -> None:
        file = tmp_path / "kubeconfig"
        file.write_text("key")
        file.chmod(0o600)
        digest = hashlib.sha256(b"key").hexdigest()
        assert controller_file(str(file)) == {"sha256": digest, "mode": "0600"}

    def test_a_text_that_stands_for_another(self, tmp_path: Path) -> None:
        """The kubeconfig here says another server than the one on the host."""
        (tmp_path / "here").write_text("user: me\nserver: https://public:6443\n")
        (tmp_path / "there").write_text("user: me\nserver: https://10.0.0.2:6443\n")
        there = controller_file(str(tmp_path / "there"))
        assert {**controller_file(str(tmp_path / "here"), {"public": "10.0.0.2"}), "mode": ""} == {
            **there,
            "mode": "",
        }
        assert controller_file(str(tmp_path / "there"), {"public": "10.0.0.2"}) == {}, (
            "it does not say public"
        )
        assert controller_file(str(tmp_path / "there"), {}) == there

    def test_a_home_is_understood(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "file").touch()
        assert controller_file("~/file") != {}

    def test_what_is_no_plain_file_is_nothing(self, tmp_path: Path) -> None:
        assert [controller_file(str(tmp_path / name)) for name in ("", "none")] == [{}, {}]

    def test_what_was_written_anew_is_read_anew(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        seen = set()
        for text in ("one", "two", "three"):
            file.write_text(text)
            seen |= {controller_file(str(file))["sha256"], controller_file(str(file))["sha256"]}
        (tmp_path / "other").write_text("four")
        (tmp_path / "other").rename(file)
        assert len({*seen, controller_file(str(file))["sha256"]}) == 4

    def test_a_link_is_what_it_leads_to(self, tmp_path: Path) -> None:
        """A folder of programs may be one of links, which module copy follows."""
        (tmp_path / "kubeadm").write_text("program")
        (tmp_path / "link").symlink_to("kubeadm")
        (tmp_path / "astray").symlink_to("none")
        program = controller_file(str(tmp_path / "kubeadm"))
        found = [controller_file(str(tmp_path / name)) for name in ("link", "astray")]
        assert found == [program, {}]


class TestLackingArchives:
    def test_an_image_that_is_absent_or_another_makes_its_archive_needed(self) -> None:
        there = {"a:1": "sha256:aa", "b:1": "sha256:bb"}
        archives = {
            "/good": {"a:1": "sha256:aa", "b:1": ""},
            "/other": {"a:1": "sha256:cc"},
            "/absent": {"a:1": "sha256:aa", "c:1": ""},
        }
        assert lacking_archives(archives, there) == ["/other", "/absent"]
        assert lacking_archives(archives, {}) == list(archives)


class TestStanding:
    @staticmethod
    def daemons(generation: int = 2, **status: int) -> str:
        counts = {"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3}
        item = {"kind": "DaemonSet", "metadata": {"name": "d", "generation": generation}}
        return answer(item | {"status": counts | {"numberAvailable": 3} | status})

    def test_a_daemon_on_every_node(self) -> None:
        assert standing(self.daemons(), "DaemonSet", "d")
        assert not standing(self.daemons(), "DaemonSet", "e")
        assert not standing(self.daemons(), "Deployment", "d")

    @pytest.mark.parametrize(
        "status",
        [
            {"generation": 3},
            {"numberAvailable": 2},
            {"updatedNumberScheduled": 2},
            {"desiredNumberScheduled": 4},
        ],
    )
    def test_one_that_is_rolled_out_only_in_part(self, status: dict[str, int]) -> None:
        assert not standing(self.daemons(**status), "DaemonSet", "d")

    def test_one_that_nobody_has_looked_at(self) -> None:
        new = {"kind": "DaemonSet", "metadata": {"name": "d", "generation": 1}}
        assert not standing(answer(new), "DaemonSet", "d")

    @pytest.mark.parametrize(("status", "stands"), [("True", True), ("False", False), ("Unknown", False)])
    def test_what_has_conditions(self, status: str, stands: bool) -> None:
        item = {"kind": "APIService", "metadata": {"name": "m"}}
        said = answer(item | {"status": {"conditions": [{"type": "Available", "status": status}]}})
        assert standing(said, "APIService", "m") is stands


class TestClusterAnswer:
    def test_a_manifest_that_leaves_every_object_as_it_is(self) -> None:
        same = "namespace/n unchanged (server dry run)\ndaemonset.apps/d unchanged (server dry run)\n"
        assert cluster_answer.leaves_all(same)
        for other in ("configured", "created", "pruned"):
            assert not cluster_answer.leaves_all(f"{same}configmap/c {other} (server dry run)\n")
        assert not cluster_answer.leaves_all(""), "it says nothing of any object"


class TestRegistryLogins:
    """With a hash that costs nothing in the place of bcrypt's."""

    @pytest.fixture(autouse=True)
    def cheap(self, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        checked = []

        class Bcrypt:
            @staticmethod
            def gensalt(cost: int) -> bytes:
                return b"$2b$%02d$" % cost

            @staticmethod
            def hashpw(password: bytes, salt: bytes) -> bytes:
                return salt + password[::-1]

            @staticmethod
            def checkpw(password: bytes, held: bytes) -> bool:
                checked.append(password)
                if not held.startswith(b"$2b$"):
                    raise ValueError("Invalid salt")
                return held[7:] == password[::-1]

        monkeypatch.setattr(registry_logins, "bcrypt", Bcrypt)
        return checked

    @staticmethod
    def login(name: str, password: str, file: str = "a") -> dict[str, str]:
        return {"file": file, "name": name, "password": password}

    def test_logins_that_are_right_stay(self) -> None:
        files = {"a": "old:$x\nme:$2b$05$dcba\n"}
        assert registry_logins.wanted(files, [self.login("me", "abcd")], 5) == (files, [])

    @pytest.mark.parametrize(
        "held", ["", "me:$x\n", "me:$2b$12$dcba\n", "me:$2b$05$x\n", "me:\n", "me:{SHA}x\n", "me\n"]
    )
    def test_one_that_is_wrong_or_missing_is_set_and_others_stay(self, held: str) -> None:
        files = {"a": f"old:$x\n{held}"}
        after, names = registry_logins.wanted(files, [self.login("me", "abcd")], 5)
        assert (after, names) == ({"a": "old:$x\nme:$2b$05$dcba\n"}, ["me"])

    def test_a_hash_in_two_files_is_looked_at_once(self, cheap: list[bytes]) -> None:
        logins = [self.login("me", "abcd", file) for file in ("a", "b")]
        after, names = registry_logins.wanted({"a": "", "b": ""}, logins, 5)
        assert (after["a"], after["b"], names) == ("me:$2b$05$dcba\n", "me:$2b$05$dcba\n", ["me", "me"])
        assert registry_logins.wanted(after, logins, 5) == (after, [])
        assert cheap == [b"abcd"]

    def test_two_users_with_one_password_have_a_hash_each(self, cheap: list[bytes]) -> None:
        files = {"a": "me:$2b$05$dcba\nyou:$2b$05$dcba\n"}
        assert registry_logins.wanted(files, [self.login(name, "abcd") for name in ("me", "you")], 5)[1] == []
        assert cheap == [b"abcd"] * 2

    def test_of_a_long_password_as_much_counts_as_bcrypt_reads(self) -> None:
        after, _ = registry_logins.wanted({"a": ""}, [self.login("me", "x" * 80)], 5)
        assert after == {"a": f"me:$2b$05${'x' * 72}\n"}


class TestFiles:
    """Module files, run on this machine."""

    @pytest.fixture
    def run(self, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
        def call(*, check: bool = False, **params: object) -> dict[str, Any]:
            return ended(files_module, capsys, **params, _ansible_check_mode=check, _ansible_diff=True)

        return call

    def test_files_and_folders_are_written_once(
        self, run: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        text, other = f"{tmp_path}/in/a.yml", f"{tmp_path}/b"
        wanted = {
            "folders": {f"{tmp_path}/d": {"mode": "0700"}},
            "files": {text: {"content": "a: 1\n", "mode": "0600"}, other: "é\n"},
        }
        told = run(**wanted)
        assert told["written"] == [f"{tmp_path}/d", text, other]
        assert [(path.name, path.stat().st_mode & 0o777) for path in sorted(tmp_path.iterdir())] == [
            ("b", 0o644),
            ("d", 0o700),
            ("in", 0o755),
        ]
        assert (Path(text).read_text(), Path(text).stat().st_mode & 0o777) == ("a: 1\n", 0o600)
        assert Path(other).read_text() == "é\n"
        again = run(**wanted)
        assert (again["changed"], again["written"], again["diff"]) == (False, [], [])

    def test_what_somebody_else_wrote_is_kept(
        self, run: Callable[..., dict[str, Any]], tmp_path: Path, backups: Path
    ) -> None:
        file = tmp_path / "config.toml"
        file.write_text("theirs")
        file.chmod(0o640)

        def kept() -> list[str]:
            found = [path for path in backups.rglob(f"{file.name}.*") if path.is_file()]
            assert all(path.parent == backups / str(tmp_path).lstrip("/") for path in found)
            assert all(path.stat().st_mode & 0o777 == 0o640 for path in found)
            return sorted(path.read_text() for path in found)

        run(files={str(file): "ours"}, mode="0640")
        assert kept() == ["theirs"]
        run(files={str(file): "ours, again"}, mode="0640")
        assert kept() == ["theirs"], "what these modules wrote goes"
        file.write_text("by hand")
        run(files={str(file): "ours"}, mode="0640", check=True)
        assert kept() == ["theirs"], "a dry run keeps nothing"
        assert backups.stat().st_mode & 0o777 == 0o700

    def test_a_mode_alone_is_set_back(self, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
        file = tmp_path / "a"
        file.write_text("a")
        file.chmod(0o666)
        before = file.stat().st_ino
        assert run(files={str(file): "a"}, mode="0640")["written"] == [str(file)]
        assert (file.stat().st_mode & 0o777, file.stat().st_ino) == (0o640, before)

    def test_a_dry_run_writes_nothing_and_shows_it(
        self, run: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        (tmp_path / "a").write_text("old")
        told = run(
            check=True,
            folders={f"{tmp_path}/d": {"mode": "0700"}},
            files={f"{tmp_path}/a": "new", f"{tmp_path}/e/b": {"content": "x", "validate": "false %s"}},
        )
        assert told["written"] == [f"{tmp_path}/d", f"{tmp_path}/a", f"{tmp_path}/e/b"]
        assert [(one["before"], one["after"]) for one in told["diff"]] == [("old", "new"), ("", "x")]
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_text() == "old"

    def test_what_is_refused_stays_as_it_was(
        self, run: Callable[..., dict[str, Any]], tmp_path: Path
    ) -> None:
        paths = [f"{tmp_path}/{name}" for name in "abc"]
        for path in paths:
            Path(path).write_text("old")
        judge = "sh -c 'grep -q good $0 || { echo $0 line 1 >&2; exit 3; }' %s"
        told = run(
            files={
                paths[0]: {"content": "good", "validate": judge},
                paths[1]: {"content": "bad", "validate": judge},
                paths[2]: "new",
            }
        )
        assert told["failed"]
        assert f"{paths[1]} line 1" in told["msg"]
        assert told["written"] == paths[:1]
        assert [Path(path).read_text() for path in paths] == ["good", "old", "old"]
        assert len(list(tmp_path.iterdir())) == 3

    @pytest.mark.parametrize(
        ("params", "words"),
        [
            ({"files": {"a": "x"}}, "a: expected an absolute path"),
            ({"files": {"/a": {"mode": "0644"}}}, "/a: content: expected a text"),
            ({"files": {"/a": {"content": "x", "state": "absent"}}}, "/a: state not known"),
            ({"files": {"/a": {"content": "x", "validate": "true"}}}, "with %s for the file"),
            ({"folders": {"/a": {"content": "x"}}}, "/a: content not known"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(
        self, run: Callable[..., dict[str, Any]], params: dict[str, Any], words: str
    ) -> None:
        told = run(**params)
        assert told["failed"]
        assert words in told["msg"]


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


def key(seed: int) -> tuple[bytes, str]:
    """A version 4 primary key packet with a subkey and a user id, and its fingerprint."""
    body = b"\x04" + struct.pack(">IB", 1700000000 + seed, 22) + bytes([seed]) * 40
    fingerprint = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()
    return packet(6, body) + packet(13, b"someone") + packet(14, body[::-1]), fingerprint


def disks(free: int, size: int = 252_000_000_000) -> dict[str, dict[str, Any]]:
    return {name: {"path": f"/var/lib/{name}", "free": free, "size": size} for name in ("nodefs", "imagefs")}


class TestShortDisks:
    def test_the_kubelets_own_thresholds_are_shares(self) -> None:
        assert short_disks(disks(40_000_000_000), {}) == []
        (line,) = short_disks(disks(30_000_000_000), {})
        assert "30.00 GB of 252.00 GB are free at /var/lib/imagefs" in line
        assert "below 37.80 GB (imagefs.available 15%)" in line
        assert "free disk on this host" in line and "kubernetes_node_eviction_hard" in line
        assert len(short_disks(disks(20_000_000_000), {})) == 2

    def test_a_signal_that_is_not_named_keeps_its_share(self) -> None:
        (line,) = short_disks(disks(2_000_000_000), {"imagefs.available": "1Gi"})
        assert "nodefs.available 10%" in line

    def test_absolute_thresholds_take_their_place(self) -> None:
        asked = {"memory.available": "100Mi", "imagefs.available": "1Gi", "nodefs.available": "0%"}
        assert short_disks(disks(2_000_000_000), asked) == []
        (line,) = short_disks(disks(1_000_000_000), asked)
        assert "below 1.07 GB (imagefs.available 1Gi)" in line

    @pytest.mark.parametrize(
        ("threshold", "floor"),
        [
            ("1000", 1000),
            ("1.5k", 1500),
            ("2Mi", 2 << 20),
            ("1G", 10**9),
            ("12.5%", 31_500_000_000),
        ],
    )
    def test_quantities(self, threshold: str, floor: int) -> None:
        asked = {"imagefs.available": "0%", "nodefs.available": threshold}
        assert short_disks(disks(floor), asked) == []
        assert len(short_disks(disks(floor - 1), asked)) == 1

    @pytest.mark.parametrize("off", ["0%", "100%"])
    def test_what_the_kubelet_takes_for_none(self, off: str) -> None:
        assert short_disks(disks(0), {"imagefs.available": off, "nodefs.available": off}) == []

    @pytest.mark.parametrize("threshold", ["", "much", "1 Gi", "-1Gi", "1GB", "%"])
    def test_a_threshold_that_is_none_is_told(self, threshold: str) -> None:
        (line,) = short_disks(disks(10**12), {"nodefs.available": threshold})
        assert line.startswith(f"kubernetes_node_eviction_hard: nodefs.available is {threshold};")

    def test_what_is_no_disk_is_left_to_the_kubelet(self) -> None:
        assert short_disks(disks(10**12), {"nodefs.inodesFree": "5%", "pid.available": "100"}) == []


class TestClashingNetworks:
    NETWORKS: ClassVar = {"pods": "10.244.0.0/16,fd00:10:244::/56", "services": "10.96.0.0/12"}

    @staticmethod
    def host(address: str, prefix: str = "24", *, joined: bool = False) -> dict[str, Any]:
        card = {"ipv4": {"address": address, "prefix": prefix}}
        return {"interfaces": ["eth0"], "eth0": card, "slipway_host": {"joined": joined}}

    @pytest.mark.parametrize(
        ("address", "prefix", "clashes"),
        [
            ("10.0.2.15", "24", []),
            ("10.245.0.1", "16", []),
            ("10.244.200.3", "24", ["pods"]),
            ("10.240.1.1", "12", ["pods"]),  # it reaches into it from outside
            ("10.111.255.1", "32", ["services"]),
            ("10.1.2.3", "8", ["pods", "services"]),
        ],
    )
    def test_a_network_that_reaches_into_another(self, address: str, prefix: str, clashes: list[str]) -> None:
        said = clashing_networks({"w": self.host(address, prefix)}, self.NETWORKS)
        assert [line.partition(":")[0] for line in said] == clashes
        assert all("the network of host w" in line for line in said)

    def test_every_host_is_told_and_a_node_keeps_what_it_has(self) -> None:
        hosts = {
            "a": self.host("10.244.1.1"),
            "b": self.host("10.244.2.2"),
            "node": self.host("10.244.3.3", joined=True),
            "no card": {"interfaces": [], "slipway_host": {"joined": False}},
            "no facts": {},
        }
        said = clashing_networks(hosts, self.NETWORKS)
        assert [line for line in said if "10.244.0.0/16 overlaps" in line] == said
        assert ["host a;" in said[0], "host b;" in said[1], len(said)] == [True, True, 2]

    @pytest.mark.parametrize("value", ["", "10.244.0.0", "10.244.0.1/16", "10.244.0.0/33", "pods"])
    def test_a_value_that_is_not_a_network(self, value: str) -> None:
        said = clashing_networks({}, {"pods": value})
        if value == "10.244.0.0":  # one address
            assert said == []
        else:
            assert said == [f"pods is {value}; expected a network, 10.244.0.0/16 for example"]


class TestOpenpgp:
    def test_the_pinned_key_is_accepted_binary_and_armored(self) -> None:
        data, fingerprint = key(1)
        assert openpgp.problem(data, fingerprint) == ""
        assert openpgp.problem(openpgp.armor(data), fingerprint) == ""

    def test_armor_with_headers_and_checksum(self) -> None:
        data, fingerprint = key(2)
        text = base64.b64encode(data).decode()
        armored = f"{openpgp.BEGIN}\nVersion: GnuPG v2\n\n{text}\n=AAAA\n{openpgp.END}\n"
        assert openpgp.problem(armored.encode(), fingerprint) == ""

    def test_the_sample_key_of_rfc_9580(self) -> None:
        """Appendix A.1, with the fingerprint printed there."""
        text = "xjMEU/NfCxYJKwYBBAHaRw8BAQdAPwmJlL3ZFu1AUxl5NOSofIBzOhKA1i+AEJkuQ+47JAY="
        found = openpgp.primary_fingerprints(base64.b64decode(text))
        assert found == ["C959BDBAFA32A2F89A153B678CFDE12197965A9A"]

    def test_another_key_is_refused_by_both_names(self) -> None:
        data, fingerprint = key(1)
        other = key(3)[1]
        assert other in openpgp.problem(data, other) and fingerprint in openpgp.problem(data, other)

    def test_a_second_key_slipped_in_is_refused(self) -> None:
        (one, fingerprint), (two, second) = key(1), key(4)
        assert second in openpgp.problem(one + two, fingerprint)

    @pytest.mark.parametrize("data", [b"", b"<html>proxy</html>", b"\xc6\xff\x00\x00", b"-----BEGIN PGP"])
    def test_what_is_no_key_says_so(self, data: bytes) -> None:
        assert "is not an OpenPGP public key" in openpgp.problem(data, "0" * 40)

    def test_a_cut_key_is_refused(self) -> None:
        primary = packet(6, b"\x04" + bytes(45))
        fingerprint = openpgp.primary_fingerprints(primary)[0]
        assert openpgp.problem(primary, fingerprint) == ""
        for end in range(len(primary)):
            assert "is not an OpenPGP public key" in openpgp.problem(primary[:end], fingerprint), end


CREATED = 1700000000
DAY = 24 * 60 * 60


def signature(key_id: bytes, made: int, life: int | None, kind: int = 0x13) -> bytes:
    """A version 4 self-signature; its issuer is in the part that is not signed, as gpg 1 wrote it."""

    def subpacket(of: int, content: bytes) -> bytes:
        return bytes([len(content) + 1, of]) + content

    signed = subpacket(2, made.to_bytes(4, "big"))
    signed += subpacket(0x80 | 9, life.to_bytes(4, "big")) if life is not None else b""
    plain = subpacket(16, key_id)
    body = bytes([4, kind, 22, 8]) + len(signed).to_bytes(2, "big") + signed
    return packet(2, body + len(plain).to_bytes(2, "big") + plain + b"\x12\x34" + bytes(64))


def ending(*lives: int | None) -> tuple[bytes, str]:
    """A key of `key(0)` that says one time after the other how many seconds it lives."""
    data, fingerprint = key(0)
    number = bytes.fromhex(fingerprint)[-8:]
    said = [signature(number, CREATED + place, life) for place, life in enumerate(lives)]
    return data + b"".join(said), fingerprint


class Ended(Exception):
    """How a module ended."""


class TestAKeyThatEnds:
    """A key in place is looked for anew shortly before it ends, and never lost by that."""

    def test_its_newest_word_of_itself_counts(self) -> None:
        assert openpgp.ends(ending(100, 300, 200)[0]) == CREATED + 200
        assert openpgp.ends(ending(100, None)[0]) == openpgp.ends(key(0)[0]) == float("inf")

    def test_others_words_and_those_about_subkeys_do_not(self) -> None:
        data, fingerprint = ending(100)
        number = bytes.fromhex(fingerprint)[-8:]
        others = signature(b"somebody", CREATED + 9, 7) + signature(number, CREATED + 9, 8, kind=0x18)
        assert openpgp.ends(data + others) == CREATED + 100

    @pytest.mark.parametrize(
        ("life", "offered", "changed", "warned"),
        [
            (40, None, False, ""),  # long enough: nobody is asked
            (20, 400, True, ""),
            (-5, 400, True, ""),
            (20, 25, True, "ends on 2026-09-04, in 25 days; after that apt reads nothing new from it"),
            (20, 20, False, "ends on 2026-08-30, in 20 days; after that apt reads nothing new from it"),
            (
                -5,
                -5,
                False,
                "ended on 2026-08-05; apt reads nothing new from it, and what is installed goes on",
            ),
            (20, None, False, "cannot be fetched"),
        ],
    )
    def test_what_becomes_of_the_one_in_place(
        self, apt: Any, life: int, offered: int | None, changed: bool, warned: str
    ) -> None:
        keeper, warnings = apt(offered)
        held = openpgp.armor(ending((1000 + life) * DAY)[0])
        wanted = openpgp.armor(ending((1000 + (offered or 0)) * DAY)[0]) if changed else held
        assert keeper.key(held) == wanted
        assert (warned in warnings[0]) if warned else warnings == []

    @pytest.mark.parametrize(
        ("offered", "kind", "told"),
        [
            (
                -101,
                "ended",
                "ended on 2026-05-01: apt trusts nothing that is signed with it\n  where: https://k, finger",
            ),
            (
                None,
                "unreachable",
                "cannot be fetched\n  where: https://k\n  no answer\n  what to do: see that this host",
            ),
        ],
    )
    def test_a_first_key_that_is_of_no_use(self, apt: Any, offered: int | None, kind: str, told: str) -> None:
        keeper, _ = apt(offered)
        with pytest.raises(apt_source.Refused) as caught:
            keeper.key(b"")
        assert caught.value.kind == kind and told in str(caught.value)
        if kind == "ended":
            assert str(caught.value).endswith("what to do: ask them")

    def test_another_key_is_told_apart_from_no_key(self, apt: Any) -> None:
        for data, kind in ((key(7)[0], "other-key"), (b"<html>log in</html>", "no-key")):
            keeper, _ = apt(data)
            with pytest.raises(apt_source.Refused) as caught:
                keeper.key(b"")
            assert caught.value.kind == kind and "nothing was trusted" in str(caught.value)

    def test_a_dry_run_asks_nobody_unless_that_is_what_somebody_wants_to_know(self, apt: Any) -> None:
        assert apt(None, check=True)[0].key(b"") == b""
        with pytest.raises(apt_source.Refused):
            apt(None, check=True, required=False)[0].key(b"")

    @pytest.fixture
    def apt(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Makes what does a call's work, 1000 days after the keys were made: offered is what the address gives,
        a key that ends so many days from then, no answer, or bytes."""
        monkeypatch.setattr(apt_source.time, "time", lambda: CREATED + 1000 * DAY)
        monkeypatch.setattr(apt_source.time, "sleep", lambda _seconds: None)

        def make(
            offered: int | bytes | None, *, check: bool = False, required: bool = True
        ) -> tuple[Any, list[str]]:
            warnings: list[str] = []

            def fetch(*_: object, **__: object) -> tuple[io.BytesIO | None, dict[str, object]]:
                if offered is None:
                    return None, {"status": -1, "msg": "no answer"}
                data = offered if isinstance(offered, bytes) else ending((1000 + offered) * DAY)[0]
                return io.BytesIO(data), {"status": 200}

            class Module:
                params: ClassVar[dict[str, Any]] = {
                    "name": "k",
                    "uri": "https://k",
                    "suites": "stable",
                    "components": [],
                    "architectures": [],
                    "fingerprint": key(0)[1],
                    "key_url": "https://k",
                    "key": None,
                    "timeout": 1,
                    "retries": 2,
                    "renew_days": 30,
                    "ended": "ask them",
                    "required": required,
                }
                check_mode = check
                warn = staticmethod(warnings.append)

            monkeypatch.setattr(apt_source, "fetch_url", fetch)
            return apt_source.Keeper(Module()), warnings

        return make


class TestAptSource:
    """What apt says, and what it calls its files. Every text was printed by apt 2.6 (gpgv) or 3.0 (sqv)."""

    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            (
                "ended",
                "The following signatures were invalid: EXPKEYSIG 71622D9E8BF31EB7 Stand-in <nobody@example.org>",
            ),
            (
                "ended",
                "Signing key on DD48B49F is bad: The primary key is not live   because: Expired on 2026-11-17T01:33:55Z",
            ),
            (
                "wrongly-signed",
                "couldn't be verified because the public key is not available: NO_PUBKEY D84FA17101828821",
            ),
            (
                "wrongly-signed",
                "error message is: Missing key 385A49F4, which is needed to verify signature.",
            ),
            ("wrongly-signed", "The following signatures were invalid: BADSIG A39CAC236E7D15EA Stand-in"),
            (
                "wrongly-signed",
                "error message is: Verifying signature:            Message has been manipulated",
            ),
            (
                "truncated",
                "Splitting up /var/lib/apt/lists/partial/x_InRelease into data and signature failed",
            ),
            ("unsigned", ""),
        ],
    )
    def test_of_what_is_not_verified_apt_also_says_that_it_is_not_signed(self, kind: str, said: str) -> None:
        first = f"W: GPG error: http://x stable InRelease: {said}\n" if said else ""
        assert (
            apt_source.meaning(f"{first}E: The repository 'http://x stable InRelease' is not signed.") == kind
        )

    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            ("truncated", "E: Failed to fetch http://x/Packages.gz  Hash Sum mismatch"),
            (
                "truncated",
                "E: Failed to fetch http://x/Packages.gz  File has unexpected size (106 != 212). Mirror sync in progress?",
            ),
            (
                "absent",
                "Err:2 http://x s Release\n  404  Not Found [IP: 1.2.3.4 80]\nE: The repository 'http://x s Release' does not have a Release file.",
            ),
            (
                "unreachable",
                "W: Failed to fetch http://x/dists/s/InRelease  Could not connect to x:80 (1.2.3.4). - connect (111: Connection refused)",
            ),
            ("unreachable", "W: Failed to fetch http://x/dists/s/InRelease  Temporary failure resolving 'x'"),
            (
                "unreachable",
                "E: Failed to fetch http://x/dists/s/InRelease  503  Service Unavailable [IP: 1.2.3.4 80]",
            ),
            (
                "outdated",
                "E: Release file for http://x/dists/s/InRelease is expired (invalid since 3d 2h). Updates for this repository will not be applied.",
            ),
            ("busy", "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)"),
            ("unknown", "E: something new"),
        ],
    )
    def test_what_else_apt_says(self, kind: str, said: str) -> None:
        assert apt_source.meaning(said) == kind
        source = apt_source.Source("n", "http://x", "s", "AB")
        refused = source.refusal(said)
        assert refused.kind == kind and "\n  where: http://x s\n" in str(refused)
        assert str(refused).rpartition("\n  what to do: ")[2]

    def test_the_names_of_lists(self) -> None:
        name = apt_source.list_name
        assert name("https://storage.googleapis.com/tensorflow-serving-apt/dists/stable/") == (
            "storage.googleapis.com_tensorflow-serving-apt_dists_stable_"
        )
        assert name("https://pkgs.k8s.io/core:/stable:/v1.36/deb/") == "pkgs.k8s.io_core:_stable:_v1.36_deb_"
        assert name("http://bob:pass@x/a_b~c/") == "x_a%5fb%7ec_"
        assert name("file:///srv/x/") == "_srv_x_"

    def test_the_age_of_the_lists_stays(self, tmp_path: Path) -> None:
        lists, stamp = tmp_path / "lists", tmp_path / "stamp"
        lists.mkdir()
        os.utime(lists, (1000, 1000))
        with apt_source.age_kept(lists), apt_source.age_kept(stamp):
            (lists / "new").touch()
            stamp.touch()
        assert lists.stat().st_mtime == 1000 and not stamp.exists()


class TestAptEntries:
    """What an earlier setup left of one repository goes, and nothing else."""

    OURS = apt_entries.Repository("https://x.org/apt", frozenset({"stable"}))

    def test_lines(self) -> None:
        kept = (
            "# deb http://x.org/apt stable one\n"
            "deb http://mirror.example/debian trixie main\n"
            "deb http://x.org/apt-other stable one\n"
        )
        goes = (
            "deb http://x.org/apt/ stable one two\n"
            "deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://x.org/apt stable one\n"
            "deb-src   https://x.org/apt\tstable one\n"
        )
        rest = apt_entries.without_lines(goes + kept, self.OURS)
        assert rest.text == kept and len(rest.removed) == 3
        assert rest.keyrings == ["/usr/share/keyrings/x.gpg"] and not rest.relies and not rest.empty
        assert apt_entries.without_lines(goes, self.OURS).empty

    def test_another_suite_stays_and_keeps_what_it_relies_on(self) -> None:
        text = "deb [arch=amd64] https://x.org/apt testing one\n"
        rest = apt_entries.without_lines(text, self.OURS)
        assert rest.text == text and rest.removed == [] and rest.relies
        named = "deb [signed-by=/k.gpg] https://x.org/apt testing one\n"
        assert not apt_entries.without_lines(named, self.OURS).relies

    def test_paragraphs(self) -> None:
        other = "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n"
        ours = "# theirs\nTypes: deb\nURIs: http://x.org/apt/\nSuites: stable\nSigned-By: /etc/apt/keyrings/x.gpg\n"
        rest = apt_entries.without_paragraphs(f"{other}\n{ours}\n{other}", self.OURS)
        assert rest.text == f"{other}\n{other}"
        assert rest.removed == ["deb http://x.org/apt/ stable"]
        assert rest.keyrings == ["/etc/apt/keyrings/x.gpg"]
        assert apt_entries.without_paragraphs(ours, self.OURS).empty

    def test_what_a_paragraph_has_beside_stays(self) -> None:
        text = (
            "Types: deb\nURIs: https://x.org/apt https://y.org/apt\nSuites: stable testing\nComponents: one\n"
        )
        rest = apt_entries.without_paragraphs(text, self.OURS)
        assert rest.text == text.replace("https://x.org/apt ", "")
        alone = text.replace(" https://y.org/apt", "")
        rest = apt_entries.without_paragraphs(alone, self.OURS)
        assert rest.text == alone.replace("stable testing", "testing") and rest.relies

    def test_what_is_switched_off_or_of_others_stays(self) -> None:
        for text in (
            "Types: deb\nURIs: https://x.org/apt\nSuites: stable\nEnabled: no\n",
            "Types: deb\nURIs: https://y.org/apt\nSuites: stable\n\n\n\nTypes: deb\n",
        ):
            rest = apt_entries.without_paragraphs(text, self.OURS)
            assert rest.text == text and rest.removed == []

    def test_a_key_inside_a_paragraph_is_no_file(self) -> None:
        text = (
            "Types: deb\nURIs: https://x.org/apt\nSuites: stable\nSigned-By:\n"
            " -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n /abc=\n -----END PGP PUBLIC KEY BLOCK-----\n"
        )
        rest = apt_entries.without_paragraphs(text, self.OURS)
        assert rest.empty and rest.keyrings == []


class TestLeftovers:
    """On a host somebody set up by older instructions."""

    @pytest.fixture
    def keeper(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(apt_source, "APT", tmp_path / "apt")
        monkeypatch.setattr(apt_source, "DPKG_INFO", tmp_path / "info")
        for folder in ("apt/sources.list.d", "apt/trusted.gpg.d", "info"):
            (tmp_path / folder).mkdir(parents=True)

        class Module:
            check_mode = False
            params: ClassVar = {
                "name": "x",
                "uri": "https://x.org/apt",
                "suites": "stable",
                "components": [],
                "architectures": [],
                "fingerprint": key(1)[1],
                "ended": "",
            }

        return apt_source.Keeper(Module())

    def test_the_key_goes_from_where_it_is_trusted_for_everything(self, keeper: Any, tmp_path: Path) -> None:
        (ours, _), (theirs, _) = key(1), key(2)
        trusted = tmp_path / "apt/trusted.gpg"
        trusted.write_bytes(theirs + ours + theirs)
        alone = tmp_path / "apt/trusted.gpg.d/x.asc"
        alone.write_bytes(openpgp.armor(ours))
        (tmp_path / "apt/trusted.gpg.d/theirs.gpg").write_bytes(theirs)
        (tmp_path / "apt/trusted.gpg.d/noise.gpg").write_bytes(b"noise")
        assert keeper.leftovers() == {trusted: theirs + theirs, alone: None}
        (tmp_path / "apt/sources.list").write_text("deb https://x.org/apt testing one\n")
        assert keeper.leftovers() == {}, "another suite relies on it"

    def test_a_keyring_goes_with_the_last_that_names_it(self, keeper: Any, tmp_path: Path) -> None:
        ring = tmp_path / "ring.gpg"
        ring.write_bytes(key(1)[0])
        line = f"deb [signed-by={ring}] https://x.org/apt stable one\n"
        listed = tmp_path / "apt/sources.list.d/x.list"
        listed.write_text(line)
        assert keeper.leftovers() == {listed: None, ring: None}
        assert f"{ring}: key {key(1)[1]}" in keeper.removed
        (tmp_path / "apt/sources.list.d/y.list").write_text(line.replace("x.org", "y.org"))
        assert keeper.leftovers() == {listed: None}
        (tmp_path / "apt/sources.list.d/y.list").unlink()
        (tmp_path / "info/ring.list").write_text(f"/.\n{ring}\n")
        assert keeper.leftovers() == {listed: None}, "it came with a package"

    def test_sources_list_itself_stays(self, keeper: Any, tmp_path: Path) -> None:
        path = tmp_path / "apt/sources.list"
        path.write_text("deb https://x.org/apt stable one\n")
        assert keeper.leftovers() == {path: ""}


class TestArmoredKey:
    def test_binary_and_armored(self, tmp_path: Path) -> None:
        data, fingerprint = key(1)
        for content in (data, openpgp.armor(data)):
            (tmp_path / "k").write_bytes(content)
            assert openpgp.problem(armored_key(str(tmp_path / "k")).encode(), fingerprint) == ""

    def test_what_is_no_key_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(AnsibleFilterError, match="/none is not an OpenPGP key that can be read"):
            armored_key("/none")


class TestLockedWheels:
    LOCK = (
        "grpcio==1.85.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:cc\n"
        "numpy==2.5.5 ; python_full_version >= '3.12' \\\n    --hash=sha256:dd\n"
        "tensorflow==2.21.0 ; platform_machine != 'x86_64' \\\n    --hash=sha256:ee\n"
        "tensorflow-cpu==2.21.0 ; platform_machine == 'x86_64' \\\n    --hash=sha256:ff\n"
        "other==1 \\\n    --hash=sha256:00\n"
    )
    NAMES = ("grpcio", "numpy", "tensorflow", "tensorflow-cpu")

    def test_what_a_host_needs_and_what_of_it_is_here(self, tmp_path: Path) -> None:
        for name in (
            "grpcio-1.85.1-cp313-cp313-manylinux2014_x86_64.whl",
            "numpy-2.5.5-cp311-cp311-manylinux_2_28_x86_64.whl",
            "tensorflow_cpu-2.21.0-cp313-cp313-manylinux_2_27_x86_64.whl",
            "slipway_client-0.9.0-py3-none-any.whl",
            "slipway_client-0.10.0-py3-none-any.whl",
            "noise.whl",
        ):
            (tmp_path / name).write_bytes(name.encode())
        host = {"python": "3.13", "architecture": "x86_64"}
        found = locked_wheels(
            self.LOCK, self.NAMES, ["slipway-client", "slipway-model-server"], str(tmp_path), host
        )
        digest = hashlib.sha256(b"slipway_client-0.10.0-py3-none-any.whl").hexdigest()
        assert found["requirements"] == (
            "# Python 3.13\n"
            "grpcio==1.85.1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
            "numpy==2.5.5 \\\n    --hash=sha256:dd\n"
            "tensorflow-cpu==2.21.0 \\\n    --hash=sha256:ff\n"
            f"slipway-client==0.10.0 \\\n    --hash=sha256:{digest}\n"
        )
        assert found["lacking"] == ["numpy==2.5.5"], "that wheel is for another Python"
        assert found["lacking_products"] == ["slipway-model-server"]
        assert [Path(path).name.partition("-")[0] for path in found["files"]] == [
            "grpcio",
            "tensorflow_cpu",
            "slipway_client",
        ]

    @pytest.mark.parametrize(
        ("python", "architecture", "numpy", "runtime"),
        [("3.11", "x86_64", "2.4.6", "tensorflow-cpu"), ("3.12", "aarch64", "2.5.5", "tensorflow")],
    )
    def test_markers(self, python: str, architecture: str, numpy: str, runtime: str) -> None:
        found = locked_wheels(self.LOCK, self.NAMES, [], "", {"python": python, "architecture": architecture})
        assert found["lacking"] == ["grpcio==1.85.1", f"numpy=={numpy}", f"{runtime}==2.21.0"]

    def test_the_roles_lock_pins_what_the_image_has(self) -> None:
        """And beside it what an older Python than the image's needs."""
        root = PLUGINS.parents[5]
        lock = (PLUGINS.parent / "roles/model_server/files/requirements.lock").read_text()
        image = (root / "infra/slipway/image/requirements.lock").read_text()
        names = {line.partition("==")[0] for line in image.splitlines() if "==" in line}
        for architecture in ("x86_64", "aarch64"):
            host = {"python": "3.13", "architecture": architecture}
            mine, theirs = (locked_wheels(text, names, [], "", host) for text in (lock, image))
            assert mine["requirements"] == theirs["requirements"]


class TestControllerFolder:
    def test_every_file_below_it(self, tmp_path: Path) -> None:
        (tmp_path / "a/b").mkdir(parents=True)
        (tmp_path / "a/b/.c").write_bytes(b"x")
        assert controller_folder(str(tmp_path)) == {"a/b/.c": hashlib.sha256(b"x").hexdigest()}
        assert controller_folder("/none") == {}


class TestContainerdImages:
    LISTING = (
        "REF TYPE DIGEST SIZE PLATFORMS LABELS\n"
        "registry.k8s.io/pause:3.10.2 application/x sha256:aa 1.0 MiB linux/amd64 "
        "io.cri-containerd.image=managed,io.cri-containerd.pinned=pinned\n"
        "registry.k8s.io/etcd:3 application/x sha256:bb 1.0 MiB linux/amd64 io.cri-containerd.image=managed\n"
    )

    def test_missing(self) -> None:
        there = containerd_images.present(self.LISTING)
        missing = containerd_images.missing
        assert missing({"registry.k8s.io/pause:3.10.2": "sha256:aa"}, there) == []
        assert missing({"registry.k8s.io/pause:3.10.2": ""}, there) == []
        assert missing({"registry.k8s.io/pause:3.10.2": "sha256:cc"}, there) == [
            "registry.k8s.io/pause:3.10.2"
        ]
        assert missing({"registry.k8s.io/etcd:3": "sha256:bb"}, there) == ["registry.k8s.io/etcd:3"], (
            "unpinned"
        )
        assert missing({"new:1": "sha256:dd"}, there) == ["new:1"]


class TestArchiveImages:
    @staticmethod
    def archive(path: Path, **members: Any) -> str:
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                data = json.dumps(content).encode()
                info = tarfile.TarInfo(f"{name}.json")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return str(path)

    def test_oci(self, tmp_path: Path) -> None:
        index = {"manifests": [{"digest": "sha256:aa", "annotations": {"io.containerd.image.name": "a:1"}}]}
        path = self.archive(tmp_path / "x.tar", index=index, manifest=[{"RepoTags": ["a:1"]}])
        assert archive_images(path) == {"a:1": "sha256:aa"}

    def test_docker(self, tmp_path: Path) -> None:
        path = self.archive(tmp_path / "x.tar", manifest=[{"RepoTags": ["a:1", "a:2"]}, {"RepoTags": None}])
        assert archive_images(path) == {"a:1": "", "a:2": ""}

    def test_what_is_no_archive_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("no tar")
        for path in (tmp_path / "text", tmp_path / "none"):
            with pytest.raises(AnsibleFilterError, match="not an image archive"):
                archive_images(str(path))
        with pytest.raises(AnsibleFilterError, match="names no image"):
            archive_images(self.archive(tmp_path / "y.tar", other={}))


def test_chains_go_and_other_rules_stay() -> None:
    saved = (
        "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FORWARD - [0:0]\n:DOCKER - [0:0]\n:FLANNEL-FWD - [0:0]\n"
        '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD\n'
        "-A FORWARD -j DOCKER\n-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n"
        "-A INPUT -j MY-KUBE-LIKE\n-A FORWARD ! -o cni0 -i eth0 -j ACCEPT\n-A INPUT -i cni01 -j ACCEPT\nCOMMIT\n"
    )
    left, count = netfilter_chains.without(saved, ["KUBE-", "FLANNEL-"], ["cni0"])
    assert (
        left
        == "*filter\n:INPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n-A FORWARD -j DOCKER\n-A INPUT -j MY-KUBE-LIKE\n"
        "-A INPUT -i cni01 -j ACCEPT\nCOMMIT\n"
    )
    assert count == 5


class TestWaitingNodes:
    @staticmethod
    def node(name: str, **conditions: str) -> dict[str, Any]:
        listed = [
            {"type": kind, "status": status, "message": f"{kind} is {status}"}
            for kind, status in conditions.items()
        ]
        return {"kind": "Node", "metadata": {"name": name}, "status": {"conditions": listed}}

    def test_ready(self) -> None:
        said = answer(self.node("a", Ready="True", NetworkUnavailable="False"), {"kind": "ConfigMap"})
        assert waiting_nodes(said) == []

    def test_reasons(self) -> None:
        said = answer(self.node("a", Ready="False", NetworkUnavailable="False"), self.node("b", Ready="True"))
        assert waiting_nodes(said) == ["a: Ready: Ready is False", "b: NetworkUnavailable: not reported yet"]
        assert waiting_nodes(said, "b") == ["b: NetworkUnavailable: not reported yet"]


class TestWaitingPods:
    @staticmethod
    def pod(name: str, node: str, phase: str, ready: str | None) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": ready, "message": "containers with unready status"}]
        return {
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"nodeName": node},
            "status": {"phase": phase, "conditions": conditions if ready else []},
        }

    def test_only_pods_that_are_not_ready_and_not_done(self) -> None:
        said = answer(
            self.pod("good", "a", "Running", "True"),
            self.pod("done", "a", "Succeeded", "False"),
            self.pod("slow", "a", "Running", "False"),
            self.pod("new", "b", "Pending", None),
            {"kind": "Service", "metadata": {"name": "kube-dns"}},
        )
        assert waiting_pods(said) == ["slow: containers with unready status", "new: Pending"]
        assert waiting_pods(said, "b") == ["new: Pending"]

    def test_one_that_no_node_takes_says_why(self) -> None:
        pod = self.pod("stays", "", "Pending", None)
        why = "0/2 nodes are available: 2 node(s) were unschedulable."
        pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "message": why}]
        assert waiting_pods(answer(pod)) == [f"stays: {why}"]


class TestKubeletRequests:
    """What is approved gives its holder the right to be taken for that name: each thing is wrong once."""

    OWN: ClassVar[list[x509.GeneralName]] = [
        x509.DNSName("worker-1"),
        x509.IPAddress(ipaddress.ip_address("10.77.0.3")),
    ]

    @staticmethod
    def signed(
        names: list[x509.GeneralName],
        common: str = "system:node:worker-1",
        organization: str = "system:nodes",
    ) -> bytes:
        subject = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
        asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
        if names:
            asked = asked.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = asked.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def request(
        cls, name: str = "csr-1", *, pem: bytes | None = None, status: Any = None, **spec: Any
    ) -> Any:
        made = {
            "signerName": "kubernetes.io/kubelet-serving",
            "username": "system:node:worker-1",
            "groups": ["system:nodes", "system:authenticated"],
            "usages": ["digital signature", "server auth"],
            "request": base64.b64encode(pem or cls.signed(cls.OWN)).decode(),
        }
        return {"metadata": {"name": name}, "spec": made | spec, "status": status or {}}

    @staticmethod
    def judged(*items: Any) -> dict[str, list[str]]:
        found: dict[str, list[str]] = kubelet_requests(answer(*items), "worker-1", "10.77.0.3")
        return found

    def test_its_own_name_and_address_are_approved(self) -> None:
        old = self.request("csr-2", usages=["digital signature", "key encipherment", "server auth"])
        address = self.request("csr-3", pem=self.signed(self.OWN[1:]))
        assert self.judged(self.request(), old, address) == {
            "sound": ["csr-1", "csr-2", "csr-3"],
            "unsound": [],
        }

    def test_what_is_judged_already_or_is_no_business_of_this_node_is_passed_over(self) -> None:
        others = (
            self.request(status={"conditions": [{"type": "Approved", "status": "True"}]}),
            self.request(status={"conditions": [{"type": "Denied", "status": "True"}]}),
            self.request(signerName="kubernetes.io/kube-apiserver-client-kubelet"),
            self.request(username="system:node:worker-2"),
            self.request(username="kubernetes-admin"),
        )
        assert self.judged(*others) == {"sound": [], "unsound": []}

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"names": [*OWN, x509.DNSName("cp")]}, "it is for cp; expected 10.77.0.3 and worker-1 alone"),
            ({"names": [x509.IPAddress(ipaddress.ip_address("10.77.0.2"))]}, "it is for 10.77.0.2; expected"),
            ({"names": [*OWN, x509.UniformResourceIdentifier("worker-1")]}, "UniformResourceIdentifier"),
            ({"names": [x509.RFC822Name("worker-1")]}, "RFC822Name"),
            ({"names": []}, "it names no host and no address"),
            ({"common": "system:node:worker-2"}, "its subject is CN=system:node:worker-2,O=system:nodes"),
            ({"organization": "system:masters"}, "its subject is CN=system:node:worker-1,O=system:masters"),
            ({"groups": ["system:authenticated"]}, "whoever made it is not in group system:nodes"),
            (
                {"usages": ["client auth", "server auth"]},
                "it is for client auth, server auth; expected server auth",
            ),
            ({"usages": ["digital signature"]}, "it is for digital signature; expected server auth"),
            ({"usages": []}, "it is for no use"),
            ({"request": base64.b64encode(b"no request").decode()}, "it cannot be read"),
            ({"request": "%"}, "it cannot be read"),
        ],
    )
    def test_what_asks_for_more_is_told_and_not_approved(self, wrong: dict[str, Any], told: str) -> None:
        made = {key: wrong.pop(key) for key in ("names", "common", "organization") if key in wrong}
        pem = self.signed(**{"names": self.OWN, **made})
        (sentence,) = self.judged(self.request(pem=pem, **wrong))["unsound"]
        assert sentence.startswith("request csr-1 of the kubelet of worker-1 is not approved: ")
        assert told in sentence

    def test_a_request_somebody_altered_is_not_approved(self) -> None:
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        point = (serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        made = x509.load_pem_x509_csr(self.signed(self.OWN))
        key = made.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        forged = made.public_bytes(serialization.Encoding.DER).replace(
            key.public_bytes(*point), other.public_bytes(*point)
        )
        pem = b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(forged)
        pem += b"-----END CERTIFICATE REQUEST-----\n"
        (sentence,) = self.judged(self.request(pem=pem))["unsound"]
        assert "it is not signed with the key that it is for" in sentence

    def test_an_address_that_is_none_is_an_error(self) -> None:
        with pytest.raises(AnsibleFilterError, match=r"cp\.lan is not an address of worker-1"):
            kubelet_requests(answer(), "worker-1", "cp.lan")
