from __future__ import annotations

from pathlib import Path

import pytest

from infra.backends import kernel_modules
from infra.core import process


def test_only_modules_the_kernel_has_are_there(tmp_path: Path) -> None:
    assert kernel_modules.there("1.0", tmp_path) == list(kernel_modules.MODULES)  # no folder: all built in
    (tmp_path / "1.0").mkdir()
    (tmp_path / "1.0/modules.builtin").write_text("kernel/fs/overlayfs/overlay.ko\nkernel/x/iptable-nat.ko\n")
    (tmp_path / "proc").write_text("vxlan 147456 0 - Live 0x0\n")
    there = kernel_modules.there("1.0", tmp_path, tmp_path / "proc")
    assert there == ["overlay", "iptable_nat", "vxlan"]
    assert kernel_modules.builtin_listing(there).split() == [
        "kernel/lab/overlay.ko",
        "kernel/lab/iptable_nat.ko",
        "kernel/lab/vxlan.ko",
    ]


def test_modprobe_is_asked_only_for_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(process, "run", lambda argv, **_: asked.append(argv))
    kernel_modules.load(())
    kernel_modules.unload(())
    assert asked == []
    kernel_modules.load(("overlay", "veth"))
    kernel_modules.unload(("veth",))
    assert asked == [
        ["modprobe", "--all", "--quiet", "overlay", "veth"],
        ["modprobe", "--remove", "--all", "--quiet", "veth"],
    ]
