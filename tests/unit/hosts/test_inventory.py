"""What an inventory says of machines, whatever Ansible lets a variable be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway.core.errors import UsageError
from slipway.hosts.existing import machines_of

ODD = [
    ({"ansible_host": ["192.0.2.1"]}, "ansible_host is a list"),
    ({"ansible_host": {"__ansible_vault": "$ANSIBLE_VAULT;1.1"}}, "ansible_host is encrypted"),
    ({"ansible_user": {"name": "joe"}}, "ansible_user is a mapping"),
    ({"ansible_host": "{{ address }}"}, "ansible_host is a template"),
    ({"ansible_host": "192.0.2.1\n\x1b[2J"}, r"ansible_host is '192.0.2.1\n\x1b[2J'"),
    ({"slipway_host_key": ["ssh-ed25519 AAAA"]}, "slipway_host_key is a list"),
    ({"ansible_ssh_common_args": "-o UserKnownHostsFile='x"}, "ansible_ssh_common_args is no line of words"),
    ({"ansible_port": 0}, "ansible_port is '0', expected 1 to 65535"),
    ({"ansible_port": [22]}, "ansible_port is '[22]'"),
    ({"ansible_port": True}, "ansible_port is 'True'"),
]


def listed(**variables: Any) -> dict[str, Any]:
    """What `ansible-inventory --list` prints of one machine."""
    return {"control_plane": {"hosts": ["cp"]}, "_meta": {"hostvars": {"cp": variables}}}


@pytest.mark.parametrize(("variables", "said"), ODD)
def test_what_is_no_plain_value_is_told_by_machine_and_variable(variables: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        machines_of(listed(**variables), Path("inventory.yml"))
    assert refused.value.what.startswith(f"inventory.yml cannot be used: cp: {said}")
    assert refused.value.what.isprintable()
