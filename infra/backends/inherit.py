"""What lab hosts take over from this machine: mirrors, apt options, resolver, proxies, certificates, pip.

In: this machine's own configuration, overridden by `site:`. Out: Site, a value. Never here: an address.
"""

from __future__ import annotations

import configparser
import hashlib
import ipaddress
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from infra.core import process
from infra.core.errors import EnvironmentFault
from infra.core.schema import Site as SiteSettings

PROXY_NAMES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
# Options of fetching, apart from those of this machine's packages, services and caches.
_APT_OPTION = re.compile(
    r"^Acquire::(Check-Valid-Until|Check-Date|Max-ValidTime|Min-ValidTime|Retries|ForceIPv[46]"
    r"|https?::(?!Proxy-Auto-Detect|ProxyAutoDetect|User-Agent).+|Max-FutureTime)$",
    re.IGNORECASE,
)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")


@dataclass(frozen=True)
class AptSource:
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
class Site:
    """What a lab host of one suite is given."""

    suite: str
    distribution: str
    keyring_package: str
    sources: tuple[AptSource, ...]
    resolvers: tuple[str, ...]
    apt_options: tuple[tuple[str, str], ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    certificates: tuple[str, ...] = ()
    pip: tuple[tuple[str, str], ...] = ()

    @property
    def keyring_file(self) -> str:
        """Where both distributions keep their archive's keys, on hosts and on this machine."""
        return f"/usr/share/keyrings/{self.distribution}-archive-keyring.gpg"

    @property
    def digest(self) -> str:
        """Changes with everything that is built into a root."""
        built_in = asdict(replace(self, resolvers=(), pip=()))
        return hashlib.sha256(json.dumps(built_in, sort_keys=True).encode()).hexdigest()

    def servers(self) -> tuple[str, ...]:
        """Host names and addresses that hosts must reach whatever network they are in."""
        urls = [source.uri for source in self.sources]
        urls += [value for name, value in self.proxies if name != "no_proxy"]
        urls += [value for key, value in self.pip if key.endswith(("url", "proxy"))]
        urls += [value for key, value in self.apt_options if key.lower().endswith("::proxy")]
        names = [urlsplit(url if "//" in url else f"//{url}").hostname for url in " ".join(urls).split()]
        return tuple(dict.fromkeys([*self.resolvers, *(name for name in names if name)]))


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


def this_distribution(os_release: Path = Path("/etc/os-release")) -> tuple[Distribution, str]:
    """This machine's distribution and codename. Raises EnvironmentFault where it is not of the Debian family."""
    text = os_release.read_text() if os_release.is_file() else ""
    values = {
        key: value.strip().strip('"')
        for key, _, value in (line.partition("=") for line in text.splitlines())
        if value
    }
    for name in [values.get("ID", ""), *values.get("ID_LIKE", "").split()]:
        if name in DISTRIBUTIONS:
            codename = values.get("UBUNTU_CODENAME") or values.get("VERSION_CODENAME", "")
            return DISTRIBUTIONS[name], codename
    raise EnvironmentFault(
        f"lab hosts can only be made on Debian and Ubuntu, this is {values.get('PRETTY_NAME', 'another system')}",
        action="use hosts.backend: ssh with machines that exist",
    )


def parse_sources(text: str, kind: str) -> list[AptSource]:
    """Every enabled binary archive of one file; kind "list" (one-line) or "sources" (deb822)."""
    return _parse_deb822(text) if kind == "sources" else _parse_lines(text)


def _parse_lines(text: str) -> list[AptSource]:
    found: list[AptSource] = []
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
        found.append(AptSource(match["uri"], match["suite"], tuple(match["rest"].split()), options))
    return found


def _parse_deb822(text: str) -> list[AptSource]:
    found: list[AptSource] = []
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
            AptSource(uri, suite, tuple(fields.get("Components", "").split()), options)
            for uri in fields.get("Uris", "").split()
            for suite in fields.get("Suites", "").split()
        ]
    return found


def controller_sources(apt: Path = Path("/etc/apt")) -> list[AptSource]:
    """Every archive this machine's apt uses, in apt's order of files."""
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    found: list[AptSource] = []
    for file in files:
        if file.suffix in (".list", ".sources") and file.is_file():
            found += parse_sources(file.read_text(errors="replace"), file.suffix.lstrip("."))
    return found


def lab_sources(
    controller: Iterable[AptSource],
    distribution: Distribution,
    codename: str,
    suite: str,
    settings: SiteSettings,
) -> tuple[AptSource, ...]:
    """The archives of a lab host: this machine's own, with its suite replaced by the host's.

    Only the distribution's archives count: those whose suite is this machine's codename (or "stable"
    and the like), whose component main is on, and that no third party signs.
    """
    bases: dict[str, AptSource] = {}
    for source in controller:
        name, pocket = _pocket(source.suite)
        signed = dict(source.options).get("Signed-By", "")
        if name not in {codename, *distribution.aliases} or "main" not in source.components:
            continue
        if signed and f"{distribution.id}-" not in signed and "BEGIN PGP" not in signed:
            continue
        if urlsplit(source.uri).scheme in ("http", "https", "file", "copy"):
            bases.setdefault(pocket, source)
    if settings.apt_mirror is not None:
        bases[""] = AptSource(settings.apt_mirror, codename, distribution.components)
        bases["-updates"] = bases[""]
    if settings.apt_security_mirror is not None:
        bases["-security"] = AptSource(settings.apt_security_mirror, codename, distribution.components)
    if "" not in bases:
        raise EnvironmentFault(
            f"no apt archive of {distribution.id} {codename} is configured on this machine",
            action="add one to /etc/apt/sources.list, or name it: site.apt_mirror in slipway.yaml",
        )
    kept_options = ("Trusted", "Check-Valid-Until", "Check-Date", "Allow-Insecure", "Allow-Weak")
    return tuple(
        AptSource(
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


def apt_options(dump: str) -> tuple[tuple[str, str], ...]:
    """The options of `apt-config dump` that concern fetching."""
    found: list[tuple[str, str]] = []
    for line in dump.splitlines():
        match = re.match(r'^(\S+) "(.*)";$', line)
        if match and match[2] and _APT_OPTION.match(match[1]):
            found.append((match[1], match[2]))
    return tuple(found)


def resolvers(etc: Path = Path("/etc"), run: Path = Path("/run")) -> tuple[str, ...]:
    """The name servers behind this machine's resolv.conf, past a stub on the loopback address."""
    for path in (
        etc / "resolv.conf",
        run / "systemd/resolve/resolv.conf",
        run / "NetworkManager/no-stub-resolv.conf",
    ):
        if not path.is_file():
            continue
        servers = [
            line.split()[1]
            for line in path.read_text(errors="replace").splitlines()
            if line.startswith("nameserver") and len(line.split()) > 1
        ]
        usable = [server for server in servers if _routable(server)]
        if usable:
            return tuple(usable[:3])
    raise EnvironmentFault(
        "no name server that lab hosts could use: this machine's resolver listens on the loopback address only",
        action="name one: site.resolver in slipway.yaml",
    )


def _routable(server: str) -> bool:
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback  # the lab's network is IPv4


def certificates(
    bundle: Path = Path("/etc/ssl/certs/ca-certificates.crt"),
    local: Path = Path("/usr/local/share/ca-certificates"),
    shipped: Path = Path("/usr/share/ca-certificates"),
    extra: Path | None = None,
) -> tuple[str, ...]:
    """The certificates this machine trusts beyond those its ca-certificates package ships, as PEM."""

    def blocks(path: Path) -> list[str]:
        return [_normal(pem) for pem in _PEM.findall(path.read_text(errors="replace"))]

    known = {pem for path in sorted(shipped.rglob("*.crt")) for pem in blocks(path)}
    found: list[str] = []
    for path in [*sorted(local.rglob("*.crt")), bundle, *([extra] if extra else [])]:
        if path.is_file():
            found += [pem for pem in blocks(path) if pem not in known]
    return tuple(dict.fromkeys(found))


def _normal(pem: str) -> str:
    body = "".join(line.strip() for line in pem.splitlines()[1:-1])
    rows = [body[at : at + 64] for at in range(0, len(body), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *rows, "-----END CERTIFICATE-----", ""])


def proxies(environment: Mapping[str, str], override: str | None) -> tuple[tuple[str, str], ...]:
    """The proxy variables, lower case; `site.proxy` stands for http and https."""
    found = {
        name: value
        for name in PROXY_NAMES
        if (value := environment.get(name) or environment.get(name.upper()) or "")
    }
    if override is not None:
        found |= {"http_proxy": override, "https_proxy": override}
    if not {"http_proxy", "https_proxy", "all_proxy", "ftp_proxy"} & found.keys():
        return ()
    return tuple(sorted(found.items()))


def pip_settings(environment: Mapping[str, str], files: Iterable[Path]) -> tuple[tuple[str, str], ...]:
    """Where this machine's pip gets packages: its configuration files, then PIP_* variables."""
    found: dict[str, str] = {}
    for path in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except (configparser.Error, OSError):
            continue  # pip would say so itself; hosts then get its defaults
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {key: value for key, value in parser.items(section) if key in _PIP_KEYS and value}
    for key in _PIP_KEYS:
        if value := environment.get(f"PIP_{key.upper().replace('-', '_')}"):
            found[key] = value
    return tuple(sorted(found.items()))


def site(settings: SiteSettings, suite: str | None) -> Site:
    """Everything lab hosts inherit, with `site:` and hosts.suite applied.

    Raises EnvironmentFault when this machine has no mirror or resolver a lab host could use.
    """
    distribution, codename = this_distribution()
    wanted = suite or distribution.default_suite
    owner = next((d for d in DISTRIBUTIONS.values() if wanted in d.suites), distribution)
    if owner is not distribution and settings.apt_mirror is None:
        raise EnvironmentFault(
            f"hosts.suite {wanted} is of {owner.id}, but this machine's mirrors are of {distribution.id}",
            action=f"name a mirror of {owner.id}: site.apt_mirror in slipway.yaml, or leave hosts.suite unset",
        )
    sources = controller_sources() if owner is distribution else []
    dumped = process.run(["apt-config", "dump"], check=False).stdout
    options = dict(apt_options(dumped))
    if settings.proxy is not None:
        options |= {"Acquire::http::Proxy": settings.proxy, "Acquire::https::Proxy": settings.proxy}
    home = Path.home()
    return Site(
        suite=wanted,
        distribution=owner.id,
        keyring_package=owner.keyring,
        sources=lab_sources(sources, owner, codename if owner is distribution else wanted, wanted, settings),
        resolvers=(settings.resolver,) if settings.resolver is not None else resolvers(),
        apt_options=tuple(sorted(options.items())),
        proxies=proxies(os.environ, settings.proxy),
        certificates=certificates(extra=settings.ca_certificates),
        pip=pip_settings(
            os.environ, [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
        ),
    )


def private_addresses(names: Iterable[str]) -> tuple[str, ...]:
    """The private IPv4 addresses behind host names: a lab may reach these and no other private address."""
    found: list[str] = []
    for name in names:
        try:
            answers = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            continue  # a name only hosts or a proxy can resolve needs no rule here
        found += [str(answer[4][0]) for answer in answers]
    return tuple(sorted({address for address in found if ipaddress.IPv4Address(address).is_private}))
