"""A model's base path: a local folder, whatever upstream could read from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

LOCAL_WANTED = (
    "a local folder is expected, such as /models/NAME. Put the model into the image or on a volume, or have "
    "an init container copy it there"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def remote(base_path: str) -> str:
    """The scheme of a base path that is no local folder, such as s3; empty for a local one."""
    found = _SCHEME.match(base_path)
    return "" if found is None or found[1] == "file" else found[1]


def local_path(base_path: str) -> Path:
    """A base path without the scheme TensorFlow takes for local files."""
    return Path(base_path.removeprefix("file://"))
