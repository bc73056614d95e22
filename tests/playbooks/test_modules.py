"""The roles' own modules and filters, without a host."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import socket
import struct
import tarfile
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, PLAYBOOKS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


host_facts = load("library/host_facts.py")
openpgp_key = load("roles/apt_source/library/openpgp_key.py")
containerd_images = load("roles/kubernetes_node/library/containerd_images.py")
netfilter_chains = load("library/netfilter_chains.py")
dns_answer = load("roles/cni/library/dns_answer.py")
archive_images = load("roles/kubernetes_node/filter_plugins/archive_images.py").archive_images
waiting = load("roles/cni/filter_plugins/waiting.py")
waiting_nodes, waiting_pods = waiting.waiting_nodes, waiting.waiting_pods


class TestHostFacts:
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

    def test_units_that_run_and_start_at_boot(self) -> None:
        shown = (
            "Id=containerd.service\nActiveState=active\nUnitFileState=enabled\n\n"
            "Id=docker.service\nActiveState=active\nUnitFileState=disabled\n\n"
            "Id=kubelet.service\nActiveState=activating\nUnitFileState=enabled\n"
        )
        assert host_facts.running_units(shown) == ["containerd.service"]

    @pytest.mark.parametrize(
        ("release", "facts"),
        [
            ('ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n', ("Debian", "13", "trixie")),
            ('ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n', ("Ubuntu", "24", "noble")),
            ("", ("Unknown", "", "")),
        ],
    )
    def test_distribution(self, release: str, facts: tuple[str, str, str]) -> None:
        assert tuple(host_facts.distribution(release).values()) == facts

    def test_network(self) -> None:
        addresses = [
            {"ifname": "lo", "mtu": 65536, "addr_info": [{"family": "inet", "local": "127.0.0.1"}]},
            {"ifname": "eth0", "mtu": 1400, "addr_info": [{"family": "inet", "local": "10.77.2.2"}]},
            {"ifname": "cni0", "mtu": 1350, "addr_info": [{"family": "inet", "local": "10.244.0.1"}]},
            {},
        ]
        found = host_facts.network(addresses, [{"dst": "default", "gateway": "10.77.2.1", "dev": "eth0"}])
        assert found["default_ipv4"] == {"interface": "eth0", "address": "10.77.2.2", "mtu": 1400}
        assert found["all_ipv4_addresses"] == ["10.77.2.2", "10.244.0.1"]
        assert host_facts.network(addresses, [])["default_ipv4"] == {}


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


def key(seed: int) -> tuple[bytes, str]:
    """A version 4 primary key packet with a subkey and a user id, and its fingerprint."""
    body = b"\x04" + struct.pack(">IB", 1700000000 + seed, 22) + bytes([seed]) * 40
    fingerprint = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()
    return packet(6, body) + packet(13, b"someone") + packet(14, body[::-1]), fingerprint


class TestOpenpgpKey:
    def test_the_pinned_key_is_accepted_binary_and_armored(self) -> None:
        data, fingerprint = key(1)
        assert openpgp_key.problem(data, fingerprint) == ""
        assert openpgp_key.problem(openpgp_key.armor(data), fingerprint) == ""

    def test_armor_with_headers_and_checksum(self) -> None:
        data, fingerprint = key(2)
        text = base64.b64encode(data).decode()
        armored = f"{openpgp_key.BEGIN}\nVersion: GnuPG v2\n\n{text}\n=AAAA\n{openpgp_key.END}\n"
        assert openpgp_key.problem(armored.encode(), fingerprint) == ""

    def test_the_sample_key_of_rfc_9580(self) -> None:
        """Appendix A.1, with the fingerprint printed there."""
        text = "xjMEU/NfCxYJKwYBBAHaRw8BAQdAPwmJlL3ZFu1AUxl5NOSofIBzOhKA1i+AEJkuQ+47JAY="
        found = openpgp_key.primary_fingerprints(base64.b64decode(text))
        assert found == ["C959BDBAFA32A2F89A153B678CFDE12197965A9A"]

    def test_another_key_is_refused_by_both_names(self) -> None:
        data, fingerprint = key(1)
        other = key(3)[1]
        assert other in openpgp_key.problem(data, other) and fingerprint in openpgp_key.problem(data, other)

    def test_a_second_key_slipped_in_is_refused(self) -> None:
        (one, fingerprint), (two, second) = key(1), key(4)
        assert second in openpgp_key.problem(one + two, fingerprint)

    @pytest.mark.parametrize("data", [b"", b"<html>proxy</html>", b"\xc6\xff\x00\x00", b"-----BEGIN PGP"])
    def test_what_is_no_key_says_so(self, data: bytes) -> None:
        assert "is not an OpenPGP public key" in openpgp_key.problem(data, "0" * 40)

    def test_a_cut_key_is_refused(self) -> None:
        primary = packet(6, b"\x04" + bytes(45))
        fingerprint = openpgp_key.primary_fingerprints(primary)[0]
        assert openpgp_key.problem(primary, fingerprint) == ""
        for end in range(len(primary)):
            assert "is not an OpenPGP public key" in openpgp_key.problem(primary[:end], fingerprint), end


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
        items = [self.node("a", Ready="True", NetworkUnavailable="False"), {"kind": "ConfigMap"}]
        assert waiting_nodes(items) == []

    def test_reasons(self) -> None:
        items = [self.node("a", Ready="False", NetworkUnavailable="False"), self.node("b", Ready="True")]
        assert waiting_nodes(items) == ["a: Ready: Ready is False", "b: NetworkUnavailable: not reported yet"]


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
        items = [
            self.pod("good", "a", "Running", "True"),
            self.pod("done", "a", "Succeeded", "False"),
            self.pod("slow", "a", "Running", "False"),
            self.pod("new", "b", "Pending", None),
            {"kind": "Service", "metadata": {"name": "kube-dns"}},
        ]
        assert waiting_pods(items) == ["slow: containers with unready status", "new: Pending"]
        assert waiting_pods(items, "b") == ["new: Pending"]


class TestDnsAnswer:
    @staticmethod
    def serve(code: int, *addresses: str) -> int:
        """A DNS server for one question; its port."""
        wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wire.bind(("127.0.0.1", 0))

        def answer() -> None:
            with wire:
                asked, peer = wire.recvfrom(512)
                records = b"".join(
                    b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 5, 4) + socket.inet_aton(address)
                    for address in addresses
                )
                head = asked[:2] + struct.pack(">5H", 0x8180 | code, 1, len(addresses), 0, 0)
                wire.sendto(head + asked[12:] + records, peer)

        threading.Thread(target=answer, daemon=True).start()
        return int(wire.getsockname()[1])

    def test_addresses(self) -> None:
        port = self.serve(0, "10.96.0.1", "10.96.0.2")
        assert dns_answer.ask("127.0.0.1", "kubernetes.default", 1, 5, port) == ["10.96.0.1", "10.96.0.2"]

    def test_no_such_name(self) -> None:
        with pytest.raises(dns_answer.NoAnswer, match="no such name"):
            dns_answer.ask("127.0.0.1", "nowhere", 1, 5, self.serve(3))

    def test_an_empty_answer_is_none(self) -> None:
        with pytest.raises(dns_answer.NoAnswer, match="no address"):
            dns_answer.ask("127.0.0.1", "empty", 1, 5, self.serve(0))
