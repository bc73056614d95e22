"""The labs of this machine: who owns which name, subnet, interface and process.

A record is written before anything it names is made, outside the state folder, so that a killed `up`
or a deleted state folder leaves nothing that nobody knows of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from slipway.core.errors import EnvironmentFault, HostError
from slipway.core.lock import flock
from slipway.core.state import write_atomically
from slipway.core.types import dump, load

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
    """Everything one lab has on this machine.

    token: also in the state folder, proof that it is the same one.
    """

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
    interfaces_before: tuple[str, ...] = ()
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
        # Whoever may open it may lock it, and hold up every lab. It stays searchable, so that without root
        # too it can be told whether a state folder has a lab on record.
        self.folder.chmod(0o711)
        with flock(self.folder, "another run that sets up a lab's network", timeout=timeout):
            yield

    def all(self) -> tuple[Lab, ...]:
        """Every lab on record, but for `unreadable` ones. Raises EnvironmentFault without root."""
        return tuple(lab for path in self._files() if (lab := _readable(self._read, path)) is not None)

    def unreadable(self) -> tuple[Path, ...]:
        """Records that cannot be understood: a lab of another version, or a damaged file.

        Such a lab may be there and need what labs share. It keeps nobody from having another one.
        """
        return tuple(path for path in self._files() if path.exists() and _readable(self._read, path) is None)

    def _files(self) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.suffix == ".json")
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise _roots_alone(self.folder) from error

    def find(self, name: str) -> Lab | None:
        """One lab, None when it is not on record."""
        return self._read(self.folder / f"{name}.json")

    def need_unused(self, cache: Path) -> None:
        """Raise EnvironmentFault while a lab on record runs on what is in this cache.

        A lab that is being made has no root yet, and may be about to take one from there. Where records
        cannot be read nobody knows, which is refused too.
        """
        for record in self.unreadable():
            raise EnvironmentFault(
                f"the record of a lab cannot be read: {record}; it may run on what is in {cache}",
                action="take the lab down with the version of slipway that made it",
            )
        for lab in self.all():
            roots = [host.root for host in lab.hosts]
            making = Path() in roots
            if making or any(root.resolve().is_relative_to(cache.resolve()) for root in roots):
                state = "is being made" if making else f"runs on what is in {cache}"
                raise EnvironmentFault(
                    f"the lab {lab.name} of {lab.state} {state}",
                    action=f"take it down first: `slipway down` in {lab.state.parent}",
                )

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
            raise _roots_alone(path) from error
        except ValidationError as error:
            raise HostError(
                f"the record of a lab cannot be read: {path}",
                tail=str(error),
                action="it was written by another version of slipway: take the lab down with that one. If "
                "the file is damaged, remove it and what carries the lab's name (`ip link`, `iptables-save`)",
            ) from error


def _readable(read: Callable[[Path], Lab | None], path: Path) -> Lab | None:
    with suppress(HostError):
        return read(path)
    return None


def _roots_alone(path: Path) -> EnvironmentFault:
    return EnvironmentFault(
        f"the records of labs are root's alone: {path}", action="run as root (sudo), as the lab was made"
    )
