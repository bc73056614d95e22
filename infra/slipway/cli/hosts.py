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
from slipway.hosts.formats.names import Format


def up(
    config: Config = None,
    set_: Set = None,
    accept_new_keys: AcceptNewKeys = False,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Make or start the machines.

    With hosts.backend nspawn they are made on this machine, after saying what changes on it. With ssh those
    of hosts.inventory are reached, with vagrant those of the Vagrantfile, with pulumi those that `slipway
    hosts create` made. A second call changes nothing.
    """
    from slipway.cli.asking import meet

    session = Session(config, set_, verbose=verbose)
    meet(session, accept=accept_new_keys)
    return run_chain(session, "hosts up", last="hosts", as_json=json)


def down(config: Config = None, set_: Set = None, json: Json = False, verbose: Verbose = False) -> int:
    """Remove the machines slipway made.

    The rest of the state folder stays. Machines of an inventory, of Vagrant or in a cloud are forgotten and
    left as they are: `slipway hosts destroy` takes those away that `slipway hosts create` made.
    """
    from slipway.hosts.stage import take_down

    session = Session(config, set_, verbose=verbose)
    with session.owning("hosts down") as ctx:
        removed = take_down(ctx)
    show_removed(removed, json)
    return 0


def bake(
    format_: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="[tar|lxd|qcow2|oci]",
            help="Write the root for elsewhere too: as a tar, an image of LXD, a disk for virtual machines "
            "and clouds, or an OCI image. Without this, --output writes a tar.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Where to; a tar is compressed as its name says (.tar, .tar.gz, .tar.xz, .tar.zst). Without "
            "this, --format writes into slipway's cache.",
        ),
    ] = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Bake the root that machines made here start from.

    Packages, programs and images are in it, and nothing of any one machine. `up` bakes it by itself where
    there is none yet; here it is made ahead of time, or for elsewhere. What is written for elsewhere has
    nothing of this site either: the distribution's public archives, no proxies, no certificates, no logins.

    \b
    slipway hosts bake --format qcow2 --output node.qcow2
    """
    from slipway.hosts.formats import writing
    from slipway.hosts.nspawn import controller
    from slipway.pipeline import HOSTS

    session = Session(config, set_, verbose=verbose)
    kind: Format | None = format_ or ("tar" if output is not None else None)
    if kind is not None:
        controller.need_linux()
        writing.check(kind, output)
    with session.owning("hosts bake") as ctx:
        root, made = HOSTS.bake(ctx, session.settings)
        written = writing.write(ctx, session.settings, root, kind, output) if kind is not None else None
    document = {
        "root": str(root),
        "made": made,
        "format": kind,
        "output": str(written.file) if written is not None else None,
        "bytes": written.bytes if written is not None else None,
        "sha256": written.sha256 if written is not None else None,
    }

    def lines() -> list[str]:
        if written is None:
            return [str(root)]
        return [str(written.file), f"{written.bytes} bytes", f"sha256:{written.sha256}"]

    show(document, json, lines)
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
