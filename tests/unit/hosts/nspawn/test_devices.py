from __future__ import annotations

import platform
import struct
from pathlib import Path

import pytest
from slipway.hosts.nspawn import devices
from slipway.hosts.nspawn.devices import ALLOWED, Device

READ, MAKE = 2, 1


def allows(code: bytes, kind: str, major: int, minor: int, access: int = READ) -> bool:
    """What the kernel would make of the program: the few instructions it is made of, carried out."""
    context = struct.pack("<III", access << 16 | {"b": 1, "c": 2}[kind], major, minor)
    register: dict[int, int] = {1: 0}
    at = 0
    while True:
        operation, registers, offset, value = struct.unpack_from("<BBhi", code, at * 8)
        to, source = registers & 15, registers >> 4
        at += 1
        if operation == 0x61:
            (register[to],) = struct.unpack_from("<I", context, offset)
        elif operation == 0xBF:
            register[to] = register[source]
        elif operation == 0x54:
            register[to] &= value
        elif operation == 0x74:
            register[to] >>= value
        elif operation == 0x55:
            at += offset if register[to] != value else 0
        elif operation == 0xB7:
            register[to] = value
        elif operation == 0x95:
            return bool(register[0])
        else:
            raise AssertionError(f"an instruction it should not have: {operation:#x}")


@pytest.mark.parametrize(
    ("kind", "major", "minor", "allowed"),
    [
        ("c", 1, 3, True),
        ("c", 1, 11, True),
        ("c", 136, 0, True),
        ("c", 136, 77, True),
        ("b", 7, 3, True),
        ("c", 1, 1, False),  # /dev/mem
        ("c", 1, 4, False),  # /dev/port
        ("b", 1, 3, False),
        ("b", 8, 0, False),
        ("b", 136, 0, False),
        ("b", 254, 0, False),
        ("c", 10, 232, False),
        ("c", 4, 0, False),
    ],
)
def test_a_device_is_opened_only_if_it_is_on_the_list(
    kind: str, major: int, minor: int, allowed: bool
) -> None:
    code = devices.program()
    assert allows(code, kind, major, minor) is allowed
    assert allows(code, kind, major, minor, READ | MAKE) is allowed
    assert allows(code, kind, major, minor, MAKE)  # images bring nodes along; a node alone opens nothing


def test_each_device_of_the_list_is_allowed_whatever_stands_before_it() -> None:
    for device in ALLOWED:
        assert allows(devices.program(), device.kind, device.major, device.minor or 0)
    assert not allows(devices.program([]), "c", 1, 3)
    assert not allows(devices.program([Device("c", 1, 3, "/dev/null")]), "c", 1, 5)


def test_systemd_is_given_the_same_list() -> None:
    lines = devices.unit_properties()
    assert lines[0] == "DevicePolicy=strict"
    assert [line for line in lines if line.endswith(" rw")] == [
        f"DeviceAllow={one.unit} rw" for one in ALLOWED
    ]


def test_why_a_machine_cannot_forbid_anything_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert devices.restrict([tmp_path]) == "this machine has no cgroup v2"
    (tmp_path / "cgroup.controllers").write_text("")
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    assert "vax" in devices.restrict([tmp_path])
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")

    def refuse(_number: int, _folder: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(devices, "_attach", refuse)
    assert devices.restrict([tmp_path]).endswith("Operation not permitted")
