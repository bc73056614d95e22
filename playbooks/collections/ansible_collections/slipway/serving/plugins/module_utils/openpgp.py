"""OpenPGP public keys: what a file holds, when its key ends, and a keyring without one of its keys.

It reads the packets itself, so that neither the host nor the controller needs gpg.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

SIGNATURE = 2
PUBLIC_KEY = 6
# Signatures by which a key speaks of itself (RFC 9580 section 5.2.1), and what is read of them (5.2.3.7)
OF_ITSELF = (0x10, 0x11, 0x12, 0x13, 0x1F)
MADE, KEY_LIFE, ISSUER = 2, 9, 16
BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
END = "-----END PGP PUBLIC KEY BLOCK-----"


class NotAKey(ValueError):
    """The bytes are not an OpenPGP public key."""


def dearmor(data: bytes) -> bytes:
    """The packets of an armored key; binary keys pass through."""
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    packets = b""
    block: list[str] | None = None
    for line in data.decode("ascii", "replace").splitlines():
        word = line.strip()
        if word == BEGIN:
            block = []
        elif word == END and block is not None:
            packets += _block(block)
            block = None
        elif block is not None:
            block.append(word)
    if not packets:
        raise NotAKey("no PGP PUBLIC KEY BLOCK in it")
    return packets


def _block(lines: list[str]) -> bytes:
    body = lines[lines.index("") + 1 :] if "" in lines else lines
    try:
        return base64.b64decode("".join(line for line in body if not line.startswith("=")), validate=True)
    except binascii.Error as error:
        raise NotAKey(f"its armor is damaged: {error}") from error


def armor(packets: bytes) -> bytes:
    text = base64.b64encode(packets).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([BEGIN, "", *lines, END, ""]).encode()


def primary_fingerprints(packets: bytes) -> list[str]:
    """Upper-case hex fingerprint of each primary key (RFC 9580 section 5.5.4)."""
    found = []
    at = 0
    while at < len(packets):
        tag, body, at = _packet(packets, at)
        if tag == PUBLIC_KEY:
            found.append(_fingerprint(body))
    if not found:
        raise NotAKey("it holds no public key")
    return found


def without(packets: bytes, fingerprint: str) -> bytes:
    """A keyring without this key; with it go the names, signatures and subkeys that follow it."""
    kept = b""
    keeps = True
    at = 0
    while at < len(packets):
        begin = at
        tag, body, at = _packet(packets, at)
        if tag == PUBLIC_KEY:
            keeps = _fingerprint(body) != fingerprint
        kept += packets[begin:at] if keeps else b""
    return kept


def _fingerprint(body: bytes) -> str:
    version = body[0]
    if version == 4:
        return (
            hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False)
            .hexdigest()
            .upper()
        )
    if version == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise NotAKey(f"key version {version} is not supported, expected 4 or 6")


def ends(packets: bytes) -> float:
    """Unix time at which the primary key ends, by its newest word of itself; infinity when it never does.

    The word is not verified: apt does that. Here it decides only whether a newer file is looked for.
    """
    created, number, newest, life = 0, b"", -1, 0
    at = 0
    while at < len(packets):
        tag, body, at = _packet(packets, at)
        if tag == PUBLIC_KEY:
            created, number = int.from_bytes(body[1:5], "big"), bytes.fromhex(_fingerprint(body))[-8:]
        elif tag == SIGNATURE and body[0] == 4 and body[1] in OF_ITSELF:
            said = _subpackets(body)
            made = int.from_bytes(said.get(MADE, b""), "big")
            if said.get(ISSUER) == number and made >= newest:
                newest, life = made, int.from_bytes(said.get(KEY_LIFE, b""), "big")
    return created + life if life else float("inf")


def _subpackets(signature: bytes) -> dict[int, bytes]:
    """Type to content of a version 4 signature's subpackets; of those that come twice the signed one."""
    found: dict[int, bytes] = {}
    at = 4
    for _area in ("signed", "not signed"):
        end = at + 2 + int.from_bytes(signature[at : at + 2], "big")
        at += 2
        while at < end:
            try:
                size, at = _new_length(signature, at)
            except IndexError:
                return found
            found.setdefault(signature[at] & 0x7F, signature[at + 1 : at + size])
            at += size
    return found


def _packet(data: bytes, at: int) -> tuple[int, bytes, int]:
    """(tag, body, where the next packet starts)."""
    head = data[at]
    if not head & 0x80:
        raise NotAKey(f"no packet starts at byte {at}")
    at += 1
    try:
        if head & 0x40:
            tag = head & 0x3F
            size, at = _new_length(data, at)
        else:
            tag = head >> 2 & 0xF
            width = (1, 2, 4)[head & 3]
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
    except IndexError as error:
        raise NotAKey("it is cut short or of unknown length") from error
    if at + size > len(data) or size == 0:
        raise NotAKey("it is cut short")
    return tag, data[at : at + size], at + size


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return (first - 192 << 8) + data[at + 1] + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    raise IndexError(at)  # partial lengths are for data, never for keys


def problem(data: bytes, wanted: str) -> str:
    """Why this file may not be trusted; empty when it holds the pinned key alone."""
    try:
        found = primary_fingerprints(dearmor(data))
    except NotAKey as error:
        return f"is not an OpenPGP public key: {error}"
    if found != [wanted]:
        return f"holds {', '.join(found)}, not only the pinned {wanted}"
    return ""
