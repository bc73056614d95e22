"""The server's log: one JSON object a line on stderr, one line an event."""

from __future__ import annotations

import datetime
import json
import sys
import threading
from typing import Any, Literal

always: dict[str, Any] = {}  # said in every line: which of several processes it is
_writing = threading.Lock()  # loads run in threads; their lines must not mix


def event(name: str, *, level: Literal["info", "warning", "error"] = "info", **fields: Any) -> None:
    """Write one line: time (UTC), level, what is always said, event, then `fields` in the order given."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = json.dumps({"time": now, "level": level, **always, "event": name, **fields}, default=str)
    with _writing:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
