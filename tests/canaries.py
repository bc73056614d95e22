"""Looking for a secret in whatever form it may have been written."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote, quote_plus

from slipway.core import process


def forms(secret: str) -> set[bytes]:
    """The secret as it is, URL-encoded, and in base64 wherever it may begin within what was encoded.

    Docker's auth and HTTP's Basic encode user:password: where the secret begins there decides which of three
    texts it becomes. The letters at both ends, which neighbours share, are left out.
    """
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), quote_plus(secret).encode()}
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * before + raw).rstrip(b"=")
            begin = -(-before * 8 // 6)
            end = (before + len(raw)) * 8 // 6
            found.add(text[begin:end])
    return found


def holds(content: bytes, secret: str) -> bool:
    """Whether the secret is in there in one of its forms."""
    return any(form in content for form in forms(secret))


# Run by python3 on any machine: as nobody, reads the files written since a time and the words and environments of
# all processes. Those above 16 MiB are programs and images, not files that somebody writes a login into.
_AS_NOBODY = r"""
import base64, json, os, stat, sys
asked = json.load(sys.stdin)
forms = {name: [base64.b64decode(form) for form in found] for name, found in asked["secrets"].items()}
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
read, holding = 0, []

def look(path):
    global read
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return
    read += 1
    holding.extend([path, name] for name, found in forms.items() if any(form in content for form in found))

for root in asked["roots"]:
    for folder, below, files in os.walk(root):
        below[:] = [name for name in below if os.path.join(folder, name) not in ("/proc", "/sys", "/dev")]
        for path in (os.path.join(folder, name) for name in files):
            try:
                found = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_ctime >= asked["since"] and found.st_size <= 1 << 24:
                look(path)
for number in filter(str.isdigit, os.listdir("/proc")):
    look("/proc/" + number + "/cmdline")
    look("/proc/" + number + "/environ")
json.dump({"read": read, "holding": holding}, sys.stdout)
"""


def what_others_can_read(
    run: Callable[[list[str], str], str],
    secrets: Mapping[str, str],
    since: float,
    roots: Sequence[str] = ("/",),
) -> list[tuple[str, str]]:
    """Each file below the roots, written since then, that anybody may read and that holds a secret: path and name.

    run starts a program on the machine in question as root, with that text on its stdin, and returns what it
    prints. Command lines and environments of the machine's processes count as files.
    """
    asked = {
        "secrets": {
            name: [base64.b64encode(form).decode() for form in forms(secret)]
            for name, secret in secrets.items()
        },
        "since": since,
        "roots": list(roots),
    }
    told = json.loads(run(["python3", "-c", _AS_NOBODY], json.dumps(asked)))
    assert told["read"] > 0, "nothing was looked at"
    return [(path, name) for path, name in told["holding"]]


def here(argv: list[str], text: str) -> str:
    """Start Python on this machine; for what_others_can_read."""
    return process.run([sys.executable, *argv[1:]], input=text, timeout=300).stdout
