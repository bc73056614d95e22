"""The labs of this machine: who owns which name, subnet, interface and process.

A record is written before anything it names is made, outside the state folder, so that a killed `up`
or a deleted state folder leaves nothing that nobody knows of.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from infra.core.errors import EnvironmentFault, HostError
from infra.core.retry import Pending, wait_for
from infra.core.state import write_atomically
from infra.core.types import dump, load

RECORDS = Path("/var/lib/slipway/labs")
PREFIX = "slip"


@dataclass(frozen=True)
class LabHost:
    """What one host has on this machine. cgroups: absolute folders; empty where systemd keeps them."""

    name: str
    address: str
    groups: tuple[str, ...]
    machine: str
    machine_id: str
    netns: str
    interface: str
    root: Path
    cgroups: tuple[Path, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Lab:
    """Everything one lab has on this machine. token: also in the state folder, proof that it is the same one."""

    name: str
    token: str
    state: Path
    subnet: str
    gateway: str
    mtu: int
    suite: str
    bridge: str
    forward_chain: str
    nat_chain: str
    ip_forward_before: str
    modules_loaded: tuple[str, ...] = ()
    sysctls_before: dict[str, str] = field(default_factory=dict)
    hosts: tuple[LabHost, ...] = ()


def lab_name(state: Path) -> str:
    """The lab's name, from its state folder: short enough for an interface's 15 characters."""
    return f"{PREFIX}-{hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:6]}"


def interface_name(lab: str, index: int) -> str:
    """This machine's end of a host's cable, e.g. slip1a2b3c-12."""
    return f"{lab.replace('-', '', 1)}-{index}"


class Records:
    """The records of all labs of this machine, one file each."""

    def __init__(self, folder: Path = RECORDS) -> None:
        self.folder = folder

    @contextmanager
    def locked(self, timeout: float = 120.0) -> Iterator[None]:
        """Keep other runs from choosing names and subnets meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with flock(self.folder, "another run that sets up a lab's network", timeout):
            yield

    def all(self) -> tuple[Lab, ...]:
        """Every lab on record. Raises HostError for a record that cannot be read, EnvironmentFault without root."""
        return tuple(
            lab for path in sorted(self.folder.glob("*.json")) if (lab := self._read(path)) is not None
        )

    def find(self, name: str) -> Lab | None:
        """One lab, None when it is not on record."""
        return self._read(self.folder / f"{name}.json")

    def write(self, lab: Lab) -> None:
        """Put a lab on record, whole or not at all."""
        write_atomically(self.folder / f"{lab.name}.json", dump(lab) + b"\n", 0o600)

    def remove(self, name: str) -> None:
        """Take a lab off the record; the folder goes with the last one."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            with suppress(OSError):  # not empty: other labs, or a file that is not ours
                folder.rmdir()

    def _read(self, path: Path) -> Lab | None:
        try:
            return load(Lab, path.read_bytes())
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise EnvironmentFault(
                f"the record of a lab is root's alone: {path}",
                action="run as root (sudo), as the lab was made",
            ) from error
        except ValidationError as error:
            raise HostError(
                f"the record of a lab cannot be read: {path}",
                tail=str(error),
                action="it was written by another version of slipway: take the lab down with that one",
            ) from error


@contextmanager
def flock(path: Path, holder: str, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock on a folder or file; it ends with this process, however that ends."""
    handle = os.open(path, os.O_RDONLY)

    def take() -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Pending(f"{path} is locked by {holder}") from None

    try:
        wait_for(f"a lock on {path}", take, timeout=timeout, interval=0.1, action="wait for that run to end")
        yield
    finally:
        os.close(handle)
