#!/usr/bin/python
"""Ansible module: remove iptables chains by the prefixes of their names, and the rules that lead to them."""

from __future__ import annotations

import re

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: netfilter_chains
short_description: Remove iptables chains and the rules that use them
description:
  - Leaves alone every chain without one of these prefixes, and every rule that leads to no such chain. Looks
    at IPv4 and IPv6, in the nft and in the legacy tables.
options:
  prefixes:
    description: Prefixes of the names of the chains to remove.
    type: list
    elements: str
    required: true
  interfaces:
    description: Remove rules that name one of these interfaces too.
    type: list
    elements: str
    default: []
author: [slipway]
"""

EXAMPLES = r"""
- name: Remove kube-proxy's rules
  slipway.serving.netfilter_chains:
    prefixes: [KUBE-]
"""

RETURN = r"""
removed:
  description: How many chains and rules were removed, by program.
  returned: always
  type: dict
"""


PROGRAMS = ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy")


def without(saved: str, prefixes: list[str], interfaces: list[str]) -> tuple[str, int]:
    """Returns the rules without chains of these prefixes and rules that name one or an interface, and how
    many lines were removed."""
    name = "(?:" + "|".join(re.escape(prefix) for prefix in prefixes) + r")\S*"
    patterns = [rf"^:{name} ", rf"^-A {name}(?: |$)", rf".* -[jg] {name}(?: |$)"]
    if interfaces:
        patterns.append(".* -[io] (?:" + "|".join(re.escape(each) for each in interfaces) + ")(?: |$)")
    goes = re.compile("|".join(patterns))
    lines = saved.splitlines(keepends=True)
    kept = [line for line in lines if not goes.match(line)]
    return "".join(kept), len(lines) - len(kept)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "prefixes": {"type": "list", "elements": "str", "required": True},
            "interfaces": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    removed = {}
    for program in PROGRAMS:
        if not module.get_bin_path(f"{program}-save"):
            continue
        code, saved, _err = module.run_command([f"{program}-save"])
        if code != 0:  # the kernel lacks this kind of table
            continue
        left, count = without(saved, module.params["prefixes"], module.params["interfaces"])
        if count and not module.check_mode:
            module.run_command([f"{program}-restore"], data=left, check_rc=True)
        if count:
            removed[program] = count
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
