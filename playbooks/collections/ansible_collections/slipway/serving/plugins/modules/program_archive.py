#!/usr/bin/python
"""Ansible module: programs of this host, with the libraries they need, as the root of a container."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: program_archive
short_description: Programs of this host as the root of a container
description:
  - Writes a tar with programs of this host and the libraries that they load, from which a container can be
    made where no image can be had. Nothing else of the host is in it, no configuration and no key.
  - To see whether containers run, not to run anything in them.
options:
  dest: {description: Path of the tar on the host., type: path, required: true}
  programs: {description: "Names of the programs, found in PATH.", type: list, elements: str, required: true}
  folder: {description: "Folder in the tar that the root is in, empty for none.", type: str, default: ""}
  files: {description: Path in the tar to text of further files., type: dict, default: {}}
author: [slipway]
"""

EXAMPLES = r"""
- name: Make an image that can say something
  slipway.serving.program_archive:
    dest: /root/image.tar
    programs: [bash]
"""

RETURN = r"""
members:
  description: Paths in the tar.
  returned: always
  type: list
  elements: str
"""

# Folders of a root, made so that what a container's manager mounts has its place
FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp", "root", "var")


def libraries(printed: str) -> list[str]:
    """The files in what `ldd` prints; a program without libraries has none."""
    return re.findall(r"(?:=> |^\s+)(/\S+) \(0x", printed, re.MULTILINE)


def members(programs: dict[str, str]) -> dict[str, str]:
    """Path in the root to file of this host. programs: path to what `ldd` prints of it.

    Programs are in bin, libraries where the program's interpreter looks for them.
    """
    out = {f"bin/{Path(path).name}": path for path in programs}
    for printed in programs.values():
        out |= {path.lstrip("/"): path for path in libraries(printed)}
    return out


def add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def write(dest: str, folder: str, found: dict[str, str], files: dict[str, Any]) -> list[str]:
    """Write the tar, readable by its owner alone. Returns what is in it."""
    prefix = f"{folder.strip('/')}/" if folder else ""
    handle = os.open(dest, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name in FOLDERS:
            entry = tarfile.TarInfo(f"{prefix}{name}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        for name, path in found.items():
            add(tar, f"{prefix}{name}", Path(path).read_bytes(), 0o755)
        for name, text in files.items():
            add(tar, name, str(text).encode(), 0o755 if str(text).startswith("#!") else 0o644)
        return tar.getnames()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "programs": {"type": "list", "elements": "str", "required": True},
            "folder": {"type": "str", "default": ""},
            "files": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    printed = {}
    for name in module.params["programs"]:
        path = module.get_bin_path(name, required=True)
        # it says so with an error where there is nothing to load
        printed[path] = module.run_command(["ldd", path], environ_update={"LC_ALL": "C"})[1]
    found = members(printed)
    if module.check_mode:
        module.exit_json(changed=True, members=sorted(found))
    made = write(module.params["dest"], module.params["folder"], found, module.params["files"])
    module.exit_json(changed=True, members=made)


if __name__ == "__main__":
    main()
