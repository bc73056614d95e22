#!/usr/bin/python
"""Ansible module: have keys in a JSON file, beside those of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.slipway.serving.plugins.module_utils.placing import ATTRIBUTES, place, set_attributes

DOCUMENTATION = r"""
module: json_keys
short_description: Have keys in a JSON file
description:
  - What others put into the file stays as it is, in objects inside of it too. A file that is not JSON, which
    no program reads either, is kept beside the new one under a name with its date.
  - Only the keys that are asked for are shown as a difference, since those of others may hold logins.
options:
  path: {description: Path of the file. Its folder has to be there., type: path, required: true}
  keys:
    description: >-
      The keys with their values. Objects are merged, lists are replaced; one whose value is null is taken
      away.
    type: dict
    required: true
  validate:
    description: A command that the new file is asked of before it is put in place, with C(%s) for its path.
    type: str
  owner: {description: Owner of the file., type: str}
  group: {description: Group of the file., type: str}
  mode: {description: Mode of the file., type: raw}
author: [slipway]
"""

EXAMPLES = r"""
- name: Limit Docker's logs
  slipway.serving.json_keys:
    path: /etc/docker/daemon.json
    keys: {log-opts: {max-size: 10m}}
    validate: dockerd --validate --config-file %s
    mode: "0644"
"""

RETURN = r"""
kept:
  description: Where a file that was not JSON is kept; empty otherwise.
  returned: always
  type: str
"""


def merged(there: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """An object with these keys, and its own others."""
    out = dict(there)
    for key, value in keys.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            below = out.get(key)
            out[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            out[key] = value
    return out


def within(there: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """Of an object what these keys are about."""
    return {
        key: within(there[key], value)
        if isinstance(value, dict) and isinstance(there[key], dict)
        else there[key]
        for key, value in keys.items()
        if key in there
    }


def parsed(text: str) -> dict[str, Any] | None:
    """The object in a file; None where there is none."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def printed(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=4, sort_keys=True) + "\n"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "keys": {"type": "dict", "required": True, "no_log": False},
            "validate": {"type": "str"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "raw"},
        },
        supports_check_mode=True,
    )
    path, keys = Path(module.params["path"]), module.params["keys"]
    text = path.read_text(errors="replace") if path.exists() else ""
    there = parsed(text)
    wanted = merged(there or {}, keys)
    differs, kept = wanted != there or not text, ""
    if differs and not module.check_mode:
        if there is None:
            kept = module.backup_local(str(path))
        new = {} if path.exists() else {"mode": "0644"}
        asked = {**new, **{key: value for key in ATTRIBUTES if (value := module.params[key]) is not None}}
        if why := place(module, path, printed(wanted), asked, module.params["validate"]):
            module.fail_json(msg=why)
    changed = differs
    if path.exists():
        changed = set_attributes(module, path, module.params, differs)
    diff = {"before": printed(within(there or {}, keys)), "after": printed(within(wanted, keys))}
    module.exit_json(
        changed=changed, kept=kept, diff={"before_header": str(path), "after_header": str(path), **diff}
    )


if __name__ == "__main__":
    main()
