"""What the artifacts part hands on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipway.artifacts.cache import sha256_of

KUBERNETES = "1.36.3"  # what cluster.kube_version is when nobody says
PYTHON = "3.13"  # of Debian trixie, and of the official image built on it
SourceName = Literal["release", "modules"]


@dataclass(frozen=True)
class KubernetesArtifacts:
    """Kubernetes for nodes of this machine's architecture.

    binaries: folder with kubelet, kubeadm and kubectl. kubectl: the client for this machine.
    images: archives for `ctr -n k8s.io images import`, all of them; worker_images: those a node without a
    control plane needs. Both empty: nodes pull from registry.k8s.io.
    flannel_image, network_policy_image, metrics_server_image, sandbox_image: full names.
    """

    source: SourceName
    version: str
    binaries: Path
    kubectl: Path
    images: tuple[Path, ...]
    worker_images: tuple[Path, ...]
    flannel_image: str
    network_policy_image: str
    metrics_server_image: str
    sandbox_image: str


@dataclass(frozen=True)
class BaseImage:
    """What the serving image starts from: `archive` (a root tar for `docker import` as `reference`), or,
    when it is None, a reference by digest that the build host pulls. python: its version, "3.13"."""

    source: SourceName
    reference: str
    archive: Path | None
    python: str

    @property
    def digest(self) -> str:
        """ "sha256:..." of the image that is pulled, or of the archive, which has no manifest."""
        if self.archive is None:
            return self.reference.rpartition("@")[2]
        return f"sha256:{sha256_of(self.archive)}"
