"""A lab under test, what it leaves on this machine, and its machines as an owner would list them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from infra.backends.base import Backend
from infra.backends.labs import lab_name
from infra.core import process
from infra.core.context import Context
from infra.core.events import Event, Note
from infra.core.schema import Settings
from infra.core.state import State
from infra.core.types import Hosts, Outcome


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


def traces(name: str) -> list[str]:
    """Everything on this machine that carries a lab's name."""
    short = name.replace("-", "", 1)
    found = [
        f"interface {path.name}"
        for path in Path("/sys/class/net").iterdir()
        if path.name.startswith((name, short))
    ]
    found += [f"netns {path}" for path in Path("/run/netns").glob(f"{name}*")]
    for program in (["iptables-save"], ["cat", "/proc/mounts"]):
        found += [line for line in process.run(program).stdout.splitlines() if name in line]
    found += process.run(["find", "/sys/fs/cgroup", "-name", f"{name}*"], check=False).stdout.split()
    found += [str(path) for path in Path("/run/systemd/nspawn").glob(f"*/*{name}*")]
    found += [str(path) for path in Path("/var/lib/slipway").glob(f"**/*{name}*")]
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"--machine={name}" in words:
            found.append(f"process {command.parent.name}: {words[:200]}")
    return found


def inventory(hosts: Hosts, folder: Path) -> Path:
    """An inventory such as an owner of these machines would have written, with a known_hosts beside it."""
    groups: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for host in hosts.hosts:
        for group in host.groups:
            groups.setdefault(group, {"hosts": {}})["hosts"][host.name] = {
                "ansible_host": host.address,
                "ansible_port": host.port,
                "ansible_user": host.user,
                "ansible_ssh_private_key_file": str(hosts.identity),
                "ansible_ssh_common_args": "-o UserKnownHostsFile=known_hosts",
            }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "known_hosts").write_text("".join(f"{host.address} {host.host_key}\n" for host in hosts.hosts))
    path = folder / "machines.yml"
    path.write_text(yaml.safe_dump({"all": {"children": groups}}))
    return path
