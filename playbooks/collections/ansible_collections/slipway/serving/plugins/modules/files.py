#!/usr/bin/python
"""Ansible module: several folders and files of a host as they are to be, in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.slipway.serving.plugins.module_utils.placing import ATTRIBUTES, place, set_attributes

DOCUMENTATION = r"""
module: files
short_description: Put down folders and small text files
description:
  - Each file that M(ansible.builtin.copy) writes costs three calls to the host. Here all that one task writes
    costs one. The folder that a file lies in is made, 0755, where there is none.
  - A file is validated before it takes its place. One that is refused stays as it was, and so does what is
    listed after it.
options:
  folders:
    description: Path to C(mode), and where they matter C(owner) and C(group). They are made first.
    type: dict
    default: {}
  files:
    description: >-
      Path to a text, or to its C(content) and where they matter C(mode), C(owner), C(group) and C(validate),
      a command with a C(%s) for the file that it is to look at.
    type: dict
    default: {}
  mode: {description: Mode of files that name none., type: raw, default: "0644"}
author: [slipway]
"""

EXAMPLES = r"""
- name: Configure the daemon
  slipway.serving.files:
    files:
      /etc/docker/daemon.json:
        content: "{}\n"
        mode: "0644"
        validate: dockerd --validate --config-file %s
"""

RETURN = r"""
written:
  description: The folders and files that were made or differed.
  returned: success
  type: list
  elements: str
"""


def asked(path: str, entry: dict[str, Any], known: tuple[str, ...]) -> str:
    """What is wrong with an entry; empty when nothing is."""
    if not path.startswith("/"):
        return f"{path}: expected an absolute path"
    unknown = sorted(set(entry) - set(known))
    if unknown:
        return f"{path}: {', '.join(unknown)} not known; expected {', '.join(known)}"
    if "content" in known and not isinstance(entry.get("content"), str):
        return f"{path}: content: expected a text"
    if "validate" in entry and "%s" not in entry["validate"]:
        return f"{path}: validate: expected a command with %s for the file"
    return ""


def make_folder(module: AnsibleModule, path: Path, entry: dict[str, Any]) -> bool:
    """Make a folder unless it is there; whether anything changed."""
    if path.is_dir():
        return set_attributes(module, path, entry, False)
    if not module.check_mode:
        path.mkdir(mode=0o755, parents=True)
        set_attributes(module, path, entry, True)
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "dict", "default": {}},
            "files": {"type": "dict", "default": {}},
            "mode": {"type": "raw", "default": "0644"},
        },
        supports_check_mode=True,
    )
    folders, mode = module.params["folders"], module.params["mode"]
    files = {
        path: {"mode": mode, **(entry if isinstance(entry, dict) else {"content": entry})}
        for path, entry in module.params["files"].items()
    }
    wrong = [asked(path, entry, ATTRIBUTES) for path, entry in folders.items()]
    wrong += [asked(path, entry, ("content", "validate", *ATTRIBUTES)) for path, entry in files.items()]
    if any(wrong):
        module.fail_json(msg="\n".join(line for line in wrong if line))
    written = [path for path, entry in folders.items() if make_folder(module, Path(path), entry)]
    diff = []
    for name, entry in files.items():
        path, text = Path(name), entry["content"]
        held = path.read_text(errors="replace") if path.is_file() else None
        if held == text:
            written += [name] if set_attributes(module, path, entry, False) else []
            continue
        diff.append({"before_header": name, "after_header": name, "before": held or "", "after": text})
        if not module.check_mode and (why := place(module, path, text, entry, entry.get("validate"))):
            module.fail_json(msg=why, written=written)
        written.append(name)
    module.exit_json(changed=bool(written), written=written, diff=diff)


if __name__ == "__main__":
    main()
