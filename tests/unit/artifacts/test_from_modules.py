"""The modules source: its keys, its pins, and kubeadm's list of images as the judge of them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from infra.artifacts import from_modules, from_release, kubernetes_images
from infra.artifacts.values import KUBERNETES
from infra.core.errors import ArtifactError
from infra.core.schema import Settings

LISTED = (
    "registry.k8s.io/kube-apiserver:v1.36.3",
    "registry.k8s.io/kube-proxy:v1.36.3",
    "registry.k8s.io/coredns/coredns:v1.14.2",
    "registry.k8s.io/pause:3.10.2",
    "registry.k8s.io/etcd:3.6.8-0",
)


def kubeadm(folder: Path, listed: tuple[str, ...] = LISTED) -> Path:
    """A stand-in kubeadm that lists images."""
    path = folder / "kubeadm"
    path.write_text("#!/bin/sh\n" + "".join(f"echo {name}\n" for name in listed))
    path.chmod(0o755)
    return path


def test_names_come_from_kubeadm(tmp_path: Path) -> None:
    wanted = from_modules._wanted(kubeadm(tmp_path))
    assert wanted.of("coredns") == "registry.k8s.io/coredns/coredns:v1.14.2"
    assert (wanted.tag("etcd"), wanted.tag("coredns")) == ("3.6.8-0", "v1.14.2")
    assert wanted.of("pause") == from_release.SANDBOX_IMAGE
    with pytest.raises(ArtifactError, match="no image of kube-scheduler"):
        wanted.of("kube-scheduler")


def test_a_kubeadm_that_wants_another_etcd_is_refused(tmp_path: Path) -> None:
    other = tuple(name.replace("3.6.8", "3.6.9") for name in LISTED)
    with pytest.raises(
        ArtifactError, match=r"modules/etcd is 3.6.8, but kubeadm 1.36.3 wants .*etcd:3.6.9-0"
    ):
        from_modules._wanted(kubeadm(tmp_path, other))


@pytest.mark.parametrize("tool", from_modules.TOOLS, ids=lambda tool: tool.name)
def test_versions_are_those_of_go_mod(tool: from_modules.Tool) -> None:
    text = (tool.folder / "go.mod").read_text()
    module = {
        "kubernetes": "k8s.io/kubernetes",
        "etcd": "go.etcd.io/etcd/server/v3",
        "coredns": "github.com/coredns/coredns",
        "flanneld": "github.com/flannel-io/flannel",
    }[tool.name]
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} v(\S+)", text, re.MULTILINE)
    assert found is not None
    assert found[1] == tool.version
    assert (tool.folder / "go.sum").stat().st_size > 1000


def test_flannels_image_is_named_by_its_version() -> None:
    flannel = next(tool for tool in from_modules.TOOLS if tool.name == "flanneld")
    assert from_modules.FLANNEL.endswith(f":v{flannel.version}")
    assert from_release.FLANNEL.endswith(f":v{flannel.version}")


def test_kubernetes_is_stamped_in_both_places() -> None:
    flags = from_modules.TOOLS[0].ldflags
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        assert f"-X {package}.gitVersion=v{KUBERNETES}" in flags
        assert f"-X {package}.gitMinor=36" in flags


def test_key_follows_sources_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(from_modules.HERE / "coredns", tmp_path / "coredns")
    monkeypatch.setattr(from_modules, "HERE", tmp_path)
    tool = next(tool for tool in from_modules.TOOLS if tool.name == "coredns")
    before = tool.key()
    assert tool.key() == before
    assert replace(tool, ldflags="-s").key() != before
    (tmp_path / "coredns" / "README.md").write_text("words")
    assert tool.key() == before
    for name in ("main.go", "go.sum", "go.mod"):
        text = (tmp_path / "coredns" / name).read_text()
        (tmp_path / "coredns" / name).write_text(text + "\n")
        assert tool.key() != before
        (tmp_path / "coredns" / name).write_text(text)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert tool.key() != before


def test_nothing_is_built_when_only_the_cache_is_asked(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object, **_more: object) -> None:
        raise AssertionError("must not start a program")

    monkeypatch.setattr(from_modules.process, "run", never)
    assert from_modules.kubernetes(lab.ctx, Settings(), network=False) is None
    assert from_modules.base_image(lab.ctx, Settings(), network=False) is None


def test_recipe_of_the_images_is_part_of_their_key() -> None:
    assert Path(kubernetes_images.__file__).read_bytes() in kubernetes_images.recipe()


def test_programs_of_a_tool_are_built_once_and_named_by_themselves(
    lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def build(_ctx: object, _go: object, _source: Path, packages: list[str], out: Path, **_more: str) -> None:
        built.extend(packages)
        names = [package.rpartition("/")[2] for package in packages] if out.is_dir() else [""]
        for name in names:
            (out / name if name else out).write_text(f"program {packages}")

    monkeypatch.setattr(from_modules.golang, "ensure", lambda _ctx: None)
    monkeypatch.setattr(from_modules.golang, "build", build)
    found = from_modules.programs(lab.ctx, "kubernetes", "etcd")
    assert set(found) == {*from_modules.TOOLS[0].programs.values(), "etcd"}
    assert all(path.is_file() and path.name == name for name, path in found.items())
    assert from_modules.programs(lab.ctx, "etcd") == {"etcd": found["etcd"]}
    assert len(built) == len(set(built)) == len(found)
