"""The chain as a whole: up, plan, down; and how any part of it is run and told."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from slipway.cli.options import AcceptNewKeys, Config, Json, Model, Set, Verbose
from slipway.cli.printing import show, show_removed
from slipway.cli.session import Session
from slipway.core.types import label_of


def run_chain(
    session: Session, verb: str, *, first: str = "", last: str = "", only: str = "", as_json: bool = False
) -> int:
    """Run stages, write their report and tell how it went. Returns the exit code.

    only: of several models the one to run them for.
    """
    from slipway import pipeline
    from slipway.status.closing import closing_lines

    pipeline.require_ready(session.settings, first=first, last=last, only=only)
    with session.reporting(verb) as ctx:
        ended = pipeline.run(ctx, session.settings, first=first, last=last, only=only)
        for number, error in enumerate(ended.errors):
            session.console.error(error, also=number > 0)
        session.console.line()
        for text in closing_lines(ended.run, ctx):
            session.console.line(text)
    report = ctx.run / "run.json"
    if as_json and report.is_file():  # a full disk may have kept it from being written
        sys.stdout.write(report.read_text(encoding="utf-8"))
    return ended.exit_code


def up(
    config: Config = None,
    set_: Set = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="STAGE",
            help="Begin at this stage (hosts, provision, model, image, deploy or smoke) and take the earlier "
            "stages' results from the last run.",
        ),
    ] = "",
    model: Model = "",
    accept_new_keys: AcceptNewKeys = False,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Do the whole chain, from bare hosts to the proof.

    The stages are hosts, provision, model, image, deploy and smoke; then the report is written. A stage whose
    product is there and unchanged does nothing. What you bring along (machines, a cluster, a registry, a
    SavedModel) is not made. After a failure the same command goes on from where it stopped. Of several models
    each is deployed and proved by itself, and a deployment that the settings do not name any more is removed.

    \b
    slipway up
    slipway up --from deploy --set deploy.replicas=5
    """
    from slipway.cli.asking import meet

    session = Session(config, set_, verbose=verbose)
    if start in ("", "hosts"):
        meet(session, accept=accept_new_keys)
    return run_chain(session, "up", first=start, only=model, as_json=json)


def plan(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Say what `up` would change; change nothing.

    On the machines that is Ansible's own dry run, in the cluster a preview. What cannot be known yet is said.
    """
    from slipway import pipeline

    session = Session(config, set_, verbose=verbose)
    with session.owning("plan") as ctx:
        steps = pipeline.plan(ctx, session.settings)
    count = sum(len(lines) for *_, lines in steps)

    def lines() -> list[str]:
        out = [f"{label_of(name, model)}: {line}" for name, model, each in steps for line in each]
        return [*out, f"{count} changes" if count else "nothing would change"]

    stages = [
        {"name": name, **({"model": model} if model else {}), "plan": each} for name, model, each in steps
    ]
    show({"changes": count, "stages": stages}, json, lines)
    return 0


def down(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Remove every trace of the lab from this machine.

    Reports of runs and caches stay. Hosts that slipway did not make are left alone.
    """
    from slipway import pipeline

    session = Session(config, set_, verbose=verbose)
    with session.owning("down") as ctx:
        removed = pipeline.down(ctx, session.settings)
    show_removed(removed, json)
    return 0
