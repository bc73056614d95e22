"""Root file systems of Debian packages, made by mmdebstrap from this machine's own mirror.

Every package is checked by apt against the archive's signing keys. The mirror, proxy and other
Acquire options are those of this machine; they do not stay in the root.
"""

from __future__ import annotations

from pathlib import Path

from slipway.clients import apt, mmdebstrap
from slipway.core.context import Context
from slipway.core.events import Detail, Note, progress
from slipway.core.schema import Settings

SUITE = "trixie"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_STEPS = 10  # what mmdebstrap announces with "I: " from the first package list to the tar
_RECIPE = mmdebstrap.Recipe(
    SUITE,
    "essential",
    "tar",
    options=(
        "--skip=output/dev",
        # nothing in a container reads these
        *mmdebstrap.dpkg_without(
            *(
                "/usr/share/doc",
                "/usr/share/man",
                "/usr/share/info",
                "/usr/share/locale",
                "/usr/share/lintian",
            )
        ),
        # mmdebstrap keeps its option files and the sources in the root; they are this machine's
        '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap '
        '"$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* '
        '"$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old',
    ),
)


def root(ctx: Context, settings: Settings, packages: tuple[str, ...], out: Path, *, epoch: int) -> None:
    """Write a root with Debian's essential packages and `packages` as a tar to `out`.

    Same package versions, same bytes: times are not later than `epoch`, seconds since 1970.
    Raises EnvironmentFault without mmdebstrap, CommandError when it fails; `out` is then not whole.
    """
    fetching = apt.fetching(debian_sources(settings), apt.own_options(settings.site.proxy), apt.own_logins())
    for switched_off in fetching.unverified():
        ctx.emit(Note(f"not verified, as on this machine: {switched_off}"))
    with progress(ctx.emit, f"Debian root ({', '.join(packages)})", _STEPS) as advance:
        step = 0

        def line(text: str) -> None:
            nonlocal step
            ctx.emit(Detail(text))
            if text.startswith("I: "):
                step = min(step + 1, _STEPS)
                advance(step)

        mmdebstrap.make(
            _RECIPE,
            out,
            packages,
            fetching=fetching,
            keyring=_KEYRING,
            env={"SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"},
            on_line=line,
            where="mmdebstrap",
            action="the packages come from this machine's apt mirror, or site.apt_mirror if set: "
            "check that it serves Debian trixie and that debian-archive-keyring is current",
        )


def recipe() -> str:
    """What a root depends on besides its packages."""
    return " ".join((*_RECIPE.words(), SUITE))


def debian_sources(settings: Settings) -> tuple[apt.Source, ...]:
    """Where Debian's suite comes from; empty if this machine has no Debian mirror of its own.

    mmdebstrap then uses Debian's public one.
    """
    release, site = apt.os_release(), settings.site
    if release.get("ID") == "debian":
        own, codename = apt.own_sources(), release.get("VERSION_CODENAME", "")
    elif site.apt_mirror is None or "ubuntu" in site.apt_mirror:
        return ()  # the site's mirror for Ubuntu hosts has no Debian suite
    else:
        own, codename = [], SUITE
    origins = apt.own_origins() if own else {}
    return apt.archives(own, apt.DISTRIBUTIONS["debian"], codename, SUITE, site, origins=origins)
