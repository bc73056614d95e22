from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from slipway.clients import known_hosts, ssh
from slipway.core.types import Host
from slipway.hosts.base import ed25519

KEYS = ed25519()


def host(port: int = 22, key: str | None = None) -> Host:
    return Host("cp", "127.0.0.1", "root", key or ed25519().public, (), port=port)


def test_a_closed_port_is_unreachable_and_says_where() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        pytest.raises(ssh.Unreachable, match=f"127.0.0.1:{port}") as failed,
        ssh.connect(host(port), None, timeout=2),
    ):
        pass
    assert failed.value.where == "cp"
    assert failed.value.exit_code == 3


@pytest.mark.parametrize(
    "said",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
        (b"",),
        (b"SSH-2.0-stand-in\r\n", b"\0\0\0\x0c" + b"x" * 500),
        (b"SSH-2.0-stand-in\r\n", b"\0\0\0\x0c\xff\x14" + b"\xff" * 500),
        (b"SSH-2.0-stand-in\r\n", b"\xff" * 500),
    ],
)
def test_something_that_is_not_ssh_is_unreachable(said: tuple[bytes, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            taken, _ = listener.accept()
            for part in said:
                taken.sendall(part)
                taken.recv(4096)
            taken.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ssh.Unreachable), ssh.connect(host(listener.getsockname()[1]), None, timeout=3):
            pass
        thread.join()


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-ed25519 not-base64!", "nonsense AAAA"])
def test_a_broken_pin_is_refused_before_anything_is_sent(key: str) -> None:
    with (
        pytest.raises(ssh.HostKeyRejected, match="is not a public key") as refused,
        ssh.connect(Host("cp", "127.0.0.1", "root", key, ()), None),
    ):
        pass
    assert "ssh-keyscan" in refused.value.action


def test_the_line_of_a_host_is_what_known_hosts_is_read_for(tmp_path: Path) -> None:
    plain, other = host(), host(2222)
    file = tmp_path / "known_hosts"
    file.write_text(f"{ssh.known_hosts_line(plain)}\n{ssh.known_hosts_line(other)}\n")
    assert known_hosts.recorded([file], ssh.known_name(plain)).keys == (plain.host_key,)
    assert known_hosts.recorded([file], ssh.known_name(other)).keys == (other.host_key,)
