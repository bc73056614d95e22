"""Models by address: fetched once, kept in the cache by what they are, used only if they are the pinned ones.

An entry of the cache holds one SavedModel as it was at one address when it was looked at (`saved_model/`, and
in `fetched.json` address, version and sha256). A pinned model that the cache has is used without any network,
whatever address it came from.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from slipway.artifacts import cache
from slipway.clients import model_signatures
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, EnvironmentFault, ModelError
from slipway.core.events import Note
from slipway.core.schema import ModelSettings
from slipway.model import addresses, saved_model

_ENTRY = "model"
_RECORD = "fetched.json"
_MODEL = "saved_model"


@dataclass(frozen=True)
class _Record:
    address: str
    version: int
    sha256: str


@dataclass(frozen=True)
class Fetched:
    """A SavedModel from an address. path: its folder in the cache. new: it was not there before."""

    path: Path
    version: int
    sha256: str
    new: bool = False


def fetched(ctx: Context, address: str, pinned: str | None = None) -> Fetched:
    """The SavedModel at an address, from the cache where it is there already.

    pinned: the sha256 over all its files that it must have. Raises ArtifactError when it cannot be had or is
    another one, ModelError when it is no SavedModel; what came of it stays for the next try.
    """
    if pinned is not None and (found := _by_content(ctx, address, pinned)) is not None:
        return found
    source = addresses.source(address)
    key = cache.key_of(address, *source.identity())
    new = cache.find(ctx, _ENTRY, key) is None
    parts = cache.home(ctx) / "downloads" / f"{_ENTRY}-{key}"

    def make(folder: Path) -> None:
        parts.mkdir(parents=True, exist_ok=True)
        try:
            brought, version = source.bring(parts, ctx.emit)
        except ModelError:  # what came is whole, and of no use
            shutil.rmtree(parts)
            raise
        for path in brought.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        brought.rename(folder / _MODEL)
        record = _Record(
            address,
            version or addresses.named_version(address) or 1,
            saved_model.sha256(folder / _MODEL),
        )
        (folder / _RECORD).write_text(json.dumps(asdict(record)) + "\n")
        shutil.rmtree(parts)

    folder = cache.entry(ctx, _ENTRY, key, make)
    record = _record(folder)
    if record is None:
        raise EnvironmentFault(
            f"{folder / _RECORD} cannot be read", action=f"remove {folder}, and repeat this"
        )
    if pinned is not None:
        _require_pinned(record.sha256, pinned, address)
    return Fetched(folder / _MODEL, record.version, record.sha256, new)


def planned(ctx: Context, address: str, pinned: str | None = None) -> list[str]:
    """What `fetched` would do, in a line; nothing where it is there already."""
    if pinned is not None and _by_content(ctx, address, pinned) is not None:
        return []
    key = cache.key_of(address, *addresses.source(address).identity())
    return [] if cache.find(ctx, _ENTRY, key) is not None else [f"fetch the model at {address}"]


def require_right(ctx: Context, model: ModelSettings, folder: Path) -> None:
    """Raise ArtifactError for a SavedModel that is not the pinned one, or not signed as the settings say."""
    if model.sha256 is not None:
        _require_pinned(saved_model.sha256(folder), model.sha256, str(model.path))
    if model.signature is None or model.signing_key is None:
        return
    own = folder / Path(model.signature).name
    if isinstance(model.signature, Path):
        model_signatures.require(folder, model.signature.resolve(), model.signing_key)
    elif own.is_file():  # it came with the model
        model_signatures.require(folder, own, model.signing_key)
    else:
        with tempfile.TemporaryDirectory(dir=cache.home(ctx)) as scratch:
            signature = addresses.file(model.signature, Path(scratch))
            model_signatures.require(folder, signature, model.signing_key)
    ctx.emit(Note(f"its signature holds: {model.signature}, of the key {model.signing_key}"))


def _require_pinned(sha256: str, pinned: str, where: str) -> None:
    if sha256 != pinned:
        raise ArtifactError(
            f"is not the model that is pinned: its sha256 is {sha256}, model.sha256 says {pinned}",
            where=where,
            action="it is not used; if this one is right, set model.sha256 to it",
        )


def advice(ctx: Context, found: Fetched, address: str) -> str:
    """How to have only this model from now on."""
    key = f"models.{ctx.state.model}.model.sha256" if ctx.state.model else "model.sha256"
    return f"{address} has sha256 {found.sha256}; {key} with it takes no other from now on"


def _by_content(ctx: Context, address: str, sha256: str) -> Fetched | None:
    """A model of this content in the cache, whole; from this address, if there are several."""
    found = [
        (record, path.parent)
        for path in cache.home(ctx).glob(f"{_ENTRY}-*/{_RECORD}")
        if (record := _record(path.parent)) is not None and record.sha256 == sha256
    ]
    for record, folder in sorted(found, key=lambda one: one[0].address != address):
        if cache.find(ctx, _ENTRY, folder.name.removeprefix(f"{_ENTRY}-")) is not None:
            version = addresses.named_version(address) or record.version
            return Fetched(folder / _MODEL, version, sha256)
    return None


def _record(folder: Path) -> _Record | None:
    try:
        return _Record(**json.loads((folder / _RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None
