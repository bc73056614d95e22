"""Names and facts the program sets and others rely on: objects, labels, ports, user, lock-down.

Imports nothing of Pulumi's, so that whoever needs a name does not load it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

PROJECT: Final = "slipway"
MACHINES_PROJECT: Final = "slipway-machines"

GRPC_PORT: Final = 8500
REST_PORT: Final = 8501
HEALTH_PORT: Final = 8502  # for probes alone, where the others speak TLS
# TensorFlow Serving's own: both servers of the image give Prometheus their metrics there, on the REST port
METRICS_PATH: Final = "/monitoring/prometheus/metrics"
# How a Prometheus that looks for annotated pods finds it; a convention, and of no meaning to Kubernetes
SCRAPED: Final = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(REST_PORT),
    "prometheus.io/path": METRICS_PATH,
}
# The API of the Prometheus operator, which a cluster has where somebody installed it
MONITORING_API: Final = "monitoring.coreos.com/v1"


@dataclass(frozen=True)
class Names:
    """What the objects of one model are called: `mnist` gives mnist-deployment, mnist-service and so on.

    Names of objects allow less than names of models do. A model whose name does not fit as it is gets the
    nearest one, with a mark of the whole name, so that no two models ever meet in one.
    """

    model: str

    @property
    def stem(self) -> str:
        """What every name begins with: lower-case letters, digits and dashes, a letter first, at most 50."""
        near = re.sub(r"[^a-z0-9]+", "-", self.model.lower()).strip("-")
        if near == self.model and near[0].isalpha() and len(near) <= _STEM:
            return near
        mark = hashlib.sha256(self.model.encode()).hexdigest()[:6]
        words = ("" if near[:1].isalpha() else "model-") + near
        return f"{words[: _STEM - 7].strip('-')}-{mark}"

    @property
    def deployment(self) -> str:
        """The Deployment."""
        return f"{self.stem}-deployment"

    @property
    def container(self) -> str:
        """The container in each of its pods."""
        return f"{self.stem}-container"

    @property
    def service(self) -> str:
        """The Service clients use: one address in front of all replicas."""
        return f"{self.stem}-service"

    @property
    def replicas(self) -> str:
        """The headless Service: its name resolves to every ready replica instead of one address for all."""
        return f"{self.stem}-replicas"

    @property
    def server(self) -> str:
        """What guards and serves the pods: account, policy, disruption budget, autoscaler, monitor."""
        return f"{self.stem}-server"

    @property
    def selector(self) -> dict[str, str]:
        """The label that picks the pods of this model."""
        return {"app": self.server}

    @property
    def labels(self) -> dict[str, str]:
        """What every object of this model carries."""
        return {**self.selector, "run": self.service, **PART_OF}


_STEM: Final = 50  # the longest addition has 11 letters, and a name may have 63
PART_OF: Final = {"app.kubernetes.io/part-of": PROJECT}

# Where a cluster's own DNS runs: Kubernetes sets the label of the namespace, and both kubeadm and the managed
# clusters of clouds give CoreDNS's pods the one it had as kube-dns
DNS_NAMESPACE: Final = {"kubernetes.io/metadata.name": "kube-system"}
DNS_PODS: Final = {"k8s-app": "kube-dns"}

# The pods meet the strictest of Kubernetes' own profiles, so the namespace asks for it.
NAMESPACE_LABELS: Final = {
    **PART_OF,
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/warn": "restricted",
}

# Who a server runs as, in the pod and in its image: the number distroless images use for "nonroot", and
# no user of the host
USER: Final = 65532


def pod_security() -> dict[str, Any]:
    """A pod's securityContext: what holds for every container of it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """A container's securityContext: no privilege, no capability, nothing to write to but the volumes."""
    return {
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
