from __future__ import annotations

import os
from pathlib import Path

import pytest
from slipway.core import process
from slipway.hosts.nspawn import kernel_modules


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


def test_only_what_can_be_loaded_and_is_not_there_is_to_load(tmp_path: Path) -> None:
    release = os.uname().release
    assert kernel_modules.to_load(tmp_path, tmp_path / "proc") == ()  # no folder: nothing to load from
    (tmp_path / release).mkdir()
    (tmp_path / release / "modules.builtin").write_text("kernel/fs/overlayfs/overlay.ko\n")
    dep = "kernel/net/bridge/br_netfilter.ko.zst: kernel/net/bridge/bridge.ko\nkernel/drivers/net/veth.ko:\n"
    (tmp_path / release / "modules.dep").write_text(dep)
    (tmp_path / "proc").write_text("veth 40960 0 - Live 0x0\n")
    assert kernel_modules.to_load(tmp_path, tmp_path / "proc") == ("br_netfilter",)


def test_the_owners_bridges_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", lambda *_, **__: None)
    switch = tmp_path / "net/bridge/bridge-nf-call-iptables"
    switch.parent.mkdir(parents=True)
    switch.write_text("1\n")
    kernel_modules.load(("overlay",), tmp_path)
    assert switch.read_text() == "1\n"  # br_netfilter was there already: whoever uses it wants it so
    kernel_modules.load(("overlay", "br_netfilter"), tmp_path)
    assert switch.read_text() == "0\n"


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
