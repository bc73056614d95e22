from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from infra.backends.base import ed25519
from infra.clients import ssh
from infra.core.types import Host


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


def test_something_that_is_not_ssh_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            taken, _ = listener.accept()
            taken.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            taken.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ssh.Unreachable), ssh.connect(host(listener.getsockname()[1]), None, timeout=3):
            pass
        thread.join()


@pytest.mark.parametrize("key", ["", "ssh-ed25519", "ssh-ed25519 not-base64!", "nonsense AAAA"])
def test_a_broken_pin_is_refused_before_anything_is_sent(key: str) -> None:
    with (
        pytest.raises(ssh.HostKeyRejected, match="is not one"),
        ssh.connect(Host("cp", "127.0.0.1", "root", key, ()), None),
    ):
        pass


def test_known_hosts_lines_and_lookup_agree(tmp_path: Path) -> None:
    plain, other = host(), host(2222)
    file = tmp_path / "known_hosts"
    file.write_text(f"{ssh.known_hosts_line(plain)}\n{ssh.known_hosts_line(other)}\n")
    assert ssh.recorded_key(file, "127.0.0.1") == plain.host_key
    assert ssh.recorded_key(file, "[127.0.0.1]:2222") == other.host_key
    assert ssh.recorded_key(file, "192.0.2.1") is None
