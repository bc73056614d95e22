"""One loaded version of a model: its signatures, and Predict, Classify and Regress on them.

Checks, their order and their texts follow TensorFlow Serving's servables/tensorflow/
(predict_util.cc, classifier.cc, regressor.cc, util.cc), so that a client sees the same answers.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from slipway_client import messages
from slipway_client.dtypes import DataType

from slipway_server import runtime as rt
from slipway_server import session_tensors
from slipway_server.codes import Code, StatusError, invalid, not_found
from slipway_server.examples import Examples
from slipway_server.json_requests import DEFAULT_SIGNATURE
from slipway_server.metrics import Metrics
from slipway_server.session_tensors import Hold
from slipway_server.steps import Run, Steps, finish, free
from slipway_server.version_folder import check_whole

T = TypeVar("T")
_CLASS_BYTES = 128  # of a class or a value in an answer: its message, its text


@dataclass(frozen=True)
class Signature:
    """A signature and its tensors in the graph, each None if the graph does not have it.

    feeds, fetches: all of them, for the runtime; None when the graph lacks one.
    """

    name: str
    definition: Any  # SignatureDef
    inputs: Mapping[str, rt.Output | None]
    outputs: Mapping[str, rt.Output | None]
    feeds: rt.Outputs | None
    fetches: rt.Outputs | None
    model_spec: bytes  # PredictResponse.model_spec, serialized with its tag


class Servable:
    """A version of a model, ready to answer. Every method may be called from any thread."""

    def __init__(
        self,
        runtime: rt.Runtime,
        name: str,
        version: int,
        path: Path,
        metrics: Metrics,
    ) -> None:
        """Load the SavedModel in `path`. metrics: where each session run is counted.

        Raises StatusError with the loader's code and text; leaves nothing loaded then.
        """
        self.name = name
        self.version = version
        self.path = path
        self.warmed = 0  # requests answered before serving
        self.metrics = metrics
        self._runtime = runtime
        self._session, meta_graph = rt.load_saved_model(runtime, path)
        try:
            graph = messages.MetaGraphDef.FromString(meta_graph)
            check_whole(path, graph)
            self._signatures = {
                key: self._signature(key, value) for key, value in graph.signature_def.items()
            }
        except BaseException:
            self._session.close()
            raise

    def close(self) -> None:
        """Free the session; nothing may run in it any more."""
        self._session.close()

    def signature_map(self) -> Any:
        """All signatures, as GetModelMetadata tells them."""
        out = messages.SignatureDefMap()
        for key, signature in self._signatures.items():
            out.signature_def[key].CopyFrom(signature.definition)
        return out

    def complete(self, steps: Steps[T]) -> T:
        """Do all the steps, with a run of their own."""
        return finish(steps, self.run(next(steps)))

    def run(self, run: Run) -> list[rt.Tensor]:
        """Raises StatusError with the session's own code and text."""
        started = time.perf_counter()
        results = self._session.run(run.feeds, run.tensors, run.fetches)
        self.metrics.runtime_latency.observe((time.perf_counter() - started) * 1e6, self.name, run.api, "TF1")
        return results

    def predict(self, request: Any, hold: Hold = free) -> bytes:
        """Answer a PredictRequest with a serialized PredictResponse."""
        return self.complete(self.predicting(request, hold))

    def classify(self, spec: Any, examples: Examples, hold: Hold = free) -> Any:
        """Answer a classify request with a ClassificationResponse."""
        return self.complete(self.classifying(spec, examples, hold))

    def regress(self, spec: Any, examples: Examples, hold: Hold = free) -> Any:
        """Answer a regress request with a RegressionResponse."""
        return self.complete(self.regressing(spec, examples, hold))

    def predicting(self, request: Any, hold: Hold) -> Steps[bytes]:
        """The steps of `predict`."""
        signature = self.predict_signature(request.model_spec.signature_name)
        results = yield from self.computing(signature, request.inputs, request.output_filter, hold)
        out = [signature.model_spec]
        for alias, tensor in results.items():
            parts = session_tensors.encode(tensor, hold)
            size = sum(map(len, parts))
            head = session_tensors.field(0x0A, alias.encode()) + b"\x12" + session_tensors.varint(size)
            out.append(b"\x0a" + session_tensors.varint(len(head) + size) + head)
            out += parts
        return b"".join(out)

    def predict_signature(self, name: str) -> Signature:
        """The signature a Predict names. An unknown one is FAILED_PRECONDITION, as upstream has it."""
        name = name or DEFAULT_SIGNATURE
        signature = self._signatures.get(name)
        if signature is None:
            raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return signature

    def computing(
        self,
        signature: Signature,
        inputs: Mapping[str, Any],
        output_filter: Sequence[str],
        hold: Hold,
    ) -> Steps[dict[str, rt.Tensor]]:
        """Run a signature on TensorProtos by input name; the wanted outputs by name.

        hold: claims the memory that inputs take beyond the request's own; the caller claims the outputs'.

        Raises StatusError: INVALID_ARGUMENT for inputs that do not fit, else what the session says.
        """
        definition = signature.definition
        _check_names(definition, inputs)
        tensors = []
        for alias, target in signature.inputs.items():
            if alias in inputs:
                proto = inputs[alias]
            elif alias in definition.defaults:
                proto = definition.defaults[alias]
            else:
                raise invalid(
                    f"Signature input alias: {alias}(feed name: {definition.inputs[alias].name}) not found "
                    "in request and no default value provided. Inputs expected to be in the request "
                    f"{{{_join(inputs)}}}, or default input alias set: {_join(definition.defaults)}"
                )
            tensor = session_tensors.decode(self._runtime, alias, proto, hold)
            if target is None:
                name = definition.inputs[alias].name
                raise not_found(f"FeedInputs: unable to find feed output {name}")
            tensors.append(tensor)
        if any(alias not in signature.inputs for alias in inputs):
            used = _join(alias for alias in signature.inputs if alias in inputs)
            raise invalid(
                f"Inputs contains invalid name. Used request inputs: {used}, request input: {_join(inputs)}"
            )
        wanted = _wanted(definition, output_filter) if output_filter else list(signature.outputs)
        fetches = self._fetches(signature, wanted)
        assert signature.feeds is not None  # every target was there
        run = Run("Predict", signature.name, signature.feeds, tensors, wanted, fetches, hold)
        return dict(zip(wanted, (yield run), strict=True))

    def _fetches(self, signature: Signature, wanted: list[str]) -> rt.Outputs:
        if signature.fetches is not None and wanted == list(signature.outputs):
            return signature.fetches
        found = []
        for alias in wanted:
            output = signature.outputs[alias]
            if output is None:
                raise not_found(f"FetchOutputs node {signature.definition.outputs[alias].name}: not found")
            found.append(output)
        return rt.outputs(found)

    def classifying(self, spec: Any, examples: Examples, hold: Hold) -> Steps[Any]:
        """The steps of `classify`."""
        signature = self._example_signature(spec.signature_name)
        definition = signature.definition
        if len(definition.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if len(definition.outputs) not in (1, 2):
            raise invalid(f"Expected one or two output Tensors, found {len(definition.outputs)}")
        if "inputs" not in definition.inputs:
            raise invalid(f"No classification inputs found in SignatureDef: {definition}")
        wanted = [alias for alias in ("classes", "scores") if alias in definition.outputs]
        if not wanted:
            raise invalid(
                'Expected classification signature outputs to contain at least one of "classes" or "scores". '
                f"Signature was: {definition}"
            )
        results = yield from self._about_examples("Classify", signature, examples, wanted, hold)
        count = examples.count
        for alias, dtype in (("classes", DataType.DT_STRING), ("scores", DataType.DT_FLOAT)):
            if alias in results:
                _check_rows(alias, results[alias], dtype, count)
        columns = {alias: tensor.shape[1] for alias, tensor in results.items()}
        if len(set(columns.values())) > 1:
            raise invalid(
                "Tensors class and score should match in dim_size(1). Got "
                f"{columns['classes']} vs. {columns['scores']}"
            )
        width = next(iter(columns.values()))
        hold(count * width * _CLASS_BYTES)
        labels = results["classes"].strings() if "classes" in results else None
        scores = _floats(results["scores"]) if "scores" in results else None
        response = messages.ClassificationResponse(model_spec=self._model_spec(spec.signature_name))
        for row in range(count):
            # One allocation a row; adding class by class costs a Python call each.
            line = response.result.classifications.add()
            for at in range(row * width, (row + 1) * width):
                line.classes.add(
                    label=_text(labels[at]) if labels is not None else "",
                    score=scores[at] if scores is not None else 0.0,
                )
        return response

    def regressing(self, spec: Any, examples: Examples, hold: Hold) -> Steps[Any]:
        """The steps of `regress`."""
        signature = self._example_signature(spec.signature_name)
        definition = signature.definition
        if len(definition.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if len(definition.outputs) != 1:
            raise invalid("Expected one output Tensor.")
        if "inputs" not in definition.inputs:
            raise invalid(f"No regression inputs found in SignatureDef: {definition}")
        if "outputs" not in definition.outputs:
            raise invalid(f"No regression outputs found in SignatureDef: {definition}")
        results = yield from self._about_examples("Regress", signature, examples, ["outputs"], hold)
        count = examples.count
        tensor = results["outputs"]
        shape = tensor.shape
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise invalid(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
                f"{session_tensors.shape_text(shape)}"
            )
        if shape[0] != count:
            raise invalid(f"Input batch size did not match output batch size: {count} vs. {shape[0]}")
        if tensor.dtype != DataType.DT_FLOAT:
            raise invalid(
                f"Expected output Tensor of DT_FLOAT.  Got: {session_tensors.dtype_name(tensor.dtype)}"
            )
        hold(count * _CLASS_BYTES)
        response = messages.RegressionResponse(model_spec=self._model_spec(spec.signature_name))
        for value in _floats(tensor):
            response.result.regressions.add(value=value)
        return response

    def _signature(self, name: str, definition: Any) -> Signature:
        spec: bytes = self._model_spec(name).SerializeToString()
        inputs, outputs = (
            {alias: self._session.output(info.name) for alias, info in sorted(infos.items())}
            for infos in (definition.inputs, definition.outputs)
        )
        return Signature(
            name,
            definition,
            inputs,
            outputs,
            _all_of(inputs),
            _all_of(outputs),
            session_tensors.field(0x12, spec),
        )

    def _model_spec(self, signature_name: str) -> Any:
        spec = messages.ModelSpec(name=self.name, signature_name=signature_name or DEFAULT_SIGNATURE)
        spec.version.value = self.version
        return spec

    def _example_signature(self, name: str) -> Signature:
        name = name or DEFAULT_SIGNATURE
        signature = self._signatures.get(name)
        if signature is None:
            raise invalid(f"No signature was found with the name: {name}")
        return signature

    def _about_examples(
        self, api: str, signature: Signature, examples: Examples, wanted: list[str], hold: Hold
    ) -> Steps[dict[str, rt.Tensor]]:
        if not examples.count:
            raise invalid("Input is empty.")
        self.metrics.examples.add(self.name, amount=examples.count)
        self.metrics.example_counts.observe(examples.count, self.name)
        if signature.feeds is None or any(signature.outputs[alias] is None for alias in wanted):
            raise not_found(f"a tensor of signature {signature.name} is not in the graph")
        tensors = [rt.tensor_from_proto(self._runtime, examples.proto)]
        fetches = self._fetches(signature, wanted)
        run = Run(api, signature.name, signature.feeds, tensors, wanted, fetches, hold)
        return dict(zip(wanted, (yield run), strict=True))


def _all_of(tensors: Mapping[str, rt.Output | None]) -> rt.Outputs | None:
    found = [tensor for tensor in tensors.values() if tensor is not None]
    return rt.outputs(found) if len(found) == len(tensors) else None


def _check_names(definition: Any, inputs: Mapping[str, Any]) -> None:
    """Raise StatusError for too many inputs, and for too few if the signature has no defaults."""
    sent, known = len(inputs), len(definition.inputs)
    if sent > known or (sent < known and not definition.defaults):
        extra = sorted(set(inputs) - set(definition.inputs))
        missing = sorted(set(definition.inputs) - set(inputs))
        raise invalid(
            f"input size does not match signature: {sent}!={known} len({{{_join(inputs)}}}) != "
            f"len({{{_join(definition.inputs)}}}). Sent extra: {{{_join(extra)}}}. "
            f"Missing but required: {{{_join(missing)}}}."
        )


def _wanted(definition: Any, output_filter: Iterable[str]) -> list[str]:
    wanted: list[str] = []
    for alias in output_filter:
        if alias not in definition.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_join(definition.outputs)}}}."
            )
        if alias in wanted:
            raise invalid(f"duplicate output tensor alias: {alias}")
        wanted.append(alias)
    return wanted


def _check_rows(alias: str, tensor: rt.Tensor, dtype: int, count: int) -> None:
    shape = tensor.shape
    if len(shape) != 2:
        raise invalid(
            f"Expected Tensor shape: [batch_size num_classes] but got {session_tensors.shape_text(shape)}"
        )
    if tensor.dtype != dtype:
        raise invalid(
            f"Expected {alias} Tensor of {session_tensors.dtype_name(dtype)}. Got: "
            f"{session_tensors.dtype_name(tensor.dtype)}"
        )
    if shape[0] != count:
        raise invalid(f"Expected {alias} output batch size of {count}. Got: {shape[0]}")


def _floats(tensor: rt.Tensor) -> tuple[float, ...]:
    return struct.unpack(f"<{math.prod(tensor.shape)}f", tensor.content())


def _text(label: bytes) -> str:
    """A class label as text, since protobuf's string fields hold UTF-8 only."""
    return label.decode("utf-8", "replace")


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
