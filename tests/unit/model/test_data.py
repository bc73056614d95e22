"""Images: the packaged ones, IDX files in every spelling, and every way an IDX file can be wrong."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from slipway.core.errors import UsageError
from slipway.model.mnist import data, idx

RANDOM = np.random.default_rng(7)
PIXELS = {
    part: RANDOM.integers(0, 256, (count, 28, 28), np.uint8) for part, count in (("train", 30), ("t10k", 10))
}
LABELS = {part: RANDOM.integers(0, 10, len(pixels)).astype(np.uint8) for part, pixels in PIXELS.items()}


def images_file(pixels: np.ndarray) -> bytes:
    return struct.pack(">4I", 2051, *pixels.shape) + pixels.tobytes()


def labels_file(labels: np.ndarray) -> bytes:
    return struct.pack(">2I", 2049, len(labels)) + labels.tobytes()


def write_idx(folder: Path, dot: str = "-", gz: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "t10k"):
        for kind, axes, raw in (
            ("images", 3, images_file(PIXELS[part])),
            ("labels", 1, labels_file(LABELS[part])),
        ):
            name = f"{part}-{kind}{dot}idx{axes}-ubyte"
            (folder / (f"{name}.gz" if gz else name)).write_bytes(gzip.compress(raw) if gz else raw)
    return folder


def test_packaged_images_are_split_by_digit_in_the_order_of_the_file() -> None:
    loaded = data.load(None)
    assert (len(loaded.train), len(loaded.held_out)) == (4000, 1000)
    assert np.bincount(loaded.train.labels).tolist() == [400] * 10
    assert np.bincount(loaded.held_out.labels).tolist() == [100] * 10
    assert loaded.held_out.labels[:20].tolist() == [*range(10), *range(10)]
    assert loaded.train.images.dtype == np.float32
    assert (loaded.train.images.min(), loaded.train.images.max()) == (0.0, 1.0)


def test_no_held_out_image_is_trained_on() -> None:
    loaded = data.load(None)
    seen = {image.tobytes() for image in loaded.train.images}
    assert not [row for row, image in enumerate(loaded.held_out.images) if image.tobytes() in seen]


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("gz", [False, True])
def test_idx_files_are_the_same_images_in_every_spelling(tmp_path: Path, dot: str, gz: bool) -> None:
    loaded = data.load(write_idx(tmp_path / "spelled", dot, gz))
    assert loaded.sha256 == data.load(write_idx(tmp_path / "plain")).sha256
    assert (loaded.train.images * 255).round().astype(np.uint8).reshape(-1, 28, 28).tolist() == PIXELS[
        "train"
    ].tolist()
    assert loaded.held_out.labels.tolist() == LABELS["t10k"].tolist()


def test_the_checksum_tells_data_apart(tmp_path: Path) -> None:
    before = data.load(write_idx(tmp_path)).sha256
    changed = LABELS["train"].copy()
    changed[0] = (changed[0] + 1) % 10
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels_file(changed))
    assert data.load(tmp_path).sha256 != before


TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BAD: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "truncated": (TRAIN_IMAGES, lambda raw: raw[:-1], "truncated: 23,535 bytes, its header announces 23,536"),
    "too long": (TRAIN_LABELS, lambda raw: raw + b"\0", "too long"),
    "empty": (TRAIN_LABELS, lambda _raw: b"", "not an IDX file: 0 bytes"),
    "header cut": (TRAIN_IMAGES, lambda raw: raw[:10], "truncated: 10 bytes, its header alone takes 16"),
    "foreign": (
        TRAIN_IMAGES,
        lambda raw: b"\x89PNG" + raw[4:],
        "its magic number is 2303741511, expected 2051",
    ),
    "huge claim": (TRAIN_IMAGES, lambda _raw: struct.pack(">4I", 2051, *[2**32 - 1] * 3), "header announces"),
    "nothing, hugely": (
        TRAIN_IMAGES,
        lambda _raw: struct.pack(">4I", 2051, 0, *[2**32 - 1] * 2),
        "announces the shape 0x4294967295x4294967295",
    ),
    "labels for images": (
        TRAIN_IMAGES,
        lambda _raw: labels_file(LABELS["train"]),
        "holds labels, expected images",
    ),
    "images for labels": (TRAIN_LABELS, lambda _raw: images_file(PIXELS["train"]), "expected labels"),
    "other size": (
        TRAIN_IMAGES,
        lambda _raw: images_file(PIXELS["train"][:, :14]),
        "holds 30x14x28 values, expected images of 28x28",
    ),
    "counts": (TRAIN_LABELS, lambda _raw: labels_file(LABELS["train"][:-3]), "30 images but"),
    "no images": (TRAIN_IMAGES, lambda _raw: images_file(PIXELS["train"][:0]), "0 images but"),
    "label 17": (TRAIN_LABELS, lambda raw: raw[:-1] + bytes([17]), "has a label 17, expected digits 0 to 9"),
    "damaged gzip": (TRAIN_IMAGES, lambda raw: gzip.compress(raw)[:-40], "cannot read"),
    "no gzip": (TRAIN_IMAGES, lambda raw: b"\x1f\x8b" + raw, "cannot read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_idx_file_is_refused_by_name(tmp_path: Path, case: str) -> None:
    name, spoil, says = BAD[case]
    file = write_idx(tmp_path) / name
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(UsageError) as refused:
        data.load(tmp_path)
    assert says in refused.value.what
    assert name in refused.value.what
    assert refused.value.action


@pytest.mark.parametrize(
    "name", [TRAIN_IMAGES, TRAIN_LABELS, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
)
def test_a_missing_idx_file_is_named_with_all_that_is_expected(tmp_path: Path, name: str) -> None:
    (write_idx(tmp_path) / name).unlink()
    with pytest.raises(UsageError) as refused:
        data.load(tmp_path)
    assert name in refused.value.what
    assert str(tmp_path) in refused.value.what
    assert "four IDX files" in refused.value.action


def test_a_gzip_of_more_than_any_set_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idx, "LARGEST", 1000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    tracemalloc.start()
    with pytest.raises(UsageError, match="it holds more than 1,000 bytes"):
        idx.read(tmp_path / "x.gz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
