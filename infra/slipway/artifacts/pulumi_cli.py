"""The Pulumi CLI of a state folder: the one on PATH where it fits, else the one of artifacts.sources."""

from __future__ import annotations

from pathlib import Path

from slipway import artifacts
from slipway.artifacts import cache
from slipway.clients import pulumi_stack
from slipway.core.context import Context
from slipway.core.events import Note
from slipway.core.schema import Settings
from slipway.core.state import link_atomically


def ensure_cli(ctx: Context, settings: Settings) -> str:
    """Put a Pulumi CLI where engines find it; returns which one, for people.

    The one on PATH where its version fits, else the one of artifacts.sources with its plugin, which may take
    a quarter of an hour to build once. Raises EnvironmentFault, ArtifactError or CommandError when neither
    can be had.
    """
    own = pulumi_stack.find_cli()
    unfit = pulumi_stack.unfit(own) if own is not None else ""
    if own is not None and not unfit:
        link_atomically(kept(ctx), own)
        return f"{own} is on PATH"
    if unfit:
        ctx.emit(Note(f"{own} is not used: {unfit}"))
    cli = artifacts.pulumi(ctx, settings)
    link_atomically(kept(ctx), cli)
    _lay_plugins(ctx.state.pulumi / "home" / "plugins", cli.parents[1] / "home" / "plugins")
    return f"Pulumi of {cli.parents[1].name}"


def at_hand(ctx: Context, settings: Settings) -> bool:
    """Whether the engine can be had without building or fetching anything."""
    own = pulumi_stack.find_cli()
    return (own is not None and not pulumi_stack.unfit(own)) or (
        artifacts.cached_pulumi(ctx, settings) is not None
    )


def kept(ctx: Context) -> Path:
    """Where this state folder has the CLI, once it was put there."""
    return ctx.state.bin / "pulumi"


def _lay_plugins(home: Path, cached: Path) -> None:
    """Put the cached plugins into Pulumi's own folder, file by file.

    Pulumi notes beside a plugin when it was last used: through a link to the folder it would write into
    the cache, whose next check would throw the whole entry away.
    """
    if home.is_symlink():  # as earlier versions made it
        home.unlink()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in sorted(cached.rglob("*")):
        to = home / path.relative_to(cached)
        if path.is_dir():
            to.mkdir(exist_ok=True)
        elif not to.exists() or to.stat().st_size != path.stat().st_size:
            to.unlink(missing_ok=True)
            cache.link(path, to)
