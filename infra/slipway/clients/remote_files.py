"""Files at an address by fsspec: S3, Google Cloud Storage, Hugging Face, HTTPS, a folder of this machine.

Logins come from where each library finds its own (environment, files of the cloud's tools, ~/.netrc) and
pass through nothing here.
"""

from __future__ import annotations

import posixpath
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway.core import extras, interrupt
from slipway.core.errors import ArtifactError, SlipwayError

_BLOCK = 8 << 20  # bytes asked for at once
_TRIES = 4  # of an HTTPS server; the clouds' libraries try again by themselves
_STALL = 60.0  # seconds without a byte until an HTTPS connection is given up
# What a store tells a file's content by, the best first
_TAGS = ("ETag", "etag", "generation", "blob_id", "Last-Modified", "LastModified", "mtime")
_LOGINS = {
    "s3": "log in as for the AWS CLI (AWS_PROFILE, ~/.aws, a role); FSSPEC_S3_ANON=true asks without one, "
    "AWS_ENDPOINT_URL names another endpoint",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "hf": "run `hf auth login`, or set HF_TOKEN; a gated model's terms are accepted on its page",
    "https": "put the login into ~/.netrc",
    "file": "give this user the right to read it",
}


@dataclass(frozen=True)
class RemoteFile:
    """A file as its store lists it.

    name: below the address, with `/`; empty for the one that the address itself names. size in bytes, None if
    the store does not tell. tag: what changes with its content; empty if the store has nothing of the kind.
    """

    name: str
    size: int | None
    tag: str


@dataclass
class RemoteFiles:
    """What lies at an address. Every method raises ArtifactError, and how to log in, if it cannot be had."""

    address: str

    def listed(self) -> tuple[RemoteFile, ...]:
        """Its files, by name; one without a name where the address is a file. Asks the store each time."""
        try:
            self._files.invalidate_cache()
            return self._listed()
        except Exception as error:
            raise self._told(error) from error

    def read(self, file: RemoteFile, part: Path, advance: Callable[[int], None]) -> None:
        """Bring `part` to the whole of a file; what is there of it already is not asked for again.

        advance: is told how many bytes have come since the last time. What came stays when this raises.
        """
        tries = _TRIES if self._scheme == "https" else 1
        for attempt in range(1, tries + 1):
            try:
                self._read(file, part, advance)
                return
            except Exception as error:
                if attempt == tries or isinstance(error, SlipwayError) or _lasts(error):
                    raise self._told(error, file.name) from error
                interrupt.pause(0.5 * 2**attempt)

    @cached_property
    def _files(self) -> Any:
        extras.need("remote", f"a model at {self._scheme}://")
        import fsspec

        options: dict[str, Any] = {}
        if self._scheme == "https":
            options["get_client"] = _https_session
        return fsspec.filesystem(self._scheme, skip_instance_cache=True, **options)

    @property
    def _scheme(self) -> str:
        return urlsplit(self.address).scheme

    @cached_property
    def _root(self) -> str:
        if self._scheme == "hf":  # as it names what it lists, whatever stands for the newest revision
            return str(self._files.resolve_path(self.address).unresolve()).rstrip("/")
        return str(self._files._strip_protocol(self.address)).rstrip("/")

    def _listed(self) -> tuple[RemoteFile, ...]:
        if self._scheme == "https":  # folders of web servers cannot be listed
            found = self._files.info(self.address)
            if urlsplit(found.get("url") or self.address).scheme != "https":
                raise ArtifactError(
                    "leads to an address that is not https://",
                    where=self.address,
                    action="give the address of the file itself",
                )
            return (_file("", found),)
        out = {}
        for name, info in self._files.find(self._root, detail=True).items():
            below = name.removeprefix(self._root)
            # S3 keeps empty objects for folders, and finds neighbours that only begin alike
            if not name.endswith("/") and (not below or below.startswith("/")):
                out[below[1:]] = _file(below[1:], info)
        if not out:
            raise FileNotFoundError(self.address)
        return tuple(out[name] for name in sorted(out))

    def _read(self, file: RemoteFile, part: Path, advance: Callable[[int], None]) -> None:
        have = part.stat().st_size if part.exists() else 0
        if file.size is None or have > file.size:
            part.unlink(missing_ok=True)
            have = 0
        advance(have)
        try:
            self._append(file, part, advance)
        except ValueError:  # an HTTPS server without ranges: all of it in one stream
            advance(-part.stat().st_size)
            part.unlink()
            self._append(file, part, advance, stream=True)
        done = part.stat().st_size
        if file.size is not None and done != file.size:
            raise OSError(f"connection closed after {done} of {file.size} bytes")

    def _append(
        self, file: RemoteFile, part: Path, advance: Callable[[int], None], *, stream: bool = False
    ) -> None:
        kind = {"block_size": 0} if stream else {"block_size": _BLOCK, "cache_type": "none"}
        path = posixpath.join(self._root, file.name) if file.name else self._root
        with part.open("ab") as out:
            have = out.tell()
            if file.size is not None and have == file.size:
                return
            with self._files.open(path, "rb", **kind) as source:
                if have:
                    source.seek(have)
                while chunk := source.read(_BLOCK):
                    interrupt.check()
                    out.write(chunk)
                    advance(len(chunk))

    def _told(self, error: Exception, name: str = "") -> SlipwayError:
        if isinstance(error, SlipwayError):
            return error
        if self._scheme == "https" and isinstance(error.__cause__, Exception):
            error = error.__cause__  # fsspec calls every failure there a file that is not found
        where = f"{self.address.rstrip('/')}/{name}" if name else self.address
        if isinstance(error, FileNotFoundError) or _status(error) == 404:
            what, action = "there is nothing here", "check the address, and that this login sees it"
        elif _is_refusal(error):
            what, action = f"may not be read: {_words(error)}", _LOGINS[self._scheme]
        else:
            what = f"cannot be read: {_words(error)}"
            action = "check the address, the network and this machine's proxy; what came is kept"
        return ArtifactError(what, where=where, action=action)


async def _https_session(**options: Any) -> Any:
    """A session as this machine's other programs have it: its proxies, its CAs, the logins of ~/.netrc."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ssl.create_default_context()),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_STALL, sock_read=_STALL),
        trust_env=True,
        **options,
    )


def _file(name: str, info: dict[str, Any]) -> RemoteFile:
    size = info.get("size")
    tag = next((f"{key} {info[key]}" for key in _TAGS if info.get(key)), "")
    return RemoteFile(name, None if size is None else int(size), tag)


def _status(error: Exception) -> int:
    """The HTTP status in an error, wherever its library keeps it; 0 without one."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):
            if isinstance(found := getattr(holder, name, None), int):
                return found
    return 0


def _is_refusal(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    no_login = {
        "PermissionError",
        "NoCredentialsError",
        "CredentialRetrievalError",
        "DefaultCredentialsError",
    }
    return bool(names & no_login) or _status(error) in (401, 403)


def _lasts(error: Exception) -> bool:
    """Whether asking again changes nothing."""
    lasting = 400 <= _status(error) < 500 and _status(error) not in (408, 429)
    return lasting or _is_refusal(error) or isinstance(error, FileNotFoundError)


def _words(error: Exception) -> str:
    """An error's first line, without what signed addresses carry behind their `?`."""
    text = str(error).strip() or repr(error)
    return re.sub(r"\?[^\s'\"]*", "", text.splitlines()[0])[:400]
