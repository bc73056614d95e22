"""What lines of known_hosts say, as OpenSSH reads the file."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from slipway.clients.known_hosts import matching, public_key, revoked
from slipway.hosts.base import ed25519

KEY, OTHER, AUTHORITY = (ed25519().public for _ in range(3))
ECDSA = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    .decode()
)
HASHED = paramiko.HostKeys.hash_host("cp.example")


def key(line: str) -> str:
    """The key that a line says is one of cp.example's."""
    return matching(line, "cp.example")[1]


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
def test_the_ways_to_name_a_machine(line: str) -> None:
    assert key(f"{line} {KEY} a comment") == KEY


@pytest.mark.parametrize(
    "line", ["cp.example.org", "[cp.example]:2222", "*.example,!cp.example", "c.example", "[cp].example"]
)
def test_names_of_other_machines(line: str) -> None:
    assert key(f"{line} {KEY}") == ""


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
    file = tmp_path / "known_hosts"
    file.write_bytes(f"{line}\n@revoked cp.example {OTHER}\n".encode(errors="surrogateescape"))
    assert revoked([file], "cp.example") == {OTHER: f"{file}:2"}


def test_a_key_is_revoked_by_a_line_of_any_file_that_names_the_machine(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(
        f"cp.example {KEY}\n@cert-authority *.example {AUTHORITY}\n@revoked other.example {OTHER}\n"
    )
    two.write_text(f"\n@revoked cp.* {KEY}\n")
    assert revoked([one, tmp_path / "none", two], "cp.example") == {KEY: f"{two}:2"}
    assert revoked([one, two], "worker.example") == {}


def test_no_blob_is_a_traceback() -> None:
    chance = random.Random(1)
    kinds = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ssh-dss", "sk-ssh-ed25519@openssh.com")
    for _ in range(2000):
        kind = chance.choice(kinds)
        blob = len(kind).to_bytes(4, "big") + kind.encode() + chance.randbytes(chance.randrange(60))
        text = base64.b64encode(blob).decode()[: chance.choice((None, -1, 7))]
        assert public_key(f"{kind} {text}") is None or len(text) > 7
    assert public_key("ssh-rsa AAAAB3NzaC1yc2EAAKwgwnkFjLtmnffagw==") is None
