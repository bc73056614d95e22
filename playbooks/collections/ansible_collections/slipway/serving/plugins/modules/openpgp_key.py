#!/usr/bin/python
"""Ansible module: an OpenPGP public key file, accepted by pinned fingerprint only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url

DOCUMENTATION = r"""
module: openpgp_key
short_description: Put down an OpenPGP key whose fingerprint is pinned
description:
  - Downloads a public key, armored or binary, and writes it armored. A file with any primary key beside
    the pinned one is refused, so what apt trusts is exactly what was pinned.
  - Reads the key's packets itself, so that neither the host nor the controller needs gpg. The filter
    C(community.crypto.gpg_fingerprint) would need it on the controller, and the key downloaded there.
  - When the file in place holds the pinned key, nothing is downloaded, unless that key ends soon. Publishers
    make the same key valid for longer; such a one takes its place. While there is none, or it cannot be
    fetched, the one in place stays and a warning says when it ends.
options:
  url: {description: Address of the key., type: str, required: true}
  fingerprint: {description: Fingerprint of the primary key in hex., type: str, required: true}
  path: {description: File to write. Its folder is made., type: path, required: true}
  timeout: {description: Seconds until the server counts as unreachable., type: int, default: 20}
  renew_days: {description: Look for a newer one when the key ends within these days., type: int, default: 30}
author: [slipway]
"""

EXAMPLES = r"""
- name: Install the signing key
  slipway.serving.openpgp_key:
    url: https://example.org/key.asc
    fingerprint: 9DC858229FC7DD38854AE2D88D81803C0EBFCD88
    path: /etc/apt/keyrings/example.asc
"""

RETURN = r"""
fingerprints:
  description: Fingerprints of the primary keys in the file.
  returned: success, outside of a first run in check mode
  type: list
  elements: str
"""


SIGNATURE = 2
PUBLIC_KEY = 6
# Signatures by which a key speaks of itself (RFC 9580 section 5.2.1), and what is read of them (5.2.3.7)
OF_ITSELF = (0x10, 0x11, 0x12, 0x13, 0x1F)
MADE, KEY_LIFE, ISSUER = 2, 9, 16
DAY = 24 * 60 * 60
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


def _fetched(module: AnsibleModule, wanted: str) -> tuple[bytes, str]:
    """What the address gives, and why it may not be trusted; empty when it may."""
    url = module.params["url"]
    response, info = fetch_url(module, url, timeout=module.params["timeout"])
    if response is None or info["status"] != 200:
        return b"", f"{url}: {info.get('msg', 'no answer')}"
    data = response.read()
    wrong = problem(data, wanted)
    if wrong:
        wrong = f"{url} {wrong}. Nothing was trusted; check the pin against its public source."
    return data, wrong


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "fingerprint": {"type": "str", "required": True, "no_log": False},
            "path": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 20},
            "renew_days": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    wanted = module.params["fingerprint"].replace(" ", "").upper()
    held = path.read_bytes() if path.is_file() else b""
    trusted = bool(held) and not problem(held, wanted)
    end = ends(dearmor(held)) if trusted else 0.0
    if trusted and end - time.time() > module.params["renew_days"] * DAY:
        module.exit_json(changed=False, fingerprints=[wanted])
    if module.check_mode:
        module.exit_json(changed=not trusted)
    data, wrong = _fetched(module, wanted)
    if trusted and (wrong or ends(dearmor(data)) <= end):
        day = time.strftime("%Y-%m-%d", time.gmtime(end))
        why = wrong or f"{module.params['url']} has none yet that is valid for longer"
        module.warn(f"the key {path} {'ended' if end < time.time() else 'ends'} on {day}, and {why}")
        module.exit_json(changed=False, fingerprints=[wanted])
    if wrong:
        module.fail_json(msg=wrong)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(armor(dearmor(data)))
    beside.chmod(0o644)
    beside.replace(path)
    module.exit_json(changed=True, fingerprints=[wanted])


if __name__ == "__main__":
    main()
