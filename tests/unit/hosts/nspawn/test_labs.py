from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from slipway.core.errors import EnvironmentFault, HostError
from slipway.hosts.nspawn.labs import LabHost, Records, interface_name, lab_name

from tests.unit.hosts.nspawn.test_network import LAB

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


@pytest.mark.parametrize("text", ['{"name": "slip-def456"}', "", "[", "\0" * 300, '{"name": 3, "hosts": {}}'])
def test_a_record_nobody_can_read_is_said_and_keeps_nobody_else_from_a_lab(text: str, tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.write(LAB)
    broken = tmp_path / "slip-def456.json"
    broken.write_text(text)
    assert records.all() == (LAB,)
    assert records.find(LAB.name) == LAB
    assert records.unreadable() == (broken,)
    with pytest.raises(HostError, match="cannot be read"):
        records.find("slip-def456")


def test_nobody_else_may_lock_the_records(tmp_path: Path) -> None:
    folder = tmp_path / "labs"
    folder.mkdir(mode=0o755)
    with Records(folder).locked():
        assert folder.stat().st_mode & 0o777 == 0o711  # to lock a folder one must be able to open it


def test_a_record_that_only_root_reads_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(EnvironmentFault, match="root's alone"):
        Records(tmp_path).find("slip-abc123")
