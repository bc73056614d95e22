"""An image registry, asked over the OCI distribution API: HTTPS only, with a login and its own CA."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from infra.core.errors import ImageError
from infra.core.types import Registry

TIMEOUT = 10.0  # seconds for one answer
LARGEST = 8 << 20  # bytes of a manifest or config; layers are never fetched here
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# Docker Hub's name in references is not the host that speaks the API.
_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class Manifest:
    """An image's manifest; digest is over its bytes as received ("sha256:...")."""

    digest: str
    document: dict[str, Any]


def manifest_digest(registry: Registry, repository: str, tag: str) -> str | None:
    """The digest a tag points to, None when there is no such tag. Raises ImageError."""
    found = manifest(registry, repository, tag)
    return found.digest if found else None


def manifest(registry: Registry, repository: str, reference: str) -> Manifest | None:
    """The manifest of a tag or digest, None when there is none.

    Raises ImageError when the registry cannot be asked or its bytes are not what it says they are.
    """
    return _Session(registry).manifest(repository, reference)


def labels(registry: Registry, repository: str, reference: str) -> dict[str, str] | None:
    """The labels of a tag or digest, None when there is no such image. Raises ImageError."""
    session = _Session(registry)
    found = session.manifest(repository, reference)
    if found is not None and found.document.get("mediaType") in _INDEXES:
        # An index also lists attestations, whose platform is "unknown".
        real = [
            entry["digest"]
            for entry in found.document.get("manifests", [])
            if entry.get("platform", {}).get("os") != "unknown"
        ]
        found = session.manifest(repository, real[0]) if real else None
    if found is None:
        return None
    config = session.blob(repository, found.document["config"]["digest"])
    return dict(config.get("config", {}).get("Labels") or {})


@dataclass
class _Session:
    """One login; the token of a bearer registry is kept for the next request."""

    registry: Registry
    _tokens: dict[str, str] = field(default_factory=dict)

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        path = f"/v2/{repository}/manifests/{reference}"
        got = self.get(path, ", ".join((*_MANIFESTS, *_INDEXES)), scope=f"repository:{repository}:pull")
        if got is None:
            return None
        body, headers = got
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        told = headers.get("Docker-Content-Digest") or digest
        wanted = reference if reference.startswith("sha256:") else told
        if not digest == told == wanted:
            raise ImageError(
                f"{repository}:{reference} is {digest}, the registry says {told}",
                where=self.registry.address,
                action="look at what stands between this machine and the registry; its answers are changed",
            )
        return Manifest(digest, self._json(body, path))

    def blob(self, repository: str, digest: str) -> dict[str, Any]:
        path = f"/v2/{repository}/blobs/{digest}"
        got = self.get(path, "*/*", scope=f"repository:{repository}:pull")
        if got is None or f"sha256:{hashlib.sha256(got[0]).hexdigest()}" != digest:
            raise ImageError(
                f"the registry has the image {repository}, but not its config {digest}",
                where=self.registry.address,
                action="delete the tag in the registry and run again; it is pushed anew",
            )
        return self._json(got[0], path)

    def get(self, path: str, accept: str, *, scope: str) -> tuple[bytes, Mapping[str, str]] | None:
        """Body and headers; None for 404. Logs in the way the registry asks for."""
        headers = {"Accept": accept}
        if scope in self._tokens:
            headers["Authorization"] = self._tokens[scope]
        try:
            return self._open(f"https://{self._host}{path}", headers)
        except HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                if error.code != 401 or "Authorization" in headers:
                    raise self._refused(error, path) from error
                challenge = error.headers.get("WWW-Authenticate", "")
        self._tokens[scope] = self._login(challenge, scope)
        return self.get(path, accept, scope=scope)

    @property
    def _host(self) -> str:
        return _API_HOSTS.get(self.registry.address, self.registry.address)

    def _login(self, challenge: str, scope: str) -> str:
        kind, _, rest = challenge.partition(" ")
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        basic = self._basic()
        if kind.lower() == "basic":
            if basic is None:
                raise ImageError(
                    "the registry wants a login and none is set",
                    where=self.registry.address,
                    action="set image.username and image.password_file",
                )
            return basic
        if kind.lower() != "bearer" or not asked.get("realm", "").startswith("https://"):
            raise ImageError(
                f"the registry asks for a login slipway does not know: {challenge[:200] or 'none named'}",
                where=self.registry.address,
                action="use a registry with a Basic or Bearer login over HTTPS",
            )
        query = {"scope": scope} | ({"service": asked["service"]} if asked.get("service") else {})
        try:
            got = self._open(
                f"{asked['realm']}?{urlencode(query)}", {"Authorization": basic} if basic else {}
            )
        except HTTPError as error:
            with error:
                raise self._refused(error, "its login") from error
        answer = self._json(got[0], "its login")
        return f"Bearer {answer.get('token') or answer.get('access_token') or ''}"

    def _basic(self) -> str | None:
        if self.registry.username is None or self.registry.password_file is None:
            return None
        try:
            password = self.registry.password_file.read_text(encoding="utf-8").strip("\r\n")
        except OSError as error:
            raise ImageError(
                f"cannot read the registry's password: {error}",
                where=str(self.registry.password_file),
                action="image.password_file must be a file this user can read",
            ) from error
        login = base64.b64encode(f"{self.registry.username}:{password}".encode()).decode()
        return f"Basic {login}"

    def _open(self, url: str, headers: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
        request = Request(url)  # noqa: S310  # always https://, see the callers
        for name, value in headers.items():
            # Not sent on to where a redirect points: storage elsewhere must not see the login.
            request.add_unredirected_header(name, value)
        try:
            with self._opener().open(request, timeout=TIMEOUT) as response:
                return self._read(response), response.headers
        except HTTPError:
            raise
        except (URLError, OSError, HTTPException) as error:
            raise self._unreachable(error) from error

    def _opener(self) -> OpenerDirector:
        try:
            context = ssl.create_default_context()
            if self.registry.ca_file is not None:
                context.load_verify_locations(cafile=self.registry.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ImageError(
                f"cannot read the registry's CA certificate: {error}",
                where=str(self.registry.ca_file),
                action="image.ca_file must be a PEM file with at least one certificate",
            ) from error
        handlers: list[Any] = [HTTPSHandler(context=context)]
        if _is_private(self.registry.address):
            handlers.append(ProxyHandler({}))  # a lab's address means nothing to a proxy
        return build_opener(*handlers)

    def _read(self, response: HTTPResponse) -> bytes:
        body = response.read(LARGEST + 1)
        if len(body) > LARGEST:
            raise ImageError(
                f"the registry's answer is larger than {LARGEST >> 20} MiB",
                where=self.registry.address,
                action="check that this address is an image registry",
            )
        return body

    def _json(self, body: bytes, path: str) -> dict[str, Any]:
        try:
            out = json.loads(body)
        except ValueError:
            out = None
        if not isinstance(out, dict):
            raise ImageError(
                f"the registry's answer to {path} is not JSON",
                where=self.registry.address,
                tail=body[:500].decode(errors="replace"),
                action="check that this address is an image registry",
            )
        return out

    def _refused(self, error: HTTPError, path: str) -> ImageError:
        tail = error.read(2000).decode(errors="replace")
        if error.code in (401, 403):
            who = (
                f"the login of {self.registry.username}"
                if self.registry.username
                else "access without a login"
            )
            return ImageError(
                f"the registry refused {who} (HTTP {error.code})",
                where=self.registry.address,
                tail=tail,
                action="check image.username and image.password_file (for the lab's own registry: "
                "run `slipway provision`, which sets its password)",
            )
        return ImageError(
            f"the registry answered {path} with HTTP {error.code} {error.reason}",
            where=self.registry.address,
            tail=tail,
            action="look at the registry's log; run again when it is well",
        )

    def _unreachable(self, error: Exception) -> ImageError:
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ImageError(
                f"the registry's certificate is not trusted: {reason.verify_message}",
                where=self.registry.address,
                action="set image.ca_file to the PEM file of the CA that signed it, "
                "and use the name or address the certificate is for",
            )
        if isinstance(reason, ssl.SSLError):
            return ImageError(
                f"the registry does not speak TLS as it should: {reason.reason or reason}",
                where=self.registry.address,
                action="slipway speaks HTTPS only; give the registry a certificate",
            )
        return ImageError(
            f"the registry cannot be reached: {reason}",
            where=self.registry.address,
            action="check the address, that the registry runs, and the way to it (firewall, proxy)",
        )


def _is_private(address: str) -> bool:
    host = address.rpartition(":")[0] if ":" in address else address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        return False
