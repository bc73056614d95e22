"""Entries of apt's source files: a file without those of one repository.

Both forms are known: lines of .list files, paragraphs of .sources files. What is commented out or switched
off stays as it is, for apt does not read it either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LINE = re.compile(r"\s*(?P<type>deb|deb-src)\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)")
FIELD = re.compile(r"(?P<name>[A-Za-z][\w-]*):[ \t]*(?P<value>.*(?:\n[ \t].*)*)", re.MULTILINE)
OFF = ("no", "false", "without", "off", "disable")


@dataclass(frozen=True)
class Repository:
    """Where entries must point, and for which suites, to be of one repository."""

    uri: str
    suites: frozenset[str]

    def at(self, uri: str) -> bool:
        """Whether it is this address; by http or https is the same."""
        return _plain(uri) == _plain(self.uri)


@dataclass
class Rest:
    """What is left of a file.

    removed: entries that went; keyrings: files that they trusted; relies: whether an entry of the same
    address is left that names no key, and so relies on those trusted for everything.
    """

    text: str = ""
    removed: list[str] = field(default_factory=list)
    keyrings: list[str] = field(default_factory=list)
    relies: bool = False

    @property
    def empty(self) -> bool:
        """Whether apt reads nothing in it."""
        return all(line.lstrip().startswith("#") or not line.strip() for line in self.text.splitlines())


def _plain(uri: str) -> str:
    return re.sub(r"^[a-z0-9+.-]+://", "", uri, flags=re.IGNORECASE).rstrip("/")


def without_lines(text: str, repository: Repository) -> Rest:
    """A .list file without the lines of this repository."""
    rest = Rest()
    for line in text.splitlines(keepends=True):
        found = LINE.match(line)
        if found is None or not repository.at(found["uri"]):
            rest.text += line
            continue
        options = dict(word.partition("=")[::2] for word in (found["options"] or "").split())
        key = options.get("signed-by", "").strip('"')
        if found["suite"] in repository.suites:
            rest.removed.append(line.strip())
            rest.keyrings += key.split(",")
        else:
            rest.text += line
            rest.relies = rest.relies or not key
    rest.keyrings = _paths(rest.keyrings)
    return rest


def without_paragraphs(text: str, repository: Repository) -> Rest:
    """A .sources file without what of its paragraphs is of this repository."""
    rest = Rest()
    # the separators are every second part
    for part in re.split(r"(\n(?:[ \t]*\n)+)", text):
        fields = {found["name"].lower(): found["value"] for found in FIELD.finditer(part)}
        uris, suites = fields.get("uris", "").split(), fields.get("suites", "").split()
        ours = [uri for uri in uris if repository.at(uri)]
        if not ours or fields.get("enabled", "yes").strip().lower() in OFF:
            rest.text += part
            continue
        theirs = [uri for uri in uris if uri not in ours]
        kept = [suite for suite in suites if suite not in repository.suites]
        key = fields.get("signed-by", "").strip()
        if len(kept) == len(suites):
            rest.text += part
        else:
            gone = " ".join(suite for suite in suites if suite not in kept)
            rest.removed.append(f"{fields.get('types', 'deb')} {' '.join(ours)} {gone}")
            rest.keyrings += key.split() if "\n" not in key else []
            if theirs:  # other repositories share the paragraph: of this one it loses the address
                rest.text += _with(part, "URIs", theirs)
            elif kept:
                rest.text += _with(part, "Suites", kept)
        rest.relies = rest.relies or bool(kept and not key and not theirs)
    rest.text = re.sub(r"\n{3,}", "\n\n", rest.text).lstrip("\n") if rest.removed else rest.text
    rest.keyrings = _paths(rest.keyrings)
    return rest


def _with(paragraph: str, name: str, values: list[str]) -> str:
    """A paragraph whose field has these values."""
    pattern = re.compile(rf"^{name}:.*(?:\n[ \t].*)*", re.MULTILINE | re.IGNORECASE)
    return pattern.sub(f"{name}: {' '.join(values)}", paragraph)


def _paths(words: list[str]) -> list[str]:
    return sorted({word for word in words if word.startswith("/")})
