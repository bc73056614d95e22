"""What this machine lacks follows from the settings; it is installed by root, by name, with apt."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from slipway.core import extras
from slipway.core.errors import EnvironmentFault
from slipway.core.events import silent
from slipway.core.schema import ClusterSettings, HostsSettings, Settings
from slipway.hosts.nspawn import controller, inherit
from slipway.status import doctor, packages


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A Linux machine with no other programs than these; hosts lack what `hosts` names."""

    def be(*programs: str, hosts: tuple[str, ...] = ()) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
        monkeypatch.setattr(inherit, "site", lambda *_: None)
        monkeypatch.setattr(controller, "missing", lambda site: hosts)
        monkeypatch.setattr(sys, "platform", "linux")

    return be


def theirs(tmp_path: Path) -> Settings:
    return Settings(hosts=HostsSettings(backend="ssh", inventory=tmp_path))


def test_hosts_made_here_need_their_packages_and_ssh(machine: Callable[..., None]) -> None:
    machine(hosts=("systemd-container", "mmdebstrap"))
    assert packages.missing(Settings()) == ("openssh-client", "systemd-container", "mmdebstrap")
    machine("ssh")
    assert packages.missing(Settings()) == ()


def test_machines_that_exist_need_what_images_are_made_with(
    machine: Callable[..., None], tmp_path: Path
) -> None:
    machine(hosts=("systemd-container",))
    assert packages.missing(theirs(tmp_path)) == ("openssh-client", "mmdebstrap")
    released = theirs(tmp_path).model_copy(
        update={"artifacts": Settings().artifacts.model_copy(update={"sources": ("release",)})}
    )
    assert packages.missing(released) == ("openssh-client",)


def test_a_cluster_that_exists_needs_no_ssh(machine: Callable[..., None], tmp_path: Path) -> None:
    machine("mmdebstrap")
    assert packages.missing(Settings(cluster=ClusterSettings(kubeconfig=tmp_path))) == ()


def test_only_root_installs_and_only_with_apt(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(controller, "install", lambda names, emit: asked.append(names))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine()
    with pytest.raises(EnvironmentFault, match="no apt-get"):
        packages.install(("iptables",), silent)
    machine("apt-get")
    packages.install(("iptables",), silent)
    assert asked == [("iptables",)]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EnvironmentFault, match="needs root") as caught:
        packages.install(("iptables",), silent)
    assert caught.value.action == "sudo apt-get install --no-install-recommends iptables"
    assert len(asked) == 1


def test_doctor_names_the_packages_and_the_verb_that_installs_them(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine("ssh", hosts=("systemd-container", "mmdebstrap"))
    check = doctor._packages(Settings(), own_hosts=True)
    assert (check.ok, check.needed, check.found) == (False, False, "systemd-container mmdebstrap")
    assert check.action == "`slipway setup` installs them, and so does `slipway up`"
    assert doctor._packages(theirs(tmp_path), own_hosts=False).action == "`slipway setup` installs it"
    monkeypatch.setattr(sys, "platform", "darwin")
    off = doctor._packages(Settings(), own_hosts=True)
    assert (off.ok, off.needed) == (False, True) and "need Linux" in off.found


def test_doctor_says_how_to_get_what_training_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor._training(Settings()).ok
    monkeypatch.setattr(extras, "missing", lambda extra: ("tensorflow",))
    check = doctor._training(Settings())
    assert (check.ok, check.needed, check.action) == (False, True, "make setup")
    assert "`train` is not installed (tensorflow)" in check.found
    brought = Settings.model_validate({"model": {"path": tmp_path}})
    assert not doctor._training(brought).needed
