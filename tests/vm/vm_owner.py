"""Whoever owns a machine and gives it to slipway: an inventory and a state folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from slipway.core.context import Context
from slipway.core.schema import Settings
from slipway.core.types import Hosts
from slipway.hosts.existing import Existing

from tests.contract.contract_lab import Lab
from tests.vm.vm_lab import Machine


@dataclass
class Owner:
    """One user of a machine. folder has the inventory machines.yml and the state folder."""

    machine: Machine
    folder: Path
    user: str
    groups: Sequence[str]

    @property
    def inventory(self) -> Path:
        return self.folder / "machines.yml"

    @property
    def settings(self) -> Settings:
        return Settings.model_validate({"hosts": {"backend": "ssh", "inventory": str(self.inventory)}})

    @property
    def lab(self) -> Lab:
        """As the suite of contracts takes it."""
        return Lab(Existing(), self.settings, self.folder / ".slipway")

    def up(self, ctx: Context | None = None) -> Hosts:
        """The machine as slipway finds it through the inventory. ctx: with a state folder other than the user's own."""
        return Existing().up(ctx or self.lab.ctx, self.settings).value


def owner(machine: Machine, folder: Path, user: str, groups: Sequence[str], **variables: Any) -> Owner:
    """A user with an inventory of their own. variables: of the machine, in that inventory."""
    folder.mkdir(parents=True, exist_ok=True)
    machine.inventory(folder, user, groups, **variables)
    return Owner(machine, folder, user, groups)


@contextmanager
def two_owners(machine: Machine, folder: Path, groups: Sequence[str]) -> Iterator[dict[str, Owner]]:
    """debian, whom sudo asks for nothing, and ops, whose password for it is sealed in the inventory.

    The vault is open until the end of the block.
    """
    found = {
        "debian": owner(machine, folder / "debian", "debian", groups),
        "ops": owner(machine, folder / "ops", "ops", groups, ansible_become_password="SEALED"),
    }
    listed = found["ops"].inventory
    listed.write_text(listed.read_text().replace("SEALED", sealed(machine.password, folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(folder / "vault-password"))
        yield found


def sealed(value: str, folder: Path) -> str:
    """A value as ansible-vault seals it, for a variable of a host in YAML. folder: gets vault-password, which opens it."""
    password = folder / "vault-password"
    password.touch(0o600)
    password.write_text("opens it\n")
    argv = [str(Path(sys.executable).with_name("ansible-vault")), "encrypt_string", "--stdin-name", "value"]
    environment = {**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(password)}
    done = subprocess.run(
        argv, env=environment, input=value, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.partition("value: ")[2].rstrip()
