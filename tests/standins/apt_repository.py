"""A stand-in for somebody's apt repository: real packages, lists and signatures, by a key that is thrown away.

Keys, signatures and packages are written byte by byte (RFC 9580, deb(5)), so that no tool is needed for them and a
key can have ended long ago. What is wrong with a repository is wrong on purpose.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DAY = 24 * 60 * 60
ED25519 = bytes.fromhex("092b06010401da470f01")  # length and OID of the curve
EDDSA, SHA256 = 22, 8
PRIMARY_KEY, SIGNATURE, USER_ID = 6, 2, 13
Fault = Literal["", "unsigned", "wrongly signed", "cut release", "cut lists", "altered"]


def packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


def _number(value: bytes) -> bytes:
    bits = int.from_bytes(value, "big").bit_length()
    return bits.to_bytes(2, "big") + value.lstrip(b"\0")


def _subpacket(kind: int, content: bytes) -> bytes:
    return bytes([len(content) + 1, kind]) + content


def armored(kind: str, data: bytes) -> str:
    """With the checksum that gpgv does not read on without."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    register = 0xB704CE
    for byte in data:
        register ^= byte << 16
        for _bit in range(8):
            register <<= 1
            register ^= 0x1864CFB if register & 0x1000000 else 0
    checksum = "=" + base64.b64encode(register.to_bytes(3, "big")).decode()
    return "\n".join([f"-----BEGIN PGP {kind}-----", "", *lines, checksum, f"-----END PGP {kind}-----", ""])


class SigningKey:
    """A key made for one test. It was made `age` days ago."""

    def __init__(self, age: float = 1000) -> None:
        self._secret = Ed25519PrivateKey.generate()
        self.made = int(time.time() - age * DAY)
        raw = self._secret.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        self.body = b"\x04" + self.made.to_bytes(4, "big") + bytes([EDDSA]) + ED25519 + _number(b"\x40" + raw)
        whole = b"\x99" + len(self.body).to_bytes(2, "big") + self.body
        self.id = hashlib.sha1(whole, usedforsecurity=False).digest()
        self._whole = whole

    @property
    def fingerprint(self) -> str:
        return self.id.hex().upper()

    def public(self, ends_in: float | None = 365) -> bytes:
        """The public key, which says of itself that it ends in so many days, or ended if that is negative."""
        user = b"Stand-in <nobody@example.org>"
        said = _subpacket(27, b"\x03")  # it certifies and signs
        now = time.time()
        if ends_in is not None:
            said += _subpacket(9, int(now + ends_in * DAY - self.made).to_bytes(4, "big"))
        named = b"\xb4" + len(user).to_bytes(4, "big") + user
        # it said so before it ended
        made = int(min(now, now + (ends_in or 0) * DAY) - DAY)
        certificate = self._signature(0x13, self._whole + named, said, made)
        return packet(PRIMARY_KEY, self.body) + packet(USER_ID, user) + packet(SIGNATURE, certificate)

    def clear_signed(self, text: str) -> str:
        """A text with the signature below it, as InRelease is."""
        lines = text.rstrip("\n").split("\n")
        signed = "\r\n".join(line.rstrip(" \t") for line in lines).encode()
        signature = packet(SIGNATURE, self._signature(0x01, signed, b"", int(time.time())))
        return (
            f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{text.rstrip(chr(10))}\n"
            f"{armored('SIGNATURE', signature)}"
        )

    def _signature(self, kind: int, data: bytes, said: bytes, made: int) -> bytes:
        said = _subpacket(2, made.to_bytes(4, "big")) + _subpacket(33, b"\x04" + self.id) + said
        head = bytes([4, kind, EDDSA, SHA256]) + len(said).to_bytes(2, "big") + said
        digest = hashlib.sha256(data + head + b"\x04\xff" + len(head).to_bytes(4, "big")).digest()
        number = self._secret.sign(digest)
        issuer = _subpacket(16, self.id[-8:])
        plain = len(issuer).to_bytes(2, "big") + issuer
        return head + plain + digest[:2] + _number(number[:32]) + _number(number[32:])


@dataclass(frozen=True)
class Package:
    """A package with these files: path to content, and to mode where that is not 0644."""

    name: str
    version: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    programs: Sequence[str] = ()
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return f"pool/{self.name}_{self.version}_all.deb"

    def control(self) -> str:
        said = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "all",
            "Maintainer": "Stand-in <nobody@example.org>",
            **self.fields,
            "Description": "a stand-in",
        }
        return "".join(f"{name}: {value}\n" for name, value in said.items())

    def bytes(self) -> bytes:
        data = {f"./{path.lstrip('/')}": content for path, content in self.files.items()}
        programs = {f"./{path.lstrip('/')}" for path in self.programs}
        members = {
            "debian-binary": b"2.0\n",
            "control.tar.gz": _tar({"./control": self.control().encode()}, set()),
            "data.tar.gz": _tar(data, programs),
        }
        out = b"!<arch>\n"
        for name, content in members.items():
            out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
            out += content + (b"\n" if len(content) % 2 else b"")
        return out


def _tar(files: Mapping[str, bytes], programs: set[str]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as tar:
        folders: list[str] = []
        for path, content in files.items():
            parents = [str(parent) for parent in reversed(Path(path).parents)]
            for folder in [f"./{parent}" for parent in parents if parent != "."]:
                if folder not in folders:
                    folders.append(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755 if path in programs else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(written.getvalue(), compresslevel=1, mtime=0)  # one package is of 850 MB


def publish(
    folder: Path,
    key: SigningKey,
    components: Mapping[str, Sequence[Package]],
    *,
    suite: str = "stable",
    fault: Fault = "",
    ends_in: float | None = 365,
) -> None:
    """Write a repository, and its key as key.gpg beside it, in place of what was there.

    fault: what is wrong with it. ends_in: days until its key ends, as the key says.
    """
    dists = folder / "dists" / suite
    sums = []
    for component, packages in components.items():
        paragraphs = []
        for package in packages:
            data = package.bytes()
            target = folder / package.file_name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            paragraphs.append(
                f"{package.control()}Filename: {package.file_name}\nSize: {len(data)}\n"
                f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
            )
        listed = "\n".join(paragraphs).encode()
        path = dists / component / "binary-amd64" / "Packages"
        path.parent.mkdir(parents=True, exist_ok=True)
        for name, content in (("Packages", listed), ("Packages.gz", gzip.compress(listed, mtime=0))):
            path.with_name(name).write_bytes(
                content[: len(content) // 2] if fault == "cut lists" else content
            )
            sums.append(
                f" {hashlib.sha256(content).hexdigest()} {len(content)} {component}/binary-amd64/{name}"
            )
    day = time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime())
    release = "\n".join(
        [
            f"Origin: stand-in\nSuite: {suite}\nCodename: {suite}\nDate: {day}\nArchitectures: amd64",
            f"Components: {' '.join(components)}",
            "SHA256:",
            *sums,
            "",
        ]
    )
    signed = (SigningKey() if fault == "wrongly signed" else key).clear_signed(release)
    if fault == "cut release":
        signed = signed[: len(signed) // 2]
    if fault == "altered":
        signed = signed.replace("Origin: stand-in", "Origin: somebody")
    (dists / "InRelease").unlink(missing_ok=True)
    if fault == "unsigned":
        (dists / "Release").write_text(release)
    else:
        (dists / "Release").unlink(missing_ok=True)
        (dists / "InRelease").write_text(signed)
    (folder / "key.gpg").write_bytes(key.public(ends_in))
