"""apt: the distribution and archives of this machine, and what others can be given of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from slipway.core import process
from slipway.core.errors import EnvironmentFault
from slipway.core.schema import Site

OS_RELEASE = Path("/etc/os-release")
# Options of fetching, apart from those of this machine's packages, services and caches.
_FETCHING = re.compile(
    r"^Acquire::(Check-Valid-Until|Check-Date|Max-ValidTime|Min-ValidTime|Max-FutureTime|Retries"
    r"|ForceIPv[46]|https?::.+)$",
    re.IGNORECASE,
)
# Options of a source that let unsigned or badly signed packages in, and checks that they may switch off
_TRUSTS = ("Trusted", "Allow-Insecure", "Allow-Weak", "Allow-Downgrade-To-Insecure")
_CHECKS = ("Check-Valid-Until", "Check-Date")
_UNCHECKED = re.compile(r"^Acquire::(Check-Valid-Until|Check-Date)$|::Verify-(Peer|Host)$", re.IGNORECASE)
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
class Login:
    """Who this machine is at a mirror or a proxy, as auth.conf says it.

    address: scheme, host, port and path below which it is sent; without a scheme apt sends it over TLS only.
    """

    address: str
    user: str
    password: str = field(repr=False)

    @property
    def host(self) -> str:
        return urlsplit(self.address if "://" in self.address else f"//{self.address}").hostname or ""


@dataclass(frozen=True)
class Fetching:
    """Where apt gets packages and through what. No login is in the sources and the options."""

    sources: tuple[Source, ...]
    options: tuple[tuple[str, str], ...]
    logins: tuple[Login, ...]

    @property
    def auth_conf(self) -> str:
        """The logins as a file for auth.conf.d; the longest address comes first, for apt takes the first."""
        ordered = sorted(self.logins, key=lambda login: (-len(login.address), login.address))
        words = (["machine", one.address, "login", one.user, "password", one.password] for one in ordered)
        return "".join(" ".join(filter(None, line)).removesuffix(" password") + "\n" for line in words)

    def unverified(self) -> tuple[str, ...]:
        """What apt does not verify with these sources and options, a line each."""
        lines = [
            f"{name}: {value} for {source.uri} {source.suite}"
            for source in self.sources
            for name, value in source.options
            if (name in _TRUSTS and _is_true(value)) or (name in _CHECKS and _is_false(value))
        ]
        lines += [
            f"{name} {value}" for name, value in self.options if _UNCHECKED.search(name) and _is_false(value)
        ]
        return tuple(lines)


def _is_true(value: str) -> bool:
    return value.lower() in ("yes", "true", "with", "on", "enable", "1")


def _is_false(value: str) -> bool:
    return value.lower() in ("no", "false", "without", "off", "disable", "0")


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
    """The keys of os-release; empty if there is no such file."""
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, value in pairs}


def this_distribution(path: Path = OS_RELEASE) -> tuple[Distribution, str]:
    """This machine's distribution and codename. Raises EnvironmentFault outside the Debian family."""
    values = os_release(path)
    for name in [values.get("ID", ""), *values.get("ID_LIKE", "").split()]:
        if name in DISTRIBUTIONS:
            codename = values.get("UBUNTU_CODENAME") or values.get("VERSION_CODENAME", "")
            return DISTRIBUTIONS[name], codename
    raise EnvironmentFault(
        "lab hosts can only be made on Debian and Ubuntu, this is "
        f"{values.get('PRETTY_NAME', 'another system')}",
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
    *,
    origins: Mapping[str, str] | None = None,
) -> tuple[Source, ...]:
    """The archives of a suite: those of `sources` for `codename`, their suite replaced, or the site's own.

    Only the distribution's archives count: those whose suite is the codename (or "stable" and the like),
    whose component main is on, and that are no third party's. origins: see own_origins. Of several for the
    same pocket the one that is surest the distribution's is taken, else the first. Empty if nothing is left.
    """
    found: dict[str, list[tuple[int, Source]]] = {}
    for source in sources:
        name, pocket = _pocket(source.suite)
        if name not in {codename, *distribution.aliases} or "main" not in source.components:
            continue
        if urlsplit(source.uri).scheme not in ("http", "https", "file", "copy"):
            continue
        doubts = _doubts(source, distribution, (origins or {}).get(source.uri.rstrip("/")), name == codename)
        if doubts is not None:
            found.setdefault(pocket, []).append((doubts, source))
    bases = {pocket: min(each, key=lambda one: one[0])[1] for pocket, each in found.items()}
    if settings.apt_mirror is not None:
        bases[""] = Source(settings.apt_mirror, codename, distribution.components)
        bases["-updates"] = bases[""]
    if settings.apt_security_mirror is not None:
        bases["-security"] = Source(settings.apt_security_mirror, codename, distribution.components)
    if "" not in bases:
        return ()
    return tuple(
        Source(
            bases[pocket].uri,
            f"{suite}{pocket}",
            distribution.components,
            tuple((name, value) for name, value in bases[pocket].options if name in (*_TRUSTS, *_CHECKS)),
        )
        for pocket in ("", "-updates", "-security")
        if pocket in bases
    )


def _doubts(source: Source, distribution: Distribution, origin: str | None, by_codename: bool) -> int | None:
    """How doubtful it is that an archive is the distribution's own; None if it is a third party's.

    Surest is its keyring or, in lists that apt checked, its name as the origin. Then comes an address that
    ends in its name, as mirrors' do. Anybody may call a suite "stable": that alone says nothing.
    """
    signed = dict(source.options).get("Signed-By", "")
    if signed and f"{distribution.id}-" not in signed and "BEGIN PGP" not in signed:
        return None
    if (signed and "BEGIN PGP" not in signed) or (origin or "").lower() == distribution.id:
        return 0
    last = urlsplit(source.uri).path.rstrip("/").rpartition("/")[2]
    if re.fullmatch(rf"{distribution.id}(-[a-z]+)?", last):
        return 1 if origin is None else 3
    return 2 if by_codename and origin is None else None


def _pocket(suite: str) -> tuple[str, str]:
    for pocket in ("-updates", "-security"):
        if suite.removesuffix("/updates").endswith(pocket):
            return suite.removesuffix(pocket), pocket
    return suite, ""


def own_origins() -> dict[str, str]:
    """URI of an archive -> who it says it is, as far as this machine has its lists."""
    if shutil.which("apt-get") is None:
        return {}
    argv = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"]
    pairs = (line.split(" ", 1) for line in process.run(argv, check=False).stdout.splitlines() if " " in line)
    return {uri.rstrip("/"): origin for uri, origin in pairs if origin != "$(ORIGIN)"}


def own_logins(apt: Path = Path("/etc/apt")) -> tuple[Login, ...]:
    """The logins in this machine's auth.conf and auth.conf.d, those it may read; in apt's order of files."""
    found: list[Login] = []
    for file in [apt / "auth.conf", *sorted((apt / "auth.conf.d").glob("*.conf"))]:
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        words = [word for line in lines if not line.lstrip().startswith("#") for word in line.split()]
        for key, value in zip(words[::2], words[1::2], strict=False):
            if key == "machine":
                found.append(Login(value, "", ""))
            elif found and key == "login":
                found[-1] = replace(found[-1], user=value)
            elif found and key == "password":
                found[-1] = replace(found[-1], password=value)
    return tuple(login for login in found if login.user)


def fetching(sources: Iterable[Source], options: Mapping[str, str], own: Iterable[Login] = ()) -> Fetching:
    """Sources and options with the logins taken out of them.

    own: this machine's logins, of which those for the servers among the sources and proxies come along.
    Raises EnvironmentFault for a login that apt's auth.conf cannot hold.
    """
    logins: list[Login] = []
    plain: list[Source] = []
    for source in sources:
        uri, login = split_login(source.uri)
        plain.append(replace(source, uri=uri))
        logins += [login] if login is not None else []
    told: dict[str, str] = {}
    for name, value in options.items():
        told[name], login = split_login(value) if "://" in value else (value, None)
        logins += [login] if login is not None else []
    hosts = {urlsplit(source.uri).hostname for source in plain}
    hosts |= {urlsplit(value).hostname for value in told.values() if "://" in value}
    logins += [login for login in own if login.host in hosts]
    return Fetching(tuple(plain), tuple(sorted(told.items())), tuple(dict.fromkeys(logins)))


def split_login(address: str) -> tuple[str, Login | None]:
    """An address without its login, and the login. Raises EnvironmentFault if auth.conf cannot hold it."""
    parts = urlsplit(address)
    who, at, server = parts.netloc.rpartition("@")
    if not at:
        return address, None
    user, _, password = who.partition(":")
    without = parts._replace(netloc=server).geturl()
    login = Login(f"{without.rstrip('/')}/", unquote(user), unquote(password))
    if re.search(r"\s", login.user + login.password) or not login.user:
        raise EnvironmentFault(
            f"apt cannot be given the login of {without}: a blank is in it, or it has no name",
            action="change the login, or leave it out of the address and write it to /etc/apt/auth.conf",
        )
    return without, login


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
    """Whether an option names a program or a host name of this machine, which mean nothing on another."""
    return _THIS_MACHINES.search(option) is not None
