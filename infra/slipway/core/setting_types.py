"""What the values of single settings may be, each with what is expected of it in words."""

from __future__ import annotations

import ipaddress
import os
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


def _kubeconfig(path: Path) -> Path:
    """One file: what the variable KUBECONFIG may name, several of them, only kubectl merges."""
    try:
        return _existing(path)
    except ValueError:
        if os.pathsep not in str(path):
            raise
        shown = printable(str(path))
        raise ValueError(
            f"expected one file; {shown} is a list of them, which kubectl merges into one: "
            f"KUBECONFIG={shown} kubectl config view --flatten >merged.config"
        ) from None


def _directory_or_address(value: Path | str) -> Path | str:
    if isinstance(value, Path):
        return _existing(value)
    url = _split(value)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("expected a directory, or an address such as https://example.com/mnist/")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("expected an address without login, query and fragment")
    return value


def _path_or_address(value: Path | str) -> Path | str:
    """A file or folder here, or the address of one; `slipway.model` knows how to fetch it."""
    if isinstance(value, Path):
        return _existing(value)
    url = _split(value)
    example = ADDRESSES.get(url.scheme)
    if example is None:
        raise ValueError(f"expected a path, or an address: {', '.join(f'{one}://' for one in ADDRESSES)}")
    if "@" in url.netloc:
        raise ValueError(
            "expected an address without a login: it comes from where the store's own tools find theirs"
        )
    if url.query or url.fragment or not value.isprintable() or " " in value:
        raise ValueError(f"expected an address without query, fragment and blanks, such as {example}")
    path = url.path.strip("/")
    if url.scheme == "file":
        complete = bool(path) and not url.netloc
    elif url.scheme == "oci":
        complete = OCI_ADDRESS.fullmatch(value) is not None
    else:
        complete = bool(url.hostname and (path or url.scheme in ("s3", "gs")))
    if not complete:
        raise ValueError(f"expected an address such as {example}")
    return value


# What an address may begin with, each with an example
ADDRESSES = {
    "s3": "s3://bucket/models/mnist",
    "gs": "gs://bucket/models/mnist",
    "hf": "hf://organisation/model@revision",
    "oci": "oci://registry.example.com/models/mnist:1",
    "https": "https://example.com/mnist.tar.gz",
    "file": "file:///srv/models/mnist",
}
OCI_ADDRESS = re.compile(
    r"oci://(?P<registry>[A-Za-z0-9.-]+(?::[0-9]{1,5})?)/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?=[:@])(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError(
            "expected the 64 hexadecimal digits of a sha256, as `slipway model inspect` tells it"
        )
    return value.lower()


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
_FINGERPRINT = r"[0-9A-Fa-f]{40}"
_SUITE = r"[a-z][a-z0-9-]{0,40}"

ExistingPath = Annotated[Path, AfterValidator(_existing)]
Kubeconfig = Annotated[Path, AfterValidator(_kubeconfig)]
DirectoryOrAddress = Annotated[Path | str, AfterValidator(_directory_or_address)]
PathOrAddress = Annotated[Path | str, AfterValidator(_path_or_address)]
Sha256 = Annotated[str, AfterValidator(_sha256)]
SavedWeights = Annotated[Path, AfterValidator(_saved_weights)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
IPv4Address = Annotated[str, AfterValidator(_address)]
RegistryAddress = Annotated[str, AfterValidator(_registry)]
ReachableNetwork = Annotated[str, AfterValidator(_reachable_network)]
AllowedNetwork = Annotated[str, AfterValidator(_allowed_network)]
LabNetwork = Annotated[str, AfterValidator(_lab_network)]
PodNetwork = Annotated[str, AfterValidator(_pod_network)]
ServiceNetwork = Annotated[str, AfterValidator(_service_network)]
_MEMORY = r"[0-9]+(Ki|Mi|Gi|k|M|G)?"
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def bytes_of(memory: str) -> int:
    """Bytes of an amount of memory as Kubernetes writes it, such as 512Mi."""
    number = memory.rstrip("".join(_UNITS))
    return int(number) * _UNITS[memory.removeprefix(number)]


def cores_of(cpu: str) -> float:
    """Processors of a share as Kubernetes writes it, such as 500m."""
    return float(cpu.removesuffix("m")) / (1000 if cpu.endswith("m") else 1)


_CPU = r"[0-9]+m|[0-9]+(\.[0-9]{1,3})?"
Memory = Annotated[
    str,
    AfterValidator(_like(_MEMORY, "bytes, such as 512Mi or 2Gi")),
    WithJsonSchema({"type": "string", "pattern": f"^({_MEMORY})$"}),
]
Cpu = Annotated[
    str,
    AfterValidator(_like(_CPU, "processors, such as 500m or 2")),
    WithJsonSchema({"type": "string", "pattern": f"^({_CPU})$"}),
]
_SECRET = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"  # noqa: S105  # a pattern
SecretName = Annotated[
    str,
    AfterValidator(_like(_SECRET, "the name of a Secret: lower-case letters, digits, dashes and dots")),
    WithJsonSchema({"type": "string", "pattern": f"^{_SECRET}$"}),
]
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
Fingerprint = Annotated[
    str,
    AfterValidator(
        _like(_FINGERPRINT, "40 hexadecimal digits without blanks, as gpg --fingerprint prints them")
    ),
    WithJsonSchema({"type": "string", "pattern": f"^{_FINGERPRINT}$"}),
]
Suite = Annotated[
    str,
    AfterValidator(_like(_SUITE, "the name of a suite, such as trixie or noble")),
    WithJsonSchema({"type": "string", "pattern": f"^{_SUITE}$"}),
]
