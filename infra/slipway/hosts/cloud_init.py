"""User-data for machines that slipway does not make itself, and how an inventory then names them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from slipway_stacks import cloud_init

from slipway.core.context import Context
from slipway.core.errors import UsageError
from slipway.core.state import State
from slipway.hosts import base


@dataclass(frozen=True)
class UserData:
    """The text of a #cloud-config, and what the machine is then known by."""

    name: str
    text: str
    user: str
    host_key: str
    identity: Path

    def entry(self) -> list[str]:
        """The machine in an inventory, without the address that it does not have yet."""
        return [
            f"# {self.name} in the inventory, beside its ansible_host:",
            f"  ansible_user: {self.user}",
            f"  ansible_ssh_private_key_file: {self.identity}",
            f"  slipway_host_key: {self.host_key}",
        ]


def keys(state: State) -> Path:
    """The folder of machines' keys, and of `login`, the one that logs in. Stays when a lab goes down."""
    base.private_folder(state.root)
    base.private_folder(state.machines)
    return base.private_folder(state.machines / "keys").absolute()


def user_data(ctx: Context, name: str) -> UserData:
    """User-data for a machine of this name; the same again for the same name.

    Raises UsageError for what is no name of a host.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) or name == "login":
        raise UsageError(
            f"{name!r} is no name of a machine",
            action="expected lower-case letters, digits and dashes, at most 63, and not login",
        )
    folder = keys(ctx.state)
    login, own = base.key_pair(folder, "login"), base.key_pair(folder, name)
    text = cloud_init.user_data(
        name,
        cloud_init.USER,
        login.public,
        host_key=own.private.decode(),
        host_key_public=own.public,
    )
    return UserData(name, text, cloud_init.USER, own.public, folder / "login")
