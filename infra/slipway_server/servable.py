"""One loaded version of a model: its signatures, and Predict, Classify, Regress and MultiInference on them.

Checks, their order and their texts follow TensorFlow Serving's servables/tensorflow/
(predict_util.cc, classifier.cc, regressor.cc, util.cc), so that a client sees the same answers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from slipway_client import messages

from slipway_server import example_results, session_tensors
from slipway_server import runtime as rt
from slipway_server.codes import Code, StatusError, invalid, not_found
from slipway_server.example_results import Task
from slipway_server.examples import Examples
from slipway_server.json_requests import DEFAULT_SIGNATURE
from slipway_server.metrics import Metrics
from slipway_server.session_tensors import Hold
from slipway_server.steps import Run, Steps, Times, Together, finish
from slipway_server.version_folder import check_whole

T = TypeVar("T")


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
        *,
        tags: Sequence[str] = ("serve",),
    ) -> None:
        """Load the SavedModel in `path`. metrics: where each session run is counted. tags: of the graph.

        Raises StatusError with the loader's code and text; leaves nothing loaded then.
        """
        self.name = name
        self.version = version
        self.path = path
        self.warmed = 0  # requests answered before serving
        self.together: Together | None = None
        self.metrics = metrics
        self.runtime = runtime
        self._session, meta_graph = rt.load_saved_model(runtime, path, tags)
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

    def complete(self, steps: Steps[T], times: Times | None = None) -> T:
        """Do all the steps, with a run of their own. times: gets that of the run."""
        run = next(steps)
        if times is None:
            return finish(steps, self.run(run))
        begun = time.perf_counter()
        try:
            results = self.run(run)
        finally:
            times.append(("run", begun, time.perf_counter()))
        return finish(steps, results)

    def run(self, run: Run) -> list[rt.Tensor]:
        """Raises StatusError with the session's own code and text."""
        started = time.perf_counter()
        results = self.session_run(run)
        if run.api:
            seconds = time.perf_counter() - started
            self.metrics.runtime_latency.observe(seconds * 1e6, self.name, run.api, "TF1")
        return results

    def session_run(self, run: Run) -> list[rt.Tensor]:
        """`run`, and nothing is counted."""
        return self._session.run(run.feeds, run.tensors, run.fetches)

    def predict(self, request: Any, hold: Hold) -> Steps[bytes]:
        """The steps from a PredictRequest to a serialized PredictResponse."""
        signature = self.predict_signature(request.model_spec.signature_name)
        results = yield from self.compute(signature, request.inputs, request.output_filter, hold)
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

    def compute(
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
            tensor = session_tensors.decode(self.runtime, alias, proto, hold)
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

    def classify(self, spec: Any, examples: Examples, hold: Hold) -> Steps[Any]:
        """The steps to a ClassificationResponse."""
        signature = self._example_signature(spec.signature_name)
        wanted = example_results.classify_outputs(signature.definition)
        results = yield from self._about_examples("Classify", signature, examples, wanted, hold)
        response = messages.ClassificationResponse(model_spec=self._model_spec(spec.signature_name))
        example_results.classify(response.result, results, examples.count, hold)
        return response

    def regress(self, spec: Any, examples: Examples, hold: Hold) -> Steps[Any]:
        """The steps to a RegressionResponse."""
        signature = self._example_signature(spec.signature_name)
        wanted = example_results.regress_outputs(signature.definition)
        results = yield from self._about_examples("Regress", signature, examples, wanted, hold)
        response = messages.RegressionResponse(model_spec=self._model_spec(spec.signature_name))
        example_results.regress(response.result, results, examples.count, hold)
        return response

    def multi_inference(self, tasks: Sequence[Any], examples: Examples, hold: Hold) -> Steps[Any]:
        """The steps to the MultiInferenceResponse of all tasks, by one run.

        servables/tensorflow/multi_inference.cc, TensorFlowMultiInferenceRunner::Infer
        """
        asked: dict[str, tuple[Task, list[str]]] = {}  # by signature: what it is asked for, and its outputs
        for task in tasks:
            spec = task.model_spec
            if not spec.name:
                raise invalid("Found ModelSpec with an empty model name.")
            if spec.name != tasks[0].model_spec.name:
                raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
            name = spec.signature_name or DEFAULT_SIGNATURE
            if name in asked:
                raise invalid(f"Duplicate evaluation of signature: {name}")
            if name not in self._signatures:
                raise invalid(f"Requested signature not found in model graph: {name}")
            kind = example_results.TASKS.get(task.method_name)
            if kind is None:
                raise StatusError(
                    Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
                )
            asked[name] = kind, kind.outputs(self._signatures[name].definition)
        self._count_examples(examples)
        targets: dict[str, rt.Output | None] = {}
        fetches: dict[str, rt.Output | None] = {}
        for name, (_, wanted) in asked.items():
            signature = self._signatures[name]
            targets[signature.definition.inputs["inputs"].name] = signature.inputs["inputs"]
            for alias in wanted:
                fetches[signature.definition.outputs[alias].name] = signature.outputs[alias]
        for name, output in {**targets, **fetches}.items():
            if output is None:
                raise not_found(f"the tensor of {name} is not in the graph")
        tensors = [rt.tensor_from_proto(self.runtime, examples.proto)] * len(targets)
        feeds, outputs = _all_of(targets), _all_of(fetches)
        assert feeds is not None
        assert outputs is not None
        run = Run("", ",".join(asked), feeds, tensors, list(fetches), outputs, hold)
        tensors_of = dict(zip(fetches, (yield run), strict=True))
        response = messages.MultiInferenceResponse()
        for name, (kind, wanted) in asked.items():
            named = self._signatures[name].definition.outputs
            line = response.results.add(model_spec=self._model_spec(name))
            result = getattr(line, kind.field)
            result.SetInParent()  # said even when it holds nothing
            results = {alias: tensors_of[named[alias].name] for alias in wanted}
            kind.fill(result, results, examples.count, hold)
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
        self._count_examples(examples)
        if signature.feeds is None or any(signature.outputs[alias] is None for alias in wanted):
            raise not_found(f"a tensor of signature {signature.name} is not in the graph")
        tensors = [rt.tensor_from_proto(self.runtime, examples.proto)]
        fetches = self._fetches(signature, wanted)
        run = Run(api, signature.name, signature.feeds, tensors, wanted, fetches, hold)
        return dict(zip(wanted, (yield run), strict=True))

    def _count_examples(self, examples: Examples) -> None:
        if not examples.count:
            raise invalid("Input is empty.")
        self.metrics.examples.add(self.name, amount=examples.count)
        self.metrics.example_counts.observe(examples.count, self.name)


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


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
