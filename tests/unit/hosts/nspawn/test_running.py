from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.core import process
from slipway.core.errors import CommandError, HostError
from slipway.hosts.nspawn import cgroups, controller, running

from tests.unit.hosts.nspawn.test_labs import HOST

SUPERVISED = replace(HOST, cgroups=(Path("/none/slip-abc123-cp"),))
UNIT = replace(HOST, unit="slip-abc123-cp.service")


def started(pid: int | str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's cgroups have processes in them."""
    monkeypatch.setattr(cgroups, "members", lambda paths: {7, 8})


@pytest.mark.usefixtures("full")
def test_a_supervised_host_lives_as_long_as_its_supervisor(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert not running.is_running(SUPERVISED, tmp_path)
    assert not running.has_ended(SUPERVISED, tmp_path)  # never started
    pid.write_text("")
    assert not running.has_ended(SUPERVISED, tmp_path)  # its supervisor is on its way
    own = Path("/proc/self").resolve().name
    pid.write_text(f"{own} {started(own)}\n")
    assert running.is_running(SUPERVISED, tmp_path)
    assert not running.has_ended(SUPERVISED, tmp_path)
    pid.write_text(f"{own} 1\n")  # the number went to another process
    assert not running.is_running(SUPERVISED, tmp_path)
    assert running.has_ended(SUPERVISED, tmp_path)


def test_a_supervisor_alone_is_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "members", lambda paths: {7})
    (tmp_path / "pid").write_text(f"1 {started(1)}\n")
    assert not running.is_running(SUPERVISED, tmp_path)


@pytest.mark.parametrize(("systemd", "code", "up"), [(True, 0, True), (True, 3, False), (False, 0, False)])
def test_a_unit_is_asked_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, systemd: bool, code: int, up: bool
) -> None:
    monkeypatch.setattr(controller, "runs_systemd", lambda: systemd)
    monkeypatch.setattr(process, "run", lambda argv, **_: process.Completed(tuple(argv), code, "", ""))
    assert running.is_running(UNIT, tmp_path) is up
    assert running.has_ended(UNIT, tmp_path) is not up


def test_ending_a_host_stops_its_unit_and_a_supervisor_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def run(argv: list[str], **_: object) -> process.Completed:
        asked.append(argv[1])
        return process.Completed(tuple(argv), 0, "ActiveState=active\n", "")

    monkeypatch.setattr(controller, "runs_systemd", lambda: True)
    monkeypatch.setattr(process, "run", run)
    (tmp_path / "pid").write_text("")
    assert running.end(UNIT, tmp_path) == [f"unit {UNIT.unit}"]
    assert asked == ["show", "kill", "stop", "reset-failed"]
    assert not (tmp_path / "pid").exists()
    monkeypatch.setattr(controller, "runs_systemd", lambda: False)
    assert running.end(UNIT, tmp_path / "gone") == []


def test_a_host_that_does_not_boot_shows_its_console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], **_: object) -> process.Completed:
        if argv[0] == "systemd-run":
            with (tmp_path / "console.log").open("a") as console:
                console.write("no init found\n")
            raise CommandError(tuple(argv), 1, "Job failed")
        return process.Completed(tuple(argv), 0, "", "")

    monkeypatch.setattr(process, "run", run)
    with pytest.raises(HostError, match=r"does not boot: .*systemd-run") as failed:
        running.start(UNIT, tmp_path)
    assert failed.value.where == "cp"
    assert failed.value.tail == "== boot\nno init found"
    assert failed.value.evidence == (tmp_path / "console.log",)


def test_waiting_ends_with_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "answers", lambda address: False)
    (tmp_path / "pid").write_text("1 0\n")
    (tmp_path / "console.log").write_text("kernel: killed\n")
    with pytest.raises(HostError, match="ended before SSH answered") as failed:
        running.wait_for_ssh(SUPERVISED, tmp_path)
    assert failed.value.tail == "kernel: killed"
    assert "slipway down" in failed.value.action


@pytest.fixture
def greeting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """A server in place of the host's port 22; what it greets with."""
    words = [b"SSH-2.0-x\r\n"]
    real = socket.create_connection
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    link.sendall(words[0])

        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setattr(socket, "create_connection", lambda address, timeout: real(place, timeout))
        yield words
        server.shutdown(socket.SHUT_RDWR)


def test_only_an_ssh_banner_is_an_answer(greeting: list[bytes]) -> None:
    assert running.answers("10.77.4.2")
    greeting[0] = b"HTTP/1.1 400 Bad Request\r\n"
    assert not running.answers("10.77.4.2")
