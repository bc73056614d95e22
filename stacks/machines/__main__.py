"""`pulumi up`: read the stack's configuration, make the machines, export them as an Ansible inventory."""

from __future__ import annotations

from pathlib import Path

import pulumi
from pulumi.runtime.config import get_config_env
from slipway_stacks import machine_inputs
from slipway_stacks.kinds import InputsError
from slipway_stacks.machines import HostKey, Machines, MachinesArgs
from slipway_stacks.outputs import MACHINES_PROJECT

PREFIX = f"{MACHINES_PROJECT}:"
# the folder with each machine's key, NAME and NAME.pub, as ssh-keygen writes them
KEYS = "keys"

# the whole bag, not key by key: a misspelt key is an error, not a silent default
given = {key.removeprefix(PREFIX): value for key, value in get_config_env().items() if key.startswith(PREFIX)}
folder = given.pop(KEYS, "")
name = given.pop("name", "slipway")
try:
    inputs = machine_inputs.read(given)
    keys = {
        one: HostKey(
            private=Path(folder, one).read_text(encoding="utf-8"),
            public=Path(folder, f"{one}.pub").read_text(encoding="utf-8").strip(),
        )
        for one in (inputs.names if folder else ())
    }
    machines = Machines(name, MachinesArgs(**vars(inputs), host_keys=keys))
except (InputsError, OSError) as error:
    raise pulumi.RunError(str(error)) from error
except ModuleNotFoundError as error:
    raise pulumi.RunError(f"the SDK of this cloud is not installed: {error}") from error
pulumi.export("inventory", machines.inventory)
