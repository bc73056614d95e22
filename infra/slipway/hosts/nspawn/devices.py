"""Which devices of this machine a host may open: a list of what engines and kubelets need, and nothing else.

It holds for every process of the host, containers with all privileges too. Where systemd keeps the host it is
a property of the unit; elsewhere the same list is attached to the host's cgroup, as systemd would do it: a
small BPF program that the kernel asks whenever a device is opened or made. (The older list of cgroup v1 will
not do: below it no container can be given all devices, and kube-proxy asks for that.)
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Device:
    """kind: "c" or "b". minor None: every one of that major. unit: what systemd calls it."""

    kind: str
    major: int
    minor: int | None
    unit: str


ALLOWED = (
    Device("c", 1, 3, "/dev/null"),
    Device("c", 1, 5, "/dev/zero"),
    Device("c", 1, 7, "/dev/full"),
    Device("c", 1, 8, "/dev/random"),
    Device("c", 1, 9, "/dev/urandom"),
    Device("c", 1, 11, "/dev/kmsg"),  # kubelets look for the kernel's words on memory there
    Device("c", 5, 0, "/dev/tty"),
    Device("c", 5, 1, "/dev/console"),
    Device("c", 5, 2, "/dev/ptmx"),
    Device("c", 136, None, "char-pts"),
    Device("c", 10, 200, "/dev/net/tun"),
    Device("c", 10, 229, "/dev/fuse"),
    Device("c", 10, 237, "/dev/loop-control"),
    Device("b", 7, None, "block-loop"),
)

# linux/bpf.h. The program is given a context: access << 16 | kind, major, minor.
_KINDS = {"b": 1, "c": 2}
_MAKE_A_NODE = 1
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2
_SYSCALL = {"x86_64": 321, "aarch64": 280}


def unit_properties(allowed: Iterable[Device] = ALLOWED) -> list[str]:
    """The list as properties of a systemd unit. Nodes may be made of all, images bring some along."""
    return [
        "DevicePolicy=strict",
        "DeviceAllow=char-* m",
        "DeviceAllow=block-* m",
        *(f"DeviceAllow={device.unit} rw" for device in allowed),
    ]


def program(allowed: Iterable[Device] = ALLOWED) -> bytes:
    """The list as a BPF program: 1 for what is allowed, and for a node that is only made; else 0."""
    # r2: kind, r3: access, r4: major, r5: minor
    code = [
        _instruction(0x61, 2, 1),
        _instruction(0xBF, 3, 2),
        _instruction(0x54, 2, value=0xFFFF),
        _instruction(0x74, 3, value=16),
        _instruction(0x61, 4, 1, 4),
        _instruction(0x61, 5, 1, 8),
    ]
    for device in allowed:
        tests = [(2, _KINDS[device.kind]), (4, device.major)]
        if device.minor is not None:
            tests.append((5, device.minor))
        for passed, (register, wanted) in enumerate(tests):
            # unequal: go on behind this device's other tests and its two instructions of answer
            code.append(_instruction(0x55, register, offset=len(tests) - passed + 1, value=wanted))
        code += _answer(1)
    return b"".join([*code, _instruction(0x55, 3, offset=2, value=_MAKE_A_NODE), *_answer(1), *_answer(0)])


def restrict(cgroups: Iterable[Path]) -> str:
    """Attach the list to the one of a host's cgroups that is of v2.

    Returns "", or why this machine has no way to keep the host from a device.
    """
    folder = next((path for path in cgroups if (path / "cgroup.controllers").exists()), None)
    number = _SYSCALL.get(platform.machine())
    if folder is None:
        return "this machine has no cgroup v2"
    if number is None:
        return f"slipway does not know how on {platform.machine()}"
    try:
        _attach(number, folder)
    except OSError as error:
        return f"the kernel takes no list of devices: {error.strerror}"
    return ""


def _attach(number: int, folder: Path) -> None:
    code, terms = ctypes.create_string_buffer(program()), ctypes.create_string_buffer(b"Apache-2.0")
    count = (len(code) - 1) // 8
    load = struct.pack("<IIQQ", _TYPE_CGROUP_DEVICE, count, ctypes.addressof(code), ctypes.addressof(terms))
    loaded = _bpf(number, _PROG_LOAD, load)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            attach = struct.pack("<IIII", handle, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI)
            _bpf(number, _PROG_ATTACH, attach)
        finally:
            os.close(handle)
    finally:
        os.close(loaded)


def _instruction(code: int, to: int, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | to, offset, value)


def _answer(value: int) -> list[bytes]:
    return [_instruction(0xB7, 0, value=value), _instruction(0x95, 0)]


def _bpf(number: int, command: int, attributes: bytes) -> int:
    """The system call bpf(2). Returns its descriptor. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = int(libc.syscall(ctypes.c_long(number), command, buffer, 128))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
