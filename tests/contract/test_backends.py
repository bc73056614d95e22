"""What every backend promises, asked of each in turn."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from slipway.clients import openssh, ssh
from slipway.core.errors import CommandError
from slipway.core.types import Hosts, dump, load
from slipway.hosts import base

from tests.contract.contract_lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.alone]
Ready = tuple[Lab, Hosts]


def test_a_second_up_changes_nothing(ready: Ready) -> None:
    lab, hosts = ready
    again = lab.up()
    assert again.changed == 0
    assert again.value == hosts
    assert lab.ctx.state.kept(Hosts) == hosts
    assert load(Hosts, dump(hosts)) == hosts


def test_a_command_gets_its_input_and_gives_its_output_and_code(ready: Ready) -> None:
    _, hosts = ready
    seen: list[str] = []
    with ssh.connect(hosts.hosts[0]) as connection:
        done = connection.run(
            ["sh", "-c", 'tr a-z A-Z; echo "an argument: $1" >&2; exit 3', "x", "it's $HOME; *"],
            input="first\nsecond\n",
            check=False,
            on_line=seen.append,
        )
        assert (done.returncode, done.stdout) == (3, "FIRST\nSECOND\n")
        assert done.stderr == "an argument: it's $HOME; *\n"
        assert sorted(seen) == ["FIRST", "SECOND", "an argument: it's $HOME; *"]
        with pytest.raises(CommandError, match="exit code 1") as failed:
            connection.run(["cat", "/does-not-exist"])
    assert failed.value.where == hosts.hosts[0].name
    assert "No such file" in failed.value.tail


def test_a_command_past_its_time_is_ended_on_the_host(ready: Ready) -> None:
    _, hosts = ready
    with ssh.connect(hosts.hosts[0]) as connection:
        with pytest.raises(CommandError, match="124"):
            connection.run(["sleep", "98765"], timeout=0.5)
        assert "98765" not in connection.run(["ps", "-eo", "args"]).stdout


def test_a_background_process_does_not_hold_a_command(ready: Ready) -> None:
    _, hosts = ready
    with ssh.connect(hosts.hosts[0]) as connection:
        done = connection.run(["sh", "-c", "sleep 20 & echo started"], timeout=15)
    assert done.stdout == "started\n"


def test_a_file_streams_in_whole(ready: Ready, tmp_path: Path) -> None:
    _, hosts = ready
    (tmp_path / "here").write_bytes(os.urandom(3_000_001))
    with ssh.connect(hosts.hosts[0]) as connection:
        streamed = connection.stream_in(["sha256sum"], tmp_path / "here")
    assert streamed.stdout.split()[0] == _sha256(tmp_path / "here")


def test_another_host_key_than_the_pinned_one_is_refused(ready: Ready) -> None:
    _, hosts = ready
    other = replace(hosts.hosts[0], host_key=base.ed25519().public)
    with pytest.raises(ssh.HostKeyRejected) as refused, ssh.connect(other):
        pass
    assert openssh.fingerprint(other.host_key).split()[1] in refused.value.tail
    assert openssh.fingerprint(ssh.shown_key(hosts.hosts[0])).split()[1] in refused.value.tail


# each machine once: sshd refuses everybody for a while where refusals come in a row
@pytest.mark.parametrize("made", ["existing_lab", "lxd_lab"])
def test_another_login_key_is_refused(made: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    _, hosts = request.getfixturevalue(made)
    (tmp_path / "key").write_bytes(base.ed25519().private)
    (tmp_path / "key").chmod(0o600)
    other = replace(hosts.hosts[0], identity=tmp_path / "key")
    with pytest.raises(ssh.LoginRefused), ssh.connect(other):
        pass


ECHO = """
import socket, threading
server = socket.create_server(("127.0.0.1", 7007))
print("ready", flush=True)
def serve(taken):
    while data := taken.recv(65536):
        taken.sendall(data[::-1] if len(data) < 100 else data)
    taken.close()
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def test_a_tunnel_moves_bytes_both_ways(ready: Ready) -> None:
    _, hosts = ready
    payload = os.urandom(1_000_000)
    with ssh.connect(hosts.hosts[0]) as connection:
        connection.run(["systemd-run", "--unit=contract-echo", "python3", "-c", ECHO])
        try:
            for _ in range(600):
                if "7007" in connection.run(["ss", "-ltn"]).stdout:
                    break
                time.sleep(0.1)
            with (
                connection.tunnel("127.0.0.1", 7007) as address,
                socket.create_connection(address, timeout=20) as first,
                socket.create_connection(address, timeout=20) as second,
            ):
                second.sendall(b"abc")
                assert second.recv(10) == b"cba"
                assert _echoed(first, payload) == payload
                first.shutdown(socket.SHUT_WR)
                assert first.recv(10) == b""
            with pytest.raises(OSError):
                socket.create_connection(address, timeout=2)
            with (
                connection.tunnel("127.0.0.1", 7008) as nobody,
                socket.create_connection(nobody, timeout=20) as link,
            ):
                assert link.recv(10) == b""
        finally:
            connection.run(["systemctl", "stop", "contract-echo"], check=False)


def test_evidence_holds_the_hosts_journal(ready: Ready) -> None:
    lab, hosts = ready
    with ssh.connect(hosts.hosts[0]) as connection:
        connection.run(
            ["systemd-run", "--wait", "--unit=contract-fails", "sh", "-c", "echo a true cause; exit 4"],
            check=False,
        )
        readings = lab.backend.collect(lab.ctx, hosts)
        text = readings[0].read(20)
        connection.run(["systemctl", "reset-failed"])
    assert [one.name for one in readings] == [f"hosts/{host.name}.log" for host in hosts.hosts]
    assert "contract-fails.service" in text.split("== memory and disk", maxsplit=1)[0]
    assert "a true cause" in text


def test_status_says_that_it_runs(ready: Ready) -> None:
    lab, hosts = ready
    assert [(line.name, line.state) for line in lab.backend.status(lab.ctx)] == [
        (host.name, "running") for host in hosts.hosts
    ]


def _echoed(link: socket.socket, payload: bytes) -> bytes:
    back = bytearray()
    for at in range(0, len(payload), 50_000):
        piece = payload[at : at + 50_000]
        link.sendall(piece)
        while len(back) < at + len(piece):
            back += link.recv(65536)
    return bytes(back)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
