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

from slipway.clients import apt
from slipway.core.errors import EnvironmentFault
from slipway.core.schema import Site as SiteSettings
from slipway.hosts.nspawn.network import Opening

PROXY_NAMES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_PORTS = {"http": (80, 443), "https": (443,), "ftp": (21,), "": (443,)}
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")


@dataclass(frozen=True)
class Service:
    """A port of a server. server: a name or an address. No protocol and port 0: whatever it offers."""

    server: str
    protocol: str = ""
    port: int = 0


@dataclass(frozen=True)
class Site:
    """What a lab host of one suite is given. Logins are in apt_logins, proxies and pip only."""

    suite: str
    distribution: str
    keyring_package: str
    sources: tuple[apt.Source, ...]
    resolvers: tuple[str, ...]
    apt_options: tuple[tuple[str, str], ...] = ()
    apt_logins: tuple[apt.Login, ...] = ()
    proxies: tuple[tuple[str, str], ...] = ()
    certificates: tuple[str, ...] = ()
    pip: tuple[tuple[str, str], ...] = ()

    @property
    def keyring_file(self) -> str:
        """Where both distributions keep their archive's keys, on hosts and on this machine."""
        return f"/usr/share/keyrings/{self.distribution}-archive-keyring.gpg"

    @property
    def digest(self) -> str:
        """Changes with everything that is built into a root, which no login is."""
        built_in = asdict(replace(self, resolvers=(), pip=(), proxies=(), apt_logins=()))
        return hashlib.sha256(json.dumps(built_in, sort_keys=True).encode()).hexdigest()

    @property
    def fetching(self) -> apt.Fetching:
        """Where and how apt gets packages on these hosts."""
        return apt.Fetching(self.sources, self.apt_options, self.apt_logins)

    def unverified(self) -> tuple[str, ...]:
        """What hosts do not verify because this machine does not, a line each."""
        trusted = dict(self.pip).get("trusted-host", "").split()
        return (*self.fetching.unverified(), *(f"pip's trusted-host {name}" for name in trusted))

    def services(self) -> tuple[Service, ...]:
        """What hosts must reach whatever network it is in."""
        urls = [source.uri for source in self.sources]
        urls += [value for name, value in self.proxies if name != "no_proxy"]
        urls += [value for key, value in self.pip if key.endswith(("url", "proxy"))]
        urls += [value for key, value in self.apt_options if key.lower().endswith("::proxy")]
        found = [Service(server, protocol, 53) for server in self.resolvers for protocol in ("tcp", "udp")]
        for url in " ".join(urls).split():
            found += service(url)
        return tuple(dict.fromkeys(found))


def resolvers(etc: Path = Path("/etc"), run: Path = Path("/run")) -> tuple[str, ...]:
    """The name servers of this machine, also those behind a stub resolver on the loopback address."""
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
        "no name server that lab hosts could use: this machine's resolver listens on the loopback address "
        "only",
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
    distribution, codename = apt.this_distribution()
    wanted = suite or distribution.default_suite
    owner = next((d for d in apt.DISTRIBUTIONS.values() if wanted in d.suites), distribution)
    if owner is not distribution and settings.apt_mirror is None:
        raise EnvironmentFault(
            f"hosts.suite {wanted} is of {owner.id}, but this machine's mirrors are of {distribution.id}",
            action=f"name a mirror of {owner.id}: site.apt_mirror in slipway.yaml, or leave hosts.suite "
            "unset",
        )
    ours = owner is distribution
    sources = apt.archives(
        apt.own_sources() if ours else [],
        owner,
        codename if ours else wanted,
        wanted,
        settings,
        origins=apt.own_origins() if ours else {},
    )
    if not sources:
        raise EnvironmentFault(
            f"no apt archive of {owner.id} {codename} is configured on this machine",
            action="add one to /etc/apt/sources.list, or name it: site.apt_mirror in slipway.yaml",
        )
    options = {
        name: value
        for name, value in apt.own_options(settings.proxy).items()
        if not apt.is_of_this_machine(name)
    }
    fetching = apt.fetching(sources, options, apt.own_logins())
    home = Path.home()
    return Site(
        suite=wanted,
        distribution=owner.id,
        keyring_package=owner.keyring,
        sources=fetching.sources,
        resolvers=(settings.resolver,) if settings.resolver is not None else resolvers(),
        apt_options=fetching.options,
        apt_logins=fetching.logins,
        proxies=proxies(os.environ, settings.proxy),
        certificates=certificates(extra=settings.ca_certificates),
        pip=pip_settings(
            os.environ, [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
        ),
    )


def service(url: str) -> tuple[Service, ...]:
    """The services behind a URL, or behind HOST:PORT; none when it names no host.

    A server asked by http without a port may answer with a redirect to its https.
    """
    parts = urlsplit(url if "//" in url else f"//{url}")
    if not parts.hostname:
        return ()
    ports = (parts.port,) if parts.port else _PORTS.get(parts.scheme)
    if ports is None:
        return (Service(parts.hostname),)
    return tuple(Service(parts.hostname, "tcp", port) for port in ports)


def openings(services: Iterable[Service], refuse: Iterable[str]) -> tuple[Opening, ...]:
    """What a lab must be let through to, of the networks it is kept from."""
    networks = [ipaddress.IPv4Network(network) for network in refuse]
    found: set[Opening] = set()
    for one in services:
        try:
            answers = socket.getaddrinfo(one.server, None, socket.AF_INET, socket.SOCK_STREAM)
        except OSError:
            continue  # a name only hosts or a proxy can resolve needs no rule here
        addresses = {ipaddress.IPv4Address(str(answer[4][0])) for answer in answers}
        found |= {
            Opening(f"{address}/32", one.protocol, one.port)
            for address in addresses
            if any(address in network for network in networks)
        }
    return tuple(sorted(found, key=lambda opening: (opening.network, opening.protocol, opening.port)))
