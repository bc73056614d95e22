"""One loaded version of a model: its signatures, and Predict, Classify and Regress on them.

Checks, their order and their texts follow TensorFlow Serving's servables/tensorflow/
(predict_util.cc, classifier.cc, regressor.cc, util.cc), so that a client sees the same answers.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.model_server import runtime as rt
from infra.model_server import tensors
from infra.model_server.metrics import Metrics
from infra.model_server.status import Code, StatusError, invalid, not_found
from infra.predict import stubs

stubs.load()
from tensorflow.core.framework import tensor_pb2, types_pb2  # noqa: E402  # needs the bare namespace
from tensorflow.core.protobuf import meta_graph_pb2  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    classification_pb2,
    get_model_metadata_pb2,
    model_pb2,
    regression_pb2,
)

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Signature:
    """A signature with its graph tensors looked up; None for one the graph does not have."""

    name: str
    definition: Any  # SignatureDef
    inputs: Mapping[str, rt.Output | None]
    outputs: Mapping[str, rt.Output | None]
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
        """Load the SavedModel in `path`. metrics: told of each session run.

        Raises StatusError with the loader's code and text; leaves nothing loaded then.
        """
        self.name = name
        self.version = version
        self.path = path
        self.warmed = 0  # requests answered before serving
        self._metrics = metrics
        self._runtime = runtime
        self._session, meta_graph = rt.load_saved_model(runtime, path)
        try:
            graph = meta_graph_pb2.MetaGraphDef.FromString(meta_graph)
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
        out = get_model_metadata_pb2.SignatureDefMap()
        for key, signature in self._signatures.items():
            out.signature_def[key].CopyFrom(signature.definition)
        return out

    def predict(self, request: Any) -> bytes:
        """Answer a PredictRequest with a serialized PredictResponse."""
        signature = self.predict_signature(request.model_spec.signature_name)
        results = self.compute(signature, request.inputs, request.output_filter)
        out = [signature.model_spec]
        for alias, tensor in results.items():
            entry = tensors.field(0x0A, alias.encode()) + tensors.field(0x12, tensors.encode(tensor))
            out.append(tensors.field(0x0A, entry))
        return b"".join(out)

    def predict_signature(self, name: str) -> Signature:
        """The signature a Predict names. An unknown one is FAILED_PRECONDITION, as upstream has it."""
        name = name or DEFAULT_SIGNATURE
        signature = self._signatures.get(name)
        if signature is None:
            raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return signature

    def compute(
        self,
        signature: Signature,
        inputs: Mapping[str, Any],
        output_filter: Iterable[str] = (),
    ) -> dict[str, rt.Tensor]:
        """Run a signature on TensorProtos by input name; the wanted outputs by name.

        Raises StatusError: INVALID_ARGUMENT for inputs that do not fit, else what the session says.
        """
        definition = signature.definition
        _check_names(definition, inputs)
        feeds = []
        for alias, target in signature.inputs.items():
            if alias in inputs:
                proto = inputs[alias]
            elif alias in definition.defaults:
                proto = definition.defaults[alias]
            else:
                raise invalid(
                    f"Signature input alias: {alias}(feed name: {definition.inputs[alias].name}) not found in "
                    "request and no default value provided. Inputs expected to be in the request "
                    f"{{{_join(inputs)}}}, or default input alias set: {_join(definition.defaults)}"
                )
            tensor = tensors.decode(self._runtime, alias, proto)
            if target is None:
                name = definition.inputs[alias].name
                raise not_found(f"FeedInputs: unable to find feed output {name}")
            feeds.append((target, tensor))
        unknown = [alias for alias in inputs if alias not in signature.inputs]
        if unknown:
            used = _join(alias for alias in signature.inputs if alias in inputs)
            raise invalid(
                f"Inputs contains invalid name. Used request inputs: {used}, request input: {_join(inputs)}"
            )
        wanted = _wanted(definition, output_filter)
        fetches = []
        for alias in wanted:
            output = signature.outputs[alias]
            if output is None:
                raise not_found(f"FetchOutputs node {definition.outputs[alias].name}: not found")
            fetches.append(output)
        return dict(zip(wanted, self._run("Predict", feeds, fetches), strict=True))

    def classify(self, request: Any) -> Any:
        """Answer a ClassificationRequest with a ClassificationResponse."""
        signature = self._example_signature(request.model_spec.signature_name)
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
        results, count = self._run_examples("Classify", signature, request.input, wanted)
        for alias, dtype in (("classes", types_pb2.DT_STRING), ("scores", types_pb2.DT_FLOAT)):
            if alias in results:
                _check_rows(alias, results[alias], dtype, count)
        columns = {alias: tensor.shape[1] for alias, tensor in results.items()}
        if len(set(columns.values())) > 1:
            raise invalid(
                "Tensors class and score should match in dim_size(1). Got "
                f"{columns['classes']} vs. {columns['scores']}"
            )
        width = next(iter(columns.values()))
        labels = results["classes"].strings() if "classes" in results else None
        scores = _floats(results["scores"]) if "scores" in results else None
        response = classification_pb2.ClassificationResponse(
            model_spec=self._model_spec(request.model_spec.signature_name)
        )
        for row in range(count):
            # One allocation a row; adding class by class costs a Python call each.
            line = response.result.classifications.add()
            for at in range(row * width, (row + 1) * width):
                line.classes.add(
                    label=_text(labels[at]) if labels is not None else "",
                    score=scores[at] if scores is not None else 0.0,
                )
        return response

    def regress(self, request: Any) -> Any:
        """Answer a RegressionRequest with a RegressionResponse."""
        signature = self._example_signature(request.model_spec.signature_name)
        definition = signature.definition
        if len(definition.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if len(definition.outputs) != 1:
            raise invalid("Expected one output Tensor.")
        if "inputs" not in definition.inputs:
            raise invalid(f"No regression inputs found in SignatureDef: {definition}")
        if "outputs" not in definition.outputs:
            raise invalid(f"No regression outputs found in SignatureDef: {definition}")
        results, count = self._run_examples("Regress", signature, request.input, ["outputs"])
        tensor = results["outputs"]
        shape = tensor.shape
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise invalid(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
                f"{tensors.shape_text(shape)}"
            )
        if shape[0] != count:
            raise invalid(f"Input batch size did not match output batch size: {count} vs. {shape[0]}")
        if tensor.dtype != types_pb2.DT_FLOAT:
            raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {tensors.dtype_name(tensor.dtype)}")
        response = regression_pb2.RegressionResponse(
            model_spec=self._model_spec(request.model_spec.signature_name)
        )
        for value in _floats(tensor):
            response.result.regressions.add(value=value)
        return response

    def _signature(self, name: str, definition: Any) -> Signature:
        spec: bytes = self._model_spec(name).SerializeToString()
        return Signature(
            name,
            definition,
            {alias: self._session.output(info.name) for alias, info in sorted(definition.inputs.items())},
            {alias: self._session.output(info.name) for alias, info in sorted(definition.outputs.items())},
            tensors.field(0x12, spec),
        )

    def _model_spec(self, signature_name: str) -> Any:
        spec = model_pb2.ModelSpec(name=self.name, signature_name=signature_name or DEFAULT_SIGNATURE)
        spec.version.value = self.version
        return spec

    def _example_signature(self, name: str) -> Signature:
        name = name or DEFAULT_SIGNATURE
        signature = self._signatures.get(name)
        if signature is None:
            raise invalid(f"No signature was found with the name: {name}")
        return signature

    def _run_examples(
        self, api: str, signature: Signature, given: Any, wanted: list[str]
    ) -> tuple[dict[str, rt.Tensor], int]:
        examples = _examples(given)
        if not examples:
            raise invalid("Input is empty.")
        self._metrics.examples.add(self.name, amount=len(examples))
        self._metrics.example_counts.observe(len(examples), self.name)
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=examples)
        proto.tensor_shape.dim.add(size=len(examples))
        target = signature.inputs["inputs"]
        fetches = [signature.outputs[alias] for alias in wanted]
        if target is None or None in fetches:
            raise not_found(f"a tensor of signature {signature.name} is not in the graph")
        feeds = [(target, rt.tensor_from_proto(self._runtime, proto.SerializeToString()))]
        found = self._run(api, feeds, [fetch for fetch in fetches if fetch is not None])
        return dict(zip(wanted, found, strict=True)), len(examples)

    def _run(
        self, api: str, feeds: list[tuple[rt.Output, rt.Tensor]], fetches: list[rt.Output]
    ) -> list[rt.Tensor]:
        started = time.perf_counter()
        results = self._session.run(feeds, fetches)
        self._metrics.runtime_latency.observe((time.perf_counter() - started) * 1e6, self.name, api, "TF1")
        return results


def _check_names(definition: Any, inputs: Mapping[str, Any]) -> None:
    """Too many inputs, or too few where none has a default."""
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
    return wanted or sorted(definition.outputs)


def _examples(given: Any) -> list[bytes]:
    """The serialized tf.Examples of an Input; a shared context goes before each."""
    match given.WhichOneof("kind"):
        case "example_list":
            return [example.SerializeToString() for example in given.example_list.examples]
        case "example_list_with_context":
            both = given.example_list_with_context
            context = both.context.SerializeToString()
            return [context + example.SerializeToString() for example in both.examples]
        case _:
            return []


def _check_rows(alias: str, tensor: rt.Tensor, dtype: int, count: int) -> None:
    shape = tensor.shape
    if len(shape) != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {tensors.shape_text(shape)}")
    if tensor.dtype != dtype:
        raise invalid(
            f"Expected {alias} Tensor of {tensors.dtype_name(dtype)}. Got: {tensors.dtype_name(tensor.dtype)}"
        )
    if shape[0] != count:
        raise invalid(f"Expected {alias} output batch size of {count}. Got: {shape[0]}")


def _floats(tensor: rt.Tensor) -> tuple[float, ...]:
    return struct.unpack(f"<{math.prod(tensor.shape)}f", tensor.content())


def _text(label: bytes) -> str:
    """A class label; protobuf's string fields hold UTF-8 only."""
    return label.decode("utf-8", "replace")


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
