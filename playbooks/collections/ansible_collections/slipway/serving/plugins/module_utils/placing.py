"""How modules put a text into its place on a host: written beside it, validated, and renamed."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ATTRIBUTES = ("mode", "owner", "group")
TAIL = 5  # lines of a refusal that are told


def set_attributes(module: AnsibleModule, path: Path, asked: Mapping[str, Any], changed: bool) -> bool:
    """Set what is asked for of mode, owner and group; whether that, or what came before, changed anything."""
    wanted = {key: asked.get(key) for key in ATTRIBUTES}
    arguments = module.load_file_common_arguments({**wanted, "path": str(path)})
    return bool(module.set_fs_attributes_if_different(arguments, changed))


def place(
    module: AnsibleModule, path: Path, text: str, asked: Mapping[str, Any], validate: str | None = None
) -> str:
    """Put a file into its place. Returns why it was not, empty when it is there.

    asked: mode, owner and group; what is not asked for stays as it was, and a new file is its owner's alone.
    validate: a command with %s for the file it is to look at. A file that it refuses stays as it was.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
        if validate:
            words = [word.replace("%s", name) for word in shlex.split(validate)]
            code, out, err = module.run_command(words)
            if code != 0:
                said = "\n".join((err.strip() or out.strip()).splitlines()[-TAIL:]).replace(name, str(path))
                return f"{path} is as it was: `{validate}` refuses what was to be written: {said}"
        if path.exists():
            there = path.stat()
            os.chown(beside, there.st_uid, there.st_gid)
            beside.chmod(there.st_mode & 0o7777)
        set_attributes(module, beside, asked, True)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return ""
