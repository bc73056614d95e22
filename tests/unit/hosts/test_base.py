from __future__ import annotations

import threading
from pathlib import Path

import pytest
from slipway.clients.openssh import fingerprint
from slipway.core.context import Context
from slipway.core.errors import CommandError, HostError
from slipway.core.state import State
from slipway.core.types import Host, Hosts
from slipway.hosts import base
from slipway.hosts.backends import made_here


def test_a_key_pair_is_made_once_and_private(tmp_path: Path) -> None:
    made = base.key_pair(tmp_path, "key")
    assert base.key_pair(tmp_path, "key") == made
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert fingerprint(made.public).startswith("ssh-ed25519 SHA256:")
    (tmp_path / "key.pub").unlink()  # half of a pair cannot be used
    assert base.key_pair(tmp_path, "key") != made


def test_hosts_are_recorded_with_their_pinned_keys(tmp_path: Path) -> None:
    state = State(tmp_path)
    hosts = Hosts("ssh", (Host("a", "192.0.2.1", "root", "ssh-ed25519 AAAA", ("worker",), port=2222),))
    assert base.record(state, hosts)
    assert not base.record(state, hosts)
    assert state.known_hosts.read_text() == "[192.0.2.1]:2222 ssh-ed25519 AAAA\n"
    assert state.kept(Hosts) == hosts
    assert made_here(Context(state, tmp_path, tmp_path)).name == "ssh"
    (state.hosts / "hosts.json").write_text("{")
    assert state.kept(Hosts) is None
    assert made_here(Context(state, tmp_path, tmp_path)).name == "nspawn"


def test_hosts_are_acted_on_at_once_and_each_failure_is_told() -> None:
    both = threading.Barrier(2, timeout=60)

    def act(name: str) -> str:
        both.wait()  # one after the other they would never meet
        if name.startswith("bad"):
            raise HostError(f"{name} broke", where=name)
        return name.upper()

    assert base.on_each(["cp", "worker-1"], act) == ["CP", "WORKER-1"]
    with pytest.raises(HostError, match="2 hosts failed") as failed:
        base.on_each(["bad-1", "bad-2"], act)
    assert "bad-2 broke" in failed.value.tail


def test_one_error_names_every_host() -> None:
    errors = [
        HostError("no boot", where=name, tail=f"cause of {name}", action="do it")
        for name in ("cp", "worker-1")
    ]
    assert base.joined(errors[:1]) is errors[0]  # type: ignore[arg-type]  # a list of a subclass
    text = "\n".join(base.joined(list(errors)).lines())
    for part in (
        "2 hosts failed",
        "cp: no boot",
        "cause of cp",
        "worker-1: no boot",
        "cause of worker-1",
        "do it",
    ):
        assert part in text


def test_programs_that_failed_on_several_hosts_are_one_error() -> None:
    failed = [
        CommandError(("sudo", "true"), 1, f"words of {name}", where=name) for name in ("cp", "worker-1")
    ]
    text = "\n".join(base.joined(list(failed)).lines())
    for part in ("2 hosts failed: cp: `sudo true` failed", "words of cp", "worker-1: `sudo true`"):
        assert part in text


def test_tail_is_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"line {number}\n" for number in range(1000)))
    assert base.tail(tmp_path / "log", 2) == "line 998\nline 999"
    assert base.tail(tmp_path / "none", 2) == ""
