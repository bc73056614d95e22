#!/usr/bin/python
"""Ansible module: names and passwords that an image registry takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.slipway.serving.plugins.module_utils.placing import place, set_attributes

try:
    import bcrypt
except ImportError:  # told when it is needed
    bcrypt = None

DOCUMENTATION = r"""
module: registry_logins
short_description: Have logins in a registry's htpasswd files
description:
  - Looks at all logins of all files at once. One whose password is another one is hashed anew, others in a
    file stay as they are. Hashes with bcrypt, the only scheme that the registry takes. Needs
    C(python3-bcrypt) on the host.
  - The registry checks the password anew at each of the many requests of a push or pull.
options:
  logins:
    description: The logins, each with the C(file) it is to be in, its C(name) and its C(password).
    type: list
    elements: dict
    required: true
    suboptions:
      file: {description: Path of the htpasswd file., type: path, required: true}
      name: {description: Name of the user., type: str, required: true}
      password: {description: Password of the user., type: str, required: true}
  cost:
    description: >-
      How dear a guess is, as a power of two; 5, as htpasswd's, takes a millisecond or two, 12 takes 200. One
      of another cost is hashed anew.
    type: int
    default: 5
  owner: {description: Owner of the files., type: str}
  group: {description: Group of the files., type: str}
  mode: {description: Mode of the files., type: raw}
author: [slipway]
"""

EXAMPLES = r"""
- name: Set the logins
  slipway.serving.registry_logins:
    logins:
      - file: /etc/docker/registry/htpasswd
        name: me
        password: "{{ lookup('ansible.builtin.file', 'password') }}"
    mode: "0640"
  no_log: true
"""

RETURN = r"""
set:
  description: Names of the logins that were not there, or with another password.
  returned: always
  type: list
  elements: str
"""

LINE = "{}:{}\n"


def others(text: str, name: str) -> tuple[str, str]:
    """The hash of a name in an htpasswd file, empty without one, and the file without it."""
    held, rest = "", ""
    for line in text.splitlines():
        user, _, digest = line.partition(":")
        if user == name:
            held = digest.strip()
        elif line.strip():
            rest += f"{line}\n"
    return held, rest


def matches(password: bytes, held: str) -> bool:
    """Whether a hash is of this password; what is no bcrypt hash is of none."""
    try:
        return bool(bcrypt.checkpw(password, held.encode()))
    except ValueError:
        return False


def cost_of(held: str) -> int:
    """What a guess at a bcrypt hash costs; 0 for what is none."""
    found = re.match(r"\$2[aby]\$(\d\d)\$", held)
    return int(found[1]) if found else 0


def wanted(
    files: dict[str, str], logins: list[dict[str, Any]], cost: int
) -> tuple[dict[str, str], list[str]]:
    """The text of each file with the logins in it, and the names that were set.

    A hash that was found or made for a name and a password serves for the same ones in the next file: hashing
    takes its time on purpose.
    """
    files, known, changed = dict(files), {}, []
    for login in logins:
        password = login["password"].encode()[:72]  # bcrypt reads no more
        held, rest = others(files[login["file"]], login["name"])
        hashes = known.setdefault((login["name"], password), [])
        if cost_of(held) == cost and (held in hashes or matches(password, held)):
            hashes.append(held)
            continue
        made = hashes[0] if hashes else bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode()
        hashes.append(made)
        files[login["file"]] = rest + LINE.format(login["name"], made)
        changed.append(login["name"])
    return files, changed


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""


def main() -> None:
    login = {name: {"type": "str", "required": True} for name in ("name", "password")}
    login["password"]["no_log"] = True
    login["file"] = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "logins": {"type": "list", "elements": "dict", "required": True, "options": login},
            "cost": {"type": "int", "default": 5},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "raw"},
        },
        supports_check_mode=True,
    )
    if bcrypt is None:
        module.fail_json(msg=missing_required_lib("bcrypt"))
    before = {each["file"]: read(each["file"]) for each in module.params["logins"]}
    after, names = wanted(before, module.params["logins"], module.params["cost"])
    changed = after != before
    for path, text in after.items():
        if text == before[path]:
            changed = (
                set_attributes(module, Path(path), module.params, changed) if Path(path).exists() else changed
            )
        elif not module.check_mode:
            place(module, Path(path), text, module.params)
    module.exit_json(changed=changed, set=sorted(set(names)))


if __name__ == "__main__":
    main()
