"""Kernels of User-mode Linux, in the cache like every artifact; what that has is taken whatever is newer by now.

packaged: the distribution's own. It is there in seconds, has one processor and no cpuset, and tells no clock rate, without
which no kubelet runs: for what needs no Kubernetes.
built: of the newest source among the backports of the suite that machines have. It is made once, in a quarter of an hour.
`slipway clean` has both fetched and made anew.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.artifacts import cache, debian
from slipway.clients import apt
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, EnvironmentFault
from slipway.core.events import Note
from slipway.core.schema import Settings
from slipway.hosts.nspawn import inherit

from tests.vm import vm_programs

# What builds it; a file by its whole path where no program stands for a package
PROGRAMS = {
    **{"bc": "bc", "bison": "bison", "depmod": "kmod", "flex": "flex", "gcc": "gcc", "make": "make"},
    **{
        "perl": "perl",
        "xz": "xz-utils",
        "/usr/include/stdio.h": "libc6-dev",
        "/usr/include/gelf.h": "libelf-dev",
    },
}
BUILD_SECONDS = 3600.0
_PACKAGED = ("uml-package", "0")  # raised when what is kept of the package changes
_BUILT = "uml-built"  # called otherwise when _build changes: its key tells what it is given, not what it does
_CONFIGURATION = Path(__file__).with_suffix(".config")


@dataclass(frozen=True)
class Change:
    """What is different in a file of the kernel's source: this text, which is there once, for that one."""

    file: str
    old: str
    new: str


_CHANGES = (
    # the kubelet ends where no processor tells its clock rate
    Change(
        "arch/um/kernel/um_arch.c",
        '\tseq_printf(m, "cache_alignment',
        '\tseq_printf(m, "cpu MHz\\t\\t: 2000.000\\n");\n\tseq_printf(m, "cache_alignment',
    ),
    # A disk was seen to wait for ever with its answers unread. The list of what has happened is one for all, and an
    # interrupt within another one seems to take it over before the outer one is through; a list of one cannot lose any.
    Change("arch/um/os-Linux/irq.c", "#define MAX_EPOLL_EVENTS 64\n", "#define MAX_EPOLL_EVENTS 1\n"),
)


@dataclass(frozen=True)
class Kernel:
    """program: the kernel. modules: what belongs into /usr/lib/modules. version: changes with either."""

    program: Path
    modules: Path
    version: str


def packaged(ctx: Context) -> Kernel:
    """The kernel, from the cache or the archive. Raises CommandError where that has no such package."""
    name, key = _PACKAGED

    def get() -> Kernel:
        def unpack(to: Path) -> None:
            process.run(["dpkg-deb", "--extract", package, scratch / "root"], timeout=300)
            shutil.copy2(scratch / "root/usr/bin/linux.uml", to / "linux")
            shutil.copytree(scratch / "root/usr/lib/uml/modules", to / "modules")

        with _scratch(ctx) as scratch:
            process.run(["apt-get", "download", "--quiet", "user-mode-linux"], cwd=scratch, timeout=300)
            package = cache.only(list(scratch.glob("*.deb")), "package", scratch)
            version = package.name.split("_")[1].replace("%3a", ".")
            return _kernel(cache.entry(ctx, f"{name}-{version}", key, unpack))

    return _newest(ctx, name, key) or get()


def built(ctx: Context) -> Kernel:
    """The kernel that Kubernetes runs on, from the cache or built.

    Raises EnvironmentFault without a mirror of Debian, ArtifactError when the source is another than is known here,
    CommandError when it cannot be fetched or built.
    """
    wanted = configuration(_CONFIGURATION.read_text())
    name, key = (
        _BUILT,
        cache.key_of(*(f"{option}={value}" for option, value in wanted.items()), *map(str, _CHANGES)),
    )

    def get() -> Kernel:
        with _scratch(ctx) as scratch:
            archive = _Backports(scratch / "apt")
            package, version = archive.newest(r"linux-source-(\d+)\.(\d+)")

            def build(to: Path) -> None:
                ctx.emit(
                    Note(
                        f"building a kernel for virtual machines of {package} {version}: a quarter of an hour"
                    )
                )
                vm_programs.ensure(PROGRAMS, ctx.emit)
                _build(_unpacked(archive.download(package), scratch), wanted, to)

            return _kernel(cache.entry(ctx, f"{name}-{version}", key, build))

    return _newest(ctx, name, key) or get()


def configuration(text: str) -> dict[str, str]:
    """Option -> value, "n" for what is to be off. text: words NAME, NAME=value and -NAME, and comments."""
    words = (word for line in text.splitlines() if not line.startswith("#") for word in line.split())
    pairs = ((word[1:], "n") if word.startswith("-") else (word.partition("=")[::2]) for word in words)
    return {name: value or "y" for name, value in pairs}


def lacking(wanted: dict[str, str], written: str) -> list[str]:
    """The options that a kernel's own .config has otherwise."""
    has = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", written, re.MULTILINE))
    return [name for name, value in wanted.items() if has.get(name, "n") != value]


class _Backports:
    """The backports of the suite, through apt with lists and sources of its own."""

    def __init__(self, folder: Path) -> None:
        """folder: for all that apt keeps. Raises EnvironmentFault where this machine has no mirror of Debian."""
        settings = Settings()
        mirror = next(iter(debian.debian_sources(settings)), None)
        if mirror is None:
            raise EnvironmentFault(
                "no mirror of Debian is known to this machine, which the kernel's source is fetched from",
                action="name one: site.apt_mirror in slipway.yaml",
            )
        keyring = inherit.site(settings.site, debian.SUITE).keyring_file
        signed = (("Signed-By", keyring),) if Path(keyring).is_file() else ()
        source = replace(
            mirror,
            suite=f"{debian.SUITE}-backports",
            components=("main",),
            options=(*mirror.options, *signed),
        )
        fetching = apt.fetching([source], apt.own_options(settings.site.proxy), apt.own_logins())
        self.folder = folder
        for name in ("lists/partial", "archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text("".join(f"{one.one_line()}\n" for one in fetching.sources))
        (folder / "auth.conf").touch(0o600)
        (folder / "auth.conf").write_text(fetching.auth_conf)
        options = {
            **dict(fetching.options),
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder,
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::netrc": folder / "auth.conf",
            "APT::Sandbox::User": "root",  # the folder is for nobody else
        }
        (folder / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
        self._run("apt-get", "update", "--quiet", "--error-on=any")

    def newest(self, pattern: str) -> tuple[str, str]:
        """Of the packages that are called so the one with the highest numbers, and its version."""
        found = [
            (tuple(map(int, match.groups())), name)
            for name in self._run("apt-cache", "pkgnames").split()
            if (match := re.fullmatch(pattern, name))
        ]
        if not found:
            raise ArtifactError(f"no package {pattern} in {debian.SUITE}-backports", where=str(self.folder))
        _, name = max(found)
        shown = self._run("apt-cache", "show", "--no-all-versions", name)
        return name, re.findall(r"^Version: (?:\d+:)?(\S+)$", shown, re.MULTILINE)[0]

    def download(self, package: str) -> Path:
        self._run("apt-get", "download", "--quiet", package)
        return cache.only(list(self.folder.glob("*.deb")), "package", self.folder)

    def _run(self, program: str, *words: str) -> str:
        argv = [program, f"--config-file={self.folder / 'apt.conf'}", *words]
        return process.run(argv, cwd=self.folder, timeout=900).stdout


def _unpacked(package: Path, scratch: Path) -> Path:
    """The source that lies packed in a package, with what this project changes in it."""
    process.run(["dpkg-deb", "--extract", package, scratch / "root"], timeout=300)
    package.unlink()
    packed = cache.only(list((scratch / "root/usr/src").glob("*.tar.xz")), "archive", scratch)
    source = scratch / "source"
    source.mkdir()
    process.run(["tar", "-xJf", packed, "--strip-components=1", "-C", source], timeout=900)
    shutil.rmtree(scratch / "root")
    for change in _CHANGES:
        file = source / change.file
        text = file.read_text()
        if text.count(change.old) != 1:
            raise ArtifactError(f"{change.file} has not {change.old.strip()!r} once", where=str(source))
        file.write_text(text.replace(change.old, change.new))
    return source


def _build(source: Path, wanted: dict[str, str], to: Path) -> None:
    """Configure and build a kernel: `to` gets linux, and modules with the list of what is built in."""

    def make(*words: str, timeout: float = 600) -> None:
        # of no make that runs this: its jobs are not for others
        argv = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "make", "--silent", "ARCH=um", *words]
        process.run(argv, cwd=source, timeout=timeout, env={"LC_ALL": "C.UTF-8"})

    make("defconfig")
    with (source / ".config").open("a") as file:
        file.writelines(f"CONFIG_{name}={value}\n" for name, value in wanted.items())
    make("olddefconfig")
    make("mod2yesconfig")
    missing = lacking(wanted, (source / ".config").read_text())
    if missing:
        raise ArtifactError(f"the kernel cannot be had with {' '.join(missing)}", where=str(source))
    make(f"-j{os.cpu_count() or 1}", "linux", "modules", timeout=BUILD_SECONDS)
    make("modules_install", f"INSTALL_MOD_PATH={source / 'installed'}")
    shutil.copy2(source / "linux", to / "linux")
    modules = to / "modules"
    (source / "installed/lib/modules").rename(modules)
    for link in modules.glob("*/*"):
        if link.is_symlink():  # to the source, which does not stay
            link.unlink()


def _newest(ctx: Context, name: str, key: str) -> Kernel | None:
    """Of the whole ones in the cache that which was made last."""
    there = sorted(
        cache.home(ctx).glob(f"{name}-*-{key}"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for folder in there:
        if cache.find(ctx, folder.name.removesuffix(f"-{key}"), key) is not None:
            return _kernel(folder)
    return None


@contextmanager
def _scratch(ctx: Context) -> Iterator[Path]:
    ctx.run.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-", dir=ctx.run) as folder:
        yield Path(folder)


def _kernel(folder: Path) -> Kernel:
    return Kernel(folder / "linux", folder / "modules", folder.name)
