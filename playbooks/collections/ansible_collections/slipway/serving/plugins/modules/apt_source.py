#!/usr/bin/python
"""Ansible module: an apt repository that is tried before it is put into place, with a pinned signing key."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url
from ansible_collections.slipway.serving.plugins.module_utils import apt_entries, openpgp

DOCUMENTATION = r"""
module: apt_source
short_description: An apt repository with a pinned signing key
description:
  - Fetches the key, refuses it unless its fingerprint is the pinned one and it has not ended, and reads the
    repository's package lists with it. Only when that has worked are key and source written, and what an
    earlier setup left of the same repository removed. A host where it fails stays as it was.
  - Removed are the repository's entries for the same suites in other files, whether lines or paragraphs, the
    keyrings that only these named, and the pinned key from the keys that are trusted for every repository.
    Apt refuses two entries with different keys.
  - When all is as it is to be, nothing is fetched, unless the key ends soon. Publishers make the same key
    valid for longer; such a one takes its place. While there is none, the one in place stays and a warning
    says when it ends.
  - Reads the key's packets itself, so that the host needs no gpg. Needs apt 1.1 or later.
options:
  name:
    description: Name of the files in /etc/apt/sources.list.d and /etc/apt/keyrings.
    type: str
    required: true
  state: {description: Whether it is to be there., type: str, choices: [present, absent], default: present}
  uri: {description: Base address of the repository. Needed where it is to be there., type: str}
  suites: {description: "Suite, or a path that ends in a slash for a flat repository.", type: str, default: /}
  components: {description: Components; none for a flat repository., type: list, elements: str, default: []}
  architectures:
    description: Architectures it is limited to; all when empty.
    type: list
    elements: str
    default: []
  fingerprint:
    description: Fingerprint of the primary key in hex. Needed where it is to be there.
    type: str
  key_url: {description: Address of the key. Needed unless the key is given., type: str}
  key: {description: "The key itself, armored. Then nothing is fetched from its address.", type: str}
  timeout: {description: Seconds until a silent server counts as unreachable., type: int, default: 20}
  retries: {description: How often a download is tried., type: int, default: 3}
  renew_days: {description: Look for a newer key when it ends within these days., type: int, default: 30}
  refresh: {description: Read the lists anew though all is as it is to be., type: bool, default: false}
  ended: {description: What to do when the key has ended., type: str, default: ""}
  required:
    description: Fail where the repository cannot be used; else say why in C(problem) and change nothing.
    type: bool
    default: true
author: [slipway]
"""

EXAMPLES = r"""
- name: Add TensorFlow Serving's repository
  slipway.serving.apt_source:
    name: tensorflow-serving
    uri: https://storage.googleapis.com/tensorflow-serving-apt
    suites: stable
    components: [tensorflow-model-server]
    architectures: [amd64]
    key_url: https://storage.googleapis.com/tensorflow-serving-apt/tensorflow-serving.release.pub.gpg
    fingerprint: 916E2B2FEBC274930BACA9D9544B7F63BF9E4D5F
"""

RETURN = r"""
problem:
  description: Why the repository cannot be used; empty when it can.
  returned: always
  type: str
kind:
  description: Kind of the problem, in one word.
  returned: always
  type: str
key_ends:
  description: Day the key in place ends, as YYYY-MM-DD; empty when it never does, or there is none.
  returned: always
  type: str
removed:
  description: What an earlier setup had left.
  returned: always
  type: list
  elements: str
"""


APT = Path("/etc/apt")
LISTS = Path("/var/lib/apt/lists")
STAMP = Path("/var/lib/apt/periodic/update-success-stamp")
DPKG_INFO = Path("/var/lib/dpkg/info")
DAY = 24 * 60 * 60
PAUSE = 5.0  # seconds between two tries
TAIL = 6  # lines of the true cause that a message shows
# What apt's words mean, the surest first: of a repository that cannot be verified it also says that it is
# not signed
MEANINGS = (
    ("busy", r"Could not get lock"),
    (
        "unreachable",
        r"Could not resolve|Temporary failure resolving|Could not connect|Unable to connect|Connection failed"
        r"|[Cc]onnection (?:refused|reset|timed out)|timed out|Network is unreachable|No route to host"
        r"|Certificate verification failed|[Hh]andshake|Could not handshake|Error reading from server"
        r"|\b(?:403|407|429|5\d\d)  ?[A-Z]",
    ),
    ("ended", r"EXPKEYSIG|KEYEXPIRED|EXPSIG|Expired on|not live"),
    (
        "wrongly-signed",
        r"BADSIG|NO_PUBKEY|Missing key|Bad signature|BAD signature|not bound|Message has been manipulated"
        r"|couldn't be verified|[Nn]o acceptable signature|Policy rejected|Sub-process /usr/bin/sqv returned",
    ),
    ("outdated", r"is expired \(invalid since|is not valid yet"),
    (
        "truncated",
        r"NOSPLIT|NODATA|[Cc]learsigned file isn't valid|unexpected size|Hash Sum mismatch|Unable to parse"
        r"|malformed|Encountered a section with no Package|[Uu]nexpected end|Splitting up"
        r"|Connection closed prematurely",
    ),
    ("absent", r"does not have a Release file|no longer has a Release file|404 "),
    ("unsigned", r"is not signed|no longer signed"),
)
WHAT = {
    "busy": "apt's package lists are held by another program",
    "unreachable": "the apt repository {name} cannot be reached",
    "ended": "the apt repository {name} is signed with a key that has ended",
    "wrongly-signed": "the apt repository {name} is not signed with the pinned key {fingerprint}, or was "
    "altered after that",
    "outdated": "the apt repository {name} says that its own lists have ended, or are not valid yet",
    "truncated": "the apt repository {name} is damaged: what it gave is cut short or not what it signed",
    "absent": "the apt repository {name} has no suite {suites}",
    "unsigned": "the apt repository {name} is not signed",
    "unknown": "the package lists of the apt repository {name} cannot be read",
}
TODO = {
    "busy": "wait until it is done (apt-daily.service, as a rule), then run again",
    "unreachable": "see that this host reaches it: name resolution, firewall, proxy, certificates; or take a "
    "mirror",
    "ended": "wait until its publisher has made the key valid for longer, then run again; nothing is ever "
    "trusted without a signature",
    "wrongly-signed": "nothing was trusted. Compare the pin with what the publisher says in public; if only "
    "a mirror is wrong, take another",
    "outdated": "see that this host's clock is right; else it is the publisher's or the mirror's to mend",
    "truncated": "run again; if it stays so, a proxy on the way answers in its place, or the mirror was "
    "copied while it changed",
    "absent": "compare address, suite and components with the publisher's page",
    "unsigned": "nothing was trusted, and nothing will be: take a mirror that brings the signatures along",
    "unknown": "the words above are apt's own",
}
PASSING = ("busy", "unreachable", "truncated")  # may be gone at the next try


class Refused(Exception):
    """The repository cannot be used. kind: one of WHAT, or of a key `ended`, `other-key` or `no-key`."""

    def __init__(self, kind: str, what: str, where: str, cause: str, todo: str) -> None:
        lines = [line.strip() for line in cause.splitlines() if line.strip()]
        parts = [what, f"where: {where}", *lines[-TAIL:], f"what to do: {todo}"]
        super().__init__("\n  ".join(part for part in parts if part))
        self.kind = kind


@dataclass
class Source:
    """The repository as it is wanted, and where it lies on this host."""

    name: str
    uri: str
    suites: str
    fingerprint: str
    components: list[str] = field(default_factory=list)
    architectures: list[str] = field(default_factory=list)
    ended: str = ""

    @property
    def file(self) -> Path:
        return APT / "sources.list.d" / f"{self.name}.sources"

    @property
    def key_file(self) -> Path:
        return APT / "keyrings" / f"{self.name}.asc"

    def text(self, key_file: Path) -> str:
        """The deb822 source that trusts this key alone."""
        fields = {
            "Types": "deb",
            "URIs": self.uri,
            "Suites": self.suites,
            "Components": " ".join(self.components),
            "Architectures": " ".join(self.architectures),
            "Signed-By": str(key_file),
        }
        head = "# Ansible managed\n"
        return head + "".join(f"{name}: {value}\n" for name, value in fields.items() if value)

    def lists(self, folder: Path = LISTS) -> list[Path]:
        """The files apt keeps of this repository and suite."""
        suite = "" if self.suites == "/" else self.suites
        path = f"{self.uri.rstrip('/')}/{suite if suite.endswith('/') or not suite else f'dists/{suite}/'}"
        prefix = list_name(path)
        return sorted(
            found for found in folder.glob("*") if found.is_file() and found.name.startswith(prefix)
        )

    def was_read(self) -> bool:
        return any(path.name.endswith("Release") for path in self.lists())

    def refusal(self, output: str) -> Refused:
        """What apt's words mean."""
        kind = meaning(output)
        words = {"name": self.name, "fingerprint": self.fingerprint, "suites": self.suites}
        todo = self.ended if kind == "ended" and self.ended else TODO[kind]
        cause = "\n".join(line for line in output.splitlines() if line.startswith(("W:", "E:")))
        return Refused(kind, WHAT[kind].format(**words), f"{self.uri} {self.suites}", cause, todo)


def meaning(output: str) -> str:
    """Kind of what apt-get update said."""
    return next((kind for kind, pattern in MEANINGS if re.search(pattern, output)), "unknown")


def list_name(address: str) -> str:
    """An address as apt writes it into the name of a list (URItoFileName, QuoteString)."""
    plain = re.sub(r"^[a-z0-9+.-]+:(?://)?(?:[^/@]*@)?", "", address)
    quoted = re.sub(r"[\\|{}\[\]<>\"^~_=!@#$%^&*]", lambda found: f"%{ord(found[0]):02x}", plain)
    return quoted.replace("/", "_")


def day(end: float) -> str:
    return "" if end == float("inf") else time.strftime("%Y-%m-%d", time.gmtime(end))


class Keeper:
    """Does the work of one call."""

    def __init__(self, module: AnsibleModule) -> None:
        given = module.params
        self.module, self.given = module, given
        self.source = Source(
            given["name"],
            given["uri"] or "",
            given["suites"],
            (given["fingerprint"] or "").replace(" ", "").upper(),
            given["components"],
            given["architectures"],
            given["ended"],
        )
        self.diff: list[dict[str, str]] = []
        self.removed: list[str] = []

    # ---- the key

    @property
    def where(self) -> str:
        return "the key file of the controller" if self.given["key"] else str(self.given["key_url"])

    def held(self) -> bytes:
        """The pinned key as it lies in place; empty where there is none, or another."""
        path = self.source.key_file
        data = path.read_bytes() if path.is_file() else b""
        return data if data and not openpgp.problem(data, self.source.fingerprint) else b""

    def offered(self) -> bytes:
        """The key from its address, or as it was given. Raises Refused unless it is the pinned one."""
        where, data = self._fetched()
        wrong = openpgp.problem(data, self.source.fingerprint)
        if not wrong:
            return openpgp.armor(openpgp.dearmor(data))
        a_key = "OpenPGP public key" not in wrong
        raise Refused(
            "other-key" if a_key else "no-key",
            f"the signing key of the apt repository {self.source.name} {wrong}",
            where,
            "",
            "nothing was trusted. Compare the pin with what the publisher says in public"
            if a_key
            else "nothing was trusted. See what that address gives; a proxy may answer in its place",
        )

    def _fetched(self) -> tuple[str, bytes]:
        url = self.given["key_url"]
        if self.given["key"]:
            return self.where, self.given["key"].encode()
        for left in reversed(range(max(1, self.given["retries"]))):
            response, info = fetch_url(self.module, url, timeout=self.given["timeout"])
            if response is not None and info["status"] == 200:
                return self.where, response.read()
            if left and not 400 <= info["status"] < 500:
                time.sleep(PAUSE)
        raise Refused(
            "unreachable",
            f"the signing key of the apt repository {self.source.name} cannot be fetched",
            url,
            str(info.get("msg", "no answer")),
            "see that this host reaches it: name resolution, firewall, proxy, certificates; or fetch it "
            "elsewhere and name the file on the controller",
        )

    def ended(self, key: bytes) -> Refused | None:
        """Why a key that is the pinned one is of no use, if it has ended."""
        end = openpgp.ends(openpgp.dearmor(key))
        if end > time.time():
            return None
        return Refused(
            "ended",
            f"the signing key of the apt repository {self.source.name} ended on {day(end)}: apt trusts "
            "nothing that is signed with it",
            f"{self.where}, fingerprint {self.source.fingerprint}",
            "",
            self.given["ended"] or TODO["ended"],
        )

    def key(self, held: bytes) -> bytes:
        """The key to trust: the one in place, or a newer one where that ends soon. Raises Refused."""
        end = openpgp.ends(openpgp.dearmor(held)) if held else 0.0
        if held and end - time.time() > self.given["renew_days"] * DAY:
            return held
        if self.module.check_mode and (held or self.given["required"]):
            return held  # a dry run asks nobody, unless that is what somebody wants to know
        try:
            offered = self.offered()
        except Refused as refused:
            if not held:
                raise
            self._warn(end, str(refused))
            return held
        new = openpgp.ends(openpgp.dearmor(offered))
        if held and new <= end:
            self._warn(end, "its publisher has none yet that is valid for longer")
            return held
        refused = self.ended(offered)
        if refused is not None:
            raise refused
        if new - time.time() <= self.given["renew_days"] * DAY:
            self._warn(new, "its publisher has none yet that is valid for longer")
        return offered

    def _warn(self, end: float, why: str) -> None:
        left = (end - time.time()) / DAY
        when = f"ended on {day(end)}" if left <= 0 else f"ends on {day(end)}, in {left:.0f} days"
        after = "apt reads nothing new from it" if left <= 0 else "after that apt reads nothing new from it"
        self.module.warn(
            f"the signing key of the apt repository {self.source.name} {when}; {after}, and what is "
            f"installed goes on. {why}"
        )

    # ---- the lists

    def try_out(self, key: bytes) -> None:
        """Read the repository's lists with this key, and of no other source. Raises Refused."""
        for left in reversed(range(max(1, self.given["retries"]))):
            output = self._update(key)
            if not output:
                return
            refused = self.source.refusal(output)
            if not left or refused.kind not in PASSING:
                raise refused
            time.sleep(PAUSE)

    def _update(self, key: bytes) -> str:
        """Output of an apt-get update that failed; empty after one that has worked."""
        with readable_folder() as folder:
            path = folder / "key.asc"
            path.write_bytes(key)
            (folder / "one.sources").write_text(self.source.text(path))
            options = {
                "Dir::Etc::SourceList": folder / "one.sources",
                "Dir::Etc::SourceParts": folder / "parts",
                "Dir::Cache::pkgcache": "",
                "Dir::Cache::srcpkgcache": "",
                "APT::Get::List-Cleanup": "false",
                "APT::Update::Error-Mode": "any",
                "Acquire::http::Timeout": self.given["timeout"],
                "Acquire::https::Timeout": self.given["timeout"],
                "Acquire::Retries": 1,
                "Acquire::AllowInsecureRepositories": "false",
                "Acquire::AllowDowngradeToInsecureRepositories": "false",
            }
            words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
            with age_kept(LISTS), age_kept(STAMP):
                code, out, err = self.module.run_command(
                    ["apt-get", "update", "-q", *words], environ_update={"LC_ALL": "C.UTF-8"}
                )
        for path in self.source.lists(LISTS / "partial"):
            path.unlink()  # apt leaves there what it does not believe
        said = f"{out}\n{err}"
        # apt of older releases ends well when it goes on with lists it had
        return (
            said if code or re.search(r"^(?:W: .*(?:Failed to fetch|verification)|Err:)", said, re.M) else ""
        )

    # ---- what an earlier setup left

    def leftovers(self) -> dict[Path, str | bytes | None]:
        """Files to what they are to hold from now on; None where they go."""
        repository = apt_entries.Repository(self.source.uri, frozenset(self.source.suites.split()))
        changes: dict[Path, str | bytes | None] = {}
        texts, keyrings, relies = [], set(), False
        for path in [APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))]:
            if path == self.source.file or path.suffix not in (".list", ".sources") or not path.is_file():
                continue
            text = path.read_text(errors="surrogateescape")
            edit = apt_entries.without_paragraphs if path.suffix == ".sources" else apt_entries.without_lines
            rest = edit(text, repository)
            texts.append(rest.text)
            relies = relies or rest.relies
            keyrings |= set(rest.keyrings)
            if rest.removed:
                goes = rest.empty and path.parent.name == "sources.list.d"
                changes[path] = None if goes else rest.text
                self.removed += [f"{path}: {entry}" for entry in rest.removed]
        for path in map(Path, sorted(keyrings)):
            if any(str(path) in text for text in texts) or path == self.source.key_file:
                continue
            changes |= self._without_key(path)
        for path in [APT / "trusted.gpg", *sorted((APT / "trusted.gpg.d").glob("*"))]:
            # the last entry that names no key would lose what it relies on
            if not relies and path not in changes:
                changes |= self._without_key(path)
        return changes

    def _without_key(self, path: Path) -> dict[Path, str | bytes | None]:
        """A keyring without the pinned key; what is not a keyring, or a package's, stays as it is."""
        if not path.is_file() or owned(path):
            return {}
        data = path.read_bytes()
        try:
            packets = openpgp.dearmor(data)
            if self.source.fingerprint not in openpgp.primary_fingerprints(packets):
                return {}
            rest = openpgp.without(packets, self.source.fingerprint)
        except (openpgp.NotAKey, IndexError):
            return {}
        self.removed.append(f"{path}: key {self.source.fingerprint}")
        armored = data.lstrip().startswith(b"-----")
        return {path: (openpgp.armor(rest) if armored else rest) if rest else None}

    # ---- the two states

    def present(self) -> dict[str, Any]:
        """Raises Refused, and has changed nothing then."""
        source = self.source
        held = self.held()
        key = self.key(held)
        text = source.text(source.key_file)
        there = source.file.read_text(errors="replace") if source.file.is_file() else ""
        changes = self.leftovers()
        as_wanted = key == held and there == text and not changes and source.was_read()
        if not self.module.check_mode and (self.given["refresh"] or not as_wanted):
            key = self._tried(key, fetched=key != held)
        if key and key != held:
            changes[source.key_file] = key
        if there != text:
            changes[source.file] = text
        # the key first and the source last: whatever ends this in between, the next run goes on from
        order = sorted(changes, key=lambda path: (path == source.file, path != source.key_file))
        for path in order:
            self._write(path, changes[path])
        changed = bool(changes) or not as_wanted
        end = openpgp.ends(openpgp.dearmor(key)) if key else float("inf")
        return {"changed": changed, "key_ends": day(end), "removed": self.removed}

    def _tried(self, key: bytes, *, fetched: bool) -> bytes:
        """The key with which the lists could be read: a newer one where the one in place does not do."""
        try:
            self.try_out(key)
        except Refused as refused:
            if fetched or refused.kind not in ("ended", "wrongly-signed"):
                raise
            newer = self.offered()
            if newer == key:
                raise (self.ended(key) or refused) from None
            key = newer
            self.try_out(key)
        return key

    def absent(self) -> dict[str, Any]:
        source = self.source
        text = source.file.read_text(errors="replace") if source.file.is_file() else ""
        written = {found["name"]: found["value"] for found in apt_entries.FIELD.finditer(text)}
        read = Source(source.name, written["URIs"], written["Suites"], "").lists() if text else []
        with age_kept(LISTS):
            for path in (source.file, source.key_file, *read):
                if path.is_file():
                    self._write(path, None)
                    self.removed.append(str(path))
        return {"changed": bool(self.removed), "key_ends": "", "removed": self.removed}

    def _write(self, path: Path, content: str | bytes | None) -> None:
        data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        if path.suffix in (".list", ".sources"):
            before = path.read_text(errors="replace") if path.is_file() else ""
            after = (data or b"").decode(errors="replace")
            self.diff.append({"header": str(path), "before": before, "after": after})
        if self.module.check_mode:
            return
        if data is None:
            path.unlink()
            return
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o7777 if path.is_file() else 0o644
        beside = path.with_name(f".{path.name}.new")
        beside.write_bytes(data)
        beside.chmod(mode)
        beside.replace(path)


def owned(path: Path) -> bool:
    """Whether the file came with a package."""
    line = f"{path}\n".encode()
    return any(line in listing.read_bytes() for listing in DPKG_INFO.glob("*.list"))


@contextmanager
def readable_folder() -> Iterator[Path]:
    """A new folder that apt's own user can read, as it does not what is in root's home."""
    folder = Path(tempfile.mkdtemp(prefix="apt-source-", dir="/tmp"))  # where it is ours alone
    try:
        folder.chmod(0o755)
        (folder / "parts").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def age_kept(path: Path) -> Iterator[None]:
    """Leave a file or folder as old as it was: others tell by it how fresh the lists of all sources are."""
    before = path.stat() if path.exists() else None
    yield
    if before is not None:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif path.is_file():
        path.unlink()


def main() -> None:
    text = {"type": "str"}
    words = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "uri": text,
            "suites": {"type": "str", "default": "/"},
            "components": words,
            "architectures": words,
            "fingerprint": text,
            "key_url": text,
            "key": text | {"no_log": False},
            "timeout": {"type": "int", "default": 20},
            "retries": {"type": "int", "default": 3},
            "renew_days": {"type": "int", "default": 30},
            "refresh": {"type": "bool", "default": False},
            "ended": {"type": "str", "default": ""},
            "required": {"type": "bool", "default": True},
        },
        required_if=[
            ("state", "present", ["uri", "fingerprint"]),
            ("state", "present", ["key_url", "key"], True),
        ],
        supports_check_mode=True,
    )
    keeper = Keeper(module)
    try:
        done = keeper.absent() if module.params["state"] == "absent" else keeper.present()
    except Refused as refused:
        if module.params["required"]:
            module.fail_json(msg=str(refused), problem=str(refused), kind=refused.kind)
        module.exit_json(changed=False, problem=str(refused), kind=refused.kind, key_ends="", removed=[])
    module.exit_json(**done, problem="", kind="", diff=keeper.diff)


if __name__ == "__main__":
    main()
