"""Source `modules`: Kubernetes built from pinned Go modules, for networks with package registries only."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.artifacts import cache, debian, golang, kubernetes_images, machine, oci
from infra.artifacts.values import KUBERNETES, PYTHON, BaseImage, KubernetesArtifacts
from infra.core import process
from infra.core.context import Context
from infra.core.errors import ArtifactError
from infra.core.events import progress
from infra.core.schema import Settings

HERE = Path(__file__).parent / "modules"
FLANNEL = "slipway.local/flanneld:v0.28.10"
NODE_BINARIES = ("kubelet", "kubeadm", "kubectl")
_ROOT_PACKAGES = ("catatonit", "iptables")
# python3-venv brings the pip that installs the serving image's wheels; libstdc++6 is what they load
_PYTHON_PACKAGES = ("ca-certificates", "libstdc++6", "python3", "python3-venv")


@dataclass(frozen=True)
class Tool:
    """A module of modules/<name> and what is built of it: package -> program."""

    name: str
    version: str
    programs: dict[str, str]
    ldflags: str = "-s -w"

    @property
    def folder(self) -> Path:
        return HERE / self.name

    def key(self) -> str:
        """Everything that decides the bytes but the compiler's own version, which is not known without Go."""
        files = sorted(path for path in self.folder.iterdir() if path.suffix in (".go", ".mod", ".sum"))
        parts: list[str | bytes] = [self.name, self.ldflags, machine.architecture(), repr(self.programs)]
        for path in files:
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


TOOLS = (
    Tool(
        "kubernetes",
        KUBERNETES,
        {
            f"k8s.io/kubernetes/cmd/{name}": name
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kube-proxy",
                *NODE_BINARIES,
            )
        },
        _stamped(KUBERNETES),
    ),
    Tool("etcd", "3.6.8", {"go.etcd.io/etcd/server/v3": "etcd"}),
    Tool("coredns", "1.14.2", {".": "coredns"}),
    Tool("flanneld", "0.28.10", {".": "flanneld"}),
)


def kubernetes(ctx: Context, settings: Settings, *, network: bool) -> KubernetesArtifacts | None:
    """Kubernetes' programs and images, from the cache or built; None when not cached and not `network`.

    Raises EnvironmentFault (no Go, no mmdebstrap, no space), CommandError or ArtifactError.
    """
    arch = machine.architecture()
    tools = {tool.name: tool.key() for tool in TOOLS}
    root_key = cache.key_of(arch, debian.recipe(), *_ROOT_PACKAGES)
    key = cache.key_of(kubernetes_images.recipe(), FLANNEL, root_key, *tools.values())

    def make(folder: Path) -> None:
        made = programs(ctx, *tools)
        root = cache.entry(ctx, "node-root", root_key, lambda to: _root(ctx, settings, to)) / "root.tar"
        wanted = _wanted(made["kubeadm"])
        for name in NODE_BINARIES:
            cache.link(made[name], folder / "bin" / name)
        images = folder / "images"
        images.mkdir()
        with (
            progress(ctx.emit, "Kubernetes images"),
            tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}") as scratch,
        ):
            kubernetes_images.write(
                images, Path(scratch), wanted=wanted, flannel=FLANNEL, programs=made, root=root, arch=arch
            )
        (folder / "names").write_text("\n".join(wanted.names) + "\n")

    name = f"kubernetes-{KUBERNETES}-modules"
    found = cache.find(ctx, name, key)
    if found is None and not network:
        return None
    folder = found or cache.entry(ctx, name, key, make)
    wanted = kubernetes_images.Wanted(tuple((folder / "names").read_text().split()))
    images = folder / "images"
    return KubernetesArtifacts(
        source="modules",
        version=KUBERNETES,
        binaries=folder / "bin",
        kubectl=folder / "bin" / "kubectl",
        images=(images / kubernetes_images.EVERY_NODE, images / kubernetes_images.CONTROL_PLANE),
        worker_images=(images / kubernetes_images.EVERY_NODE,),
        flannel_image=FLANNEL,
        sandbox_image=wanted.of("pause"),
    )


def base_image(ctx: Context, settings: Settings, *, network: bool) -> BaseImage | None:
    """A Debian root with Python, from the cache or made; None when not cached and not `network`."""
    key = cache.key_of(machine.architecture(), debian.recipe(), *_PYTHON_PACKAGES)

    def make(folder: Path) -> None:
        debian.root(ctx, settings, _PYTHON_PACKAGES, folder / "root.tar", epoch=oci.EPOCH)

    found = cache.find(ctx, "python-root", key)
    if found is None and not network:
        return None
    archive = (found or cache.entry(ctx, "python-root", key, make)) / "root.tar"
    # the tag follows the content, so that an image built from it is built anew when it changes
    return BaseImage(
        "modules", f"slipway.local/python:{PYTHON}-{cache.sha256_of(archive)[:12]}", archive, PYTHON
    )


def programs(ctx: Context, *names: str) -> dict[str, Path]:
    """The programs of these tools of modules/, by their own names, from the cache or built.

    Raises KeyError for a name that is no tool's, else as `kubernetes` does.
    """
    tools = {tool.name: tool for tool in TOOLS}
    built = [(tool, _built(ctx, tool)) for tool in (tools[name] for name in names)]
    return {name: folder / name for tool, folder in built for name in tool.programs.values()}


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
        )

    return cache.entry(ctx, f"go-{tool.name}-{tool.version}", tool.key(), make)


def _root(ctx: Context, settings: Settings, folder: Path) -> None:
    debian.root(ctx, settings, _ROOT_PACKAGES, folder / "root.tar", epoch=oci.EPOCH)


def _wanted(kubeadm: Path) -> kubernetes_images.Wanted:
    """kubeadm's own list, so that what is built and what it will ask for cannot drift apart."""
    listed = process.run([kubeadm, "config", "images", "list", "--kubernetes-version", f"v{KUBERNETES}"])
    wanted = kubernetes_images.Wanted(tuple(listed.stdout.split()))
    for tool in TOOLS:
        if tool.name in ("etcd", "coredns") and tool.version not in wanted.tag(tool.name):
            raise ArtifactError(
                f"modules/{tool.name} is {tool.version}, but kubeadm {KUBERNETES} wants {wanted.of(tool.name)}",
                action=f"pin that version in infra/artifacts/modules/{tool.name}/go.mod",
            )
    return wanted
