#!/usr/bin/python
"""Ansible module: take away what LXD runs and keeps."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.slipway.serving.plugins.module_utils.lxd_api import Lxd, LxdError, named

DOCUMENTATION = r"""
module: lxd_emptied
short_description: Take away what LXD runs and keeps
description:
  - Instances, images, volumes, profiles, networks and storage pools of every project go, and with them the
    bridges, firewall rules, mounts and processes that LXD made on the host. LXD itself stays.
  - Where LXD has no socket there is nothing to do.
options: {}
author: [slipway]
"""

EXAMPLES = r"""
- name: Empty LXD
  slipway.serving.lxd_emptied:
"""

RETURN = r"""
removed:
  description: What was there, as C(instances/web).
  returned: always
  type: list
  elements: str
"""


# What a project may leave to the first one, by the name of its setting
FEATURES = {"images": "images", "profiles": "profiles", "networks": "networks", "custom": "storage.volumes"}


def has_own(project: dict[str, Any], kind: str) -> bool:
    """Whether a project has things of a kind for itself; else it lists those of the first project."""
    feature = FEATURES.get(kind)
    if feature is None or project["name"] == "default":
        return True
    return bool((project.get("config") or {}).get(f"features.{feature}") == "true")


def contents(lxd: Lxd) -> list[tuple[str, str, dict[str, str]]]:
    """Paths of what is there, in the order in which it can go, each with what it is called and its query."""
    out: list[tuple[str, str, dict[str, str]]] = []
    projects, pools = lxd.all("/projects"), lxd.all("/storage-pools")
    volumes = [f"{named('/storage-pools', pool['name'])}/volumes/custom" for pool in pools]
    for path in ("/instances", "/images", "/profiles", *volumes, "/networks"):
        kind = path.rpartition("/")[2]
        for project in projects:
            query = {"project": project["name"]}
            for one in lxd.all(path, **query) if has_own(project, kind) else []:
                name = one["fingerprint" if kind == "images" else "name"]
                empty = (kind, name) == ("profiles", "default") and not (one["config"] or one["devices"])
                # interfaces that are not LXD's are listed with its networks
                if one.get("managed", True) and not empty:
                    out.append((named(path, name), f"{kind}/{name}", query))
    out += [(named("/storage-pools", pool["name"]), f"storage_pools/{pool['name']}", {}) for pool in pools]
    return out + [
        (named("/projects", project["name"]), f"projects/{project['name']}", {})
        for project in projects
        if project["name"] != "default"
    ]


def remove(lxd: Lxd, path: str, query: dict[str, str]) -> None:
    """Take one thing away; the default profile, which stays with LXD, loses what is in it."""
    if path.startswith("/instances/"):
        if lxd.ask("GET", f"{path}/state", query=query)["status"] != "Stopped":
            lxd.ask("PUT", f"{path}/state", {"action": "stop", "force": True, "timeout": -1}, query=query)
        try:
            lxd.ask("DELETE", path, query=query)
        except LxdError as error:
            if error.code != 404:  # an ephemeral one is gone when it is stopped
                raise
    elif path == "/profiles/default":
        lxd.ask("PUT", path, {"config": {}, "devices": {}, "description": ""}, query=query)
    else:
        lxd.ask("DELETE", path, query=query)


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    removed: list[Any] = []
    try:
        lxd = Lxd()
    except LxdError:
        module.exit_json(changed=False, removed=removed)
    try:
        for path, name, query in contents(lxd):
            if not module.check_mode:
                remove(lxd, path, query)
            removed.append(name)
    except LxdError as error:
        module.fail_json(msg=str(error), removed=removed)
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
