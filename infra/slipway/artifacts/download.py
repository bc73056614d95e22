"""Downloads over HTTPS: resumed where they stopped, and never used before size and hash are right."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from slipway.artifacts import cache, go_modules
from slipway.artifacts.pins import Row
from slipway.core.context import Context
from slipway.core.errors import ArtifactError
from slipway.core.events import Detail, progress

_CHUNK = 1 << 18
_TRIES = 4
UNANSWERED = "check the network and proxy of this machine, or leave `release` out of artifacts.sources"
_CHANGED = "something between here and there changes it, or it was replaced there; it is not used"
_LASTING = range(400, 500)  # what the server says will not change by asking again


class _Broken(Exception):
    """The transfer stopped early. What has come is kept, and the rest is asked for."""


def fetch(
    ctx: Context,
    row: Row,
    destination: Path,
    *,
    headers: Mapping[str, str] | None = None,
    stall: float = 30.0,
    pause: float = 1.0,
) -> None:
    """Download a row's file to `destination`, mode 0644.

    headers: a login, say; not sent on to where a redirect points. stall: seconds without a byte until the
    connection is given up. pause: seconds before the second try, doubled for each further one. Raises
    ArtifactError when the row has no hash, the file cannot be had, or is not what its row says;
    `destination` does not exist then. A part that came is kept in the cache under its hash and goes on from
    there next time.
    """
    pinned = row.pinned()
    parts = cache.home(ctx) / "downloads"
    parts.mkdir(exist_ok=True)
    part = parts / f"{cache.key_of(pinned.hash)}.part"
    complete = partial(_complete, ctx, pinned, part, headers=headers or {}, stall=stall, pause=pause)
    with progress(ctx.emit, f"download {row.name} {row.version}", row.size or None, "B") as advance:
        resumed = complete(advance=advance)
        problem = _differs(pinned, part)
        if problem and resumed:
            # the kept part may be of another file, or of a power cut: once more from the start
            ctx.emit(Detail(f"{row.name}: {problem} after resuming; starting again"))
            part.unlink()
            complete(advance=advance)
            problem = _differs(pinned, part)
        if problem:
            part.unlink()
            raise ArtifactError(
                f"the download of {row.name} {row.version} is not the pinned file: {problem}",
                where=row.url,
                action=_CHANGED,
            )
        part.chmod(0o644)
        part.replace(destination)


def _complete(
    ctx: Context,
    row: Row,
    part: Path,
    *,
    headers: Mapping[str, str],
    advance: Callable[[int], None],
    stall: float,
    pause: float,
) -> bool:
    """Bring `part` to its full length; True when some of it was there before."""
    resumed = part.exists() and part.stat().st_size > 0
    for attempt in range(1, _TRIES + 1):
        try:
            _transfer(row, part, headers, advance, stall)
            return resumed
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == 416 and part.exists():
                part.unlink()  # the part is as long as the file or longer: useless
            elif error.code in _LASTING:
                raise _unavailable(row, reason) from error
        except (OSError, http.client.HTTPException, _Broken) as error:
            reason = str(getattr(error, "reason", "") or error) or repr(error)
        ctx.emit(Detail(f"download {row.name}: {reason} (try {attempt} of {_TRIES})"))
        if attempt < _TRIES:
            time.sleep(pause * 2 ** (attempt - 1))
    raise _unavailable(row, reason)


def _transfer(
    row: Row, part: Path, headers: Mapping[str, str], advance: Callable[[int], None], stall: float
) -> None:
    have = part.stat().st_size if part.exists() else 0
    if row.size and have == row.size:
        return
    request = urllib.request.Request(row.url, headers={"User-Agent": "slipway"})  # noqa: S310  # https of the lock, or a module proxy
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=stall) as answer:  # noqa: S310  # same
        if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server sends the whole file again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdigit() else 0
        if row.size and total and total != row.size:
            raise ArtifactError(
                f"{row.name} {row.version} has {total} bytes there, {row.size} are pinned",
                where=row.url,
                action=_CHANGED,
            )
        limit = row.size or total
        with part.open("ab" if have else "wb") as file:
            done = have
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                advance(done)
                if limit and done > limit:
                    raise ArtifactError(
                        f"{row.name} {row.version} is longer than it said", where=row.url, action=_CHANGED
                    )
    if limit and done < limit:  # a server that closes early raises nothing here
        raise _Broken(f"connection closed after {done} of {limit} bytes")


def _differs(row: Row, part: Path) -> str:
    size = part.stat().st_size
    if row.size and size != row.size:
        return f"{size} bytes, not {row.size}"
    if row.h1:
        try:
            found = go_modules.h1(part)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            return f"not a whole zip ({error})"
        return "" if found == row.h1 else f"its files are {found}, not {row.h1}"
    found = cache.sha256_of(part)
    return "" if found == row.sha256 else f"sha256 {found}, not {row.sha256}"


def _unavailable(row: Row, reason: str) -> ArtifactError:
    return ArtifactError(
        f"cannot download {row.name} {row.version}: {reason}",
        where=row.url,
        action=UNANSWERED,
    )
