"""An image registry, asked over the OCI distribution API: HTTPS only, with a login and its own CA."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

from slipway.clients.blob_download import Download
from slipway.core import registries
from slipway.core.errors import ImageError
from slipway.core.types import Registry

TIMEOUT = 10.0  # seconds for one answer
LARGEST = 8 << 20  # bytes of a manifest or of a small blob; layers are never fetched here
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
# Docker Hub's name in references is not the host that speaks the API.
_API_HOSTS = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class Manifest:
    """A manifest or index. data: its bytes as received, which the digest ("sha256:...") is over."""

    digest: str
    document: dict[str, Any]
    data: bytes = field(repr=False)

    @property
    def descriptor(self) -> dict[str, Any]:
        """What another document names it by: media type, digest, size in bytes."""
        return {
            "mediaType": self.document.get("mediaType", MANIFEST),
            "digest": self.digest,
            "size": len(self.data),
        }


def digest_of(data: bytes) -> str:
    """The name of these bytes, "sha256:..."."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def fallback_tag(digest: str) -> str:
    """The tag under which OCI keeps the list of an image's referrers where a registry has no API for it."""
    return digest.replace(":", "-", 1)


def manifest_digest(registry: Registry, repository: str, tag: str) -> str | None:
    """The digest a tag points to, None if there is no such tag. Raises ImageError."""
    found = manifest(registry, repository, tag)
    return found.digest if found else None


def manifest(registry: Registry, repository: str, reference: str) -> Manifest | None:
    """The manifest of a tag or digest, None if it does not exist.

    Raises ImageError when the registry cannot be asked or its bytes are not what it says they are.
    """
    return Repository(registry, repository).manifest(reference)


def labels(registry: Registry, repository: str, reference: str) -> dict[str, str] | None:
    """The labels of a tag or digest, None if there is no such image. Raises ImageError."""
    session = Repository(registry, repository)
    found = session.manifest(reference)
    if found is not None and found.document.get("mediaType") in _INDEXES:
        # An index also lists attestations, whose platform is "unknown".
        real = [
            entry["digest"]
            for entry in found.document.get("manifests", [])
            if entry.get("platform", {}).get("os") != "unknown"
        ]
        found = session.manifest(real[0]) if real else None
    if found is None:
        return None
    digest = found.document["config"]["digest"]
    config = json_object(session.blob(digest), registry.address, f"the config {digest}")
    return dict(config.get("config", {}).get("Labels") or {})


@dataclass
class Repository:
    """One repository of a registry, and one login; a bearer registry's token is kept for the next request.

    Every method raises ImageError when the registry cannot be asked, refuses, or changes what it holds.
    """

    registry: Registry
    name: str
    # what Docker keeps for it: name and password, in place of the registry's own
    login: tuple[str, str] | None = field(default=None, repr=False)
    login_advice: str = ""  # how to log in, where it is not by the settings of images
    _tokens: dict[str, str] = field(default_factory=dict, repr=False)

    def manifest(self, reference: str) -> Manifest | None:
        """The manifest or index of a tag or digest, None if there is none."""
        path = f"/v2/{self.name}/manifests/{reference}"
        got = self._get(path, ", ".join((*_MANIFESTS, *_INDEXES)))
        if got is None:
            return None
        body, headers = got
        digest = digest_of(body)
        told = headers.get("Docker-Content-Digest") or digest
        wanted = reference if reference.startswith("sha256:") else told
        if not digest == told == wanted:
            raise ImageError(
                f"{self.name}:{reference} is {digest}, the registry says {told}",
                where=self.registry.address,
                action="look at what stands between this machine and the registry; its answers are changed",
            )
        return Manifest(digest, json_object(body, self.registry.address, path), body)

    def blob(self, digest: str) -> bytes:
        """A config or another small blob."""
        got = self._get(f"/v2/{self.name}/blobs/{digest}", "*/*")
        if got is None or digest_of(got[0]) != digest:
            raise self._lacks(digest)
        return got[0]

    def fetch(self, digest: str, size: int, part: Path, advance: Callable[[int], None]) -> None:
        """Bring `part` to a whole blob of `size` bytes, however large; what it has is not asked for again.

        advance: is told how many bytes have come since the last time. What came stays, but for a blob that
        is not what its digest says.
        """
        url = f"https://{self._host}/v2/{self.name}/blobs/{digest}"
        have = part.stat().st_size if part.exists() else 0
        advance(have)
        while have < size:
            scope = f"repository:{self.name}:pull"
            headers = {"Range": f"bytes={have}-"} if have else {}
            got = self._ask("GET", url, headers, scope=scope, into=Download(part, have, size, advance))
            if got is None:
                raise self._lacks(digest)
            now = part.stat().st_size
            if now <= have:
                raise self._unreachable(OSError(f"connection closed after {now} of {size} bytes"))
            have = now
        with part.open("rb") as file:
            found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != digest:
            part.unlink()
            raise ImageError(
                f"a blob of {self.name} is {found}, not {digest}",
                where=self.registry.address,
                action="look at what stands between this machine and the registry; its answers are changed",
            )

    def _lacks(self, digest: str) -> ImageError:
        return ImageError(
            f"the registry has a manifest in {self.name}, but not what it names: {digest}",
            where=self.registry.address,
            action="delete the tag in the registry, and push it anew",
        )

    def referrers(self, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject this one is; of the fallback tag without the API."""
        path = f"/v2/{self.name}/referrers/{digest}"
        got = self._get(path, INDEX)
        if got is not None:
            listed = json_object(got[0], self.registry.address, path)
        else:
            kept = self.manifest(fallback_tag(digest))
            listed = kept.document if kept is not None else {}
        return [one for one in listed.get("manifests", []) if isinstance(one, dict)]

    def put_blob(self, data: bytes) -> None:
        """Upload a small blob in one piece."""
        path = f"/v2/{self.name}/blobs/uploads/"
        _, headers = self._send("POST", f"https://{self._host}{path}", b"", "application/octet-stream")
        target = urljoin(f"https://{self._host}{path}", headers.get("Location", ""))
        if urlsplit(target).scheme != "https":
            raise ImageError(
                f"the registry wants an upload to {target[:200]}, which is not HTTPS",
                where=self.registry.address,
                action="give the registry its own https address in its configuration",
            )
        joined = "&" if urlsplit(target).query else "?"
        asked = urlencode({"digest": digest_of(data)})
        self._send("PUT", f"{target}{joined}{asked}", data, "application/octet-stream")

    def attach(self, data: bytes, descriptor: dict[str, Any], subject: str) -> None:
        """Put a manifest that refers to `subject`, and have the registry list it among its referrers.

        descriptor: of these bytes, with what a list shows of them. A registry without the referrers API
        says nothing of the subject; then the list is kept under the fallback tag, as OCI asks of clients.
        """
        _, headers = self._put_manifest(descriptor["digest"], data, MANIFEST)
        if headers.get("OCI-Subject") == subject:
            return
        kept = self.manifest(fallback_tag(subject))
        listed = list(kept.document.get("manifests", [])) if kept is not None else []
        if all(one.get("digest") != descriptor["digest"] for one in listed):
            index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*listed, descriptor]}
            self._put_manifest(fallback_tag(subject), json.dumps(index).encode(), INDEX)

    def _put_manifest(self, reference: str, data: bytes, kind: str) -> tuple[bytes, Mapping[str, str]]:
        return self._send("PUT", f"https://{self._host}/v2/{self.name}/manifests/{reference}", data, kind)

    def _send(self, method: str, url: str, data: bytes, kind: str) -> tuple[bytes, Mapping[str, str]]:
        scope = f"repository:{self.name}:pull,push"
        got = self._ask(method, url, {"Content-Type": kind}, scope=scope, data=data)
        if got is None:
            raise ImageError(
                f"the registry knows no {urlsplit(url).path}",
                where=self.registry.address,
                action="check that this address is an image registry, and that this login may push there",
            )
        return got

    def _get(self, path: str, accept: str) -> tuple[bytes, Mapping[str, str]] | None:
        url = f"https://{self._host}{path}"
        return self._ask("GET", url, {"Accept": accept}, scope=f"repository:{self.name}:pull")

    def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        scope: str,
        data: bytes | None = None,
        into: Download | None = None,
    ) -> tuple[bytes, Mapping[str, str]] | None:
        """Body and headers; None for 404. Logs in the way the registry asks for."""
        parts = urlsplit(url)
        # an upload may be meant for storage elsewhere, which must not see the login
        ours = parts.netloc == self._host
        if ours and scope in self._tokens:
            headers = headers | {"Authorization": self._tokens[scope]}
        try:
            return self._open(url, headers, method, data, into)
        except HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                if error.code != 401 or "Authorization" in headers or not ours:
                    raise self._refused(error, parts.path) from error
                challenge = error.headers.get("WWW-Authenticate", "")
        self._tokens[scope] = self._login(challenge, scope)
        return self._ask(method, url, headers, scope=scope, data=data, into=into)

    @property
    def _host(self) -> str:
        return self.registry.reached or _API_HOSTS.get(self.registry.address, self.registry.address)

    def _login(self, challenge: str, scope: str) -> str:
        kind, _, rest = challenge.partition(" ")
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        basic = self._basic()
        if kind.lower() == "basic":
            if basic is None:
                raise ImageError(
                    "the registry wants a login and none is set",
                    where=self.registry.address,
                    action=self.login_advice or "set image.username and image.password_file",
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
        answer = json_object(got[0], self.registry.address, "its login")
        return f"Bearer {answer.get('token') or answer.get('access_token') or ''}"

    def _basic(self) -> str | None:
        if self.login is not None:
            name, password = self.login
        elif self.registry.username is None or self.registry.password_file is None:
            return None
        else:
            name, password = self.registry.username, registries.password(self.registry)
        login = base64.b64encode(f"{name}:{password}".encode()).decode()
        return f"Basic {login}"

    def _open(
        self,
        url: str,
        headers: Mapping[str, str],
        method: str = "GET",
        data: bytes | None = None,
        into: Download | None = None,
    ) -> tuple[bytes, Mapping[str, str]]:
        request = Request(url, data, method=method)  # noqa: S310  # always https://, see the callers
        for name, value in headers.items():
            if name == "Range":
                request.add_header(name, value)
            else:  # Not sent on to where a redirect points: storage elsewhere must not see the login.
                request.add_unredirected_header(name, value)
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                body = self._read(response) if into is None else into.write(response)
                return body, response.headers
        except HTTPError:
            raise
        except (URLError, OSError, HTTPException) as error:
            raise self._unreachable(error) from error

    @cached_property
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
        if _is_private(self._host):
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
                action=self.login_advice
                or "check image.username and image.password_file (for the lab's own registry: "
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
                action=(
                    "name the CA that signed it in SSL_CERT_FILE, a PEM file, "
                    if self.login_advice
                    else "set image.ca_file to the PEM file of the CA that signed it, "
                )
                + "and use the name or address the certificate is for",
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


def json_object(data: bytes, where: str, what: str) -> dict[str, Any]:
    """The JSON object in these bytes. Raises ImageError, naming what they are and where from."""
    try:
        out = json.loads(data)
    except ValueError:
        out = None
    if not isinstance(out, dict):
        raise ImageError(
            f"the answer to {what} is not JSON",
            where=where,
            tail=data[:500].decode(errors="replace"),
            action="check that this address is an image registry",
        )
    return out


def _is_private(address: str) -> bool:
    host = address.rpartition(":")[0] if ":" in address else address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        return False
