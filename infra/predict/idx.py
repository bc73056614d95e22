"""MNIST's test files in IDX form, gzipped or not, as the chapter's client takes them."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from infra.core.errors import UsageError
from infra.predict.client import Client, Metadata, Signature, wait_available
from infra.predict.errors import WrongSignature
from infra.predict.requests import Array, FixedRequest

IMAGES = ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte")
LABELS = ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte")
_ACTION = "give the folder with MNIST's four IDX files, or use --requests"


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
    images = _read(_find(folder, IMAGES), 3)[:count]
    labels = _read(_find(folder, LABELS), 1)[:count]
    if len(images) != len(labels):
        raise UsageError(f"{len(images)} images and {len(labels)} labels", where=str(folder), action=_ACTION)
    if not len(images):
        raise UsageError("no images in the test files", where=str(folder), action=_ACTION)
    flat = images.reshape(len(images), -1).astype(np.float32)
    return flat * np.float32(1 / 255), labels


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


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise UsageError(f"no file {names[0]}, with or without .gz", where=str(folder), action=_ACTION)


def _read(path: Path, axes: int) -> Array:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read it: {error}", where=str(path), action=_ACTION) from error
    if len(data) < 4 + 4 * axes or data[:4] != bytes((0, 0, 8, axes)):
        raise UsageError(
            f"not an IDX file of unsigned bytes with {axes} axes", where=str(path), action=_ACTION
        )
    shape = [int(size) for size in np.frombuffer(data, ">u4", axes, 4)]
    body = data[4 + 4 * axes :]
    count = int(np.prod(shape, dtype=object))
    if len(body) != count:
        raise UsageError(
            f"cut short or too long: {len(body)} bytes for {' x '.join(map(str, shape))}",
            where=str(path),
            action=_ACTION,
        )
    return np.frombuffer(body, np.uint8).reshape(shape)
