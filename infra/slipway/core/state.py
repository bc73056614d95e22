"""The state folder: where everything one lab knows about itself is kept."""

from __future__ import annotations

import glob
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar, get_args

from slipway.core import ownership
from slipway.core.errors import EnvironmentFault
from slipway.core.types import MADE_BY, SHARED, Cluster, Hosts, dump, load

T = TypeVar("T")

KEPT_RUNS = 20

# What slipway keeps in its cache, a folder each: kubectl's is written by kubectl itself.
Cached = Literal["artifacts", "image", "images", "kubectl", "roots"]
CACHED: tuple[str, ...] = (*get_args(Cached), "bench", "tests")  # the last two are the test suite's


@dataclass(frozen=True)
class State:
    """`.slipway/` beside slipway.yaml. Files with secrets are 0600, the folder 0700.

    model: of several the one whose values, image and deployment are meant; empty where there is one.
    """

    root: Path
    model: str = ""

    def of(self, model: str) -> State:
        """The same folder, as one of several models has it; empty for what no model of several has."""
        return replace(self, model=model)

    @property
    def kept_models(self) -> tuple[str, ...]:
        """The models, of several, that something is kept of; also those that the settings do not name now."""
        folder = self.by_model
        return tuple(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else ()

    @property
    def by_model(self) -> Path:
        """A folder for each of several models: its own values, image and deployment."""
        return self.root / "by-model"

    @property
    def own(self) -> Path:
        """Where the values, image and deployment of this model lie."""
        return self.by_model / self.model if self.model else self.root

    @property
    def inventory(self) -> Path:
        return self.root / "inventory.yml"

    @property
    def machines(self) -> Path:
        """Of machines in a cloud their keys, Pulumi's project and its state; stays as long as they do."""
        return self.root / "machines"

    @property
    def hosts(self) -> Path:
        return self.root / "hosts"

    @property
    def ssh(self) -> Path:
        return self.root / "ssh"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def registry(self) -> Path:
        """password and pull-password (0600) and ca.crt of the lab's own registry."""
        return self.root / "registry"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def image(self) -> Path:
        """The serving image's build context, and in layout/ its manifest and what is signed about it."""
        return self.own / "image"

    @property
    def values(self) -> Path:
        """The last value of each stage but the hosts', a file each; of several models that model's own."""
        return self.own / "values"

    @property
    def serving(self) -> Path:
        """What stage serve runs model_server.yml with: its inventory, and wheels by Python and processor."""
        return self.root / "serving"

    @property
    def signing(self) -> Path:
        """The lab's own key that signs images, key.pem (0600), and cosign.pub, which checks them."""
        return self.root / "signing"

    @property
    def pulumi(self) -> Path:
        return self.root / "pulumi"

    @property
    def deployed(self) -> Path:
        """What was deployed last: its namespace, and whether by engine or render."""
        return self.own / "deployed.json"

    @property
    def bin(self) -> Path:
        """kubectl (and pulumi, where slipway has one) as `slipway env` puts them on PATH."""
        return self.root / "bin"

    @property
    def known_hosts(self) -> Path:
        """The pinned keys of this lab's hosts, as ssh reads them."""
        return self.ssh / "known_hosts"

    @property
    def accepted_keys(self) -> Path:
        """The keys of the user's own machines that somebody accepted when they were first seen."""
        return self.ssh / "accepted_keys"

    @property
    def runs(self) -> Path:
        """One folder per run with its log, evidence and report; `latest` leads to the last one reported."""
        return self.root / "runs"

    @property
    def logs(self) -> Path:
        """Log and evidence of the verbs that write no report, a folder each, from their last use."""
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def require_own(self) -> None:
        """Raise EnvironmentFault if somebody else can write the folder, or what slipway reads of it.

        Two levels down, where slipway's own files are: further down hosts' files have users of their own.
        """
        ownership.require_own_tree("the state folder", self.root, depth=2)
        if self.kept_models:
            ownership.require_own_tree("the state folder", self.by_model, depth=3)

    # -- the last value of each stage, for `--from STAGE` and the verbs that run one stage ---------------

    def keep(self, value: object) -> bool:
        """Remember a stage's value (0600). Returns whether it differs from the one before."""
        return write_atomically(self._value(type(value)), dump(value) + b"\n", 0o600)

    def kept(self, kind: type[T]) -> T | None:
        """The last value of this type; None if there is none, or one that another version wrote."""
        try:
            return load(kind, self._value(kind).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None  # unreadable: its stage makes it anew

    def own_cluster(self) -> Cluster | None:
        """The last cluster if it was provisioned here; one that was brought along is somebody else's."""
        cluster = self.kept(Cluster)
        if cluster is None or cluster.kubeconfig.resolve() != self.kubeconfig.resolve():
            return None
        return cluster

    def forget(self, kind: type) -> list[str]:
        """Drop the last value of this type. Returns a line if there was one."""
        path = self._value(kind)
        if not path.is_file():
            return []
        path.unlink()
        return [f"file {path}"]

    def _value(self, kind: type) -> Path:
        """Where the last value of a type lies; the hosts' backends keep theirs beside their machines."""
        if kind is Hosts:
            return self.hosts / "hosts.json"
        return (self.of("") if kind in SHARED else self).values / f"{MADE_BY[kind]}.json"

    @property
    def made(self) -> tuple[Path, ...]:
        """All that the stages put here. What else lies in the folder is somebody's own."""
        files = (self.inventory, self.kubeconfig, self.deployed)
        folders = (self.hosts, self.values, self.ssh, self.registry, self.models, self.serving, self.image)
        return (*files, *folders, self.signing, self.pulumi, self.bin, self.by_model)

    def clear(self) -> list[str]:
        """Remove what the stages made; reports, logs and the lock stay. Returns a line for each thing."""
        return [line for path in self.made for line in remove(path)]

    def clear_model(self) -> list[str]:
        """Remove what is kept of this model alone. Returns a line for each thing."""
        if not self.model:
            values = [self._value(kind) for kind in MADE_BY if kind not in SHARED]
            return [line for path in (*values, self.image, self.deployed) for line in remove(path)]
        removed = remove(self.own)
        with suppress(OSError):  # another model's is there
            self.own.parent.rmdir()
        return removed

    def clear_reports(self) -> list[str]:
        """Remove reports and logs, and the folder with its lock when nothing else is in it.

        Returns a line for each thing. The caller holds the lock.
        """
        removed = [*remove(self.runs), *remove(self.logs)]
        if [path.name for path in self.root.iterdir()] == [self.lock.name]:
            self.lock.unlink()
            with suppress(OSError):  # another run began meanwhile
                self.root.rmdir()
                removed.append(f"folder {self.root}")
        return removed

    # -- the folders of runs: only whoever holds the lock makes or closes one ------------------------------

    def new_run(self) -> Path:
        """A new folder for one run, named after the time."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        names = itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2)))
        run = next(run for name in names if not (run := self.runs / name).exists())
        run.mkdir(mode=0o700, parents=True)
        return run

    def close_run(self, run: Path) -> None:
        """Its report is written: let `latest` lead to it, and keep the newest KEPT_RUNS runs."""
        fresh = self.runs / ".latest"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(run.name)
        fresh.replace(self.runs / "latest")
        folders = sorted(path for path in self.runs.iterdir() if path.is_dir() and not path.is_symlink())
        for old in folders[:-KEPT_RUNS]:
            shutil.rmtree(old)

    @property
    def last_run(self) -> Path | None:
        """The folder of the last run that has a report, None if there is none."""
        latest = self.runs / "latest"
        return latest.resolve() if (latest / "run.json").is_file() else None

    def log_of(self, verb: str) -> Path:
        """The folder for log and evidence of a verb that writes no report."""
        return self.logs / verb.replace(" ", "-")

    def new_log(self, verb: str) -> Path:
        """That folder, emptied: of each verb the last use is kept. Whoever writes into it makes it."""
        folder = self.log_of(verb)
        if folder.is_dir():
            shutil.rmtree(folder)
        return folder


def cache_home() -> Path:
    """slipway's cache: XDG_CACHE_HOME or ~/.cache, then `slipway/`. SLIPWAY_CACHE overrides it."""
    override = os.environ.get("SLIPWAY_CACHE")
    if override:
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway"


def cache_folder(cache: Path, name: Cached) -> Path:
    """A folder of the cache, made when missing.

    Raises EnvironmentFault when it cannot be made, or somebody else can write it. It is judged once it is
    there: in a folder such as /tmp somebody else may have been first.
    """
    folder = cache / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"cannot make the cache folder {folder}: {error.strerror}",
            action="set SLIPWAY_CACHE to a folder you can write to",
        ) from error
    ownership.require_own("the cache", folder)
    return folder


def remove(path: Path) -> list[str]:
    """Remove a file, or a folder with all in it; of a link the link alone.

    A file that a killed run had half written beside it goes too. Returns a line if there was something.
    """
    for half in path.parent.glob(f".{glob.escape(path.name)}.*"):
        half.unlink()
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return [f"folder {path}"]
    if path.is_symlink() or path.exists():
        path.unlink()
        return [f"file {path}"]
    return []


def write_atomically(path: Path, text: str | bytes, mode: int = 0o644) -> bool:
    """Write beside and rename into place. Returns whether the content differs from before."""
    data = text.encode() if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_bytes() == data:
        path.chmod(mode)
        return False
    with _beside(path, data, mode) as fresh:
        fresh.replace(path)
    return True


def create_once(path: Path, text: str, mode: int) -> bool:
    """Write a file that does not exist yet, whole or not at all. Returns whether it was made here.

    Of several processes that do so at once one wins, and the others find its file.
    """
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path, text.encode(), mode) as fresh:
        try:
            path.hardlink_to(fresh)
        except FileExistsError:
            return False
    return True


@contextmanager
def _beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A whole file next to `path`, on the disk for good; what the block leaves of it is removed."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(handle, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def link_atomically(link: Path, target: Path) -> None:
    """Make `link` lead to a file or folder that exists.

    An older link is replaced in one step, so that a shell that has its folder on PATH always finds the
    program. A target that is this very link, or leads to the same file, changes nothing.

    Raises EnvironmentFault for a target that does not exist: it may be this very link, which then would
    lead to itself. And where a file or folder stands in the way, which stays as it is: only a person can
    have put it there. Overwritten it would be lost; kept it would be run unseen in place of the target,
    whatever version it is.
    """
    if not target.exists():
        raise EnvironmentFault(
            f"{target} does not exist, or leads to something that does not",
            action="`slipway up` gets it again and goes on from there",
        )
    if link.exists() and link.samefile(target):
        return
    if link.exists() and not link.is_symlink():
        raise EnvironmentFault(
            f"{link} is in the way: slipway keeps a link to {target} there, and did not put this one there",
            action="move it to another folder",
        )
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}")
    fresh.unlink(missing_ok=True)  # a run that was killed left it
    fresh.symlink_to(target.absolute())
    fresh.replace(link)
