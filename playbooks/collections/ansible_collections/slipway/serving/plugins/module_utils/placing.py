"""How modules put a text into its place on a host: written beside it, validated, and renamed.

What was there is kept, unless these modules wrote it as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ATTRIBUTES = ("mode", "owner", "group")
TAIL = 5  # lines of a refusal that are told
# Below it copies by their paths, and which files were last written how. Away from the files: what lies beside
# one of apt's, systemd's or the kubelet's may be read as another of theirs.
BACKUPS = Path("/var/backups/slipway")
WRITTEN = "written.json"


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
    A file that these modules did not write as it is, is kept below BACKUPS, and a warning says where.
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
        if kept := keep(path, hashlib.sha256(text.encode()).hexdigest()):
            module.warn(f"{path} was not as these roles left it; what was there is kept as {kept}")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return ""


def keep(path: Path, digest: str) -> Path | None:
    """Keep a file that is about to be replaced, if these modules did not write it; where, None if it is not.

    digest: sha256 of what replaces it, which is remembered.
    """
    BACKUPS.mkdir(mode=0o700, parents=True, exist_ok=True)
    record = BACKUPS / WRITTEN
    written: dict[str, str] = json.loads(record.read_text()) if record.is_file() else {}
    kept = None
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != written.get(str(path)):
        moment = time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())
        kept = BACKUPS / f"{str(path).lstrip('/')}.{moment}"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, kept)
        there = path.stat()
        os.chown(kept, there.st_uid, there.st_gid)
    beside = record.with_suffix(".new")
    beside.write_text(json.dumps({**written, str(path): digest}, indent=1, sort_keys=True))
    beside.replace(record)
    return kept
