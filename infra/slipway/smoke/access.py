"""What the deployed server asks of a client: read from the Deployment and the Secrets it names."""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_client.credentials import Tls, Token

from slipway.clients.kubectl import Kubectl, Manifest
from slipway.core.errors import SlipwayError

_MOUNTS = {"tls": "/tls", "token": "/token"}


@dataclass(frozen=True)
class Access:
    """How a replica is spoken to. volumes and arguments: what gives a pod the same.

    server_name: what the certificate is for; replicas are reached by other addresses. Without TLS and tokens
    all of it is empty.
    """

    tls: Tls | None = None
    token: Token | None = None
    server_name: str = ""
    volumes: tuple[Manifest, ...] = ()
    arguments: tuple[str, ...] = ()

    @property
    def mounts(self) -> list[Manifest]:
        """Where the pod's container has the volumes."""
        return [
            {"name": volume["name"], "mountPath": _MOUNTS[volume["name"]], "readOnly": True}
            for volume in self.volumes
        ]


OPEN = Access()  # of a server without TLS and tokens


@contextmanager
def access_to(kubectl: Kubectl, namespace: str, name: str) -> Iterator[Access]:
    """What the pods of this Deployment ask for; the files of it are gone when the block is left.

    Raises SlipwayError for a Secret that is not there, or lacks a key.
    """
    tls_secret, clients, token_secret = _named(kubectl.find("deployment", name, namespace=namespace) or {})
    tls, token, server_name = None, None, ""
    volumes: list[Manifest] = []
    arguments: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if tls_secret:
            held = _secret(kubectl, namespace, tls_secret)
            authority = "ca.crt" if "ca.crt" in held else "tls.crt"
            keys = [authority, *(["tls.crt", "tls.key"] if clients else [])]
            for key in keys:
                _write(folder / key, _value(held, key, tls_secret))
            server_name = _certified(_value(held, "tls.crt", tls_secret), tls_secret)
            tls = Tls(
                folder / authority,
                folder / "tls.crt" if clients else None,
                folder / "tls.key" if clients else None,
                server_name,
            )
            items = [{"key": key, "path": key} for key in dict.fromkeys(keys)]
            volumes.append({"name": "tls", "secret": {"secretName": tls_secret, "items": items}})
            arguments += [f"--ca={_MOUNTS['tls']}/{authority}", f"--server_name={server_name}"]
            arguments += ["--cert=/tls/tls.crt", "--key=/tls/tls.key"] if clients else []
        if token_secret:
            given = _value(_secret(kubectl, namespace, token_secret), "token", token_secret)
            _write(
                folder / "token", (given.split() or [b""])[0]
            )  # of several, as while they are rotated, one
            token = Token(folder / "token", without_tls=True)
            items = [{"key": "token", "path": "token"}]
            volumes.append({"name": "token", "secret": {"secretName": token_secret, "items": items}})
            arguments += [f"--token_file={_MOUNTS['token']}/token"]
            arguments += [] if tls else ["--token_without_tls"]  # as the deployment wants it
        yield Access(tls, token, server_name, tuple(volumes), tuple(arguments))


def _named(deployment: dict[str, Any]) -> tuple[str, bool, str]:
    """The Secret of TLS, whether clients show certificates, and the Secret of tokens; empty for none."""
    template = deployment.get("spec", {}).get("template", {}).get("spec", {})
    volumes = {volume["name"]: volume for volume in template.get("volumes", [])}
    sources = volumes.get("tls", {}).get("projected", {}).get("sources", [])
    secret: dict[str, Any] = next((source["secret"] for source in sources if "secret" in source), {})
    clients = any(item["key"] == "ca.crt" for item in secret.get("items", []))
    token = volumes.get("token", {}).get("secret", {}).get("secretName", "")
    return str(secret.get("name", "")), clients, str(token)


def _secret(kubectl: Kubectl, namespace: str, name: str) -> dict[str, str]:
    found = kubectl.find("secret", name, namespace=namespace)
    if found is None:
        raise SlipwayError(
            f"there is no Secret {name} in namespace {namespace}, which the Deployment names",
            action="make it, and `slipway smoke` again: docs/deploy.md says how",
        )
    return dict(found.get("data") or {})


def _value(held: dict[str, str], key: str, name: str) -> bytes:
    try:
        return base64.b64decode(held[key], validate=True)
    except (KeyError, binascii.Error) as error:
        raise SlipwayError(f"the Secret {name} has no {key}", action="make it anew with that key") from error


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def _certified(pem: bytes, name: str) -> str:
    """A name that this certificate is for: of a wildcard one of the many, else an address."""
    from cryptography import x509

    try:
        names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (ValueError, x509.ExtensionNotFound) as error:
        raise SlipwayError(
            f"the certificate in Secret {name} is for no name: {error}",
            action="make one with subject alternative names, such as the Service's",
        ) from error
    domains = names.value.get_values_for_type(x509.DNSName)
    addresses = [str(address) for address in names.value.get_values_for_type(x509.IPAddress)]
    return next(iter([*domains, *addresses]), "").replace("*", "replica")
