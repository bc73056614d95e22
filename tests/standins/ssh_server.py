"""OpenSSH's own server on a port of 127.0.0.1, for the user who runs the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.hosts import base

USER = pwd.getpwuid(os.getuid()).pw_name


@dataclass(frozen=True)
class SshServer:
    """A running server. host_key: "ssh-ed25519 AAAA..."; log: what it says."""

    port: int
    host_key: str
    log: Path

    @property
    def known_hosts_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.host_key}"

    def logins(self) -> int:
        """How many have been let in."""
        return self.log.read_text(errors="replace").count("Accepted ")


def program(folder: Path) -> list[str | Path]:
    """The server's program: this machine's, or that of its distribution's package, unpacked into a folder."""
    there = shutil.which("sshd", path=f"/usr/sbin:{os.environ['PATH']}")
    if there is not None:
        return [there]
    package = folder / "openssh-server"
    if not package.is_dir():
        (package / "archives" / "partial").mkdir(parents=True)
        # with every library of it that this machine lacks
        words = ["--yes", "--download-only", "--no-install-recommends", "-o", "Debug::NoLocking=1"]
        words += ["-o", f"Dir::Cache::archives={package}/archives"]
        subprocess.run(["apt-get", *words, "install", "openssh-server"], check=True, capture_output=True)
        for deb in (package / "archives").glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", deb, package], check=True)
    libraries = ":".join(str(path) for path in sorted(package.glob("**/*-linux-gnu")))
    return ["env", f"LD_LIBRARY_PATH={libraries}", package / "usr" / "sbin" / "sshd"]


@contextmanager
def serving(folder: Path, lines: str, certified_by: Path | None = None) -> Iterator[SshServer]:
    """A server with these lines of sshd_config, its state in a folder.

    certified_by: the private key that signs its host key, which it shows as a certificate then.
    """
    folder.mkdir()
    keys = base.key_pair(folder, "host")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
    text += "StrictModes no\nUsePAM no\nPermitRootLogin yes\nLogLevel VERBOSE\n"
    text += "AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
    if certified_by is not None:
        sign(certified_by, folder / "host.pub", "-h", "-n", "127.0.0.1")
        text += f"HostCertificate {folder}/host-cert.pub\n"
    (folder / "sshd_config").write_text(f"{lines}\n{text}")  # it keeps to the first of a kind
    argv = [*program(folder.parent), "-D", "-e", "-f", folder / "sshd_config"]
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        if "sshd:" not in Path("/etc/passwd").read_text():  # the user its package makes, for its eyes alone
            users = folder / "passwd"
            users.write_text(f"{Path('/etc/passwd').read_text()}sshd:x:65533:65534::/run/sshd:/bin/false\n")
            script = 'mount --bind "$0" /etc/passwd && exec "$@"'
            argv = ["unshare", "--mount", "sh", "-c", script, users, *argv]
    log = folder / "log"
    with log.open("wb") as said:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 20
        while "Server listening" not in log.read_text(errors="replace"):
            assert child.poll() is None and time.monotonic() < deadline, log.read_text(errors="replace")
            time.sleep(0.02)
        yield SshServer(port, keys.public, log)
    finally:
        child.terminate()
        child.wait(10)


def sign(authority: Path, public: Path, *words: str) -> None:
    """Sign a public key, as a user's or with -h a host's; the certificate is beside it."""
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "test", *words, public], check=True, capture_output=True
    )
