"""MNIST's four IDX files from an address: downloaded once, used only when their sha256 is right."""

from __future__ import annotations

import re
from pathlib import Path

from slipway.artifacts import cache, download
from slipway.artifacts.pins import Row
from slipway.core.context import Context
from slipway.core.errors import ArtifactError, UsageError
from slipway.core.user_files import text_of
from slipway.model.mnist import data, idx
from slipway.model.mnist.data import Dataset

# The files as Yann LeCun published them. Sizes and hashes: tensorflow/datasets,
# tensorflow_datasets/url_checksums/mnist.txt at 31f1255e57e519a6c004f0b097a2f5cfcf0dde7d.
PUBLISHED = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
# By content, so that a user's own sums that name the same files have the sizes too. A server that tells no
# length could send more than the disk holds before a hash is looked at.
_BYTES = {
    PUBLISHED["train-images-idx3-ubyte.gz"]: 9_912_422,
    PUBLISHED["train-labels-idx1-ubyte.gz"]: 28_881,
    PUBLISHED["t10k-images-idx3-ubyte.gz"]: 1_648_877,
    PUBLISHED["t10k-labels-idx1-ubyte.gz"]: 4_542,
}
_ENTRY = "mnist"
_SUM = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(\S.*)")
_FORM = "give what `sha256sum *` prints for the four files, one `SHA256  NAME` a line"


def fetched(ctx: Context, address: str, sums: Path | None) -> Dataset:
    """The images at `address`, from the cache when these files are there whole.

    sums: a file as sha256sum writes it, with the names of the four files at `address`; without it they
    must be MNIST as it was published. Raises ArtifactError naming the address of the file that cannot
    be had or is not the expected one (nothing of it stays), UsageError when the sums file cannot be parsed.
    """
    expected = PUBLISHED if sums is None else read_sums(sums)

    def make(folder: Path) -> None:
        for name, sha256 in expected.items():
            url = f"{address.rstrip('/')}/{name}"
            row = Row("MNIST", name, "any", url, sha256, _BYTES.get(sha256, 0))
            try:
                download.fetch(ctx, row, folder / name)
            except ArtifactError as error:
                error.action = (
                    "check model.data, the network and this machine's proxy, or set model.data to a directory"
                    " with the files; other files than MNIST's own need their sums in model.data_sha256"
                )
                raise

    return data.idx_directory(cache.entry(ctx, _ENTRY, _key(expected), make), f"MNIST of {address}")


def kept(ctx: Context, address: str, sums: Path | None) -> Dataset | None:
    """What `fetched` would give, if that needs no network."""
    folder = cache.find(ctx, _ENTRY, _key(PUBLISHED if sums is None else read_sums(sums)))
    return None if folder is None else data.idx_directory(folder, f"MNIST of {address}")


def read_sums(path: Path) -> dict[str, str]:
    """File name -> sha256 of the four files. Raises UsageError naming the file, the line or what it lacks."""
    found: dict[str, str] = {}
    lines = text_of(path, action=_FORM).splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SUM.fullmatch(line.strip())
        if match is None:
            raise UsageError(
                f"not a sha256 and a file name: {line.strip()[:80]!r}",
                where=f"{path}:{number}",
                action=_FORM,
            )
        found[match[2].rpartition("/")[2]] = match[1].lower()
    out: dict[str, str] = {}
    for part in ("train", "t10k"):
        for kind in ("images", "labels"):
            names = idx.names(part, kind)
            name = next((name for name in reversed(names) if name in found), None)  # gzipped before plain
            if name is None:
                raise UsageError(
                    f"no line for the {part} {kind}: none of {', '.join(names)}", where=str(path)
                )
            out[name] = found[name]
    return out


def _key(expected: dict[str, str]) -> str:
    """Of the content alone: another address with the same files finds them in the cache."""
    return cache.key_of(*(part for pair in sorted(expected.items()) for part in pair))
