"""Root file systems of Debian packages, made by mmdebstrap from this machine's own mirror.

Every package is checked by apt against the archive's signing keys. The mirror, proxy and other
Acquire options are those of this machine; none of them stays in the root.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from infra.clients import apt
from infra.core import process
from infra.core.context import Context
from infra.core.errors import EnvironmentFault
from infra.core.events import Detail, progress
from infra.core.schema import Settings

SUITE = "trixie"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_STEPS = 10  # what mmdebstrap announces with "I: " from the first package list to the tar
_COMMAND = (
    "mmdebstrap",
    "--variant=essential",
    "--format=tar",
    "--skip=output/dev",
    # nothing in a container reads these
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/lintian/*",
    # mmdebstrap keeps its option files and the sources in the root; they are this machine's
    '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap '
    '"$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* '
    '"$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old',
)


def root(ctx: Context, settings: Settings, packages: tuple[str, ...], out: Path, *, epoch: int) -> None:
    """Write a root with Debian's essential packages and `packages` as a tar to `out`.

    Same package versions, same bytes: times are not later than `epoch`, seconds since 1970.
    Raises EnvironmentFault without mmdebstrap, CommandError when it fails; `out` is then not whole.
    """
    if shutil.which("mmdebstrap") is None:
        raise EnvironmentFault(
            "mmdebstrap is not installed; it makes the root file systems of images",
            action="apt-get install mmdebstrap",
        )
    with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
        options = Path(scratch) / "apt.conf"
        options.write_text(inherited_options(settings.site.proxy))
        argv: list[str | Path] = [*_COMMAND, f"--include={','.join(packages)}", f"--aptopt={options}"]
        sources = debian_sources(settings)
        if sources and _KEYRING.exists():
            argv.append(f"--keyring={_KEYRING}")
        argv += [SUITE, out]
        if sources:
            listing = Path(scratch) / "mirror.list"
            listing.write_text("".join(f"{one.one_line()}\n" for one in sources))
            argv.append(listing)
        with progress(ctx.emit, f"Debian root ({', '.join(packages)})", _STEPS) as advance:
            step = 0

            def line(text: str) -> None:
                nonlocal step
                ctx.emit(Detail(text))
                if text.startswith("I: "):
                    step = min(step + 1, _STEPS)
                    advance(step)

            process.run(
                argv,
                env={"SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"},
                timeout=1800,
                on_line=line,
                where="mmdebstrap",
                action="the packages come from this machine's apt mirror, or site.apt_mirror if set: "
                "check that it serves Debian trixie and that debian-archive-keyring is current",
            )


def recipe() -> str:
    """What decides a root beside the packages in it."""
    return " ".join((*_COMMAND, SUITE))


def debian_sources(settings: Settings) -> tuple[apt.Source, ...]:
    """Where Debian's suite comes from; empty where this machine has no Debian mirror of its own.

    mmdebstrap then uses Debian's public one.
    """
    release, site = apt.os_release(), settings.site
    if release.get("ID") == "debian":
        own, codename = apt.own_sources(), release.get("VERSION_CODENAME", "")
    elif site.apt_mirror is None or "ubuntu" in site.apt_mirror:
        return ()  # the site's mirror for Ubuntu hosts has no Debian suite
    else:
        own, codename = [], SUITE
    return apt.archives(own, apt.DISTRIBUTIONS["debian"], codename, SUITE, site)


def inherited_options(proxy: str | None) -> str:
    """apt options that decide how this machine reaches its mirror, as an apt.conf text."""
    options = apt.own_options(proxy)
    for key, path in (("netrc", "/etc/apt/auth.conf"), ("netrcparts", "/etc/apt/auth.conf.d")):
        if os.access(path, os.R_OK):
            options[f"Dir::Etc::{key}"] = path  # logins stay in their files
    return "".join(f'{key} "{value}";\n' for key, value in options.items())
