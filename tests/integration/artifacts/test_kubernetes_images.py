"""The images of a node: which table the iptables wrapper writes to, and what each image starts."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from slipway.artifacts import kubernetes_images
from slipway.core.errors import ArtifactError

HINT = ":KUBE-IPTABLES-HINT - [0:0]"


@pytest.fixture
def node(tmp_path: Path):
    """A folder that stands for a node's file system: iptables stand-ins say which of them was started."""
    sbin, bin_, run = (tmp_path / name for name in ("sbin", "bin", "run"))
    for folder in (sbin, bin_, run):
        folder.mkdir()
    script = (
        kubernetes_images._IPTABLES.decode()
        .replace("/usr/sbin/", f"{sbin}/")
        .replace("/run/slipway-iptables", f"{run}/slipway-iptables")
    )

    def make(*, nft_hint: bool = False, legacy_hint: bool = False, nft_works: bool = True) -> None:
        for mode, hint in (("nft", nft_hint), ("legacy", legacy_hint)):
            for family in ("iptables", "ip6tables"):
                for suffix in ("", "-save", "-restore"):
                    program = sbin / f"{family}-{mode}{suffix}"
                    works = "exit 1" if mode == "nft" and not nft_works else ""
                    table = f'[ "$1" = -t ] && echo "{HINT}"' if hint and suffix == "-save" else ":"
                    program.write_text(f'#!/bin/sh\n{works}\n{table}\necho "{program.name} $*"\n')
                    program.chmod(0o755)

    def call(name: str, *arguments: str) -> str:
        wrapper = bin_ / name
        wrapper.write_text(script)
        wrapper.chmod(0o755)
        done = subprocess.run([wrapper, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    return make, call, run / "slipway-iptables"


def test_follows_the_kubelet_to_nft(node) -> None:
    make, call, remembered = node
    make(nft_hint=True)
    assert call("iptables", "-w", "5", "-S") == "iptables-nft -w 5 -S"
    assert call("ip6tables-restore", "--noflush") == "ip6tables-nft-restore --noflush"
    assert remembered.read_text() == "nft\n"


def test_follows_the_kubelet_to_legacy(node) -> None:
    make, call, remembered = node
    make(legacy_hint=True)
    assert call("iptables-save", "-t", "nat") == "iptables-legacy-save -t nat"
    assert remembered.read_text() == "legacy\n"


def test_without_a_hint_nft_and_asks_again_next_time(node) -> None:
    make, call, remembered = node
    make()
    assert call("iptables", "-S") == "iptables-nft -S"
    assert not remembered.exists()
    make(legacy_hint=True)
    assert call("iptables", "-S") == "iptables-legacy -S"


def test_without_nft_in_the_kernel_legacy(node) -> None:
    make, call, _ = node
    make(nft_works=False)
    assert call("ip6tables", "-S") == "ip6tables-legacy -S"


def test_remembered_choice_is_kept(node) -> None:
    make, call, remembered = node
    make(nft_hint=True)
    remembered.write_text("legacy\n")
    assert call("iptables", "-S") == "iptables-legacy -S"


def root(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            info = tarfile.TarInfo(f"./{name}")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"root"))
    return path


WANTED = kubernetes_images.Wanted(
    tuple(
        f"registry.k8s.io/{name}"
        for name in (
            "kube-apiserver:v1",
            "kube-controller-manager:v1",
            "kube-scheduler:v1",
            "kube-proxy:v1",
            "coredns/coredns:v2",
            "pause:3",
            "etcd:4",
        )
    )
)


def write(tmp_path: Path, debian: Path) -> dict[str, dict[str, object]]:
    programs = {}
    for name in (
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "etcd",
        "coredns",
        "flanneld",
        "netpol",
        "metrics-server",
    ):
        programs[name] = tmp_path / name
        programs[name].write_bytes(name.encode())
    for folder in ("images", "scratch"):
        (tmp_path / folder).mkdir()
    kubernetes_images.write(
        tmp_path / "images",
        tmp_path / "scratch",
        wanted=WANTED,
        flannel="slipway.local/flanneld:v0",
        network_policy="slipway.local/netpol:v0",
        metrics_server="slipway.local/metrics-server:v0",
        programs=programs,
        root=debian,
        arch="amd64",
    )
    out: dict[str, dict[str, object]] = {}
    for path in sorted((tmp_path / "images").iterdir()):
        with tarfile.open(path) as tar:
            file = tar.extractfile("manifest.json")
            assert file is not None
            for row in json.load(file):
                config = tar.extractfile(row["Config"])
                assert config is not None
                out[row["RepoTags"][0]] = {
                    **json.load(config)["config"],
                    "archive": path.name,
                    "layers": row["Layers"],
                }
    return out


def test_each_image_starts_its_program_and_root_is_shared(tmp_path: Path) -> None:
    images = write(tmp_path, root(tmp_path / "root.tar", "usr/bin/catatonit", "usr/sbin/iptables-nft"))
    assert {name: image["Entrypoint"] for name, image in images.items()} == {
        "registry.k8s.io/kube-apiserver:v1": ["/usr/local/bin/kube-apiserver"],
        "registry.k8s.io/kube-controller-manager:v1": ["/usr/local/bin/kube-controller-manager"],
        "registry.k8s.io/kube-scheduler:v1": ["/usr/local/bin/kube-scheduler"],
        "registry.k8s.io/kube-proxy:v1": ["/usr/local/bin/kube-proxy"],
        "registry.k8s.io/coredns/coredns:v2": ["/coredns"],
        "registry.k8s.io/pause:3": ["/pause"],
        "registry.k8s.io/etcd:4": ["/usr/local/bin/etcd"],
        "slipway.local/flanneld:v0": ["/usr/local/bin/flanneld"],
        "slipway.local/netpol:v0": ["/usr/bin/netpol"],
        "slipway.local/metrics-server:v0": ["/metrics-server"],
    }
    for name in ("registry.k8s.io/coredns/coredns:v2", "slipway.local/metrics-server:v0"):
        assert images[name]["User"] == "65532:65532"
    proxy, flannel = images["registry.k8s.io/kube-proxy:v1"], images["slipway.local/flanneld:v0"]
    assert images["slipway.local/netpol:v0"]["layers"][0] == proxy["layers"][0]  # type: ignore[index]  # as below
    assert proxy["layers"][:2] == flannel["layers"][:2]  # type: ignore[index]  # lists of blob names
    assert {image["archive"] for image in images.values()} == {"control-plane.tar", "every-node.tar"}
    assert [name for name, image in images.items() if image["archive"] == "every-node.tar"] == [
        "registry.k8s.io/coredns/coredns:v2",
        "registry.k8s.io/kube-proxy:v1",
        "registry.k8s.io/pause:3",
        "slipway.local/flanneld:v0",
        "slipway.local/metrics-server:v0",
        "slipway.local/netpol:v0",
    ]


def test_what_holds_a_pod_ends_well_when_asked_for_its_version() -> None:
    script = kubernetes_images._PAUSE.decode()
    asked = subprocess.run(["sh", "-c", script, "sh", "-v"], capture_output=True, text=True, check=True)
    assert asked.stdout == "pause\n"
    told = script.replace("exec /usr/bin/catatonit", "echo")
    held = subprocess.run(["sh", "-c", told], capture_output=True, text=True, check=True)
    assert held.stdout == "-P\n"


def test_a_root_without_catatonit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no usr/bin/catatonit"):
        write(tmp_path, root(tmp_path / "root.tar", "usr/sbin/iptables-nft"))
