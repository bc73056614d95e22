"""The same lines are read as OpenSSH's own ssh-keygen reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from slipway.clients.known_hosts import matching

from tests.unit.clients.test_known_hosts import AUTHORITY, ECDSA, HASHED, KEY, OTHER

LINES = (
    f"cp.example {KEY}",
    f"  cp.example\t{KEY}  with words",
    f"other.example,*.example {OTHER}",
    f"*.example,!cp.example {OTHER}",
    f"{HASHED} {ECDSA}",
    f"[cp.example]:22 {OTHER}",
    f"[cp.example]:2222 {KEY}",
    f"@cert-authority *.example {AUTHORITY}",
    f"@cert-authority {OTHER}",
    f"@unknown-marker cp.example {KEY}",
    f"# cp.example {KEY}",
    "cp.example ssh-ed25519",
)


@pytest.mark.parametrize("name", ["cp.example", "[cp.example]:2222", "worker.example"])
@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_line_names_the_machines_it_names_for_openssh(tmp_path: Path, line: str, name: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{line}\n")
    argv = ["ssh-keygen", "-F", name, "-f", str(file)]
    said = subprocess.run(argv, check=False, capture_output=True, text=True).stdout
    # it prints what is found below a line `# Host NAME found`, a certificate's issuer too
    theirs = [text.split() for text in said.splitlines() if text and not text.startswith(("#", "@"))]
    marker, key = matching(line, name)
    ours = [key] if key and not marker else []
    assert ours == [f"{words[1]} {words[2]}" for words in theirs]
