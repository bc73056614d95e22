"""Golden roots: a host's root with packages, engines and images in it, and nothing of which host it was.

A host is made from the bare root, the stages put into it what does not depend on who it is (`HasBake`), and
what is on its disk then is kept. Its name follows from all that made it, so another package list, another
Kubernetes or another role is another root.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from slipway.artifacts.cache import digest_of
from slipway.core import events, process
from slipway.core.context import Context
from slipway.core.errors import CommandError, EnvironmentFault
from slipway.core.events import Detail, Emit, Event, Note
from slipway.core.lock import flock
from slipway.core.schema import Settings
from slipway.core.stage import HasBake
from slipway.core.state import State, cache_folder, remove
from slipway.core.types import Hosts, Outcome
from slipway.hosts.nspawn import controller, host_files, roots
from slipway.hosts.nspawn.launch import HERE

DISK_BYTES = 5_000_000_000  # the host it is made on, and what is kept of it
BAKED_VOLUMES = ("containerd", "docker")
LOCK = ".golden.lock"
_LAYOUT = 1  # raised when this file puts something else into a root
_KEPT = 2  # roots that no lab uses: of another suite or other settings
# What a host writes about itself while it runs, below its own overlay and below what its engines keep
_OF_ONE_HOST = (
    *("etc/docker/key.json", "root/.ansible", "root/.cache", "root/.docker", "run", "tmp", "var/tmp"),
    *("var/cache/apt", "var/lib/apt/lists", "var/lib/dbus/machine-id", "var/lib/slipway", "var/log"),
    *("var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "var/lib/systemd/timers"),
)
_OF_ONE_ENGINE = (
    "containerd/io.containerd.grpc.v1.introspection",
    *("containerd/tmpmounts", "docker/engine-id", "docker/containers", "docker/tmp", "docker/runtimes"),
)


class Maker(Protocol):
    """Makes a host, switches it off, and takes it away: the backend, without golden roots."""

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]: ...
    def power_off(self, ctx: Context) -> list[Path]: ...
    def down(self, ctx: Context) -> list[str]: ...


@dataclass(frozen=True)
class Recipe:
    """What a golden root is made from and by: the bare root, what is put into it, and who makes the host."""

    base: Path
    bakers: Sequence[HasBake]
    maker: Maker

    def root(self, ctx: Context, settings: Settings) -> Path:
        """Where the root lies, or will. What it is made from may be made first."""
        keys = [baker.bake_key(ctx, settings) for baker in self.bakers]
        return ctx.cache / "roots" / f"golden-{digest_of(self.base.name, str(_LAYOUT), *keys)[:16]}"


def ensure(
    ctx: Context, settings: Settings, recipe: Recipe, *, in_use: Collection[Path] = ()
) -> tuple[Path, bool]:
    """The golden root of this recipe, and whether it had to be made.

    in_use: roots of labs on record, which stay. A root that is not as large as it was when it was made is
    made anew. Raises what making a host or baking raises; nothing is left of it then.
    """
    root = recipe.root(ctx, settings)
    if root.is_dir() and not roots.damage(root):
        return root, False
    folder = cache_folder(ctx.cache, "roots")
    waiting = Note("another run is baking a root of the hosts; waiting for it")
    with flock(
        folder / LOCK, "another run that bakes a root", timeout=3600, on_wait=lambda: ctx.emit(waiting)
    ):
        wrong = roots.damage(root) if root.is_dir() else ""
        if root.is_dir() and not wrong:
            return root, False
        controller.need_disk(folder, DISK_BYTES, "the hosts' golden root")
        why = f" ({wrong})" if wrong else ", once"
        ctx.emit(
            Note(f"baking the root of the hosts, with packages, engines and images in it{why}: a minute")
        )
        if wrong:
            shutil.rmtree(root)
        with events.progress(ctx.emit, "golden root"):
            _bake(ctx, settings, recipe, root)
        _remove_old(folder, {root, *in_use})
    return root, True


def _bake(ctx: Context, settings: Settings, recipe: Recipe, root: Path) -> None:
    folder = root.with_name(f"{root.name}.baking")
    scratch = replace(ctx, state=State(folder), emit=_quiet(ctx.emit))
    if folder.exists():  # of a run that was killed
        recipe.maker.down(scratch)
        shutil.rmtree(folder)
    one = settings.hosts.model_copy(update={"workers": 0, "model_servers": 0, "subnet": None})
    alone = settings.model_copy(update={"hosts": one})
    try:
        hosts = recipe.maker.up(scratch, alone).value
        for baker in recipe.bakers:
            baker.bake(scratch, alone, hosts)
        whole = folder / "root"  # in here until it is: what fails leaves nothing
        _take(recipe.maker.power_off(scratch)[0], recipe.base, whole)
        roots.keep(whole, root)
    finally:
        recipe.maker.down(scratch)
        shutil.rmtree(folder, ignore_errors=True)


def _quiet(emit: Emit) -> Emit:
    """What happens to the host that is baked is for the log: people were told of the root alone."""

    def less(event: Event) -> None:
        emit(Detail(event.text, event.host) if isinstance(event, Note) else event)

    return less


def _take(machine: Path, base: Path, root: Path) -> None:
    """Make a root of the disk of a host that has ended. machine: its folder."""
    for name in (*host_files.given(machine), *_OF_ONE_HOST):
        remove(machine / "upper" / name)
    for one in (machine / "upper/etc/ssh").glob("ssh_host_*"):
        one.unlink()
    for name in _OF_ONE_ENGINE:
        remove(machine / "volumes" / name)
    root.mkdir()
    words: list[str | Path] = [*roots.ENDS_WITH_US, "sh", HERE / "enter.sh", machine, base]
    try:
        process.run([*words, "cp", "-a", "root/.", root])
    except CommandError as error:
        raise EnvironmentFault(
            "the golden root cannot be kept", tail=error.output, action=f"free space in {root.parent}"
        ) from error
    for name in BAKED_VOLUMES:
        remove(root / "var/lib" / name)
        (machine / "volumes" / name).rename(root / "var/lib" / name)


def _remove_old(folder: Path, needed: Collection[Path]) -> None:
    found = [one for one in folder.glob("golden-*") if one not in needed and not one.suffix]
    for old in sorted(found, key=roots.made)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
