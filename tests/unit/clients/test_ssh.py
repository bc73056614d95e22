from __future__ import annotations

import pytest
from slipway.clients import known_hosts, openssh, ssh
from slipway.core import process
from slipway.core.process import Completed
from slipway.core.types import Host
from slipway.hosts.base import ed25519

KEYS = ed25519()
# seconds that Ansible gives sudo (ansible_timeout of the inventory that slipway writes)
PATIENCE = 60


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


def test_the_line_of_a_host_is_what_known_hosts_is_read_for() -> None:
    for machine in (host(), host(2222)):
        line = openssh.known_hosts_line(machine)
        assert known_hosts.matching(line, openssh.known_name(machine)) == ("", machine.host_key)


@pytest.mark.parametrize("user", ["root", "debian"])
def test_a_busy_machine_may_take_its_time_before_a_program_begins(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time counts on the host, from there on: sudo with a password took 39 s where 60 other programs ran."""
    given: list[float] = []

    def run(words: object, *, timeout: float, **_: object) -> Completed:
        given.append(timeout)
        return Completed((), 0, "", "")

    monkeypatch.setattr(process, "run", run)
    machine = Host("cp", "192.0.2.1", user, KEYS.public, ())
    ssh.Connection(machine).run(["sleep", "9"], timeout=0.5)
    assert given and given[0] >= 0.5 + PATIENCE
