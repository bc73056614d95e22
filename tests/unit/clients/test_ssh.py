from __future__ import annotations

from pathlib import Path

import pytest
from slipway.clients import known_hosts, ssh
from slipway.core.types import Host
from slipway.hosts.base import ed25519

KEYS = ed25519()


def host(port: int = 22, key: str | None = None) -> Host:
    return Host("cp", "127.0.0.1", "root", key or ed25519().public, (), port=port)


@pytest.mark.parametrize("key", ["ssh-ed25519", "ssh-ed25519 not-base64!", "nonsense AAAA"])
def test_a_broken_pin_is_refused_before_anything_is_sent(key: str) -> None:
    with (
        pytest.raises(ssh.HostKeyRejected, match="is not a public key") as refused,
        ssh.connect(Host("cp", "127.0.0.1", "root", key, ())),
    ):
        pass
    assert "ssh-keyscan" in refused.value.action


def test_the_line_of_a_host_is_what_known_hosts_is_read_for(tmp_path: Path) -> None:
    plain, other = host(), host(2222)
    file = tmp_path / "known_hosts"
    file.write_text(f"{ssh.known_hosts_line(plain)}\n{ssh.known_hosts_line(other)}\n")
    assert known_hosts.recorded([file], ssh.known_name(plain)).keys == (plain.host_key,)
    assert known_hosts.recorded([file], ssh.known_name(other)).keys == (other.host_key,)
