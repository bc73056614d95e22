"""One bare lab host with one role on it, for tests that need no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.clients import ansible_play, ssh
from slipway.clients.ansible_play import Played
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Hosts
from slipway.hosts.nspawn.labs import lab_name
from slipway.hosts.stage import MakeHosts, take_down

from tests.lab_traces import traces

ROOT = Path(__file__).parents[1]
# a role alone is tested on what people have: a root without its packages
SETTINGS = Settings.model_validate({"hosts": {"workers": 0, "golden": False}})
# What a run may not touch when it says that it changes nothing
TREES = "/etc /root /usr /var/lib"
NOT_BY_ROLES = "! -name lock ! -name 'lock-*' ! -path '/root/.ansible*' ! -path '/var/lib/systemd/*'"


@dataclass
class OneHost:
    ctx: Context
    hosts: Hosts

    def on(self, script: str) -> str:
        """What a shell script prints on the host."""
        (host,) = self.hosts.hosts
        with ssh.connect(host, self.hosts.identity) as connection:
            return connection.run(["sh", "-c", script], timeout=120).stdout

    def play(self, playbook: str, *, check: bool = False, tags: str = "", **extra: object) -> Played:
        return ansible_play.play(
            ROOT / "playbooks" / playbook,
            self.ctx.state.inventory,
            self.ctx.evidence(f"{playbook}.log"),
            check=check,
            tags=tags,
            extra=extra,
        )

    def mark(self) -> None:
        self.on("touch /run/slipway-mark; sleep 0.1")

    def touched(self) -> list[str]:
        """Files written since `mark`."""
        return self.on(f"find {TREES} -xdev -newer /run/slipway-mark -type f {NOT_BY_ROLES}").split()


@contextmanager
def one_host(folder: Path, group: str, **variables: object) -> Iterator[OneHost]:
    """A host in one group, with these variables in its inventory; gone without a trace at the end."""
    ctx = Context(State(folder / ".slipway"), folder / "run", ROOT)
    try:
        made = MakeHosts().run(ctx, SETTINGS).value
        hosts = replace(made, hosts=tuple(replace(host, groups=(group,)) for host in made.hosts))
        text = ansible_play.inventory(hosts, ctx.state.known_hosts, variables, {})
        ctx.state.inventory.write_text(text)
        yield OneHost(ctx, hosts)
    finally:
        take_down(ctx)
        assert traces(lab_name(ctx.state.root)) == []
