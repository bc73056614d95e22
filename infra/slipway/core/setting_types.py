"""What the values of single settings may be, each with what is expected of it in words."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, WithJsonSchema

from slipway.core.user_files import printable


def _existing(path: Path) -> Path:
    try:
        path.stat()
    except FileNotFoundError:
        raise ValueError(f"{printable(str(path))} does not exist") from None
    except OSError as error:
        raise ValueError(f"{printable(str(path))} cannot be used: {error.strerror}") from error
    return path


def _directory_or_address(value: Path | str) -> Path | str:
    if isinstance(value, Path):
        return _existing(value)
    url = _split(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("expected a directory, or an address such as https://example.com/mnist/")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("expected an address without login, query and fragment")
    return value


def _saved_weights(path: Path) -> Path:
    for found in (path, path.with_name(f"{path.name}.index")):
        try:
            _existing(found)
        except ValueError:
            continue
        return path
    shown = printable(str(path))  # pydantic takes no text with half a surrogate pair, which a path may hold
    raise ValueError(f"{shown} does not exist, nor a checkpoint of that name ({printable(path.name)}.index)")


def _web_address(value: str) -> str:
    url = _split(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("expected an address such as http://mirror.example.com/debian")
    return value


def _split(value: str) -> SplitResult:
    """The parts of an address. Raises ValueError in words for what is none, a port of 99999 for example."""
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError("expected an address such as https://example.com:8443/") from None
    return url


def _address(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError("expected an IPv4 address such as 192.0.2.53") from None


def _registry(value: str) -> str:
    """host or host:port, as image names have it."""
    rest = value.partition("://")[2] or value
    login, _, place = rest.rpartition("@")
    host, _, path = place.partition("/")
    right = f"expected host or host:port such as {host}" if _REGISTRY.fullmatch(host) else ""
    if "://" in value:
        raise ValueError(f"{right or _A_REGISTRY}: an image's name has no {value.partition('://')[0]}://")
    if login:
        raise ValueError(f"{right or _A_REGISTRY}: a login belongs in image.username and image.password_file")
    if "/" in place:
        where = f"{path.strip('/')}/mnist" if path.strip("/") else "slipway/mnist"
        raise ValueError(f"{right or _A_REGISTRY}: a path belongs in image.repository, as {where}")
    found = _REGISTRY.fullmatch(value)
    if found is None or not 0 < int(found["port"] or 1) < 65536:
        raise ValueError(_A_REGISTRY)
    return value


_A_REGISTRY = "expected host or host:port such as registry.example.com:5000"
_REGISTRY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:(?P<port>[0-9]{1,5}))?")


def _network(value: str) -> str:
    """An IPv4 network with its prefix."""
    address, slash, prefix = value.partition("/")
    try:
        network = ipaddress.IPv4Interface(value).network
        if not (slash and prefix.isdecimal()):
            raise ValueError
    except ValueError:
        raise ValueError("expected an IPv4 network with its prefix, such as 10.77.4.0/24") from None
    if str(network.network_address) != address:
        raise ValueError(f"expected a network: {address} is an address in {network}")
    return value


def _reachable_network(value: str) -> str:
    """A network, or one address as the network it is alone in."""
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError as error:
        raise ValueError(
            f"expected an IPv4 address or network, e.g. 192.168.1.7 or 192.168.1.0/24 ({error})"
        ) from None


def _allowed_network(value: str) -> str:
    """Whose machines may come in; one that is as good as everybody is a mistake."""
    if ipaddress.IPv4Network(_network(value)).prefixlen < 8:
        raise ValueError("expected a network of /8 or narrower, such as your own address, 203.0.113.7/32")
    return value


def _lab_network(value: str) -> str:
    network = ipaddress.IPv4Network(_network(value))
    if network.prefixlen > 28 or not network.is_private:
        raise ValueError("expected a private IPv4 network of /28 or larger, such as 10.77.4.0/24")
    return value


def _pod_network(value: str) -> str:
    if ipaddress.IPv4Network(_network(value)).prefixlen > 23:
        raise ValueError("expected /23 or larger, such as 10.244.0.0/16: each node takes a /24 of it")
    return value


def _service_network(value: str) -> str:
    if not 12 <= ipaddress.IPv4Network(_network(value)).prefixlen <= 28:
        raise ValueError("expected /12 to /28, such as 10.96.0.0/12, as the API server takes them")
    return value


def _like(pattern: str, expected: str) -> Callable[[str], str]:
    """A check that tells what is expected in words, where pydantic's own would show the pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}")
        return value

    return check


_NAMESPACE = r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?"
_MODEL = r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.-]{1,63}"  # and so no `..`: folders are called after models
MODEL_NAME = re.compile(_MODEL)
A_MODEL_NAME = "letters, digits and any of _ . -, at most 63, such as mnist"
_REPOSITORY = r"[a-z0-9]+([._/-][a-z0-9]+)*"
_SUITE = r"[a-z][a-z0-9-]{0,40}"

ExistingPath = Annotated[Path, AfterValidator(_existing)]
DirectoryOrAddress = Annotated[Path | str, AfterValidator(_directory_or_address)]
SavedWeights = Annotated[Path, AfterValidator(_saved_weights)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
IPv4Address = Annotated[str, AfterValidator(_address)]
RegistryAddress = Annotated[str, AfterValidator(_registry)]
ReachableNetwork = Annotated[str, AfterValidator(_reachable_network)]
AllowedNetwork = Annotated[str, AfterValidator(_allowed_network)]
LabNetwork = Annotated[str, AfterValidator(_lab_network)]
PodNetwork = Annotated[str, AfterValidator(_pod_network)]
ServiceNetwork = Annotated[str, AfterValidator(_service_network)]
Namespace = Annotated[
    str,
    AfterValidator(_like(_NAMESPACE, "lower-case letters, digits and dashes, at most 42, such as serving")),
    WithJsonSchema({"type": "string", "pattern": f"^{_NAMESPACE}$"}),
]
ModelName = Annotated[
    str,
    AfterValidator(_like(_MODEL, A_MODEL_NAME)),
    WithJsonSchema({"type": "string", "pattern": f"^{_MODEL}$"}),
]
Repository = Annotated[
    str,
    AfterValidator(
        _like(
            _REPOSITORY,
            "lower-case words with any of . _ / - between them, such as team/mnist, without host and tag",
        )
    ),
    WithJsonSchema({"type": "string", "pattern": f"^{_REPOSITORY}$"}),
]
Suite = Annotated[
    str,
    AfterValidator(_like(_SUITE, "the name of a suite, such as trixie or noble")),
    WithJsonSchema({"type": "string", "pattern": f"^{_SUITE}$"}),
]
