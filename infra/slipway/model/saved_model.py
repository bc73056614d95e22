"""Reading any SavedModel without TensorFlow: signatures, versions, size, checksum, warm-up requests."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.message import DecodeError
from slipway_client import messages, tfrecord
from slipway_client.dtypes import NAMES, DataType

from slipway.core.errors import ModelError
from slipway.model import saved_functions, serving_ops, versions
from slipway.model.saved_functions import FunctionDescription

SERVE = "serve"
DEFAULT_SIGNATURE = "serving_default"
INIT_SIGNATURE = "__saved_model_init_op"  # written for loaders; no client can ask it
RECORD = Path("assets.extra/slipway.json")
REQUESTS = Path("assets.extra/requests.jsonl")
WARMUP = Path("assets.extra/tf_serving_warmup_requests")


@dataclass(frozen=True)
class TensorDescription:
    """One input or output of a signature; -1 is any size, shape None any rank."""

    key: str
    dtype: str
    shape: tuple[int, ...] | None
    tensor: str


@dataclass(frozen=True)
class SignatureDescription:
    """defaults: the inputs that a request may leave out. obstacle: a sentence on why no model server can be
    asked it, empty if one can."""

    name: str
    method: str
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    defaults: tuple[str, ...] = ()
    obstacle: str = ""

    @property
    def servable(self) -> bool:
        """Whether it is for clients to ask."""
        return self.name != INIT_SIGNATURE and bool(self.outputs)


@dataclass(frozen=True)
class MetaGraphDescription:
    """What one meta graph of a SavedModel holds.

    functions: None if the model was saved by TensorFlow 1 or is damaged; damage says why. Neither
    hinders serving.
    """

    tags: tuple[str, ...]
    signatures: tuple[SignatureDescription, ...]
    ops: tuple[str, ...] = ()
    functions: tuple[FunctionDescription, ...] | None = None
    damage: str = ""


@dataclass(frozen=True)
class ModelDescription:
    """What a SavedModel's files say. accuracy, data and restored_from are known of slipway's own exports.

    versions: those beside it, this one included; empty when its folder is not named by a version.
    size in bytes over all `files`. intact: None without a record of the files' checksum.
    """

    path: Path
    version: int | None
    versions: tuple[int, ...]
    size: int
    files: tuple[str, ...]
    sha256: str
    tensorflow: str
    meta_graphs: tuple[MetaGraphDescription, ...]
    warmup_requests: int
    accuracy: float | None = None
    data: str = ""
    restored_from: str = ""
    intact: bool | None = None

    def signatures(self, *, carried: bool = True) -> tuple[SignatureDescription, ...]:
        """What clients can ask of the graph that servers load. carried: only what servers can answer."""
        return tuple(
            signature
            for graph in self._served
            for signature in graph.signatures
            if signature.servable and not (carried and signature.obstacle)
        )

    @property
    def obstacles(self) -> tuple[str, ...]:
        """A sentence on each signature that clients could ask and no server can answer."""
        return tuple(one.obstacle for one in self.signatures(carried=False) if one.obstacle)

    def ops(self) -> tuple[str, ...]:
        """The ops of the graph that servers load."""
        return tuple(op for graph in self._served for op in graph.ops)

    @property
    def _served(self) -> tuple[MetaGraphDescription, ...]:
        return tuple(graph for graph in self.meta_graphs if SERVE in graph.tags)[:1]


def locate(path: Path) -> Path:
    """The SavedModel directory meant by `path`: itself, or the newest of its version folders.

    Raises ModelError that says what is there instead.
    """
    if is_saved_model(path):
        return path
    if not path.is_dir():
        raise ModelError(f"{path} is not a SavedModel: {_what(path)}", action=_EXPECTED)
    found = versions.folders(path)
    if found:
        newest = found[max(found)]
        if not is_saved_model(newest):
            raise ModelError(f"{newest} is not a SavedModel: it has no saved_model.pb", action=_EXPECTED)
        return newest
    if (path / "saved_model.cpb").is_file():
        raise ModelError(f"{path} holds a SavedModel in chunks (saved_model.cpb)", action=_EXPECTED)
    nested = sorted(child.name for child in path.iterdir() if child.is_dir() and _has_models(child))
    also = f"; models in it: {', '.join(nested)} (name one of them)" if nested else ""
    raise ModelError(f"{path} has no saved_model.pb and no version folders{also}", action=_EXPECTED)


_EXPECTED = "give a directory with saved_model.pb, or its parent with folders 1, 2, ... as servers watch it"
_FILES = ("saved_model.pb", "saved_model.pbtxt")  # TensorFlow takes the first of these that is there


def is_saved_model(directory: Path) -> bool:
    """Whether TensorFlow's loaders would take this directory for a SavedModel."""
    return any((directory / name).is_file() for name in _FILES)


def _has_models(folder: Path) -> bool:
    try:
        return any(map(is_saved_model, versions.folders(folder).values()))
    except OSError:  # not ours to look into
        return False


def inspect(path: Path) -> ModelDescription:
    """Describe the SavedModel at `path` (or the newest of its versions) from its files alone.

    TensorFlow is not loaded and nothing is written. Raises ModelError if there is no SavedModel or
    saved_model.pb cannot be parsed.
    """
    directory = locate(path)
    message = parse(directory)
    record = read_record(directory) or {}
    files = tuple(sorted(name for name, _ in _files(directory)))
    version = int(directory.name) if directory.name.isascii() and directory.name.isdigit() else None
    recorded = record.get("files_sha256")
    return ModelDescription(
        path=directory,
        version=version,
        versions=versions.numbers(directory.parent) if version is not None else (),
        size=sum((directory / name).stat().st_size for name in files),
        files=files,
        sha256=sha256(directory),
        tensorflow=next((graph.meta_info_def.tensorflow_version for graph in message.meta_graphs), ""),
        meta_graphs=tuple(sorted(map(_meta_graph, message.meta_graphs), key=lambda graph: graph.tags)),
        warmup_requests=tfrecord.count(directory / WARMUP) if (directory / WARMUP).is_file() else 0,
        accuracy=record.get("accuracy"),
        data=str(record.get("data", "")),
        restored_from=str(record.get("restored_from") or ""),
        intact=None if recorded is None else recorded == sha256(directory, without=RECORD),
    )


def parse(directory: Path) -> Any:
    """saved_model.pb (or .pbtxt) as a SavedModel message, with the fields slipway_client.messages knows.

    Raises ModelError when the file is damaged or holds something else.
    """
    file = next((path for name in _FILES if (path := directory / name).is_file()), directory / _FILES[0])
    message = messages.SavedModel()
    try:
        if file.stat().st_size > _LARGEST:
            raise ModelError(f"{file} has {file.stat().st_size} bytes, more than the 2 GiB of any SavedModel")
        if file.suffix == ".pbtxt":
            text_format.Parse(file.read_bytes(), message, allow_unknown_field=True)
        else:
            message.ParseFromString(file.read_bytes())
    except (OSError, UnicodeDecodeError, DecodeError, text_format.ParseError) as error:
        raise ModelError(f"cannot read {file}: {error}", action="export the model again") from error
    if not message.meta_graphs:
        raise ModelError(f"{file} holds no graph: empty, truncated, or not a SavedModel at all")
    return message


_LARGEST = (1 << 31) - 1  # protobuf's limit on one message


def require_servable(description: ModelDescription) -> None:
    """Raise ModelError unless a model server can answer for it: tag serve, a signature, its variables."""
    tags = [tag for graph in description.meta_graphs for tag in graph.tags]
    if SERVE not in tags:
        raise ModelError(
            f"{description.path} has no graph with the tag `serve`, it has: {', '.join(tags) or 'no tag'}",
            action="export it for serving (tf.saved_model.save does)",
        )
    if not description.signatures():
        raise ModelError(
            f"{description.path} has no signature a server could answer",
            tail="\n".join(description.obstacles),
            action="export it with dense tensors, which the graph itself makes sparse or ragged"
            if description.obstacles
            else "export it with signatures=..., see tf.saved_model.save",
        )
    index = "variables/variables.index"
    data = [name for name in description.files if name.startswith("variables/variables.data-")]
    if (index in description.files) != bool(data):
        missing = "variables/variables.data-*" if index in description.files else index
        raise ModelError(
            f"{description.path} is incomplete: {missing} is missing", action="copy it again, whole"
        )


def sha256(directory: Path, without: Path | None = None) -> str:
    """One checksum over all files: names (relative, with `/`), sizes and contents, in name order."""
    digest = hashlib.sha256()
    for name, path in sorted(_files(directory)):
        if without is not None and name == without.as_posix():
            continue
        encoded = name.encode()
        digest.update(struct.pack(">QQ", len(encoded), path.stat().st_size) + encoded)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def read_record(directory: Path) -> dict[str, Any] | None:
    """slipway.json of an export, or None when it is absent or not what slipway writes."""
    try:
        record = json.loads((directory / RECORD).read_text())
    except (OSError, ValueError):
        return None
    known = isinstance(record, dict) and isinstance(record.get("accuracy"), float)
    return record if known else None


def as_text(description: ModelDescription) -> str:
    """The description as users of saved_model_cli know it, below a few lines of our own."""
    size = f"{description.size / 1e6:.1f} MB" if description.size >= 100_000 else f"{description.size} B"
    lines = [
        f"{description.path}: {size} in {len(description.files)} files, TensorFlow {description.tensorflow}"
    ]
    if description.version is not None:
        others = ", ".join(map(str, description.versions))
        lines.append(f"version {description.version} (present: {others})")
    if description.accuracy is not None:
        lines.append(f"accuracy {description.accuracy:.3f} on held-out images ({description.data})")
    if description.restored_from:
        lines.append(f"weights restored from {description.restored_from}")
    lines.append(f"warm-up requests: {description.warmup_requests}")
    if description.intact is False:
        lines.append("WARNING: its files are not those that were exported (checksum differs)")
    lines += _warnings(description)
    lines.append(f"sha256 {description.sha256}")
    for graph in description.meta_graphs:
        tags = ", ".join(graph.tags)
        lines += ["", f"MetaGraphDef with tag-set: '{tags}' contains the following SignatureDefs:"]
        for signature in graph.signatures:
            lines += ["", f"signature_def['{signature.name}']:"]
            for side, word, tensors in (
                ("inputs", "input", signature.inputs),
                ("outputs", "output", signature.outputs),
            ):
                lines.append(f"  The given SavedModel SignatureDef contains the following {word}(s):")
                for tensor in tensors:
                    shape = "unknown_rank" if tensor.shape is None else _tuple(tensor.shape)
                    lines += [
                        f"    {side}['{tensor.key}'] tensor_info:",
                        f"        dtype: {tensor.dtype}",
                        f"        shape: {shape}",
                        f"        name: {tensor.tensor}",
                    ]
            lines.append(f"  Method name is: {signature.method}")
        ops = ", ".join(f"'{op}'" for op in graph.ops)
        lines.append(f"The MetaGraph with tag set {list(graph.tags)} contains the following ops: {{{ops}}}")
        if graph.damage:
            lines += ["", f"Concrete Functions: N/A (the object graph is damaged: {graph.damage})"]
        if graph.functions is not None:
            lines += saved_functions.as_lines(graph.functions)
    return "\n".join(lines)


def _warnings(description: ModelDescription) -> list[str]:
    """What keeps servers from answering it, and what clients may leave out."""
    lines = [f"WARNING: {obstacle}" for obstacle in description.obstacles]
    lines += [
        f"signature {signature.name}: input {key} has a default and may be left out"
        for signature in description.signatures()
        for key in signature.defaults
    ]
    if google := serving_ops.of_googles_server(description.ops()):
        lines.append(
            f"WARNING: TensorFlow itself does not have the ops {', '.join(google)}: only Google's server can "
            "serve it (image.server: tensorflow)"
        )
    return lines


def _tuple(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield path.relative_to(directory).as_posix(), path


def _meta_graph(graph: Any) -> MetaGraphDescription:
    functions: tuple[FunctionDescription, ...] | None = None
    damage = ""
    try:
        functions = saved_functions.functions(graph)
    except ValueError as error:
        damage = str(error)
    return MetaGraphDescription(
        tuple(graph.meta_info_def.tags),
        tuple(
            SignatureDescription(
                name,
                signature.method_name,
                _tensors(signature.inputs),
                _tensors(signature.outputs),
                tuple(sorted(signature.defaults)),
                _obstacle(name, signature),
            )
            for name, signature in sorted(graph.signature_def.items())
        ),
        saved_functions.ops(graph),
        functions,
        damage,
    )


def _tensors(tensors: Any) -> tuple[TensorDescription, ...]:
    out = []
    for key, info in sorted(tensors.items()):
        shape = None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
        out.append(TensorDescription(key, NAMES.get(info.dtype, str(info.dtype)), shape, info.name))
    return tuple(out)


_COMPOSITES = {1: "sparse", 3: "ragged"}  # of TypeSpecProto.TypeSpecClass those that models have
_HANDLES = {DataType.DT_RESOURCE: "resource", DataType.DT_VARIANT: "variant"}


def _obstacle(name: str, signature: Any) -> str:
    """What a signature takes or gives that the protocol of model servers has no form for."""
    found = [
        f"{verb} a {kind} tensor ({side} {key})"
        for verb, side, tensors in (
            ("takes", "input", signature.inputs),
            ("gives", "output", signature.outputs),
        )
        for key, info in sorted(tensors.items())
        if (kind := _not_dense(info))
    ]
    both = " and ".join(found)
    return f"signature {name} {both}, which no TensorFlow Serving carries" if both else ""


def _not_dense(info: Any) -> str:
    encoding = info.WhichOneof("encoding")
    if encoding == "coo_sparse":
        return "sparse"
    if encoding == "composite_tensor":
        return _COMPOSITES.get(info.composite_tensor.type_spec.type_spec_class, "composite")
    return _HANDLES.get(info.dtype, "")


def _what(path: Path) -> str:
    return "it is a file" if path.is_file() else "it does not exist"
