"""kubeadm's list of images, from a program that answers as kubeadm does."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway.artifacts import from_modules, from_release
from slipway.core.errors import ArtifactError

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
