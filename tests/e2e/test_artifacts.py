"""The modules source for real: what is built here is what kubeadm asks for, and the same each time."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from slipway.artifacts import cache, debian, from_modules, golang, kubernetes_images, oci
from slipway.artifacts.values import KUBERNETES, KubernetesArtifacts
from slipway.core import process
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State

pytestmark = pytest.mark.lab


def context(root: Path, **more: Any) -> Context:
    return Context(State(root / "state"), root / "run", root, **more)


def build(ctx: Context) -> KubernetesArtifacts:
    made = from_modules.kubernetes(ctx, Settings(), network=True)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> KubernetesArtifacts:
    """From this machine's cache, which a fresh machine fills here."""
    return build(context(tmp_path_factory.mktemp("artifacts")))


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("kubelet", ["--version"]),
        ("kubeadm", ["version", "-o", "short"]),
        ("kubectl", ["version", "--client", "-o", "json"]),
    ],
)
def test_programs_report_their_version(
    built: KubernetesArtifacts, program: str, arguments: list[str]
) -> None:
    said = process.run([built.binaries / program, *arguments]).stdout
    if program == "kubectl":
        version = json.loads(said)["clientVersion"]
        assert (version["gitVersion"], version["major"], version["minor"]) == (f"v{KUBERNETES}", "1", "36")
    else:
        assert said.strip().removeprefix("Kubernetes ") == f"v{KUBERNETES}"


def test_archives_hold_the_images_kubeadm_lists(built: KubernetesArtifacts) -> None:
    listed = process.run(
        [built.binaries / "kubeadm", "config", "images", "list", "--kubernetes-version", f"v{KUBERNETES}"]
    ).stdout.split()
    every_node, control_plane = (names(path) for path in built.images)
    assert sorted(every_node + control_plane) == sorted(
        [*listed, built.flannel_image, built.network_policy_image, built.metrics_server_image]
    )
    assert built.worker_images == built.images[:1]
    assert {name.rpartition("/")[2].partition(":")[0] for name in every_node} == {
        "kube-proxy",
        "coredns",
        "pause",
        "flanneld",
        "netpol",
        "metrics-server",
    }
    assert built.sandbox_image in every_node
    assert any(name.startswith("registry.k8s.io/etcd:") for name in control_plane)


def names(archive: Path) -> list[str]:
    """The images in an archive."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        return [row["RepoTags"][0] for row in json.load(manifest)]


@pytest.mark.soak
def test_second_build_gives_the_same_bytes(built: KubernetesArtifacts, tmp_path: Path) -> None:
    """Everything is compiled and packed anew; only the Debian root is taken over, for its mirror moves on."""
    ctx = context(tmp_path, cache=tmp_path / "cache")
    root = cache.only(sorted(built.binaries.parent.parent.glob("node-root-*")), "Debian root", built.binaries)
    shutil.copytree(root, cache.home(ctx) / root.name)
    again = build(ctx)
    assert again.binaries != built.binaries
    for one, other in zip(files(built), files(again), strict=True):
        assert cache.sha256_of(one) == cache.sha256_of(other), one.name


def files(artifacts: KubernetesArtifacts) -> list[Path]:
    return [*sorted(artifacts.binaries.iterdir()), *artifacts.images]


def debian_root(tmp_path: Path, name: str) -> Path:
    root = tmp_path / name
    debian.root(
        context(tmp_path, cache=tmp_path / "cache"),
        Settings(),
        ("catatonit", "iptables"),
        root,
        epoch=oci.EPOCH,
    )
    return root


@pytest.mark.soak
def test_debian_root_is_the_same_twice(tmp_path: Path) -> None:
    one, other = (debian_root(tmp_path, name) for name in ("one.tar", "two.tar"))
    assert cache.sha256_of(one) == cache.sha256_of(other)


def test_debian_root_keeps_nothing_of_this_machine(tmp_path: Path) -> None:
    with tarfile.open(debian_root(tmp_path, "root.tar")) as tar:
        names = {name.removeprefix("./") for name in tar.getnames()}
        kept = [name for name in names if name.startswith("etc/apt/") and tar.getmember(f"./{name}").isfile()]
    assert not [name for name in kept if "mmdebstrap" in name or "sources" in name or "auth" in name]
    assert {"usr/sbin/xtables-nft-multi", "usr/sbin/xtables-legacy-multi", "usr/bin/catatonit"} <= names
    assert not [name for name in names if name.startswith("dev/")]


def test_fetched_go_is_a_whole_toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine without Go gets: the module, checked, and it compiles and runs a program."""
    monkeypatch.setattr(golang, "installed", lambda: None)
    monkeypatch.setenv("GOCACHE", str(tmp_path / "go-build"))
    ctx = context(tmp_path)  # in the cache it stays for the next run
    go = golang.ensure(ctx)
    source = tmp_path / "hello"
    source.mkdir()
    (source / "go.mod").write_text("module slipway/hello\n\ngo 1.26.0\n")
    (source / "main.go").write_text('package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n')
    golang.build(ctx, go, source, ["."], tmp_path / "program", label="hello")
    assert process.run([tmp_path / "program"]).stdout == "hello\n"
    assert process.run([go.command, "version"]).stdout.split()[2] == go.version


def test_node_images_choose_the_tables_of_the_nodes_kubelet(built: KubernetesArtifacts) -> None:
    """The wrapper scripts are in both images that write rules, before Debian's own on PATH."""
    with tarfile.open(built.worker_images[0]) as archive:
        file = archive.extractfile("manifest.json")
        assert file is not None
        docker = {row["RepoTags"][0]: row for row in json.load(file)}
        layers = {}
        for name in (f"registry.k8s.io/kube-proxy:v{KUBERNETES}", built.flannel_image):
            found: set[str] = set()
            for blob in docker[name]["Layers"]:
                data = archive.extractfile(blob)
                assert data is not None
                with tarfile.open(fileobj=data, mode="r|gz") as layer:
                    found |= {member.name.removeprefix("./") for member in layer}
            layers[name] = found
    for found in layers.values():
        for family in ("iptables", "ip6tables"):
            for suffix in ("", "-save", "-restore"):
                assert f"usr/local/sbin/{family}{suffix}" in found
                assert f"usr/sbin/{family}-nft{suffix}" in found
    assert built.images[1].name == kubernetes_images.CONTROL_PLANE
