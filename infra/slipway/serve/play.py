"""model_server.yml with what it needs: hosts, the model with its requests, wheels for the hosts' Pythons."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from slipway import artifacts
from slipway.clients import hosts_play, journals, ssh
from slipway.clients.ansible_play import Played
from slipway.core.context import Context
from slipway.core.evidence import Reading
from slipway.core.project import COLLECTION
from slipway.core.state import link_atomically, write_atomically
from slipway.core.types import ExportedModel, Host, Hosts

LOCK = COLLECTION / "roles/model_server/files/requirements.lock"
PRODUCTS = ("slipway_client", "slipway_server")
# one line: what the host's own python3 is, and for which processor
_ASK = ["python3", "-c", "import platform, sys; print('%d.%d' % sys.version_info[:2], platform.machine())"]


def run(ctx: Context, servers: Hosts, model: ExportedModel, *, check: bool = False) -> Played:
    """Write the inventory beside the wheels, and run the playbook.

    Raises ProvisionError with host, task and log; UsageError where the user's inventory sets what the model
    decides; what `artifacts.wheels` raises.
    """
    wheels = {host.name: str(_wheels(ctx, host).absolute()) for host in servers.hosts}
    return hosts_play.play(
        ctx.project / "playbooks" / "model_server.yml",
        servers,
        hosts_play.Given(
            ctx.state.serving / "inventory.yml", ctx.state.known_hosts, _variables(model, wheels)
        ),
        log=ctx.evidence(f"model_server{'-check' if check else ''}.log"),
        asked=hosts_play.Asked(check=check),
        emit=ctx.emit,
    )


def _variables(model: ExportedModel, wheels: Mapping[str, str]) -> dict[str, object]:
    """Of role model_server, the same for all hosts but for the wheels, which follow from their Python."""
    return {
        "model_server_name": model.name,
        "model_server_model": str(model.path.absolute()),
        "model_server_model_version": str(model.version),
        "model_server_requests": str(model.requests.absolute()),
        "slipway_wheels": dict(wheels),
        "model_server_wheels": "{{ slipway_wheels[inventory_hostname] }}",
    }


def _wheels(ctx: Context, host: Host) -> Path:
    """A folder with the wheels of client and server, and of what they need if the host is like this machine.

    Where it is not, its own pip fetches the rest, held to the hashes of the same lock.
    """
    with ssh.connect(host) as connection:
        python, machine = connection.run(_ASK, become=False, timeout=30).stdout.split()
    folder = ctx.state.serving / "wheels" / f"{python}-{machine}"
    for package in PRODUCTS:
        name, content = artifacts.product(package)
        write_atomically(folder / name, content)
    if machine == platform.machine():
        for path in artifacts.wheels(ctx, ctx.project / LOCK, python).glob("*.whl"):
            link_atomically(folder / path.name, path)
    return folder


def journal(host: Host) -> Reading:
    """The last lines of a host's model server, as evidence; why not, when the host does not answer."""
    words = ["journalctl", "--no-pager", "--lines=400", "--unit=model-server.service"]
    return journals.told(f"model-servers/{host.name}.log", host, words)
