"""Source `modules`: Kubernetes built from pinned Go modules, for networks with package registries only."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from slipway.artifacts import cache, debian, golang, kubernetes_images, machine, oci
from slipway.artifacts.values import KUBERNETES, PYTHON, BaseImage, KubernetesArtifacts
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, EnvironmentFault, SlipwayError
from slipway.core.events import Note, progress
from slipway.core.schema import Settings

HERE = Path(__file__).parent / "modules"
FLANNEL = "slipway.local/flanneld:v0.28.10"
NETWORK_POLICY = "slipway.local/netpol:v0.8.0"
METRICS_SERVER = "slipway.local/metrics-server:v0.8.0"
NODE_BINARIES = ("kubelet", "kubeadm", "kubectl")
_ROOT_PACKAGES = ("catatonit", "iptables")
# python3-venv brings the pip that installs the serving image's wheels; libstdc++6 is what they load
_PYTHON_PACKAGES = ("ca-certificates", "libstdc++6", "python3", "python3-venv")


@dataclass(frozen=True)
class Tool:
    """A module of modules/<name> and what is built of it: package -> program.

    place: its folder in modules/ where that is not called as the tool, as of a version beside another one. Of
    several programs each has to have the name that Go gives it: the last part of its package but a version.
    """

    name: str
    version: str
    programs: dict[str, str]
    ldflags: str = "-s -w"
    tags: str = ""
    place: str = ""

    @property
    def folder(self) -> Path:
        return HERE / (self.place or self.name)

    def key(self) -> str:
        """What decides the bytes. The compiler's own version does too, and is not known without Go."""
        parts: list[str | bytes] = [self.name, self.ldflags, machine.architecture(), repr(self.programs)]
        parts += [self.tags] if self.tags else []
        for path in sorted(self.folder.iterdir()):
            if path.suffix in (".go", ".mod", ".sum") and not path.name.endswith("_test.go"):
                parts += [path.name, path.read_bytes()]
        return cache.key_of(*parts)


def _stamped(version: str) -> str:
    major, minor, _ = version.split(".")
    stamps = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = [
        f"-X {package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in stamps.items()
    ]
    return " ".join(["-s -w", *flags])


def _kubernetes(version: str, place: str = "") -> Tool:
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", *NODE_BINARIES)
    programs = {f"k8s.io/kubernetes/cmd/{name}": name for name in names}
    return Tool("kubernetes", version, programs, _stamped(version), place=place)


# Each Kubernetes with the etcd and the CoreDNS that its kubeadm wants. What an upgrade leads to has etcd's
# own client along: with it the snapshot is taken, and put back.
RELEASES = {
    "1.36.3": (
        _kubernetes("1.36.3"),
        Tool("etcd", "3.6.8", {"go.etcd.io/etcd/server/v3": "etcd"}),
        Tool("coredns", "1.14.2", {".": "coredns"}),
    ),
    "1.37.2": (
        _kubernetes("1.37.2", "kubernetes-1.37.2"),
        Tool("etcd", "3.7.0", {"go.etcd.io/etcd/server/v3": "etcd"}, place="etcd-3.7.0"),
        Tool(
            "etcd-client",
            "3.7.0",
            {"go.etcd.io/etcd/etcdctl/v3": "etcdctl", "go.etcd.io/etcd/etcdutl/v3": "etcdutl"},
            place="etcd-3.7.0",
        ),
        Tool("coredns", "1.14.6", {".": "coredns"}, place="coredns-1.14.6"),
    ),
}
_ANY = (
    Tool("flanneld", "0.28.10", {".": "flanneld"}),
    Tool("netpol", "0.8.0", {".": "netpol"}),
    # its version is a variable of client-go, as Kubernetes' own is: hence a build apart from theirs
    Tool(
        "metrics-server",
        "0.8.0",
        {"sigs.k8s.io/metrics-server/cmd/metrics-server": "metrics-server"},
        "-s -w -X k8s.io/client-go/pkg/version.gitVersion=v0.8.0",
    ),
)


def tools(version: str) -> tuple[Tool, ...]:
    """What a node of this Kubernetes runs. Raises KeyError for one that modules/ does not pin."""
    return RELEASES[version] + _ANY


TOOLS = tools(KUBERNETES)
# For distributions whose own is too old for a Kubernetes; runc stays theirs
CONTAINERD = Tool(
    "containerd",
    "2.4.2",
    {
        f"github.com/containerd/containerd/v2/cmd/{name}": name
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    "-s -w -X github.com/containerd/containerd/v2/version.Version=v2.4.2",
)


# grpcnotrace, as in the releases: with gRPC's tracing in, the linker can drop no unused method
_CLI = Tool(
    "pulumi",
    "3.274.1",
    {"github.com/pulumi/pulumi/pkg/v3/cmd/pulumi": "pulumi", ".": "pulumi-language-python"},
    "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v3.274.1",
    "grpcnotrace",
)
_PROVIDER = Tool(
    "pulumi-resource-kubernetes",
    "4.25.0",
    {".": "pulumi-resource-kubernetes"},
    "-s -w -X github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version=v4.25.0",
    "grpcnotrace",
)
_EXECUTOR = "pulumi-language-python-exec"  # runs a program; a script of the SDK's module
_DYNAMIC_PROVIDERS = "pulumi-resource-pulumi-python"
LINKING_GB = 6  # the provider's linker takes 4.1 GB


def kubernetes(ctx: Context, settings: Settings, *, network: bool) -> KubernetesArtifacts | None:
    """Kubernetes' programs and images, from the cache or built; None when not cached and not `network`.

    Raises EnvironmentFault (no Go, no mmdebstrap, no space), CommandError or ArtifactError.
    """
    arch, version = machine.architecture(), settings.cluster.kube_version
    wanted_tools = tools(version)
    root_key = cache.key_of(arch, debian.recipe(), *_ROOT_PACKAGES)
    names = (FLANNEL, NETWORK_POLICY, METRICS_SERVER)
    key = cache.key_of(kubernetes_images.recipe(), *names, root_key, *(tool.key() for tool in wanted_tools))

    def make(folder: Path) -> None:
        made = _programs(ctx, wanted_tools)
        root = cache.entry(ctx, "node-root", root_key, lambda to: _root(ctx, settings, to)) / "root.tar"
        wanted = _wanted(made["kubeadm"], version)
        for name in NODE_BINARIES:
            cache.link(made[name], folder / "bin" / name)
        images = folder / "images"
        images.mkdir()
        with (
            progress(ctx.emit, "Kubernetes images"),
            tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}") as scratch,
        ):
            kubernetes_images.write(
                images,
                Path(scratch),
                wanted=wanted,
                flannel=FLANNEL,
                network_policy=NETWORK_POLICY,
                metrics_server=METRICS_SERVER,
                programs=made,
                root=root,
                arch=arch,
            )
        (folder / "names").write_text("\n".join(wanted.names) + "\n")

    name = f"kubernetes-{version}-modules"
    found = cache.find(ctx, name, key)
    if found is None and not network:
        return None
    folder = found or cache.entry(ctx, name, key, make)
    wanted = kubernetes_images.Wanted(tuple((folder / "names").read_text().split()))
    images = folder / "images"
    return KubernetesArtifacts(
        source="modules",
        version=version,
        binaries=folder / "bin",
        kubectl=folder / "bin" / "kubectl",
        images=(images / kubernetes_images.EVERY_NODE, images / kubernetes_images.CONTROL_PLANE),
        worker_images=(images / kubernetes_images.EVERY_NODE,),
        flannel_image=FLANNEL,
        network_policy_image=NETWORK_POLICY,
        metrics_server_image=METRICS_SERVER,
        sandbox_image=wanted.of("pause"),
    )


def containerd(ctx: Context, *, network: bool) -> Path | None:
    """Folder with containerd, its shim and ctr; None when not cached and not `network`.

    Raises as `kubernetes` does.
    """
    if network:
        return _built(ctx, CONTAINERD)
    return cache.find(ctx, _entry(CONTAINERD), CONTAINERD.key())


def base_image(ctx: Context, settings: Settings, *, network: bool) -> BaseImage | None:
    """A Debian root with Python, from the cache or made; None when not cached and not `network`.

    One older than artifacts.refresh_days is made anew with the packages of today; where that fails, the old
    one is used, and a Note says so.
    """
    name = f"python-root-{cache.key_of(machine.architecture(), debian.recipe(), *_PYTHON_PACKAGES)}"
    today = datetime.now(UTC).date()
    made = _newest(ctx, name)
    if made is None and not network:
        return None

    def make(folder: Path) -> None:
        debian.root(ctx, settings, _PYTHON_PACKAGES, folder / "root.tar", epoch=oci.EPOCH)

    if made is not None and today - made[1] <= timedelta(days=settings.artifacts.refresh_days):
        folder = made[0]
    else:
        try:
            folder = cache.entry(ctx, name, f"{today:%Y%m%d}", make)
        except SlipwayError as error:
            if made is None:
                raise
            ctx.emit(Note(f"{error.what}; the image's base of {made[1]} is used, though it is old"))
            folder = made[0]
    archive = folder / "root.tar"
    # the tag follows the content, so that an image built from it is built anew when it changes
    return BaseImage(
        "modules", f"slipway.local/python:{PYTHON}-{cache.sha256_of(archive)[:12]}", archive, PYTHON
    )


def pulumi(ctx: Context, *, network: bool) -> Path | None:
    """The Pulumi CLI with its language host; beside `bin/` a PULUMI_HOME `home/` with the kubernetes plugin.

    None when not cached and not `network`. Raises EnvironmentFault where memory is too small to link it,
    else as `kubernetes` does.
    """
    key = cache.key_of(_CLI.key(), _PROVIDER.key())

    def make(folder: Path) -> None:
        if machine.memory_gb() < LINKING_GB:
            raise EnvironmentFault(
                f"this machine has {machine.memory_gb():.1f} GB of memory, and Pulumi's provider takes "
                f"{LINKING_GB} to build",
                action="put `pulumi` and its kubernetes plugin on this machine, or set deploy.by: render",
            )
        plugin = folder / "home" / "plugins" / f"resource-kubernetes-v{_PROVIDER.version}"
        for tool, to in ((_CLI, folder / "bin"), (_PROVIDER, plugin)):
            built = _built(ctx, tool)
            for name in tool.programs.values():
                cache.link(built / name, to / name)
        go = golang.ensure(ctx)
        sdk = golang.module(go, _CLI.folder, "github.com/pulumi/pulumi/sdk/v3")
        # copied: a link would share the file with Go's own cache
        shutil.copyfile(sdk / "python" / "cmd" / _EXECUTOR, folder / "bin" / _EXECUTOR)
        # the language host under another name; both are looked for beside `pulumi`
        cache.link(folder / "bin" / _CLI.programs["."], folder / "bin" / _DYNAMIC_PROVIDERS)
        _lay_schema(
            golang.module(go, _PROVIDER.folder, "github.com/pulumi/pulumi-kubernetes/provider/v4"), plugin
        )

    name = f"pulumi-{_CLI.version}-modules"
    folder = cache.find(ctx, name, key)
    if folder is None and network:
        folder = cache.entry(ctx, name, key, make)
    return folder / "bin" / "pulumi" if folder is not None else None


def _lay_schema(module: Path, plugin: Path) -> None:
    """Put what the provider reads beside itself: its release would embed it, with the version in it."""
    held = module / "cmd" / "pulumi-resource-kubernetes"
    schema = json.loads((held / "schema.json").read_bytes())
    text = json.dumps({**schema, "version": _PROVIDER.version}, separators=(",", ":"))
    (plugin / "schema.json").write_text(text)
    shutil.copyfile(held / "terraform-mapping.json", plugin / "terraform-mapping.json")


def _newest(ctx: Context, name: str) -> tuple[Path, date] | None:
    """The newest whole entry of this name whose key is the day it was made on, and that day."""
    for folder in sorted(cache.home(ctx).glob(f"{name}-*"), reverse=True):
        day = folder.name.removeprefix(f"{name}-")
        if re.fullmatch(r"\d{8}", day) and cache.find(ctx, name, day):
            return folder, datetime.strptime(f"{day}+0000", "%Y%m%d%z").date()
    return None


def programs(ctx: Context, *names: str) -> dict[str, Path]:
    """The programs of these tools of modules/, by their own names, from the cache or built.

    Raises KeyError for a name that no tool has, else as `kubernetes` does.
    """
    known = {tool.name: tool for tool in TOOLS}
    return _programs(ctx, [known[name] for name in names])


def _programs(ctx: Context, wanted: Iterable[Tool]) -> dict[str, Path]:
    built = [(tool, _built(ctx, tool)) for tool in wanted]
    return {name: folder / name for tool, folder in built for name in tool.programs.values()}


def _entry(tool: Tool) -> str:
    return f"go-{tool.name}-{tool.version}"


def _built(ctx: Context, tool: Tool) -> Path:
    def make(folder: Path) -> None:
        out = folder if len(tool.programs) > 1 else folder / next(iter(tool.programs.values()))
        golang.build(
            ctx,
            golang.ensure(ctx),
            tool.folder,
            list(tool.programs),
            out,
            label=f"{tool.name} {tool.version}",
            ldflags=tool.ldflags,
            tags=tool.tags,
        )

    return cache.entry(ctx, _entry(tool), tool.key(), make)


def _root(ctx: Context, settings: Settings, folder: Path) -> None:
    debian.root(ctx, settings, _ROOT_PACKAGES, folder / "root.tar", epoch=oci.EPOCH)


def _wanted(kubeadm: Path, version: str = KUBERNETES) -> kubernetes_images.Wanted:
    """kubeadm's own list, so that what is built and what it will ask for cannot drift apart."""
    listed = process.run([kubeadm, "config", "images", "list", "--kubernetes-version", f"v{version}"])
    wanted = kubernetes_images.Wanted(tuple(listed.stdout.split()))
    for tool in tools(version):
        if tool.name in ("etcd", "coredns") and tool.version not in wanted.tag(tool.name):
            raise ArtifactError(
                f"modules/{tool.folder.name} is {tool.version}, but kubeadm {version} wants "
                f"{wanted.of(tool.name)}",
                action=f"pin that version in infra/slipway/artifacts/modules/{tool.folder.name}/go.mod",
            )
    return wanted
