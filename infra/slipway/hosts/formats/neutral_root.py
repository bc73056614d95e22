"""A golden root without its site: changes over it, so that the root itself stays as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.core import events, process
from slipway.core.context import Context
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.core.events import Note
from slipway.hosts.nspawn import launch, roots
from slipway.hosts.nspawn.inherit import Site

HERE = Path(__file__).parent
_SECONDS = 1800.0


@dataclass(frozen=True)
class NeutralRoot:
    """A root and what differs from it. folder: holds upper/, the changes."""

    folder: Path
    root: Path

    @property
    def tree(self) -> Path:
        """Where a command that `words` run finds the whole."""
        return self.folder.absolute() / "root"

    @property
    def words(self) -> tuple[str | Path, ...]:
        """Put before a command: it finds the whole in `tree`, and all mounts end with it."""
        enter, stores = launch.HERE / "enter.sh", HERE / "stores.sh"
        return (*roots.ENDS_WITH_US, "sh", enter, self.folder, self.root, "sh", stores)

    def inside(self, argv: Sequence[str], *, given: str | Path | None = None, **env: str) -> str:
        """What a command inside the root prints. Raises CommandError."""
        words = [*self.words, "sh", HERE / "inside.sh", *argv]
        return process.run(words, input=given, env=env, timeout=_SECONDS).stdout


@contextmanager
def neutral(
    ctx: Context,
    root: Path,
    site: Site,
    folder: Path,
    packages: Sequence[str] = (),
    *,
    boot: Path | None = None,
) -> Iterator[NeutralRoot]:
    """Lay changes over a golden root that take the site out of it; they are gone at the end of the block.

    packages: are installed before that, from where the site has them. boot: a script that is run inside then
    and fills the boot partition, which is `folder`/esp. Raises EnvironmentFault with what failed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    opened = NeutralRoot(folder, root)
    try:
        for name in ("upper", "site"):
            (folder / name).mkdir(parents=True)
        (folder / "upper").chmod(0o755)
        (folder / "site").chmod(0o700)
        try:
            if packages:
                with events.progress(ctx.emit, f"packages {' '.join(packages)}"):
                    _install(opened, site, packages)
            if boot is not None:
                (folder / "esp").mkdir()
                opened.inside(["sh", "-s"], given=boot)
            _take_out(ctx, opened, resolved="systemd-resolved" in packages)
        except CommandError as error:
            raise EnvironmentFault(
                "the root could not be made one for elsewhere",
                tail=error.output,
                action="check the disk, and the mirror (this machine's own, unless site.apt_mirror names "
                "one); nothing was written",
            ) from error
        yield opened
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _install(opened: NeutralRoot, site: Site, packages: Sequence[str]) -> None:
    given = opened.folder / "site"
    (given / "resolv.conf").write_text("".join(f"nameserver {server}\n" for server in site.resolvers))
    (given / "auth.conf").touch(0o600)
    (given / "auth.conf").write_text(site.fetching.auth_conf)
    env = {
        **dict(site.proxies),
        "DEBIAN_FRONTEND": "noninteractive",
    }
    apt = ["apt-get", "--quiet", "-o", "Dir::Etc::netrc=/run/site/auth.conf"]
    opened.inside([*apt, "update"], **env)
    # what is half written is thrown away, so nothing need be on the disk before the next package
    quick = ["-o", "Dpkg::Options::=--force-unsafe-io", "--no-install-recommends"]
    opened.inside([*apt, *quick, "install", "--yes", *packages], **env)
    for path in given.iterdir():
        path.unlink()


def _take_out(ctx: Context, opened: NeutralRoot, *, resolved: bool) -> None:
    given = json.dumps({"masked": roots.MASKED, "resolved": resolved})
    unknown = opened.inside(["python3", "-", given], given=HERE / "neutral.py").split()
    opened.inside(["update-ca-certificates", "--fresh"])
    units = ["systemd-networkd", "host-keys", *(["systemd-resolved"] if resolved else [])]
    opened.inside(["systemctl", "--quiet", "enable", *(f"{unit}.service" for unit in units)])
    if unknown:
        names = ", ".join(unknown)
        ctx.emit(Note(f"no public archive of {names} is known; apt has none of it in what is written"))
