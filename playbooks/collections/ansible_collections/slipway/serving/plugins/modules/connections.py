#!/usr/bin/python
"""Ansible module: which ports of other hosts are not reached from here."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: connections
short_description: Ports of other hosts that are not reached
description:
  - A port that nobody listens on yet refuses a connection, which is answer enough; one that a firewall is in
    front of does not answer, or says that it may not be reached. Changes nothing, and sends no more than an
    empty datagram.
options:
  targets:
    description: Each with C(host), C(address) and C(port), as 6443/tcp or 8472/udp.
    type: list
    elements: dict
    required: true
  timeout:
    description: Seconds until there must be an answer.
    type: float
    default: 3
author: [slipway]
"""

EXAMPLES = r"""
- name: See that workers reach the API server
  slipway.serving.connections:
    targets: [{host: cp, address: 192.0.2.10, port: 6443/tcp}]
  register: tried
  failed_when: tried.closed | length > 0
"""

RETURN = r"""
closed:
  description: Those of the targets with TCP that are not reached, each with C(why).
  type: list
  elements: dict
  returned: always
silent:
  description: >-
    Those with UDP that nothing was heard of. Whether they were let in or not cannot be told.
  type: list
  elements: dict
  returned: always
"""

TRIES = 3  # datagrams: a host answers only so many a second


def tcp(address: str, port: int, timeout: float) -> str:
    """Why a port is not reached; empty if it is, whether anybody listens or not."""
    try:
        with socket.create_connection((address, port), timeout):
            return ""
    except ConnectionRefusedError:
        return ""
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()


def udp(address: str, port: int, timeout: float) -> str:
    """Why nothing is known of a port; empty if it is reached and nobody listens."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout / TRIES)
        try:
            sock.connect((address, port))
            for _ in range(TRIES):
                sock.send(b"")
                with suppress(TimeoutError):
                    sock.recv(1)
                    return ""
        except ConnectionRefusedError:
            return ""
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return f"no answer within {timeout:g} s"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "targets": {"type": "list", "elements": "dict", "required": True},
            "timeout": {"type": "float", "default": 3.0},
        },
        supports_check_mode=True,
    )
    timeout = module.params["timeout"]

    def ask(target: dict[str, Any]) -> dict[str, Any]:
        number, _, protocol = target["port"].partition("/")
        way = udp if protocol == "udp" else tcp
        return {**target, "why": way(target["address"], int(number), timeout)}

    with ThreadPoolExecutor(max_workers=32) as pool:
        asked = [each for each in pool.map(ask, module.params["targets"]) if each["why"]]
    module.exit_json(
        changed=False,
        closed=[each for each in asked if each["port"].endswith("/tcp")],
        silent=[each for each in asked if each["port"].endswith("/udp")],
    )


if __name__ == "__main__":
    main()
