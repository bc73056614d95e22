"""The inventory slipway writes: all of it for hosts it made, what it adds where the user has one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from slipway.clients import openssh, passwords
from slipway.clients.ansible_inventory import DEFAULTS, Machine
from slipway.core.types import GROUPS, Host, Hosts

# The group of all hosts that are slipway's: an inventory may hold others
GROUP = "slipway"
_MULTIPLEXED = "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=5"
# A busy machine takes its time, for sudo too; Ansible gives up after ten seconds
_BETTER: dict[str, object] = {
    "ansible_timeout": 60,
    "ansible_pipelining": True,
    "ansible_python_interpreter": "/usr/bin/python3",
}
# What Ansible is to take from what is written here whatever another inventory says: a pinned key counts
OVER_THE_USERS = {"ansible_ssh_args": "{{ slipway_ssh_args }}"}


def inventory(
    hosts: Hosts,
    known_hosts: Path,
    variables: Mapping[str, object],
    group_variables: Mapping[str, Mapping[str, object]],
) -> str:
    """The YAML inventory of these hosts: all that site.yml needs from whatever folder it is started in.

    Host keys are checked against known_hosts alone. The text is the same for the same arguments.
    """
    shared: dict[str, object] = {
        **_BETTER,
        # ansible-runner turns the check off in its environment, and ssh keeps to the first word it is given
        "ansible_host_key_checking": True,
        "ansible_ssh_args": _MULTIPLEXED,
        "ansible_ssh_common_args": shlex.join(openssh.accepting(known_hosts)),
    }
    return _text(
        "Written by slipway from its settings and hosts; the next run writes it anew.",
        {host.name: _connection(host) for host in hosts.hosts},
        {**shared, **variables},
        _children(hosts, group_variables),
    )


def addition(
    hosts: Hosts,
    machines: Iterable[Machine],
    known_hosts: Path,
    variables: Mapping[str, object],
    group_variables: Mapping[str, Mapping[str, object]],
) -> str:
    """The YAML inventory that is read before the user's own, whose variables count more.

    It has the groups, what slipway passes to roles, and which host keys count; how machines are reached is in
    the user's. The text is the same for the same arguments.
    """
    reached = {machine.name: machine for machine in machines}
    configured = {DEFAULTS[setting] for machine in reached.values() for setting in machine.configured}
    children = _children(hosts, group_variables)
    children[GROUP] = {"hosts": {host.name: {} for host in hosts.hosts}}
    return _text(
        f"Written by slipway, read before {hosts.inventory} and added to it; the next run writes it anew.",
        {
            host.name: {
                "ansible_host_key_checking": reached[host.name].host_key_checking,
                "slipway_ssh_args": _ssh_args(host, reached[host.name], known_hosts),
                **{
                    variable: passwords.reference(kind)
                    for variable, kind in passwords.VARIABLES.items()
                    if kind in host.asks
                },
            }
            for host in hosts.hosts
        },
        {**{name: value for name, value in _BETTER.items() if name not in configured}, **variables},
        children,
    )


def _ssh_args(host: Host, machine: Machine, known_hosts: Path) -> str:
    """The words that decide which key counts, then the user's: OpenSSH keeps to the first."""
    strict = ["-o", "StrictHostKeyChecking=yes"]
    first = openssh.pins(host, known_hosts) or (strict if list(host.options[:2]) == strict else [])
    return " ".join(filter(None, (shlex.join(first), machine.ssh_args or _MULTIPLEXED)))


def _children(hosts: Hosts, group_variables: Mapping[str, Mapping[str, object]]) -> dict[str, Any]:
    children: dict[str, Any] = {}
    for group in GROUPS:
        children[group] = {"hosts": {host.name: {} for host in hosts.group(group)}}
        if group_variables.get(group):
            children[group]["vars"] = dict(group_variables[group])
    return children


def _text(
    said: str, hosts: Mapping[str, Any], variables: Mapping[str, object], children: Mapping[str, Any]
) -> str:
    everything = {"all": {"hosts": dict(hosts), "vars": dict(variables), "children": dict(children)}}
    text: str = yaml.safe_dump(everything, sort_keys=False, width=4096)
    return f"---\n# {said}\n{text}"


def _connection(host: Host) -> dict[str, object]:
    """How Ansible reaches a host."""
    out: dict[str, object] = {
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": host.user,
    }
    if host.identity is not None:
        # Ansible quotes it for ssh, which still replaces a %
        out["ansible_ssh_private_key_file"] = str(host.identity.absolute()).replace("%", "%%")
        out["ansible_ssh_extra_args"] = "-o IdentitiesOnly=yes"
    return out
