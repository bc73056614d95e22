#!/usr/bin/python
"""Ansible module: ask one DNS server for the IPv4 addresses of one name."""

from __future__ import annotations

import secrets
import socket
import struct

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: dns_answer
short_description: Ask a DNS server for a name
description:
  - Sends one question over UDP, again when no answer comes, and fails unless addresses come back. Needs no
    DNS tools on the host and leaves its resolver alone.
options:
  server: {description: Address of the server., type: str, required: true}
  name: {description: Name to ask for., type: str, required: true}
  tries: {description: Questions to send., type: int, default: 5}
  timeout: {description: Seconds to wait for each answer., type: int, default: 2}
author: [slipway]
"""

EXAMPLES = r"""
- name: Resolve a service
  dns_answer:
    server: 10.96.0.10
    name: kubernetes.default.svc.cluster.local
"""

RETURN = r"""
addresses:
  description: The IPv4 addresses.
  returned: success
  type: list
  elements: str
"""


REASONS = {1: "malformed question", 2: "server failure", 3: "no such name", 5: "refused"}
A_RECORD, IN_CLASS, RECURSE = 1, 1, 0x0100


class NoAnswer(Exception):
    """The server's words, or its silence."""


def question(name: str, number: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return (
        struct.pack(">6H", number, RECURSE, 1, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack(">2H", A_RECORD, IN_CLASS)
    )


def addresses(answer: bytes, asked: bytes) -> list[str]:
    """The A records of an answer to `asked`. Raises NoAnswer when it is none or says no."""
    if len(answer) < len(asked) or answer[:2] != asked[:2] or answer[12 : len(asked)] != asked[12:]:
        raise NoAnswer("an answer to something else")
    flags, _questions, answers = struct.unpack(">3H", answer[2:8])
    if flags & 0xF:
        raise NoAnswer(REASONS.get(flags & 0xF, f"error {flags & 0xF}"))
    found = []
    at = len(asked)
    for _ in range(answers):
        at = _after_name(answer, at)
        kind, _class, _ttl, size = struct.unpack(">2HIH", answer[at : at + 10])
        at += 10
        if kind == A_RECORD:
            found.append(socket.inet_ntoa(answer[at : at + size]))
        at += size
    if not found:
        raise NoAnswer("no address")
    return found


def _after_name(packet: bytes, at: int) -> int:
    while packet[at]:
        if packet[at] & 0xC0:
            return at + 2
        at += packet[at] + 1
    return at + 1


def ask(server: str, name: str, tries: int, timeout: float, port: int = 53) -> list[str]:
    """Raises NoAnswer when no question is answered with addresses."""
    reason = ""
    for _ in range(tries):
        asked = question(name, secrets.randbelow(65536))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.settimeout(timeout)
            try:
                wire.connect((server, port))
                wire.send(asked)
                return addresses(wire.recv(4096), asked)
            except (OSError, NoAnswer, struct.error, IndexError) as error:
                reason = str(error)
    raise NoAnswer(reason)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "server": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "tries": {"type": "int", "default": 5},
            "timeout": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    p = module.params
    try:
        found = ask(p["server"], p["name"], p["tries"], p["timeout"])
    except NoAnswer as error:
        module.fail_json(msg=f"{p['server']} gives no address of {p['name']}: {error}")
    module.exit_json(changed=False, addresses=found)


if __name__ == "__main__":
    main()
