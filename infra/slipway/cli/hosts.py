"""The machines: make, list, enter and remove them."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.chain import run_chain
from slipway.cli.options import AcceptNewKeys, Config, Json, Set, Verbose
from slipway.cli.printing import show, show_removed
from slipway.cli.session import Session
from slipway.core.errors import UsageError
from slipway.core.types import Hosts


def up(
    config: Config = None,
    set_: Set = None,
    accept_new_keys: AcceptNewKeys = False,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Make or start the machines.

    With hosts.backend nspawn they are made on this machine, after saying what changes on it; with ssh those
    of hosts.inventory are reached. A second call changes nothing.
    """
    from slipway.cli.asking import meet

    session = Session(config, set_, verbose=verbose)
    meet(session, accept=accept_new_keys)
    return run_chain(session, "hosts up", last="hosts", as_json=json)


def down(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Remove the machines slipway made.

    The rest of the state folder stays. Machines of an inventory are forgotten and left as they are.
    """
    from slipway.hosts.stage import take_down

    session = Session(config, set_, verbose=verbose)
    with session.owning("hosts down") as ctx:
        removed = take_down(ctx)
    show_removed(removed, json)
    return 0


def bake(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write the root to this tar as well; compressed where it is named .tar.gz or the like.",
        ),
    ] = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Bake the root that machines made here start from.

    Packages, programs and images are in it, and nothing of any one machine. `up` bakes it by itself where
    there is none yet; here it is made ahead of time, or for elsewhere: a tar of it is what LXD, a container
    or the disk of a virtual machine is made from.
    """
    from slipway.hosts.nspawn.golden import pack
    from slipway.pipeline import HOSTS

    session = Session(config, set_, verbose=verbose)
    with session.owning("hosts bake") as ctx:
        root, made = HOSTS.bake(ctx, session.settings)
        if output is not None:
            pack(root, output)
    told = output or root
    show(
        {"root": str(root), "made": made, "output": str(output) if output else None},
        json,
        lambda: [str(told)],
    )
    return 0


def list_(config: Config = None, set_: Set = None, json: Json = False) -> int:
    """List the machines: name, address, groups.

    Of the last `hosts up`; `slipway status` says which of them run.
    """
    hosts = Session(config, set_).state.kept(Hosts) or Hosts("none", ())
    rows = [asdict(host) for host in hosts.hosts]

    def lines() -> list[str]:
        return [f"{h.name:<12} {h.user}@{h.address}:{h.port}  {', '.join(h.groups)}" for h in hosts.hosts]

    show(rows, json, lines)
    return 0


def ssh(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A host, as `slipway hosts list` names it.", metavar="NAME")],
    config: Config = None,
    set_: Set = None,
) -> int:
    """Open a shell on a machine, or run a command there.

    Everything after NAME is run there: slipway hosts ssh cp uptime
    """
    from slipway.clients import openssh

    session = Session(config, set_)
    hosts = made(session)
    host = next((host for host in hosts.hosts if host.name == name), None)
    if host is None:
        raise UsageError(
            f"no host {name}", action=f"hosts are {', '.join(host.name for host in hosts.hosts)}"
        )
    argv = openssh.shell(host, session.state.known_hosts)
    os.execvp(argv[0], [*argv, *context.args])  # noqa: S606  # becomes ssh


def made(session: Session) -> Hosts:
    """The machines of this state folder. Raises UsageError if there are none yet."""
    hosts = session.state.kept(Hosts)
    if hosts is None or not hosts.hosts:
        raise UsageError("there are no hosts yet", action="`slipway hosts up` makes them")
    return hosts
