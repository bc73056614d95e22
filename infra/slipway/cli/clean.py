"""`slipway clean`: what slipway keeps on the disk beyond a lab: its cache, and the reports of runs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated

import typer

from slipway.cli.options import Config, Json, Set
from slipway.cli.printing import show_removed
from slipway.cli.session import Session


def clean(
    config: Config = None,
    set_: Set = None,
    reports: Annotated[
        bool, typer.Option("--reports", help="Remove the reports and logs of this state folder's runs too.")
    ] = False,
    json: Json = False,
) -> int:
    """Empty slipway's cache.

    Removes the folders that slipway made in it, and nothing else that lies there. Refuses while a lab on this
    machine uses the cache, or a run fills it. The next `slipway up` fetches and builds everything anew.
    """
    from slipway.artifacts import cache
    from slipway.core.lock import held
    from slipway.hosts.nspawn.labs import Records

    session = Session(config, set_)
    there = session.state.root.is_dir()
    with session.looking("clean") as ctx, held(session.state, "clean") if there else nullcontext():
        Records().need_unused(ctx.cache)
        removed = cache.clear(ctx)
        if reports and there:
            removed += session.state.clear_reports()
    show_removed(removed, json)
    return 0
