#!/usr/bin/python
"""Ansible module: have LXD configured as a preseed says."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.slipway.serving.plugins.module_utils.lxd_api import Lxd, LxdError, named

DOCUMENTATION = r"""
module: lxd_preseed
short_description: Have LXD configured as a preseed says
description:
  - Takes what C(lxd init --preseed) takes, compares it with what LXD says of itself, and changes only what
    differs. What the preseed does not name stays as it is, key by key.
  - A key that is set to an empty string counts as unset. The address C(auto) matches any; LXD finds one when
    it makes the network.
  - Of what belongs to others, LXD tells and this module prints values; a password has no place in a preseed.
options:
  preseed:
    description: >-
      C(config), C(networks), C(storage_pools) and C(profiles), as in C(lxd init --preseed). Of entries with
      the same name the later ones are merged into the first.
    type: dict
    required: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Configure LXD
  slipway.serving.lxd_preseed:
    preseed:
      storage_pools:
        - {name: default, driver: dir}
      networks:
        - name: lxdbr0
          type: bridge
          config: {ipv4.address: 10.79.0.1/24, ipv4.nat: true, ipv6.address: none}
      profiles:
        - name: default
          devices:
            root: {type: disk, path: /, pool: default}
            eth0: {type: nic, name: eth0, network: lxdbr0}
"""

RETURN = r"""
differing:
  description: What differed, as C(networks/lxdbr0 ipv4.nat); of what was not there at all, its name alone.
  returned: always
  type: list
  elements: str
"""

# What a preseed calls them, where the API has them, and what is given only when one is made
KINDS = {
    "storage_pools": ("/storage-pools", "driver"),
    "networks": ("/networks", "type"),
    "profiles": ("/profiles", ""),
}
# Where LXD keeps what it was told, when it writes something else in its place
FIRST_SAID = {"source": "volatile.initial_source"}


def text(value: Any) -> str:
    """A value as LXD keeps it, which knows strings only."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def texts(values: dict[str, Any] | None) -> dict[str, str]:
    return {key: text(value) for key, value in (values or {}).items()}


def merged(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each name, with strings for values."""
    out: dict[str, dict[str, Any]] = {}
    for entry in entries:
        one = out.setdefault(entry["name"], {"name": entry["name"], "config": {}, "devices": {}})
        one |= {key: value for key, value in entry.items() if key not in ("config", "devices")}
        one["config"] |= texts(entry.get("config"))
        for name, device in (entry.get("devices") or {}).items():
            one["devices"][name] = one["devices"].get(name, {}) | texts(device)
    return list(out.values())


def differing(wanted: dict[str, str], there: dict[str, Any]) -> dict[str, str]:
    """The keys that are not as they are wanted."""
    return {key: value for key, value in wanted.items() if not _same(key, value, there)}


def _same(key: str, value: str, there: dict[str, Any]) -> bool:
    found = text(there.get(key))
    if value == "auto" and key.endswith(".address"):
        return found not in ("", "none")
    return value in (found, text(there.get(FIRST_SAID.get(key, ""), found)))


def patch(wanted: dict[str, Any], there: dict[str, Any]) -> dict[str, Any]:
    """What to ask of LXD to have an entry as it is wanted; nothing where it is so."""
    out: dict[str, Any] = {}
    if config := differing(wanted["config"], there.get("config") or {}):
        out["config"] = config
    devices = there.get("devices") or {}
    changed = {
        name: devices.get(name, {}) | device
        for name, device in wanted["devices"].items()
        if differing(device, devices.get(name, {}))
    }
    if changed:
        out["devices"] = changed
    if "description" in wanted and wanted["description"] != there.get("description", ""):
        out["description"] = wanted["description"]
    return out


def names(kind: str, wanted: dict[str, Any], there: dict[str, Any] | None) -> list[str]:
    """What differs of one entry, for people."""
    what = f"{kind}/{wanted['name']}"
    if there is None:
        return [what]
    asked = patch(wanted, there)
    devices = there.get("devices") or {}
    return [
        *(f"{what} {key}" for key in asked.get("config", {})),
        *(
            f"{what} {name}.{key}"
            for name, device in asked.get("devices", {}).items()
            for key in differing(device, devices.get(name, {}))
        ),
        *([f"{what} description"] if "description" in asked else []),
    ]


def shown(preseed: dict[str, Any], state: dict[str, Any], after: bool) -> str:
    """The wanted keys that differ, a line each, as they are or as they are to be."""
    lines = []
    rows: list[tuple[str, dict[str, str], dict[str, Any]]] = [
        ("config", texts(preseed.get("config")), state["config"])
    ]
    for kind in KINDS:
        for entry in merged(preseed.get(kind) or []):
            there = state[kind].get(entry["name"]) or {}
            rows.append((f"{kind}/{entry['name']}", entry["config"], there.get("config") or {}))
            devices = there.get("devices") or {}
            rows += [
                (f"{kind}/{entry['name']} {name}", device, devices.get(name, {}))
                for name, device in entry["devices"].items()
            ]
    for what, wanted, there in rows:
        for key, value in differing(wanted, there).items():
            told = value if after else text(there.get(key))
            lines += [f"{what} {key}: {told}\n"] if told else []
    return "".join(lines)


def read(lxd: Lxd, preseed: dict[str, Any]) -> dict[str, Any]:
    """What LXD has of the kinds of a preseed: name to entry, and its own configuration."""
    state: dict[str, Any] = {"config": lxd.ask("GET", "").get("config") or {}}
    for kind, (path, _) in KINDS.items():
        there = lxd.all(path) if preseed.get(kind) else []
        # interfaces that are not its own are listed with its networks
        state[kind] = {one["name"]: one for one in there if one.get("managed", True)}
    return state


def look(preseed: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """What differs, for people."""
    out = [f"config {key}" for key in differing(texts(preseed.get("config")), state["config"])]
    for kind in KINDS:
        for entry in merged(preseed.get(kind) or []):
            out += names(kind, entry, state[kind].get(entry["name"]))
    return out


def wrong(preseed: dict[str, Any], state: dict[str, Any]) -> list[str]:
    """What cannot be had by changing: the driver of a pool, the type of a network."""
    out = []
    for kind, (_, fixed) in KINDS.items():
        for entry in merged(preseed.get(kind) or []):
            there = state[kind].get(entry["name"])
            if there and fixed in entry and entry[fixed] != there.get(fixed):
                told = f"has {fixed} {there.get(fixed)}, not {entry[fixed]}"
                out.append(f"{kind}/{entry['name']} {told}, and LXD changes it in none that is there")
    return out


def apply(lxd: Lxd, preseed: dict[str, Any], state: dict[str, Any]) -> None:
    """Make and change what differs, in the order in which one needs the other."""
    if config := differing(texts(preseed.get("config")), state["config"]):
        lxd.ask("PATCH", "", {"config": config})
    for kind, (path, _) in KINDS.items():
        for entry in merged(preseed.get(kind) or []):
            there = state[kind].get(entry["name"])
            if there is None:
                whole = {key: value for key, value in entry.items() if key != "devices" or kind == "profiles"}
                lxd.ask("POST", path, whole)
            elif asked := patch(entry, there):
                # LXD takes a description that is not named for an empty one
                asked.setdefault("description", there.get("description", ""))
                lxd.ask("PATCH", named(path, entry["name"]), asked)


def main() -> None:
    module = AnsibleModule(
        argument_spec={"preseed": {"type": "dict", "required": True}}, supports_check_mode=True
    )
    preseed: dict[str, Any] = module.params["preseed"]
    if unknown := set(preseed) - {"config", *KINDS}:
        module.fail_json(
            msg=f"preseed: {', '.join(sorted(unknown))} is not known; expected config, {', '.join(KINDS)}"
        )
    try:
        lxd = Lxd()
        before = read(lxd, preseed)
        if problems := wrong(preseed, before):
            module.fail_json(msg="; ".join(problems))
        changed = look(preseed, before)
        if changed and not module.check_mode:
            apply(lxd, preseed, before)
            if left := look(preseed, read(lxd, preseed)):
                module.fail_json(msg=f"LXD took it and still differs in {', '.join(left)}", differing=left)
    except LxdError as error:
        module.fail_json(msg=str(error))
    diff = {"before": shown(preseed, before, False), "after": shown(preseed, before, True)}
    module.exit_json(changed=bool(changed), differing=changed, diff=diff)


if __name__ == "__main__":
    main()
