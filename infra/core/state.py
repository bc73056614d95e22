"""The state folder: where everything one lab knows about itself is kept."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.core.errors import EnvironmentFault


@dataclass(frozen=True)
class State:
    """`.slipway/` beside slipway.yaml. Files with secrets are 0600, the folder 0700."""

    root: Path

    @property
    def inventory(self) -> Path:
        return self.root / "inventory.yml"

    @property
    def hosts(self) -> Path:
        return self.root / "hosts"

    @property
    def ssh(self) -> Path:
        return self.root / "ssh"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def registry(self) -> Path:
        """password (0600) and ca.crt of the lab's own registry."""
        return self.root / "registry"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def image(self) -> Path:
        """The build context of the serving image."""
        return self.root / "image"

    @property
    def pulumi(self) -> Path:
        return self.root / "pulumi"

    @property
    def bin(self) -> Path:
        """kubectl (and pulumi, where slipway has one) as `slipway env` puts them on PATH."""
        return self.root / "bin"

    @property
    def values(self) -> Path:
        """The last value of each stage, for `--from STAGE` and the verbs that run one stage."""
        return self.root / "values"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def lock(self) -> Path:
        return self.root / "lock"


def cache_home() -> Path:
    """slipway's cache: XDG_CACHE_HOME or ~/.cache, then `slipway/`. SLIPWAY_CACHE overrides it."""
    override = os.environ.get("SLIPWAY_CACHE")
    if override:
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway"


def write_atomically(path: Path, text: str | bytes, mode: int = 0o644) -> bool:
    """Write beside and rename into place. Returns whether the content differs from before."""
    data = text.encode() if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_bytes() == data:
        path.chmod(mode)
        return False
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(handle, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True


def link_atomically(link: Path, target: Path) -> None:
    """Make `link` lead to a file or folder that exists.

    An older link is replaced in one step, so that a shell that has its folder on PATH always finds the
    program. A target that is this very link, or leads to the same file, changes nothing.

    Raises EnvironmentFault for a target that does not exist: it may be this very link, which then would
    lead to itself. And where a file or folder stands in the way, which stays as it is: only a person can
    have put it there. Overwritten it would be lost; kept it would be run unseen in place of the target,
    whatever version it is.
    """
    if not target.exists():
        raise EnvironmentFault(
            f"{target} does not exist, or leads to something that does not",
            action="`slipway up` gets it again and goes on from there",
        )
    if link.exists() and link.samefile(target):
        return
    if link.exists() and not link.is_symlink():
        raise EnvironmentFault(
            f"{link} is in the way: slipway keeps a link to {target} there, and did not put this one there",
            action="move it to another folder",
        )
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}")
    fresh.unlink(missing_ok=True)  # a run that was killed left it
    fresh.symlink_to(target.absolute())
    fresh.replace(link)
