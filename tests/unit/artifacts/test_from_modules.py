"""The modules source: its keys, its pins, and kubeadm's list of images as the judge of them."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from slipway.artifacts import cache, debian, from_modules, from_release, golang, kubernetes_images, pins
from slipway.artifacts.values import KUBERNETES
from slipway.core import process
from slipway.core.errors import ArtifactError
from slipway.core.events import Note
from slipway.core.schema import ClusterSettings, Settings

PINNED = {
    (tool.name, tool.version): tool
    for tools in (*map(from_modules.tools, from_modules.RELEASES), (from_modules.CONTAINERD,))
    for tool in tools
}


@pytest.mark.parametrize("tool", PINNED.values(), ids=lambda tool: f"{tool.name}-{tool.version}")
def test_versions_are_those_of_go_mod(tool: from_modules.Tool) -> None:
    text = (tool.folder / "go.mod").read_text()
    module = {
        "kubernetes": "k8s.io/kubernetes",
        "containerd": "github.com/containerd/containerd/v2",
        "etcd-client": "go.etcd.io/etcd/etcdutl/v3",
        "etcd": "go.etcd.io/etcd/server/v3",
        "coredns": "github.com/coredns/coredns",
        "flanneld": "github.com/flannel-io/flannel",
        "netpol": "sigs.k8s.io/kube-network-policies",
        "metrics-server": "sigs.k8s.io/metrics-server",
    }[tool.name]
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} v(\S+)", text, re.MULTILINE)
    assert found is not None
    assert found[1] == tool.version
    assert (tool.folder / "go.sum").stat().st_size > 1000


def test_each_kubernetes_that_can_be_asked_for_is_pinned() -> None:
    field = ClusterSettings.model_fields["kube_version"]
    assert set(get_args(field.annotation)) == set(from_modules.RELEASES)
    assert field.default == KUBERNETES
    assert from_modules.tools(KUBERNETES) == from_modules.TOOLS


@pytest.mark.parametrize("version", from_modules.RELEASES)
def test_the_modules_of_a_kubernetes_are_of_one_version(version: str) -> None:
    (tool,) = [tool for tool in from_modules.tools(version) if tool.name == "kubernetes"]
    replaced = re.findall(r"=> k8s\.io/\S+ v(\S+)", (tool.folder / "go.mod").read_text())
    assert len(replaced) == 31
    assert set(replaced) == {version.replace("1.", "0.", 1)}
    assert f"gitVersion=v{version}" in tool.ldflags


def test_what_an_upgrade_leads_to_has_etcds_client() -> None:
    """With it the snapshot is taken."""
    for version in list(from_modules.RELEASES)[1:]:
        programs = {name for tool in from_modules.tools(version) for name in tool.programs.values()}
        assert programs >= {"etcd", *kubernetes_images.BESIDE["etcd"]}


@pytest.mark.parametrize("tool", PINNED.values(), ids=lambda tool: tool.name)
def test_of_several_programs_each_is_called_as_go_calls_it(tool: from_modules.Tool) -> None:
    if len(tool.programs) > 1:
        for package, name in tool.programs.items():
            parts = [part for part in package.split("/") if not re.fullmatch(r"v[2-9]", part)]
            assert parts[-1] == name


def test_flannels_image_is_named_by_its_version() -> None:
    flannel = next(tool for tool in from_modules.TOOLS if tool.name == "flanneld")
    assert from_modules.FLANNEL.endswith(f":v{flannel.version}")
    assert from_release.FLANNEL.endswith(f":v{flannel.version}")


def test_the_image_of_network_policies_is_named_by_its_version() -> None:
    netpol = next(tool for tool in from_modules.TOOLS if tool.name == "netpol")
    assert from_modules.NETWORK_POLICY.endswith(f":v{netpol.version}")
    assert pins.row("kube-network-policies-image").version == netpol.version


def test_the_image_of_metrics_server_is_named_by_its_version_and_the_program_tells_it() -> None:
    metrics = next(tool for tool in from_modules.TOOLS if tool.name == "metrics-server")
    assert from_modules.METRICS_SERVER.endswith(f":v{metrics.version}")
    assert pins.row("metrics-server-image").version == metrics.version
    assert f"gitVersion=v{metrics.version}" in metrics.ldflags


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

    monkeypatch.setattr(process, "run", never)
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

    monkeypatch.setattr(golang, "ensure", lambda _ctx: None)
    monkeypatch.setattr(golang, "build", build)
    found = from_modules.programs(lab.ctx, "kubernetes", "etcd")
    assert set(found) == {*from_modules.TOOLS[0].programs.values(), "etcd"}
    assert all(path.is_file() and path.name == name for name, path in found.items())
    assert from_modules.programs(lab.ctx, "etcd") == {"etcd": found["etcd"]}
    assert len(built) == len(set(built)) == len(found)


@pytest.fixture
def bases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Roots made in no time, each with other bytes; the list says which."""
    made: list[str] = []

    def root(_ctx: object, _settings: object, _packages: object, out: Path, *, epoch: int) -> None:
        made.append(f"root {len(made)}")
        out.write_text(made[-1])

    monkeypatch.setattr(debian, "root", root)
    return made


def of_day(lab, days_ago: int) -> None:
    """Let the cached base be that old."""
    (there,) = cache.home(lab.ctx).glob("python-root-*")
    day = datetime.now(UTC) - timedelta(days=days_ago)
    there.rename(there.with_name(f"{there.name[:-8]}{day:%Y%m%d}"))


def test_an_old_base_is_made_anew_and_a_young_one_is_not(lab, bases: list[str]) -> None:
    first = from_modules.base_image(lab.ctx, Settings(), network=True)
    of_day(lab, 7)
    assert from_modules.base_image(lab.ctx, Settings(), network=False) is not None
    assert bases == ["root 0"]
    of_day(lab, 8)
    again = from_modules.base_image(lab.ctx, Settings(), network=False)
    assert bases == ["root 0", "root 1"]
    assert first is not None and again is not None and again.reference != first.reference
    assert from_modules.base_image(lab.ctx, Settings(), network=False) == again


def test_without_the_mirror_an_old_base_is_used_and_that_is_told(
    lab, bases: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from_modules.base_image(lab.ctx, Settings(), network=True)
    of_day(lab, 30)

    def unreachable(*_: object, **__: object) -> None:
        raise ArtifactError("mmdebstrap failed")

    monkeypatch.setattr(debian, "root", unreachable)
    old = from_modules.base_image(lab.ctx, Settings(), network=True)
    assert old is not None and old.archive is not None and old.archive.read_text() == "root 0"
    told = [event.text for event in lab.events if isinstance(event, Note)]
    assert any(text.startswith("mmdebstrap failed; the image's base of ") for text in told)
