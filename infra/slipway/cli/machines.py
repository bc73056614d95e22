"""Machines in a cloud: made, taken away, and what makes one ready that is made otherwise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.options import Config, Json, Set, Verbose
from slipway.cli.printing import show, show_removed
from slipway.cli.session import Session
from slipway.core.errors import UsageError

if TYPE_CHECKING:
    from slipway.hosts.created import Offered


def create(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; for a script.")] = False,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Make the machines of hosts.cloud, or change those there are.

    First it says what Pulumi would make, whom the firewall lets in and about what it costs an hour, and asks.
    `slipway hosts up` and `slipway up` then take them as they take machines that exist. They stay, and cost
    what they cost, until `slipway hosts destroy`; `slipway down` leaves them alone.

    \b
    slipway hosts create --set hosts.backend=pulumi --set hosts.cloud=hetzner
    """
    from slipway.hosts import created

    session = Session(config, set_, verbose=verbose)
    offers: list[Offered] = []

    def agreed(offered: Offered) -> bool:
        offers.append(offered)
        for line in offered.lines():
            session.console.line(line)
        if not offered.changes:
            return True
        if yes:
            return True
        if not sys.stdin.isatty():
            raise UsageError("nobody is here to ask", action="add --yes, once what is said above is wanted")
        return typer.confirm("Make them?", err=True)

    with session.owning("hosts create") as ctx:
        done = created.create(ctx, session.settings, agreed)
    cost = offers[0].cost
    document = {
        "changed": [change.line() for change in done or ()],
        "made": done is not None,
        "cost_an_hour": None if cost is None else round(cost.an_hour, 4),
        "currency": None if cost is None else cost.currency,
    }
    told = ["nothing was made"] if done is None else [change.line() for change in done] or ["nothing changed"]
    show(document, json, lambda: told)
    return 0


def destroy(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Take away the machines that `create` made.

    Their network and firewall go with them, what runs on them, and their keys.
    """
    from slipway.hosts import created

    session = Session(config, set_, verbose=verbose)
    with session.owning("hosts destroy") as ctx:
        removed = created.destroy(ctx, session.settings)
    show_removed(removed, json)
    return 0


def cloud_init(
    name: Annotated[str, typer.Argument(help="What the machine is to be called.", metavar="NAME")],
    config: Config = None,
    set_: Set = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Print user-data that makes a fresh virtual machine ready.

    Give it to whatever makes the machine. It gets a user with slipway's key and sudo, Python, and a host key
    that is made here beforehand, so that slipway knows the machine when it first answers. What to write into
    the inventory is said on stderr. The private half of that key is in it: treat it as a secret.

    \b
    slipway hosts cloud-init cp > cp.yaml
    """
    from slipway.hosts.cloud_init import user_data

    session = Session(config, set_, verbose=verbose)
    with session.owning("hosts cloud-init") as ctx:
        made = user_data(ctx, name)
    for line in made.entry():
        session.console.line(line)
    show(
        {
            "user_data": made.text,
            "host_key": made.host_key,
            "user": made.user,
            "identity": str(made.identity),
        },
        json,
        made.text.splitlines,
    )
    return 0
