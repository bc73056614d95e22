"""One bare lab host for a test of roles: what is put there, what is played on it, what it says."""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from slipway.clients import ansible_play, ssh, written_inventory
from slipway.clients.ansible_play import Played
from slipway.core import process
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Host, Hosts
from slipway.hosts.nspawn.labs import lab_name
from slipway.hosts.stage import MakeHosts, take_down

from tests.lab_traces import traces

ROOT = Path(__file__).parents[2]
PLAYBOOKS = ROOT / "playbooks"
SERVED = "/srv/stand-in"
PORT = 8099
URL = f"http://127.0.0.1:{PORT}"
LXD_NETWORK = "10.79.0.0/24"  # what role lxd gives its bridge
# What a run may not touch when it says that it changes nothing
TREES = "/etc /root /usr /var/lib"
NOT_BY_ROLES = "! -name lock ! -name 'lock-*' ! -path '/root/.ansible*' ! -path '/var/lib/systemd/*'"
# Mode, owner, and what is in it, of every path below the folders
LOOK = """
import hashlib, json, os, stat, sys
found = {}
def look(path):
    about = os.lstat(path)
    said = [oct(about.st_mode), str(about.st_uid), str(about.st_gid)]
    if stat.S_ISLNK(about.st_mode):
        said.append(os.readlink(path))
    if stat.S_ISREG(about.st_mode):
        said.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
    found[path] = " ".join(said)
for folder in sys.argv[1:]:
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            look(os.path.join(parent, name))
print(json.dumps(found))
"""


@dataclass
class BareHost:
    """A host with nothing on it, and a folder for what the tests write."""

    folder: Path
    hosts: Hosts
    ctx: Context
    groups: Sequence[str] = ()
    variables: dict[str, Any] = field(default_factory=dict)
    plays: int = 0

    @property
    def host(self) -> Host:
        return self.hosts.hosts[0]

    def on(self, script: str, input: bytes | None = None, timeout: float = 120) -> str:
        """What a shell script prints on the host."""
        with ssh.connect(self.host) as connection:
            return connection.run(["sh", "-c", script], input=input, timeout=timeout).stdout

    def put(self, local: Path, remote: str) -> None:
        """A folder, in place of what was there."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(local, arcname=".")
        self.on(f"rm -rf {remote} && mkdir -p {remote} && tar -x -C {remote}", packed.getvalue())

    def serve(self) -> None:
        """Whatever lies in SERVED, over HTTP from the host to itself, until it is taken down."""
        words = f"python3 -m http.server {PORT} --bind 127.0.0.1 --directory {SERVED}"
        runs = "systemctl is-active --quiet stand-in-http"
        self.on(f"mkdir -p {SERVED} && {{ {runs} || systemd-run --quiet --unit=stand-in-http {words}; }}")

    def inventory(self, variables: Mapping[str, Any]) -> Path:
        path = self.folder / "inventory.yml"
        known = self.ctx.state.known_hosts
        written = yaml.safe_load(
            written_inventory.inventory(self.hosts, known, {**self.variables, **variables}, {})
        )
        children: dict[str, Any] = {group: {"hosts": {self.host.name: {}}} for group in self.groups}
        written["all"]["children"] = children
        path.write_text(yaml.safe_dump(written))
        return path

    def play(
        self,
        tasks: list[dict[str, Any]] | str | Path,
        *,
        check: bool = False,
        tags: str = "",
        **variables: Any,
    ) -> Played:
        """Run these tasks, or the playbook of this name, on the host."""
        self.plays += 1
        book = self.folder / "book.yml" if isinstance(tasks, list) else PLAYBOOKS / tasks
        if isinstance(tasks, list):
            play = {"name": "Test", "hosts": "all", "gather_facts": False, "become": True, "tasks": tasks}
            book.write_text(yaml.safe_dump([play], sort_keys=False))
        log = self.folder / f"{self.plays}.log"
        return ansible_play.play(book, self.inventory(variables), log, check=check, diff=check, tags=tags)

    def told(self, name: str) -> Any:
        """What a task named so wrote for the test, see `tell`."""
        return json.loads((self.folder / f"{name}.json").read_text())

    def tell(self, name: str, expression: str) -> dict[str, Any]:
        """A task that hands a value to the test."""
        copy = {
            "content": "{{ " + expression + " | to_json }}",
            "dest": str(self.folder / f"{name}.json"),
            "mode": "0600",
        }
        return {
            "name": f"Tell {name}",
            "ansible.builtin.copy": copy,
            "delegate_to": "localhost",
            "become": False,
            "vars": {"ansible_connection": "local"},
            "changed_when": False,
            "check_mode": False,
        }

    def mark(self) -> None:
        self.on("touch /run/slipway-mark; sleep 0.1")

    def touched(self) -> list[str]:
        """Files written since `mark`."""
        return self.on(f"find {TREES} -xdev -newer /run/slipway-mark -type f {NOT_BY_ROLES}").split()

    def files(self, *folders: str) -> dict[str, str]:
        """Path to what is told of every file and folder below these, but for times."""
        told: dict[str, str] = json.loads(self.on(shlex.join(["python3", "-c", LOOK, *folders])))
        return told


@contextmanager
def bare_host(folder: Path, *groups: str, **variables: Any) -> Iterator[BareHost]:
    """Made from a bare root, and gone without a trace afterwards.

    groups, variables: what it has in every play's inventory.
    """
    ctx = Context(State(folder / ".slipway"), folder / "run", ROOT)
    try:
        settings = Settings.model_validate({"hosts": {"workers": 0, "golden": False}})
        yield BareHost(folder, MakeHosts().run(ctx, settings).value, ctx, groups, variables)
    finally:
        take_down(ctx)
        assert traces(lab_name(ctx.state.root)) == []


@contextmanager
def machine_with_lxd(folder: Path) -> Iterator[BareHost]:
    """A bare host with LXD by its role, to whose bridge this machine has a route meanwhile."""
    with bare_host(folder, "lxd") as machine:
        machine.play("lxd.yml")
        process.run(["ip", "route", "replace", LXD_NETWORK, "via", machine.host.address], timeout=10)
        try:
            yield machine
        finally:
            process.run(["ip", "route", "del", LXD_NETWORK], check=False, timeout=10)
