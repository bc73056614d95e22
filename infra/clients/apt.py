"""apt: the distribution and archives of this machine, and what others can be given of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from infra.core import process
from infra.core.errors import EnvironmentFault
from infra.core.schema import Site

OS_RELEASE = Path("/etc/os-release")
# Options of fetching, apart from those of this machine's packages, services and caches.
_FETCHING = re.compile(
    r"^Acquire::(Check-Valid-Until|Check-Date|Max-ValidTime|Min-ValidTime|Max-FutureTime|Retries"
    r"|ForceIPv[46]|https?::.+)$",
    re.IGNORECASE,
)
_THIS_MACHINES = re.compile(r"::(Proxy-?Auto-?Detect|User-Agent)$", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """One archive: uri, suite, components, and options as deb822 spells them."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()

    def deb822(self) -> str:
        """This source as a paragraph of a .sources file."""
        lines = [
            "Types: deb",
            f"URIs: {self.uri}",
            f"Suites: {self.suite}",
            f"Components: {' '.join(self.components)}",
            *(f"{name}: {value}" for name, value in self.options),
        ]
        return "\n".join(lines) + "\n"

    def one_line(self) -> str:
        """This source as a line of sources.list."""
        options = " ".join(f"{name.lower()}={value}" for name, value in self.options)
        return f"deb {f'[{options}] ' if options else ''}{self.uri} {self.suite} {' '.join(self.components)}"


@dataclass(frozen=True)
class Distribution:
    """A Debian-family distribution: which suites it has and what its archive's keyring is called."""

    id: str
    default_suite: str
    suites: tuple[str, ...]
    keyring: str
    components: tuple[str, ...]
    aliases: tuple[str, ...] = ()


DISTRIBUTIONS = {
    "debian": Distribution(
        "debian",
        "trixie",
        ("bookworm", "trixie", "forky"),
        "debian-archive-keyring",
        ("main",),
        ("stable", "oldstable", "testing"),
    ),
    "ubuntu": Distribution(
        "ubuntu", "noble", ("jammy", "noble", "plucky", "questing"), "ubuntu-keyring", ("main", "universe")
    ),
}


def os_release(path: Path = OS_RELEASE) -> dict[str, str]:
    """The keys of os-release; empty where there is none."""
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def this_distribution(path: Path = OS_RELEASE) -> tuple[Distribution, str]:
    """This machine's distribution and codename. Raises EnvironmentFault where it is not of the Debian family."""
    values = os_release(path)
    for name in [values.get("ID", ""), *values.get("ID_LIKE", "").split()]:
        if name in DISTRIBUTIONS:
            codename = values.get("UBUNTU_CODENAME") or values.get("VERSION_CODENAME", "")
            return DISTRIBUTIONS[name], codename
    raise EnvironmentFault(
        f"lab hosts can only be made on Debian and Ubuntu, this is {values.get('PRETTY_NAME', 'another system')}",
        action="use hosts.backend: ssh with machines that exist",
    )


def parse_sources(text: str, kind: str) -> list[Source]:
    """Every enabled binary archive of one file; kind "list" (one-line) or "sources" (deb822)."""
    return _parse_deb822(text) if kind == "sources" else _parse_lines(text)


def _parse_lines(text: str) -> list[Source]:
    found: list[Source] = []
    for raw in text.splitlines():
        line = raw.split("#", 1)[0].strip()
        match = re.match(
            r"^deb(?:\s+\[(?P<options>[^\]]*)\])?\s+(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>.*)$", line
        )
        if not match:
            continue
        options = tuple(
            (name.title(), value)
            for name, _, value in (word.partition("=") for word in (match["options"] or "").split())
            if value
        )
        found.append(Source(match["uri"], match["suite"], tuple(match["rest"].split()), options))
    return found


def _parse_deb822(text: str) -> list[Source]:
    found: list[Source] = []
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for paragraph in re.split(r"\n\s*\n", kept):
        fields: dict[str, str] = {}
        last = ""
        for line in paragraph.splitlines():
            if line[:1].isspace() and last:
                fields[last] += f"\n{line.strip()}"
            elif ":" in line:
                last, _, value = line.partition(":")
                last = last.strip().title()
                fields[last] = value.strip()
        if "deb" not in fields.get("Types", "").split() or fields.get("Enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        options = tuple(
            (name, value)
            for name, value in fields.items()
            if name not in ("Types", "Uris", "Suites", "Components", "Enabled", "X-Repolib-Name")
        )
        found += [
            Source(uri, suite, tuple(fields.get("Components", "").split()), options)
            for uri in fields.get("Uris", "").split()
            for suite in fields.get("Suites", "").split()
        ]
    return found


def own_sources(apt: Path = Path("/etc/apt")) -> list[Source]:
    """Every archive this machine's apt uses, in apt's order of files."""
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    found: list[Source] = []
    for file in files:
        if file.suffix in (".list", ".sources") and file.is_file():
            found += parse_sources(file.read_text(errors="replace"), file.suffix.lstrip("."))
    return found


def archives(
    sources: Iterable[Source],
    distribution: Distribution,
    codename: str,
    suite: str,
    settings: Site,
) -> tuple[Source, ...]:
    """The archives of a suite: those of `sources` for `codename`, their suite replaced, or the site's own.

    Only the distribution's archives count: those whose suite is the codename (or "stable" and the
    like), whose component main is on, and that no third party signs. Empty when none is left.
    """
    bases: dict[str, Source] = {}
    for source in sources:
        name, pocket = _pocket(source.suite)
        signed = dict(source.options).get("Signed-By", "")
        if name not in {codename, *distribution.aliases} or "main" not in source.components:
            continue
        if signed and f"{distribution.id}-" not in signed and "BEGIN PGP" not in signed:
            continue
        if urlsplit(source.uri).scheme in ("http", "https", "file", "copy"):
            bases.setdefault(pocket, source)
    if settings.apt_mirror is not None:
        bases[""] = Source(settings.apt_mirror, codename, distribution.components)
        bases["-updates"] = bases[""]
    if settings.apt_security_mirror is not None:
        bases["-security"] = Source(settings.apt_security_mirror, codename, distribution.components)
    if "" not in bases:
        return ()
    kept_options = ("Trusted", "Check-Valid-Until", "Check-Date", "Allow-Insecure", "Allow-Weak")
    return tuple(
        Source(
            bases[pocket].uri,
            f"{suite}{pocket}",
            distribution.components,
            tuple((name, value) for name, value in bases[pocket].options if name in kept_options),
        )
        for pocket in ("", "-updates", "-security")
        if pocket in bases
    )


def _pocket(suite: str) -> tuple[str, str]:
    for pocket in ("-updates", "-security"):
        if suite.removesuffix("/updates").endswith(pocket):
            return suite.removesuffix(pocket), pocket
    return suite, ""


def own_options(proxy: str | None) -> dict[str, str]:
    """This machine's apt options that concern fetching, through `proxy` where one is given."""
    if shutil.which("apt-config") is None:
        found = {}
    else:
        found = options(process.run(["apt-config", "dump"], check=False).stdout)
    if proxy is not None:
        found |= {"Acquire::http::Proxy": proxy, "Acquire::https::Proxy": proxy}
    return found


def options(dump: str) -> dict[str, str]:
    """The options of `apt-config dump` that concern fetching."""
    lines = (re.match(r'^(\S+) "(.*)";$', line) for line in dump.splitlines())
    return {match[1]: match[2] for match in lines if match and match[2] and _FETCHING.match(match[1])}


def is_of_this_machine(option: str) -> bool:
    """Whether an option names a program or a name of this machine, which mean nothing on another."""
    return _THIS_MACHINES.search(option) is not None
