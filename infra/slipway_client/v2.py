"""The Open Inference Protocol (v2) of KServe, Triton, MLServer and OpenVINO Model Server: what both its
transports share.

A model has no signatures there, and Classify and Regress do not exist. Versions are words; those that are
numbers are told as numbers.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence

import ml_dtypes
import numpy as np

from slipway_client.errors import NotReachable, UsageError
from slipway_client.interface import (
    UNNAMED,
    Answer,
    Api,
    Examples,
    Metadata,
    Reply,
    Request,
    Signature,
    Steps,
    TensorSpec,
    VersionStatus,
)
from slipway_client.json_values import Array
from slipway_client.requests import FixedRequest

# A datatype's name -> numpy's.
DATATYPES: Mapping[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
BYTES = "BYTES"
_NAMES = {dtype.name: name for name, dtype in DATATYPES.items()}
_LENGTH = 4  # bytes before each element of raw BYTES, little-endian
_LARGEST = 1 << 31
# How servers refuse the metadata of a model that they do not serve now.
_NOT_NOW = ("UNAVAILABLE", "INVALID_ARGUMENT", "FAILED_PRECONDITION")


class V2(Api):
    """raw: write tensors as bytes, else as values."""

    def __init__(self, server: str, *, raw: bool) -> None:
        super().__init__(server)
        self._raw = raw

    @abstractmethod
    def alive(self) -> Request:
        """Ask whether the server lives."""

    @abstractmethod
    def _readiness(self, model: str) -> Request:
        """Ask whether the model is ready, or the server if its name is empty."""

    @abstractmethod
    def _is_ready(self, body: bytes) -> bool: ...

    @abstractmethod
    def _description(self, model: str, version: int | None) -> Request:
        """Ask for a model's metadata."""

    @abstractmethod
    def _described(self, body: bytes) -> Described: ...

    @abstractmethod
    def _written(
        self, model: str, inputs: Mapping[str, Array], version: int | None, outputs: Sequence[str]
    ) -> Request: ...

    @abstractmethod
    def _read(self, body: bytes, reply: Reply) -> Answer:
        """An answer. This and the other readers raise ValueError and its like for what is none."""

    def status(self, model: str) -> Steps[tuple[VersionStatus, ...]]:
        ready = yield from self._ready(model)
        # A model that the server does not have is called unready by some and refused by others in words of
        # their own; its metadata is not found with all of them.
        reply = yield self._description(model, None)
        # Triton says NOT_FOUND of a model that loads, too, but in other words than of one it does not have.
        loading = reply.status in _NOT_NOW or "no available versions" in reply.said
        if ready or not loading:
            body = self.accepted(reply, model)
        if ready:
            with self.reading("metadata"):
                numbers: Sequence[int | None] = _numbers(self._described(body)) or (None,)
            return tuple(VersionStatus(number, "AVAILABLE") for number in numbers)
        server = yield from self._ready("")
        why = "the server is ready, the model is not" if server else "the server is not ready"
        return (VersionStatus(None, "LOADING", f"({why}) {reply.said}".strip()),)

    def metadata(self, model: str, version: int | None) -> Steps[Metadata]:
        body = self.accepted((yield self._description(model, version)), model)
        with self.reading("metadata"):
            described = self._described(body)
        only = Signature(UNNAMED, "predict", described.inputs, described.outputs)
        newest = max(_numbers(described), default=None) if version is None else version
        return Metadata(described.name or model, newest, {UNNAMED: only})

    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, Array],
        version: int | None,
        output_filter: Sequence[str],
    ) -> Steps[Answer]:
        return (yield from self._answered(self._written(model, inputs, version, output_filter), model))

    def classify(self, model: str, signature: str, examples: Examples, version: int | None) -> Steps[Answer]:
        yield from ()
        raise _no("Classify")

    def regress(self, model: str, signature: str, examples: Examples, version: int | None) -> Steps[Answer]:
        yield from ()
        raise _no("Regress")

    def prepare(self, model: str, request: FixedRequest) -> Steps[Callable[[], Steps[Answer]]]:
        yield from ()
        if request.method != "predict":
            raise _no(request.method.capitalize())
        sent = self._written(model, request.inputs, None, ())
        return lambda: self._answered(sent, model)

    def _ready(self, model: str) -> Steps[bool]:
        reply = yield self._readiness(model)
        with self.reading("a readiness"):
            return reply.status == "OK" and self._is_ready(reply.body)

    def _answered(self, request: Request, model: str) -> Steps[Answer]:
        reply = yield request
        body = self.accepted(reply, model)
        with self.reading("an inference"):
            return self._read(body, reply)


class Described:
    """What a model says of itself. versions: as the server writes them."""

    def __init__(
        self,
        name: str,
        versions: Sequence[str],
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
    ) -> None:
        self.name, self.versions, self.inputs, self.outputs = name, versions, inputs, outputs


def number_of(version: str) -> int | None:
    """A version's number, or None where it is no number."""
    return int(version) if version.isdecimal() and len(version) < 19 else None


def _numbers(described: Described) -> list[int]:
    return [number for number in map(number_of, described.versions) if number is not None]


def spec(datatype: str, shape: Sequence[int]) -> TensorSpec:
    """What metadata says of one tensor; an unknown datatype keeps its own name."""
    known = DATATYPES.get(datatype)
    name = "string" if datatype == BYTES else datatype if known is None else known.name
    return TensorSpec(name, tuple(None if size < 0 else int(size) for size in shape))


def datatype_of(array: Array) -> str:
    """The protocol's name of an array's dtype. Raises UsageError if it has none."""
    if array.dtype.kind in "OSU":
        return BYTES
    name = _NAMES.get(array.dtype.name)
    if name is None:
        raise UsageError(
            f"the Open Inference Protocol has no counterpart of numpy's {array.dtype.name}; "
            f"expected one of {', '.join(sorted(_NAMES))}"
        )
    return name


def to_raw(array: Array, datatype: str) -> bytes:
    """An array's elements as bytes, row by row; those of BYTES with the length before each."""
    if datatype != BYTES:
        return np.ascontiguousarray(array, DATATYPES[datatype]).tobytes()
    out = bytearray()
    for item in texts(array):
        out += len(item).to_bytes(_LENGTH, "little") + item
    return bytes(out)


def from_raw(raw: bytes, datatype: str, shape: Sequence[int]) -> Array:
    """The array of these bytes. Raises ValueError when they do not fill the shape, or too well."""
    count = _count(shape)
    if datatype == BYTES:
        items: list[bytes] = []
        at = 0
        while at < len(raw):
            length = int.from_bytes(raw[at : at + _LENGTH], "little")
            at += _LENGTH
            if at + length > len(raw):
                raise ValueError(f"element {len(items)} ends after its tensor")
            items.append(raw[at : at + length])
            at += length
        return from_values(items, datatype, shape)
    dtype = _dtype(datatype)
    if len(raw) != count * dtype.itemsize:
        raise ValueError(
            f"{len(raw)} bytes for shape {list(shape)} of {datatype}, expected {count * dtype.itemsize}"
        )
    return np.frombuffer(raw, dtype).reshape(shape)


def from_values(values: Sequence[object], datatype: str, shape: Sequence[int]) -> Array:
    """The array of these elements, in order. Raises ValueError when they are not as many as the shape has."""
    count = _count(shape)
    if len(values) != count:
        raise ValueError(f"{len(values)} values for shape {list(shape)}")
    if datatype == BYTES:
        out = np.empty(count, dtype=object)
        out[:] = [item.encode() if isinstance(item, str) else item for item in values]
        if not all(isinstance(item, bytes) for item in out):
            raise ValueError("an element of BYTES is not text")
        return out.reshape(shape)
    dtype = _dtype(datatype)
    # numpy would make numbers of texts, NaN of nothing, and whole numbers of others.
    kinds = {"b": (bool,), "i": (int,), "u": (int,)}.get(dtype.kind, (int, float))
    if not all(type(item) in kinds for item in values):
        raise ValueError(f"an element is not of {datatype}")
    exact = dtype if dtype.kind in "biu" else np.dtype(np.float64)
    return np.array(values, exact).astype(dtype).reshape(shape)


def texts(array: Array) -> list[bytes]:
    """The elements of an array of texts, as bytes."""
    return [item.encode() if isinstance(item, str) else bytes(item) for item in array.ravel().tolist()]


def _count(shape: Sequence[int]) -> int:
    count = math.prod(shape)
    if any(size < 0 for size in shape) or count > _LARGEST:
        raise ValueError(f"a tensor of shape {list(shape)} is not an answer")
    return count


def _dtype(datatype: str) -> np.dtype:
    known = DATATYPES.get(datatype)
    if known is None:
        raise ValueError(f"no datatype of the protocol: {datatype}")
    return known


def _no(method: str) -> NotReachable | UsageError:
    return UsageError(
        f"the Open Inference Protocol has no {method}",
        action="ask by predict, or leave these requests out of the file",
    )
