"""From machines to a cluster: the playbooks, whole or in part."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from slipway.cli.chain import run_chain
from slipway.cli.hosts import made
from slipway.cli.options import Config, Json, Set, Verbose
from slipway.cli.printing import show
from slipway.cli.session import Session


def provision(
    config: Config = None,
    set_: Set = None,
    check: Annotated[bool, typer.Option("--check", help="Say what would change and change nothing.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show how files differ from what they will be.")
    ] = False,
    tags: Annotated[
        str, typer.Option("--tags", metavar="TAGS", help="Only tasks with these tags, e.g. docker_configure.")
    ] = "",
    limit: Annotated[str, typer.Option("--limit", metavar="HOSTS", help="Only these hosts or groups.")] = "",
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Bring the machines to a Kubernetes cluster.

    Runs playbooks/site.yml against .slipway/inventory.yml: Docker, a registry and Kubernetes, as far as the
    inventory has groups for them. With --check, --diff, --tags or --limit it only plays, and writes no
    report.
    """
    session = Session(config, set_, verbose=verbose)
    if not (check or diff or tags or limit):
        return run_chain(session, "provision", first="provision", last="provision", as_json=json)
    from slipway.provision.stage import play

    hosts = made(session)
    with session.owning("provision") as ctx:
        played = play(ctx, session.settings, hosts, check=check, diff=diff, tags=tags, limit=limit)
    rows = {name: asdict(each) for name, each in played.hosts.items()}

    def lines() -> list[str]:
        return [
            f"{name:<12} ok {h.ok}  changed {h.changed}  failed {h.failed}"
            for name, h in played.hosts.items()
        ]

    show(rows, json, lines)
    return 0
