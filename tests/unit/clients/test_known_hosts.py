"""Which keys of known_hosts count, as OpenSSH reads the file."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from slipway.clients.known_hosts import public_key, recorded
from slipway.hosts.base import ed25519

KEY, OTHER, AUTHORITY = (ed25519().public for _ in range(3))
ECDSA = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    .decode()
)
HASHED = paramiko.HostKeys.hash_host("cp.example")


def keys(tmp_path: Path, text: str, name: str = "cp.example") -> tuple[str, ...]:
    (tmp_path / "known_hosts").write_text(text)
    return recorded([tmp_path / "known_hosts"], name).keys


@pytest.mark.parametrize(
    "line",
    [
        "cp.example",
        "other.example,cp.example,192.0.2.1",
        "CP.Example",
        "*.example",
        "c?.example",
        "*.example,!worker.example",
        pytest.param(HASHED, id="hashed"),
    ],
)
def test_the_ways_to_name_a_machine(tmp_path: Path, line: str) -> None:
    assert keys(tmp_path, f"{line} {KEY} a comment\n") == (KEY,)


@pytest.mark.parametrize(
    "line", ["cp.example.org", "[cp.example]:2222", "*.example,!cp.example", "c.example", "[cp].example"]
)
def test_names_of_other_machines(tmp_path: Path, line: str) -> None:
    assert keys(tmp_path, f"{line} {KEY}\n") == ()


BAD = (
    "nonsense",
    "cp.example ssh-ed25519",
    "cp.example ssh-ed25519 not-base64!",
    "cp.example ssh-ed25519 AAAA",
    f"cp.example ssh-rsa {KEY.split()[1]}",
    f"cp.example unknown-kind {KEY.split()[1]}",
    f"@unknown-marker cp.example {KEY}",
    f"@ cp.example {KEY}",
    "@revoked",
    "|1|AAAA|BBBB ssh-ed25519 AAAA",
    f"|1|bad {KEY}",
    f"# cp.example {KEY}",
    "",
    "\udcff\x00",
)


@pytest.mark.parametrize("line", BAD, ids=lambda line: line.replace(KEY.split()[1], "KEY"))
def test_a_bad_line_is_skipped(tmp_path: Path, line: str) -> None:
    raw = f"{line}\ncp.example {OTHER}\n".encode(errors="surrogateescape")
    (tmp_path / "known_hosts").write_bytes(raw)
    assert recorded([tmp_path / "known_hosts"], "cp.example").keys == (OTHER,)


def test_ed25519_comes_first(tmp_path: Path) -> None:
    assert keys(tmp_path, f"cp.example {ECDSA}\ncp.example {KEY}\n") == (KEY, ECDSA)


def test_the_issuer_of_certificates_is_no_host_key(tmp_path: Path) -> None:
    assert keys(tmp_path, f"@cert-authority *.example {AUTHORITY}\ncp.example {KEY}\n") == (KEY,)
    assert keys(tmp_path, f"@cert-authority *.example {AUTHORITY}\n") == ()
    assert recorded([tmp_path / "known_hosts"], "cp.example").authorities == 1
    assert recorded([tmp_path / "known_hosts"], "cp.other").authorities == 0


def test_a_revoked_key_does_not_count_in_whichever_file_it_is_revoked(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(f"cp.example {KEY}\ncp.example {ECDSA}\nworker.example {KEY}\n")
    two.write_text(f"\n@revoked cp.* {KEY}\n")
    found = recorded([one, tmp_path / "none", two], "cp.example")
    assert found.keys == (ECDSA,)
    assert found.taken_back == (KEY,)
    assert found.revoked == {KEY: f"{two}:2"}
    assert recorded([one, two], "worker.example").keys == (KEY,)


def test_the_first_file_with_a_key_wins(tmp_path: Path) -> None:
    for name, line in (("one", "else.example"), ("two", "cp.example"), ("three", "cp.example")):
        (tmp_path / name).write_text(f"{line} {OTHER if name == 'two' else KEY}\n")
    assert recorded([tmp_path / name for name in ("one", "two", "three")], "cp.example").keys == (OTHER,)


def test_no_blob_is_a_traceback() -> None:
    chance = random.Random(1)
    kinds = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ssh-dss", "sk-ssh-ed25519@openssh.com")
    for _ in range(2000):
        kind = chance.choice(kinds)
        blob = len(kind).to_bytes(4, "big") + kind.encode() + chance.randbytes(chance.randrange(60))
        text = base64.b64encode(blob).decode()[: chance.choice((None, -1, 7))]
        assert public_key(f"{kind} {text}") is None or len(text) > 7
    assert public_key("ssh-rsa AAAAB3NzaC1yc2EAAKwgwnkFjLtmnffagw==") is None
