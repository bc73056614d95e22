from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_network import LAB

from infra.backends.labs import LabHost, Records, flock, interface_name, lab_name
from infra.core.errors import EnvironmentFault, HostError, Timeout

HOST = LabHost(
    "cp",
    "10.77.4.2",
    ("control_plane",),
    "slip-abc123-cp",
    "id",
    "slip-abc123-cp",
    "slipabc123-1",
    Path("/r"),
)


def test_names_follow_from_the_state_folder_and_fit_an_interface(tmp_path: Path) -> None:
    name = lab_name(tmp_path)
    assert name == lab_name(tmp_path / "x" / "..")
    assert name != lab_name(tmp_path / "other")
    assert name.startswith("slip-")
    assert len(name) <= 15
    assert len(interface_name(name, 99)) <= 15
    assert interface_name(name, 99).startswith("slip")


def test_a_record_comes_back_as_it_was_and_leaves_nothing(tmp_path: Path) -> None:
    records = Records(tmp_path / "lib" / "labs")
    lab = replace(
        LAB, hosts=(replace(HOST, cgroups=(Path("/sys/fs/cgroup/x"),)),), sysctls_before={"a.b": "1"}
    )
    with records.locked():
        records.write(lab)
    assert records.find(lab.name) == lab
    assert records.all() == (lab,)
    assert (records.folder / f"{lab.name}.json").stat().st_mode & 0o777 == 0o600
    records.remove(lab.name)
    assert records.find(lab.name) is None
    assert not (tmp_path / "lib").exists()


def test_a_record_of_another_version_is_said(tmp_path: Path) -> None:
    records = Records(tmp_path)
    (tmp_path / "slip-abc123.json").write_text('{"name": "slip-abc123"}')
    with pytest.raises(HostError, match="cannot be read"):
        records.all()


def test_a_record_that_only_root_reads_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(EnvironmentFault, match="root's alone"):
        Records(tmp_path).find("slip-abc123")


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    with flock(tmp_path, "us", 1), pytest.raises(Timeout, match="lock"), flock(tmp_path, "us", 0.1):
        pass
    with flock(tmp_path, "us", 0.1):
        pass
