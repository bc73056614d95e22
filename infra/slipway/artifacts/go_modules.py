"""Go modules as a proxy gives them: where this machine gets them, and the hash that names their content."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Proxy:
    """A module proxy. url: without the login it may need, which is in `headers`."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def zip_url(self, module: str, version: str) -> str:
        """Where a module's zip is. module, version: in lower case, which needs no escapes."""
        return f"{self.url}/{module}/@v/{version}.zip"


def proxies(environment: Mapping[str, str] = os.environ, default: str = "") -> tuple[Proxy, ...]:
    """The HTTP proxies that GOPROXY names, from the environment or from what `go env -w` wrote, in order.

    `direct` has no zips and is left out; empty when GOPROXY is `off` or names none. default: what counts when
    neither says anything.
    """
    named = environment.get("GOPROXY") or _written(environment).get("GOPROXY") or default
    return tuple(
        _proxy(word.strip())
        for word in re.split(r"[,|]", named)
        if word.strip().startswith(("http:", "https:"))
    )


def _written(environment: Mapping[str, str]) -> dict[str, str]:
    """The file that `go env -w` writes, by the rules by which Go finds it."""
    config = environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    path = Path(environment.get("GOENV") or Path(config) / "go" / "env")
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # Go works without it too
        return {}
    return {name: value for name, sep, value in (line.partition("=") for line in lines) if sep}


def _proxy(url: str) -> Proxy:
    parts = urlsplit(url.rstrip("/"))
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return Proxy(parts.geturl())
    encoded = base64.b64encode(unquote(login).encode()).decode()
    return Proxy(parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {encoded}"})


def h1(archive: Path) -> str:
    """The hash of a module's zip as go.sum and the checksum database give it ("h1:...").

    It is over the names and contents of the files, not over the bytes of the zip, so every proxy gives the
    same. Raises zipfile.BadZipFile for what is not a whole zip.
    """
    whole = hashlib.sha256()
    with zipfile.ZipFile(archive) as files:
        for name in sorted(files.namelist()):
            with files.open(name) as file:
                digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]  # typeshed asks for more than is read
            whole.update(f"{digest.hexdigest()}  {name}\n".encode())
    return f"h1:{base64.b64encode(whole.digest()).decode()}"
