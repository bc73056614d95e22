#!/usr/bin/python
"""Ansible module: several folders and files of a host as they are to be, in one go."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

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

ATTRIBUTES = {"mode": "raw", "owner": "str", "group": "str"}


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


def set_attributes(module: AnsibleModule, path: str, entry: dict[str, Any], changed: bool) -> bool:
    """Set mode and owner of what is there; whether that, or what came before, changed anything."""
    wanted = {"mode": None, "owner": None, "group": None, **entry, "path": path}
    return bool(module.set_fs_attributes_if_different(module.load_file_common_arguments(wanted), changed))


def make_folder(module: AnsibleModule, path: str, entry: dict[str, Any]) -> bool:
    """Make a folder unless it is there; whether anything changed."""
    if Path(path).is_dir():
        return set_attributes(module, path, entry, False)
    if not module.check_mode:
        Path(path).mkdir(mode=0o755, parents=True)
        set_attributes(module, path, entry, True)
    return True


def write(module: AnsibleModule, path: Path, entry: dict[str, Any]) -> str:
    """Put a file in its place beside which it was written and validated; why not, empty when it is there."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(entry["content"].encode())
        if "validate" in entry:
            words = [word.replace("%s", beside) for word in shlex.split(entry["validate"])]
            code, out, err = module.run_command(words)
            if code != 0:
                told = "\n".join((err.strip() or out.strip()).splitlines()[-5:]).replace(beside, str(path))
                return f"{path} is as it was: `{entry['validate']}` refuses what was to be written: {told}"
        set_attributes(module, beside, entry, True)
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)
    return ""


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
    wrong = [asked(path, entry, tuple(ATTRIBUTES)) for path, entry in folders.items()]
    wrong += [asked(path, entry, ("content", "validate", *ATTRIBUTES)) for path, entry in files.items()]
    if any(wrong):
        module.fail_json(msg="\n".join(line for line in wrong if line))
    written = [path for path, entry in folders.items() if make_folder(module, path, entry)]
    diff = []
    for path, entry in files.items():
        held = Path(path).read_text(errors="replace") if Path(path).is_file() else None
        if held == entry["content"]:
            if set_attributes(module, path, entry, False):
                written.append(path)
            continue
        diff.append(
            {"before_header": path, "after_header": path, "before": held or "", "after": entry["content"]}
        )
        if not module.check_mode and (why := write(module, Path(path), entry)):
            module.fail_json(msg=why, written=written)
        written.append(path)
    module.exit_json(changed=bool(written), written=written, diff=diff)


if __name__ == "__main__":
    main()
