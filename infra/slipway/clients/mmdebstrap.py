"""mmdebstrap: root file systems of Debian or Ubuntu packages, which apt checks by the archive's keys."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipway.clients import apt
from slipway.core import process
from slipway.core.errors import EnvironmentFault


@dataclass(frozen=True)
class Recipe:
    """What every root of one kind has in common. options: further words of the command line."""

    suite: str
    variant: Literal["essential", "minbase"]
    format: Literal["directory", "tar"]
    options: tuple[str, ...] = ()

    def words(self) -> tuple[str, ...]:
        """The command line without what differs from machine to machine."""
        return ("mmdebstrap", f"--variant={self.variant}", f"--format={self.format}", *self.options)


def dpkg_without(*paths: str) -> tuple[str, ...]:
    """Options that leave out the files below these paths."""
    return tuple(f"--dpkgopt=path-exclude={path}/*" for path in paths)


def make(
    recipe: Recipe,
    target: Path,
    packages: Sequence[str],
    *,
    fetching: apt.Fetching,
    keyring: Path | None = None,
    within: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    where: str = "",
    action: str = "",
) -> None:
    """Write a root of these packages to `target`, a folder or tar as the recipe says.

    fetching: the archives, or none for the suite's public one. Its sources and options stay in the root, its
    logins do not. keyring: the archives' keys; without a file of that name apt uses its own. within: words
    of a command that runs another one, put before mmdebstrap.
    Raises EnvironmentFault without mmdebstrap, CommandError when it fails; `target` is then not whole.
    """
    if shutil.which("mmdebstrap") is None:
        raise EnvironmentFault(
            "mmdebstrap is not installed; it makes the root file systems of hosts and images",
            action="apt-get install mmdebstrap",
        )
    # a folder that only this user can read
    with tempfile.TemporaryDirectory(prefix="slipway-") as scratch:
        options, listing, auth = (Path(scratch) / name for name in ("apt.conf", "mirror.list", "auth.conf"))
        auth.write_text(fetching.auth_conf)
        wanted = {**dict(fetching.options), "Dir::Etc::netrc": str(auth)}
        options.write_text("".join(f'{name} "{value}";\n' for name, value in wanted.items()))
        argv = [*within, *recipe.words(), f"--include={','.join(packages)}", f"--aptopt={options}"]
        if fetching.sources and keyring is not None and keyring.is_file():
            argv.append(f"--keyring={keyring}")
        argv += [recipe.suite, str(target)]
        if fetching.sources:
            listing.write_text("".join(f"{one.one_line()}\n" for one in fetching.sources))
            argv.append(str(listing))
        process.run(argv, env=env, timeout=1800, on_line=on_line, where=where, action=action)
