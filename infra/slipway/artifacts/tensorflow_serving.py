"""Google's tensorflow_model_server, from its apt repository: apt checks the package against a pinned key."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from slipway.artifacts import cache, machine
from slipway.clients import openpgp
from slipway.core import process
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, CommandError, EnvironmentFault
from slipway.core.events import Detail, Note, progress
from slipway.core.project import COLLECTION
from slipway.core.schema import Settings

VERSION = (
    "2.21.0"  # of the TensorFlow that exports the model; the repository drops old ones, then raise it here
)
PACKAGE = "tensorflow-model-server"
# where hosts take it from too, and the key it is signed with
_ROLE = COLLECTION / "roles/model_server/defaults/main.yml"
_KEY = "tensorflow-serving.release.pub.gpg"
_HELPER = Path("/usr/lib/apt/apt-helper")
_WARNED = timedelta(days=30)  # as the role does (apt_source_renew_days)
_OTHERWISE = "image.server: portable answers the same API and needs no repository"


@dataclass(frozen=True)
class Repository:
    """An apt repository and the fingerprint that its signing key must have."""

    address: str
    fingerprint: str

    @property
    def key(self) -> str:
        """Names what is got from it."""
        return cache.key_of(VERSION, self.address, self.fingerprint)


def repository(ctx: Context, settings: Settings) -> Repository:
    """The repository of these settings: a mirror of one's own, or the one that role model_server takes."""
    image, role = settings.image, yaml.safe_load((ctx.project / _ROLE).read_text())
    return Repository(
        image.tensorflow_repository or role["model_server_repository"],
        (image.tensorflow_key_fingerprint or role["model_server_key_fingerprint"]).upper(),
    )


def tensorflow_server_key(ctx: Context, settings: Settings) -> str:
    """Names the package that `tensorflow_server` has or would get."""
    return repository(ctx, settings).key


def tensorflow_server(ctx: Context, settings: Settings) -> Path:
    """A folder with the package's files, as they lie in a root. What is cached is asked of nobody.

    Raises ArtifactError where the repository, its key or the package cannot be used, EnvironmentFault on a
    machine without apt.
    """
    wanted = repository(ctx, settings)

    def make(folder: Path) -> None:
        if machine.architecture() != "amd64":
            raise ArtifactError(
                f"TensorFlow Serving's packages are for amd64, and this machine is {machine.architecture()}",
                action=_OTHERWISE,
            )
        if shutil.which("apt-get") is None or not _HELPER.is_file():
            raise EnvironmentFault(
                "TensorFlow Serving comes from an apt repository, and this machine has no apt",
                action=f"run slipway on Debian or Ubuntu; {_OTHERWISE}",
            )
        with progress(ctx.emit, f"{PACKAGE} {VERSION} from {wanted.address}"):
            _fetch(ctx, wanted, folder)

    return cache.entry(ctx, f"{PACKAGE}-{VERSION}", wanted.key, make) / "root"


def _fetch(ctx: Context, wanted: Repository, folder: Path) -> None:
    """Have apt verify and fetch the package, and unpack it into folder/root."""
    work = folder / "work"
    apt = _Apt(ctx, wanted, work)
    for part in ("lists/partial", "cache/archives/partial", "sources", "package"):
        (work / part).mkdir(parents=True)
    key = work / "key.gpg"
    apt.run([_HELPER, "download-file", f"{wanted.address.rstrip('/')}/{_KEY}", key], "its key cannot be had")
    _check(ctx, wanted, key)
    (work / "sources" / "tensorflow-serving.sources").write_text(
        f"Types: deb\nURIs: {wanted.address}\nSuites: stable\nComponents: {PACKAGE}\nArchitectures: amd64\n"
        f"Signed-By: {key}\n"
    )
    apt.run(["apt-get", "update"], "it cannot be used")
    apt.run(
        ["apt-get", "download", f"{PACKAGE}={VERSION}"], f"it has no {PACKAGE} {VERSION}", work / "package"
    )
    (package,) = (work / "package").glob("*.deb")
    process.run(["dpkg-deb", "--extract", package, folder / "root"], timeout=300)
    shutil.rmtree(work)


def _check(ctx: Context, wanted: Repository, key: Path) -> None:
    """Raise ArtifactError for any key but the pinned one, and for that one after its end."""
    found = openpgp.read(ctx.project, key.read_bytes(), wanted.fingerprint)
    if found.problem:
        raise _refused(wanted, "its signing key is not to be trusted", found.problem)
    key.write_bytes(found.packets)  # apt tells an armored key by the name of its file
    now = datetime.now(UTC)
    if found.ends <= now:
        raise _refused(
            wanted,
            f"its signing key ended on {found.ends:%Y-%m-%d}",
            "Google makes this key valid for longer, late nearly every year (tensorflow/serving issue 4150)",
        )
    if found.ends - now <= _WARNED:
        ctx.emit(Note(f"the signing key of {wanted.address} ends on {found.ends:%Y-%m-%d}"))


def _refused(wanted: Repository, why: str, tail: str) -> ArtifactError:
    return ArtifactError(
        f"TensorFlow Serving cannot be had from its repository: {why}",
        where=wanted.address,
        tail=tail,
        action=f"image.tensorflow_repository names a mirror; {_OTHERWISE}",
    )


@dataclass(frozen=True)
class _Apt:
    """apt with this machine's ways to the network, and sources, lists and cache of its own below `work`."""

    ctx: Context
    wanted: Repository
    work: Path

    def run(self, argv: Sequence[str | Path], why: str, cwd: Path | None = None) -> None:
        """Run one of apt's programs; raises ArtifactError with its last lines and `why` it was needed."""
        options = {
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self.work / "sources",
            "Dir::State::lists": self.work / "lists",
            "Dir::Cache": self.work / "cache",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "",  # nobody else can write into this folder
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": 1,
            "Acquire::http::Timeout": 20,
            "Acquire::https::Timeout": 20,
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        program, *rest = argv
        try:
            process.run(
                [program, "-q", *words, *rest],
                cwd=cwd,
                env={"LC_ALL": "C"},
                timeout=900,
                on_line=lambda line: self.ctx.emit(Detail(line)),
            )
        except CommandError as error:
            said = [line for line in error.output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
            raise _refused(self.wanted, why, "\n".join(dict.fromkeys(said)) or error.output) from error
