"""Source `release`: the projects' official releases, checked against artifacts.lock."""

from __future__ import annotations

import tarfile
from pathlib import Path

from slipway.artifacts import answers, cache, download, machine, pins
from slipway.artifacts.values import PYTHON, BaseImage, KubernetesArtifacts
from slipway.core.context import Context
from slipway.core.errors import ArtifactError
from slipway.core.events import Note
from slipway.core.schema import Settings

NODE_BINARIES = ("kubelet", "kubeadm", "kubectl")
# What kubeadm 1.36.3 and 1.37.2 ask for (`kubeadm config images list`); nodes pull these themselves.
SANDBOX_IMAGE = "registry.k8s.io/pause:3.10.2"
FLANNEL = "ghcr.io/flannel-io/flannel:v0.28.10"
NETWORK_POLICY = "registry.k8s.io/networking/kube-network-policies"
METRICS_SERVER = "registry.k8s.io/metrics-server/metrics-server"
# kubeadm names its images by tag and takes no digest; flannel's is in no public list
BY_TAG = "nodes pull Kubernetes' and flannel's images by tag, not by digest: their registries are trusted"
_NODES_PULL_FROM = ("https://registry.k8s.io/v2/", "https://ghcr.io/v2/")
_PYTHON_REGISTRY = "https://registry-1.docker.io/v2/"


def kubernetes(ctx: Context, settings: Settings, *, network: bool) -> KubernetesArtifacts | None:
    """The official node binaries; nodes pull the images from the official registries.

    None when they are not cached and `network` is False. Raises ArtifactError when an official host does
    not answer or gives another file than the pinned one.
    """
    version = settings.cluster.kube_version
    rows = [pins.row(name, version=version).pinned() for name in NODE_BINARIES]
    policy = pins.row("kube-network-policies-image").pinned()
    metrics = pins.row("metrics-server-image").pinned()
    key = cache.key_of(*(row.sha256 for row in rows))
    name = f"kubernetes-{version}-release"
    folder = cache.find(ctx, name, key)
    if folder is None and not network:
        return None

    def make(beside: Path) -> None:
        for url in (rows[0].url, *_NODES_PULL_FROM):
            _must_answer(url)
        (beside / "bin").mkdir()
        for row in rows:
            to = beside / "bin" / row.name
            download.fetch(ctx, row, to)
            to.chmod(0o755)

    folder = folder or cache.entry(ctx, name, key, make)
    ctx.emit(Note(BY_TAG))
    return KubernetesArtifacts(
        source="release",
        version=version,
        binaries=folder / "bin",
        kubectl=folder / "bin" / "kubectl",
        images=(),
        worker_images=(),
        flannel_image=FLANNEL,
        network_policy_image=f"{NETWORK_POLICY}@sha256:{policy.sha256}",
        metrics_server_image=f"{METRICS_SERVER}@sha256:{metrics.sha256}",
        sandbox_image=SANDBOX_IMAGE,
    )


def base_image() -> BaseImage:
    """The official Python image by digest; the build host pulls it. Raises ArtifactError when it cannot."""
    row = pins.row("python-image").pinned()
    _must_answer(_PYTHON_REGISTRY)
    return BaseImage("release", f"docker.io/library/python@sha256:{row.sha256}", None, PYTHON)


def pulumi(ctx: Context, *, network: bool) -> Path | None:
    """The Pulumi CLI; beside `bin/` a PULUMI_HOME `home/` with the kubernetes plugin.

    None when not cached and not `network`. Raises ArtifactError when it cannot be had or has no pinned hash.
    """
    cli, plugin = pins.row("pulumi").pinned(), pins.row("pulumi-resource-kubernetes").pinned()

    def make(beside: Path) -> None:
        _must_answer(cli.url)
        for row, to in (
            (cli, beside / "bin"),
            (plugin, beside / "home" / "plugins" / f"resource-kubernetes-v{plugin.version}"),
        ):
            archive = beside / "archive"
            download.fetch(ctx, row, archive)
            _unpack(archive, to)
            archive.unlink()
        if not (beside / "bin" / "pulumi").is_file():
            raise ArtifactError(f"the archive of pulumi {cli.version} has no program `pulumi`", where=cli.url)

    name, key = f"pulumi-{cli.version}", cache.key_of(cli.sha256, plugin.sha256, machine.architecture())
    folder = cache.find(ctx, name, key)
    if folder is None and network:
        folder = cache.entry(ctx, name, key, make)
    return folder / "bin" / "pulumi" if folder is not None else None


def _unpack(archive: Path, folder: Path) -> None:
    """All regular files of an archive, without their leading folders, into one folder."""
    folder.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                if file is not None:
                    to = folder / Path(member.name).name
                    to.write_bytes(file.read())
                    to.chmod(0o755 if member.mode & 0o100 else 0o644)
    except tarfile.TarError as error:
        raise ArtifactError(f"cannot unpack the archive: {error}", where=str(folder.name)) from error


def _must_answer(url: str) -> None:
    reason = answers.silence(url)
    if reason:
        raise ArtifactError(reason, where=url, action=download.UNANSWERED)
