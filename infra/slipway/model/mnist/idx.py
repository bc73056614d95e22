"""MNIST's test files in IDX form, gzipped or not, as the chapter's client takes them."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from slipway_client.client import Client, Metadata, Signature, wait_available
from slipway_client.errors import WrongSignature
from slipway_client.requests import Array, FixedRequest

from slipway.core.errors import UsageError

_IMAGES_MAGIC = 2051
_LABELS_MAGIC = 2049
LARGEST = 1 << 30  # bytes of a whole file; the largest set in this form has 814,255 images, 640 MB
EXPECTED = (
    "expected MNIST's four IDX files, plain or .gz: train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"
)


def images_as_requests(
    client: Client, model: str, folder: Path, count: int, *, ready_timeout: float, signature: str = ""
) -> tuple[FixedRequest, ...]:
    """The first `count` test images as requests under the server's own signature and keys.

    Raises UsageError for the files, and what keeps the server from telling its signatures.
    """
    images, labels = read_tests(folder, count)
    wait_available(client, model, timeout=ready_timeout)
    metadata = client.metadata(model)
    return as_requests(images, labels, image_signature(metadata, client.server, signature))


def read_tests(folder: Path, count: int) -> tuple[Array, Array]:
    """The first `count` test images as float32 [n, 784] in 0..1, and their labels.

    Raises UsageError that names the file that is missing, cut short or something else.
    """
    images, labels = (part[:count] for part in read_pair(folder, "t10k"))
    flat: Array = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return flat, labels


def image_signature(metadata: Metadata, server: str, wanted: str = "") -> Signature:
    """The signature that takes images: the wanted one, else predict_images, else the only fitting one.

    It fits when it is for predict and has one input of floating-point numbers. Raises WrongSignature.
    """
    if wanted:
        signature = metadata.signature(wanted, server)
        if not _fits(signature):
            raise WrongSignature(
                f"signature {wanted!r} does not take images: it needs one input of floats", where=server
            )
        return signature
    fitting = [one for _, one in sorted(metadata.signatures.items()) if _fits(one)]
    for one in fitting:
        if one.name == "predict_images":
            return one
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(one.name for one in fitting) or "none"
    raise WrongSignature(
        f"model {metadata.model}: signatures that could take images: {names}",
        where=server,
        tail=f"all signatures: {', '.join(sorted(metadata.signatures)) or 'none'}",
        action="name one with --signature",
    )


def as_requests(images: Array, labels: Array, signature: Signature) -> tuple[FixedRequest, ...]:
    """One Predict request per image, under the signature's own input key and shape."""
    ((key, spec),) = signature.inputs.items()
    shape = [1, images.shape[1]]
    if spec.shape is not None and len(spec.shape) > 1 and None not in spec.shape[1:]:
        shape = [1, *(size or 0 for size in spec.shape[1:])]
    if int(np.prod(shape)) != images.shape[1]:
        raise WrongSignature(
            f"signature {signature.name!r} takes {list(shape[1:])} values per example,"
            f" an image has {images.shape[1]}"
        )
    return tuple(
        FixedRequest(
            "predict",
            signature.name,
            {key: image.reshape(shape).astype(spec.dtype)},
            labels=(int(label),),
        )
        for image, label in zip(images, labels, strict=True)
    )


def _fits(signature: Signature) -> bool:
    kinds = [spec.dtype.startswith("float") for spec in signature.inputs.values()]
    return signature.method == "predict" and kinds == [True]


def names(part: str, kind: str) -> tuple[str, ...]:
    """What the file of a part (train, t10k) and kind (images, labels) may be called, plain ones first."""
    axes = {"images": 3, "labels": 1}[kind]
    return tuple(f"{part}-{kind}{dot}idx{axes}-ubyte{gz}" for dot in "-." for gz in ("", ".gz"))


def find(folder: Path, part: str, kind: str) -> Path:
    """The file of a part and kind. Raises UsageError that names the folder and every name tried."""
    tried = names(part, kind)
    for name in tried:
        if (folder / name).is_file():
            return folder / name
    raise UsageError(f"{folder} has no {part} {kind}: none of {', '.join(tried)}", action=EXPECTED)


def read_pair(folder: Path, part: str) -> tuple[Array, Array]:
    """The images [n, rows, columns] and labels [n] of a part, as bytes; at least one.

    Raises UsageError for a missing, damaged or foreign file and for counts that disagree.
    """
    image_file, label_file = find(folder, part, "images"), find(folder, part, "labels")
    images, labels = read(image_file), read(label_file)
    if images.ndim != 3:
        raise UsageError(f"{image_file} holds labels, expected images", action=EXPECTED)
    if labels.ndim != 1:
        raise UsageError(f"{label_file} holds images, expected labels", action=EXPECTED)
    if len(images) != len(labels) or len(labels) == 0:
        raise UsageError(
            f"{image_file.name} has {len(images):,} images but {label_file.name} has {len(labels):,} labels",
            where=str(folder),
            action="use the images and labels of one set; neither may be empty",
        )
    return images, labels


def read(path: Path) -> Array:
    """One IDX file of unsigned bytes, gzipped (by content, not by name) or not, in its own shape.

    Raises UsageError naming the file: damaged gzip, wrong magic, fewer or more bytes than it announces.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            # no more than the largest file there is: a gzip of zeros would fill the memory
            raw = (gzip.GzipFile(fileobj=file) if packed else file).read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read {path}: {error}", action=EXPECTED) from error
    if len(raw) > LARGEST:
        raise UsageError(f"{path} is no MNIST: it holds more than {LARGEST:,} bytes", action=EXPECTED)
    if len(raw) < 4:
        raise UsageError(f"{path} is not an IDX file: {len(raw)} bytes", action=EXPECTED)
    (magic,) = struct.unpack(">I", raw[:4])
    if magic not in {_IMAGES_MAGIC, _LABELS_MAGIC}:
        raise UsageError(
            f"{path} is not an MNIST IDX file: its magic number is {magic}, expected {_IMAGES_MAGIC} "
            f"(images) or {_LABELS_MAGIC} (labels)",
            action=EXPECTED,
        )
    axes = magic & 0xFF
    head = 4 + 4 * axes
    if len(raw) < head:
        raise UsageError(
            f"{path} is truncated: {len(raw)} bytes, its header alone takes {head}", action=EXPECTED
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
    try:
        return np.frombuffer(raw, dtype=np.uint8, offset=head).reshape(shape)
    except ValueError as error:  # no bytes at all, in rows longer than numpy counts
        raise UsageError(
            f"{path} is not an MNIST IDX file: its header announces the shape {'x'.join(map(str, shape))}",
            action=EXPECTED,
        ) from error
