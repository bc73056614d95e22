"""A lab under test, and its machines as an owner would list them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml
from slipway.core.context import Context
from slipway.core.events import Event, Note
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Hosts, Outcome
from slipway.hosts.base import Backend
from slipway.hosts.nspawn.labs import lab_name


@dataclass
class Lab:
    """A backend with its settings and state folder, and what it said so far."""

    backend: Backend
    settings: Settings
    folder: Path
    said: list[str] = field(default_factory=list)
    cache: Path | None = None

    @property
    def ctx(self) -> Context:
        def listen(event: Event) -> None:
            if isinstance(event, Note):
                self.said.append(event.text)

        given = {"cache": self.cache} if self.cache is not None else {}
        return Context(State(self.folder), self.folder / "run", self.folder, emit=listen, **given)

    @property
    def name(self) -> str:
        return lab_name(self.folder)

    def up(self) -> Outcome[Hosts]:
        return self.backend.up(self.ctx, self.settings)

    def down(self) -> list[str]:
        return self.backend.down(self.ctx)


def inventory(hosts: Hosts, folder: Path, in_groups: tuple[str, ...] = ()) -> Path:
    """An inventory such as an owner of these machines would have written, with a known_hosts beside it.

    in_groups: those that the machines are in there, else the ones they were made for.
    """
    groups: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for host in hosts.hosts:
        for group in in_groups or host.groups:
            groups.setdefault(group, {"hosts": {}})["hosts"][host.name] = {
                "ansible_host": host.address,
                "ansible_port": host.port,
                "ansible_user": host.user,
                "ansible_ssh_private_key_file": str(host.identity),
                "ansible_ssh_common_args": "-o UserKnownHostsFile=known_hosts",
            }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "known_hosts").write_text("".join(f"{host.address} {host.host_key}\n" for host in hosts.hosts))
    path = folder / "machines.yml"
    path.write_text(yaml.safe_dump({"all": {"children": groups}}))
    return path
