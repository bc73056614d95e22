"""TensorFlow's C API through ctypes: load a SavedModel, run it. No Python of TensorFlow is imported.

libtensorflow_cc.so.2 of the tensorflow-cpu wheel exports the whole C API. Going through it instead
of tensorflow.python costs 0.3 s and 310 MB to the first answer instead of 1.1 s and 395 MB with the
lightest Python path, and it is the C++ loader and Session::Run that TensorFlow Serving itself uses,
so answers and error texts are theirs.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from slipway_client.errors import EnvironmentFault

from slipway_server import log
from slipway_server.codes import Code, StatusError

_LIBRARY = "libtensorflow_cc.so.2"
_WHEEL = "the wheel of TensorFlow (tensorflow-cpu on x86-64, tensorflow on arm64)"
TSTRING_BYTES = 24  # sizeof(TF_TString), a layout TensorFlow keeps stable for its plugins


class Output(Structure):
    """TF_Output: one output of one operation of a graph."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


class _Buffer(Structure):
    """TF_Buffer."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


# name -> (result, arguments, keeps the GIL). Calls of well under a microsecond keep it: giving it
# away and asking for it back costs more than the call, and another thread may take it in between.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...], bool]] = {
    "TF_Version": (c_char_p, (), True),
    "TF_NewStatus": (c_void_p, (), True),
    "TF_DeleteStatus": (None, (c_void_p,), True),
    "TF_GetCode": (c_int, (c_void_p,), True),
    "TF_Message": (c_char_p, (c_void_p,), True),
    "TF_NewBuffer": (POINTER(_Buffer), (), True),
    "TF_DeleteBuffer": (None, (POINTER(_Buffer),), True),
    "TF_NewSessionOptions": (c_void_p, (), True),
    "TF_DeleteSessionOptions": (None, (c_void_p,), True),
    "TF_SetConfig": (None, (c_void_p, c_char_p, c_size_t, c_void_p), True),
    "TF_NewGraph": (c_void_p, (), True),
    "TF_DeleteGraph": (None, (c_void_p,), True),
    "TF_GraphOperationByName": (c_void_p, (c_void_p, c_char_p), True),
    "TF_OperationNumOutputs": (c_int, (c_void_p,), True),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        (
            c_void_p,
            POINTER(_Buffer),
            c_char_p,
            POINTER(c_char_p),
            c_int,
            c_void_p,
            POINTER(_Buffer),
            c_void_p,
        ),
        False,
    ),
    "TF_CloseSession": (None, (c_void_p, c_void_p), False),
    "TF_DeleteSession": (None, (c_void_p, c_void_p), False),
    "TF_SessionRun": (
        None,
        (
            c_void_p,
            POINTER(_Buffer),
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            POINTER(Output),
            POINTER(c_void_p),
            c_int,
            c_void_p,
            c_int,
            POINTER(_Buffer),
            c_void_p,
        ),
        False,
    ),
    "TF_AllocateTensor": (c_void_p, (c_int, POINTER(c_int64), c_int, c_size_t), True),
    "TF_DeleteTensor": (None, (c_void_p,), True),
    "TF_TensorType": (c_int, (c_void_p,), True),
    "TF_NumDims": (c_int, (c_void_p,), True),
    "TF_Dim": (c_int64, (c_void_p, c_int), True),
    "TF_TensorByteSize": (c_size_t, (c_void_p,), True),
    "TF_TensorData": (c_void_p, (c_void_p,), True),
    "TF_TensorFromProto": (None, (POINTER(_Buffer), c_void_p, c_void_p), False),
    "TF_StringGetDataPointer": (c_void_p, (c_void_p,), True),
    "TF_StringGetSize": (c_size_t, (c_void_p,), True),
}

Outputs = ctypes.Array[Output]  # what TF_SessionRun takes of several


def outputs(of: Sequence[Output]) -> Outputs:
    """Several tensors of a graph as TF_SessionRun takes them."""
    return (Output * len(of))(*of)


# ConfigProto with intra_op_parallelism_threads 1 and inter_op_parallelism_threads -1: a request is
# computed whole in the thread that runs it. No hand-over between pools inside a request (tens of
# microseconds each for a small model); requests run beside each other instead.
_CONFIG = b"\x10\x01\x28" + b"\xff" * 9 + b"\x01"


class Runtime:
    """The loaded library. Make one per process with `load`."""

    def __init__(self, path: Path) -> None:
        # Failures of a request come back in its status. On stderr they would break the rule of one JSON
        # object a line, and clients could fill the log. Only fatal failures are still written.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # While the library loads, TensorFlow logs what its build can do, whatever the level is.
        with _stderr_as_events():
            free = ctypes.CDLL(str(path))
            held = ctypes.PyDLL(str(path))
        for name, (result, arguments, holds_gil) in _FUNCTIONS.items():
            function = getattr(held if holds_gil else free, name)
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:  # the TF_ functions, for the type checker
        raise AttributeError(name)

    @property
    def version(self) -> str:
        return str(self.TF_Version().decode())

    @contextmanager
    def status(self) -> Iterator[int]:
        """A TF_Status for one call; raises StatusError at the end when the call set a failure."""
        handle = self.TF_NewStatus()
        try:
            yield handle
            self.check(handle)
        finally:
            self.TF_DeleteStatus(handle)

    def check(self, status: int) -> None:
        """Raise StatusError if a call left a failure in its TF_Status."""
        code = self.TF_GetCode(status)
        if code:
            raise StatusError(_code(code), self.TF_Message(status).decode("utf-8", "replace"))


def load() -> Runtime:
    """Load TensorFlow's library from the installed wheel.

    Raises EnvironmentFault when the wheel is missing or its library cannot be loaded here.
    """
    path = _library()
    try:
        return Runtime(path)
    except OSError as error:
        raise EnvironmentFault(
            "TensorFlow's library cannot be loaded",
            where=str(path),
            tail=str(error),
            action=f"install {_WHEEL} for this platform",
        ) from error


def _library() -> Path:
    """The library in the folder `tensorflow` of this Python's packages; nothing in there is imported."""
    spec = find_spec("tensorflow")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, _LIBRARY)
        if path.exists():
            return path
    raise EnvironmentFault(f"TensorFlow's library ({_LIBRARY}) is not installed", action=f"install {_WHEEL}")


class Session:
    """A SavedModel's graph and session. `close` frees both; no run may be under way then."""

    def __init__(self, runtime: Runtime, handle: int, graph: int) -> None:
        self._runtime = runtime
        self._handle = handle
        self._graph = graph

    def output(self, name: str) -> Output | None:
        """The graph's tensor `operation:index`; None if the graph does not have it."""
        operation, _, index = name.partition(":")
        handle = self._runtime.TF_GraphOperationByName(self._graph, operation.encode())
        if not handle or not (index or "0").isdecimal():
            return None
        number = int(index or 0)
        if number >= self._runtime.TF_OperationNumOutputs(handle):
            return None
        return Output(handle, number)

    def run(self, feeds: Outputs, tensors: Sequence[Tensor], fetches: Outputs) -> list[Tensor]:
        """Compute `fetches` from a tensor for each of `feeds`.

        Raises StatusError with the session's own code and text.
        """
        runtime = self._runtime
        given, wanted = len(tensors), len(fetches)
        results = (c_void_p * wanted)()
        # As `status` does, without the cost of a generator: this is done for every request.
        status = runtime.TF_NewStatus()
        try:
            runtime.TF_SessionRun(
                self._handle,
                None,
                feeds,
                (c_void_p * given)(*[tensor.handle for tensor in tensors]),
                given,
                fetches,
                results,
                wanted,
                None,
                0,
                None,
                status,
            )
            runtime.check(status)
        finally:
            runtime.TF_DeleteStatus(status)
        return [Tensor(runtime, handle or 0) for handle in results]

    def close(self) -> None:
        """Free the session and its variables. A second call does nothing."""
        handle, self._handle = self._handle, 0
        if not handle:
            return
        for function in (self._runtime.TF_CloseSession, self._runtime.TF_DeleteSession):
            with self._runtime.status() as status:
                function(handle, status)
        self._runtime.TF_DeleteGraph(self._graph)


class Tensor:
    """Owner of a TF_Tensor; freed with the object."""

    __slots__ = ("_runtime", "handle")

    def __init__(self, runtime: Runtime, handle: int) -> None:
        self._runtime = runtime
        self.handle = handle

    def __del__(self) -> None:
        if self.handle:
            self._runtime.TF_DeleteTensor(self.handle)

    @property
    def dtype(self) -> int:
        return int(self._runtime.TF_TensorType(self.handle))

    @property
    def shape(self) -> tuple[int, ...]:
        dim = self._runtime.TF_Dim
        return tuple(dim(self.handle, axis) for axis in range(self._runtime.TF_NumDims(self.handle)))

    @property
    def size(self) -> int:
        """Bytes of the elements; of strings, those of their records."""
        return int(self._runtime.TF_TensorByteSize(self.handle))

    @property
    def data(self) -> int:
        """Where the elements lie."""
        return self._runtime.TF_TensorData(self.handle) or 0

    def content(self) -> bytes:
        """The elements as they lie in memory; not for strings."""
        size = self._runtime.TF_TensorByteSize(self.handle)
        return ctypes.string_at(self._runtime.TF_TensorData(self.handle), size) if size else b""

    def strings(self, start: int = 0, end: int | None = None) -> list[bytes]:
        """The elements of a string tensor from `start` to before `end`."""
        runtime = self._runtime
        base = runtime.TF_TensorData(self.handle)
        stop = base + (self.size if end is None else end * TSTRING_BYTES)
        length, data = runtime.TF_StringGetSize, runtime.TF_StringGetDataPointer
        places = range(base + start * TSTRING_BYTES, stop, TSTRING_BYTES)
        return [ctypes.string_at(data(at), length(at)) for at in places]


def tensor_from_content(runtime: Runtime, dtype: int, shape: Sequence[int], content: bytes) -> Tensor:
    """A tensor of numbers. `content` must hold exactly the elements of `shape`; the caller checks."""
    tensor = new_tensor(runtime, dtype, shape, len(content))
    ctypes.memmove(tensor.data, content, len(content))
    return tensor


def new_tensor(runtime: Runtime, dtype: int, shape: Sequence[int], size: int) -> Tensor:
    """A tensor of numbers, `size` bytes of them, for the caller to fill."""
    rank = len(shape)
    handle = runtime.TF_AllocateTensor(dtype, (c_int64 * rank)(*shape), rank, size)
    if not handle:
        raise StatusError(Code.RESOURCE_EXHAUSTED, f"no memory for a tensor of {size} bytes")
    return Tensor(runtime, handle)


def tensor_from_proto(runtime: Runtime, serialized: bytes) -> Tensor:
    """A tensor from a serialized TensorProto, by TensorFlow's own rules.

    Raises StatusError when shape, dtype and content do not agree.
    """
    tensor = Tensor(runtime, runtime.TF_AllocateTensor(1, None, 0, 4))  # a scalar, replaced whole
    data = ctypes.cast(c_char_p(serialized), c_void_p)  # the bytes themselves, no copy
    buffer = _Buffer(data, len(serialized), None)
    with runtime.status() as status:
        runtime.TF_TensorFromProto(ctypes.byref(buffer), tensor.handle, status)
    return tensor


def load_saved_model(runtime: Runtime, path: Path, tags: Sequence[str] = ("serve",)) -> tuple[Session, bytes]:
    """Load a SavedModel folder: the session and its serialized MetaGraphDef. tags: all those of the graph.

    Raises StatusError with the loader's own code and text; leaves nothing loaded then.
    """
    options = runtime.TF_NewSessionOptions()
    graph = runtime.TF_NewGraph()
    meta_graph = runtime.TF_NewBuffer()
    try:
        with runtime.status() as status:
            runtime.TF_SetConfig(options, _CONFIG, len(_CONFIG), status)
        names = (c_char_p * len(tags))(*[tag.encode() for tag in tags])
        with runtime.status() as status:
            handle = runtime.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(path), names, len(tags), graph, meta_graph, status
            )
        content = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
    except StatusError:
        runtime.TF_DeleteGraph(graph)
        raise
    finally:
        runtime.TF_DeleteBuffer(meta_graph)
        runtime.TF_DeleteSessionOptions(options)
    return Session(runtime, handle, graph), content


def _code(number: int) -> Code:
    try:
        return Code(number)
    except ValueError:
        return Code.UNKNOWN


@contextmanager
def _stderr_as_events() -> Iterator[None]:
    """Turn what native code writes to stderr during the block into log events after it."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.memfd_create("stderr"), "w+b", buffering=0) as caught:  # noqa: PTH123  # no path
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught.read().decode("utf-8", "replace").splitlines():
                log.event("tensorflow", text=line)
