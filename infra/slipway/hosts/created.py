"""Backend pulumi: the machines of a stack, which `slipway hosts create` makes and `destroy` takes away.

They cost money as long as they are there. So no other verb makes any, and none but `destroy` removes one.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from slipway_stacks import machine_inputs, offers
from slipway_stacks.machine_inputs import MachineInputs
from slipway_stacks.offers import OFFERS, Cost
from slipway_stacks.outputs import MACHINES_PROJECT

from slipway.artifacts import pulumi_cli
from slipway.clients import public_address, pulumi_stack, ssh
from slipway.clients.kubectl import Change
from slipway.clients.pulumi_engine import Engine, any_change_of
from slipway.core import extras, project
from slipway.core.context import Context
from slipway.core.errors import DeployError, HostError, UsageError
from slipway.core.events import Detail, Note
from slipway.core.retry import wait_for
from slipway.core.schema import OF_CLOUDS, Settings
from slipway.core.state import State, write_atomically
from slipway.core.types import Host, Hosts, Outcome, dump, load
from slipway.hosts import base
from slipway.hosts.cloud_init import keys
from slipway.hosts.existing import Existing

BOOT_SECONDS = 300.0  # until a machine that was just made lets slipway in
FIRST_BOOT_SECONDS = 600  # until cloud-init is done there


@dataclass(frozen=True)
class Made:
    """What was made, kept as long as it is there. backend: where Pulumi's state of it is, if not beside."""

    cloud: str
    region: str | None
    count: int
    size: str | None
    backend: str | None

    def line(self) -> str:
        """In words."""
        where = f"{OFFERS[self.cloud].title}, {self.region}" if self.region else OFFERS[self.cloud].title
        return f"{self.count} machines in {where}" + (f" ({self.size})" if self.size else "")


@dataclass(frozen=True)
class Offered:
    """What `create` would do, before it does: machines, who gets in, changes, and about what it costs."""

    machines: Made
    allow: tuple[str, ...]
    changes: tuple[Change, ...]
    cost: Cost | None

    def lines(self) -> list[str]:
        """For people, the cost last."""
        out = [f"{self.machines.line()}:", *(f"  {change.line()}" for change in self.changes)]
        if self.allow:
            out.append(f"SSH, the Kubernetes API and the registry are open to {', '.join(self.allow)}")
        return [*out, *_cost(self.machines.cloud, self.cost)]


def _cost(cloud: str, cost: Cost | None) -> list[str]:
    if cloud == "here":
        return ["they cost nothing"]
    if cost is None:
        told = OFFERS[cloud].price_list
        return ["what they cost is not known here" + (f": see {told}" if told else "")]
    parts = ", ".join(cost.parts)
    return [
        f"about {cost.currency} {cost.an_hour:.2f} an hour, {cost.currency} {24 * cost.an_hour:.2f} a day, "
        f"as long as they are there: {parts}; without taxes and traffic, {cost.date}, {cost.source}"
    ]


class Created(Existing):
    """Machines of the stack. `up` waits until they have booted, `down` forgets them and lets them run."""

    name = "pulumi"

    def plan(self, ctx: Context, settings: Settings) -> list[str]:
        """See Backend.plan: `up` changes nothing here, and makes no machine."""
        if made(ctx.state) is None:
            ctx.emit(Note(_NONE_YET))
        return []

    def up(self, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        """See Backend.up. Raises HostError while there are no machines, or one does not come up."""
        outcome = wait_for(
            "SSH on every machine",
            lambda: super(Created, self).up(ctx, settings),
            timeout=BOOT_SECONDS,
            interval=5,
            retry_on=(ssh.Unreachable, ssh.LoginRefused),
            action="look at the machine's console at the cloud; `slipway hosts destroy` takes all away",
        )
        if outcome.changed:
            base.on_each(outcome.value.hosts, _await_first_boot)
        return outcome

    def inventory(self, ctx: Context, settings: Settings) -> Path:
        """What the stack says of its machines now, as a file."""
        known = made(ctx.state)
        if known is None:
            raise HostError(
                _NONE_YET, action="`slipway hosts create` makes them, and says first what they cost"
            )
        pulumi_cli.ensure_cli(ctx, settings)
        return _write_inventory(ctx, _engine(ctx, known.backend).outputs())

    def down(self, ctx: Context) -> list[str]:
        """See Backend.down: forgets the machines, and says that they are still there."""
        if (known := made(ctx.state)) is not None:
            ctx.emit(
                Note(f"{known.line()} stay, and cost what they cost: `slipway hosts destroy` takes them away")
            )
        return super().down(ctx)


_NONE_YET = "there are no machines yet: hosts.backend pulumi makes none by itself"


def made(state: State) -> Made | None:
    """What was made for this state folder, None if nothing was."""
    try:
        return load(Made, (state.machines / "made.json").read_bytes())
    except FileNotFoundError:
        return None


def record(state: State, what: Made) -> None:
    """Keep what is made, before it is."""
    keys(state)
    write_atomically(state.machines / "made.json", dump(what) + b"\n", 0o600)


def create(ctx: Context, settings: Settings, agreed: Callable[[Offered], bool]) -> list[Change] | None:
    """Make the machines the settings ask for, or change those there are, once `agreed` to what is offered.

    Returns what changed; None if it was not agreed to. What a killed run has made is on record: a second call
    goes on, and `destroy` removes it. Raises UsageError, EnvironmentFault, or HostError with what Pulumi
    says.
    """
    cloud = settings.hosts.cloud
    if settings.hosts.backend != "pulumi" or cloud is None:
        raise UsageError(
            "machines are only made with hosts.backend: pulumi",
            action="set it, and hosts.cloud: one of " + ", ".join(OFFERS),
        )
    if cloud != "here":
        extras.need(cloud, f"making machines in {OFFERS[cloud].title}")
    pulumi_cli.ensure_cli(ctx, settings)
    allow = settings.hosts.allow or (() if cloud == "here" else (f"{public_address.seen()}/32",))
    inputs = _inputs(ctx, settings, allow)
    before = made(ctx.state)
    if before is not None and before.cloud != cloud:
        raise UsageError(
            f"there are {before.line()} already, and hosts.cloud says {cloud}",
            action="`slipway hosts destroy` first: machines do not move",
        )
    for name in inputs.names:
        base.key_pair(keys(ctx.state), name)
    backend = before.backend if before is not None else settings.deploy.backend
    engine = _engine(ctx, backend)
    _configure(pulumi_stack.stack_file(engine.project, engine.stack), _config(ctx, inputs))
    engine.unlock()
    count = len(inputs.names)
    what = Made(cloud, inputs.region, count, inputs.size, backend)
    cost = offers.cost(cloud, str(inputs.size), count, inputs.disk)
    with _of_hosts():
        changes = tuple(engine.preview())
    if not agreed(Offered(what, allow, changes, cost)):
        return None
    record(ctx.state, what)
    with _of_hosts():
        done = engine.up()
    _write_inventory(ctx, engine.outputs())
    return done


def destroy(ctx: Context, settings: Settings) -> list[str]:
    """Take away the machines, their network and firewall, and their keys. One line for each thing."""
    known = made(ctx.state)
    if known is None:
        return []
    pulumi_cli.ensure_cli(ctx, settings)
    engine = _engine(ctx, known.backend)
    with _of_hosts():
        engine.unlock()
        changes = engine.destroy()
    removed = [change.line() for change in changes] + Existing().down(ctx)
    shutil.rmtree(ctx.state.machines)
    return [*removed, f"folder {ctx.state.machines}"]


@contextlib.contextmanager
def _of_hosts() -> Iterator[None]:
    """What Pulumi could not do is the hosts' failure here, and no deployment's."""
    try:
        yield
    except DeployError as error:
        raise HostError(error.what, where=error.where, tail=error.tail, action=error.action) from error


def _inputs(ctx: Context, settings: Settings, allow: tuple[str, ...]) -> MachineInputs:
    """What the stack's own reading makes of the settings. Raises UsageError with every problem at once."""
    login = base.key_pair(keys(ctx.state), "login").public
    given: dict[str, Any] = {key: getattr(settings.hosts, key) for key in OF_CLOUDS}
    given |= {"cloud": settings.hosts.cloud, "workers": settings.hosts.workers, "loginKey": login}
    given["externalNetwork"] = given.pop("external_network")
    given["allow"] = list(allow) or None
    if settings.hosts.cloud == "here":
        given["folder"] = str(ctx.state.machines / "here")
    try:
        return machine_inputs.read({key: value for key, value in given.items() if value is not None}, "hosts")
    except ValueError as error:
        raise UsageError(
            "hosts in the settings cannot be used",
            tail=str(error),
            action="correct them; every problem is listed",
        ) from error


def _config(ctx: Context, inputs: MachineInputs) -> Mapping[str, str]:
    """The stack's configuration: paths of keys and no key that is secret, and what the provider wants."""
    offer = OFFERS[str(inputs.cloud)]
    wanted = {
        key: str(getattr(inputs, part)) for key, part in offer.settings.items() if getattr(inputs, part)
    }
    own = {**machine_inputs.texts(inputs), "keys": str(keys(ctx.state))}
    return {**{f"{MACHINES_PROJECT}:{key}": value for key, value in own.items()}, **wanted}


def _configure(file: Path, config: Mapping[str, str]) -> None:
    """Write the stack's configuration; what Pulumi keeps beside it, to know its secrets by, stays."""
    held = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}
    write_atomically(file, yaml.safe_dump({**held, "config": dict(config)}, sort_keys=False), 0o600)


def _engine(ctx: Context, backend: str | None) -> Engine:
    """Pulumi for the machines' own stack. Providers' plugins are Pulumi's to fetch."""
    folder = ctx.state.machines
    carried = project.folder() / "stacks" / "machines"
    stack = pulumi_stack.stack_name(ctx.project, ctx.state.root)
    base.private_folder(folder)
    return Engine(
        ctx.state.root,
        pulumi_stack.copy_project(carried, folder / "project"),
        stack,
        {
            **pulumi_stack.environment(folder / "pulumi", None, stack, backend),
            pulumi_stack.NO_PLUGINS: "false",
        },
        on_line=lambda line: ctx.emit(Detail(line)),
        tells=any_change_of,
    )


def _write_inventory(ctx: Context, outputs: Mapping[str, Any]) -> Path:
    """The stack's inventory as a file, with the key that logs in. Raises HostError where there is none."""
    inventory = outputs.get("inventory")
    if not inventory:
        raise HostError(
            "the stack tells of no machine: it was not made to its end",
            action="`slipway hosts create` goes on where it stopped",
        )
    inventory["all"]["vars"] = {"ansible_ssh_private_key_file": str(keys(ctx.state) / "login")}
    path = ctx.state.machines / "inventory.yml"
    write_atomically(path, yaml.safe_dump(inventory, sort_keys=False), 0o600)
    return path


def _await_first_boot(host: Host) -> None:
    """Wait for cloud-init, which holds apt meanwhile; what it could not do is told."""
    with ssh.connect(host) as connection:
        done = connection.run(
            ["sh", "-c", "! command -v cloud-init >/dev/null || cloud-init status --wait --long"],
            timeout=FIRST_BOOT_SECONDS,
            check=False,
        )
    if done.returncode not in (0, 2):  # 2: done, with something to complain about
        raise HostError(
            "cloud-init failed at the first boot",
            where=host.name,
            tail=done.output,
            action="`slipway hosts ssh` leads there, /var/log/cloud-init-output.log tells more",
        )
