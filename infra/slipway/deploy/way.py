"""The way a deployment is applied: by Pulumi's engine, or as its rendered manifests through kubectl."""

from __future__ import annotations

from typing import Literal

from slipway.artifacts.pulumi_cli import ensure_cli
from slipway.core.context import Context
from slipway.core.errors import SlipwayError
from slipway.core.events import Note
from slipway.core.schema import Settings

Way = Literal["engine", "render"]


def choose_way(ctx: Context, settings: Settings) -> Way:
    """Engine or render, said in a Note with the reason; for the engine its CLI is then there.

    Raises what `ensure_cli` does where the engine is asked for by name. Where it is only the default, a
    machine that cannot have it deploys by render.
    """
    by = settings.deploy.by
    chosen: Way = "render"
    if by == "render":
        why = "deploy.by is render"
    else:
        try:
            chosen, why = "engine", ensure_cli(ctx, settings)
        except SlipwayError as error:
            if by == "engine":
                raise
            why = f"there is no engine here: {error.what}"
    ctx.emit(Note(f"deploy by {chosen}: {why}"))
    return chosen
