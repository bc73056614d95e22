"""Prove one server: ask the fixed requests, compare every answer with the recorded one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from slipway_client.client import Answer, Client, Metadata, Signature, wait_available
from slipway_client.compare import difference, disagreement, predicted_classes
from slipway_client.errors import RequestFailed, WrongSignature
from slipway_client.interface import UNNAMED
from slipway_client.json_carries import not_in_json
from slipway_client.json_values import Array, is_floating
from slipway_client.loop import Ended, Load, each, load
from slipway_client.requests import METHODS, FixedRequest, Recorded
from slipway_client.statistics import Latency, Statistics, summarize

REPORT_FORMAT = 1
EXAMPLES_KEPT = 5  # of each kind of failure, for people
AGREE_ON = 10  # requests asked a second way


@dataclass(frozen=True)
class Report:
    """What one server answered.

    requests: how many were sent, and errors: how many of them failed. compared: answers that have a recorded
    one, and differences: how many of them are not like it; by_form: how many of them have outputs known by
    dtype and shape alone. labelled: rows with a known label, and wrong: how
    many of them were classified otherwise. versions: of the model, as the answers name them. failures: the
    first of each kind in words. latency in ms and per_second are of these requests; load: the figures of the
    steady load, or None if none was asked for.
    """

    server: str
    transport: str
    model: str
    versions: tuple[int, ...]
    requests: int
    errors: int
    compared: int
    differences: int
    labelled: int
    wrong: int
    statuses: Mapping[str, int]
    latency: Latency | None
    per_second: float
    failures: tuple[str, ...] = ()
    load: Mapping[str, Any] | None = None
    by_form: int = 0
    format: int = field(default=REPORT_FORMAT)

    @property
    def ok(self) -> bool:
        return self.requests > 0 and self.errors == 0 and self.differences == 0

    @property
    def accuracy(self) -> float | None:
        return (self.labelled - self.wrong) / self.labelled if self.labelled else None

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "accuracy": self.accuracy,
            **asdict(self),
            "versions": list(self.versions),
            "statuses": dict(self.statuses),
            "failures": list(self.failures),
        }


def report_from(data: object) -> Report:
    """A Report from its JSON. Raises ValueError if the data is not a report."""
    if not isinstance(data, dict) or data.get("format") != REPORT_FORMAT:
        raise ValueError("not a report of slipway_client")
    names = {one.name for one in fields(Report)}
    try:
        values = {name: value for name, value in data.items() if name in names}
        given = values.get("latency")
        values["latency"] = None if given is None else Latency(**given)
        values["versions"] = tuple(values.get("versions", ()))
        values["failures"] = tuple(values.get("failures", ()))
        return Report(**values)
    except TypeError as error:
        raise ValueError(f"not a report of slipway_client: {error}") from error


def selection(requests: Sequence[FixedRequest], count: int) -> tuple[FixedRequest, ...]:
    """`count` Predict requests, repeated in turn if there are fewer, and then at most `count` of the others.

    Without any Predict request the others are repeated in turn instead.
    """
    predicts = [one for one in requests if one.method == "predict"]
    others = [one for one in requests if one.method != "predict"]
    if not predicts:
        return tuple(itertools.islice(itertools.cycle(others), count)) if others else ()
    return (*itertools.islice(itertools.cycle(predicts), count), *others[:count])


def check(
    client: Client,
    model: str,
    requests: Sequence[FixedRequest],
    *,
    concurrency: int = 1,
    ready_timeout: float = 30.0,
    with_load: bool = False,
    on_end: Callable[[Ended], None] = lambda _ended: None,
) -> Report:
    """Wait until the model is AVAILABLE, ask every request once and compare the answers.

    A request that fails is counted, not raised. Raises NotReachable, NotReady, WrongModel, and WrongSignature
    when the model lacks a signature or an input that the requests use: nothing is asked then. with_load:
    afterwards, unless requests failed, run a closed loop at this concurrency until p50 is stable.
    """
    wait_available(client, model, timeout=ready_timeout)
    metadata = client.metadata(model)
    for name in sorted({one.signature for one in requests}):
        _same_inputs(metadata, name, requests, client.server)
    calls = _prepared(client, model, requests)
    ended, seconds = each(calls, concurrency, on_end=lambda _index, one: on_end(one))
    statistics = summarize([(one.status, one.seconds) for one in ended], seconds)
    steady = load(calls, concurrency) if with_load and calls and not statistics.errors else None
    return _report(client, metadata, requests, ended, calls=calls, statistics=statistics, steady=steady)


def sample(client: Client, model: str, requests: Sequence[FixedRequest]) -> list[tuple[FixedRequest, Answer]]:
    """Answers to a few requests of each method, to compare with those of another server or transport."""
    asked: list[FixedRequest] = []
    for method in METHODS:
        asked += [one for one in requests if one.method == method][:AGREE_ON]
    return [(one, client.prepare(model, one)()) for one in asked]


def carried(
    client: Client, model: str, sampled: Sequence[tuple[FixedRequest, Answer]]
) -> tuple[list[tuple[FixedRequest, Answer]], str]:
    """Those of a sample that the REST API can carry, and why it cannot carry others; empty if it can."""
    metadata = client.metadata(model)
    kept, why = [], ""
    for request, answer in sampled:
        said = not_in_json(request, metadata.signature(request.signature, client.server), answer)
        why = why or said
        if not said:
            kept.append((request, answer))
    return kept, why


def unlike(
    ours: Sequence[tuple[FixedRequest, Answer]], theirs: Sequence[tuple[FixedRequest, Answer]], word: str
) -> str:
    """Describe the first answer that differs between two samples; empty if they are alike.

    Where an answer was recorded, its outputs are compared, those of which only the form is known by that.
    """
    for number, ((request, one), (_, other)) in enumerate(zip(ours, theirs, strict=True), 1):
        found = difference(_comparable(request, other), one.outputs, request.tolerance, word=word)
        if found:
            return f"request {number} ({request.method}): {found}"
    return ""


def _comparable(request: FixedRequest, answer: Answer) -> Recorded:
    if request.expected is None:
        return answer.outputs
    named = {name: answer.outputs[name] for name in request.expected if name in answer.outputs}
    return {**named, **request.forms}


def methods_agree(client: Client, model: str, requests: Sequence[FixedRequest]) -> tuple[int, str]:
    """Ask Predict for what the Classify requests ask. Returns how many, and the first disagreement.

    A Classify request can be compared if its examples have one feature of numbers, and the Predict signature
    of the requests has one input of that length and one output of scores. Signatures whose recorded answers
    contradict each other are of different functions: these are not compared.
    """
    predict = next((one for one in requests if one.method == "predict" and len(one.inputs) == 1), None)
    if predict is None:
        return 0, ""
    ((key, known),) = predict.inputs.items()
    asked = 0
    as_recorded: bool | None = None  # whether Predict answers so; asked when it matters
    for request in [one for one in requests if one.method == "classify"][:AGREE_ON]:
        batch = _same_rows(request, known)
        scores = None if batch is None else _scores(client, model, predict.signature, {key: batch})
        if scores is None:
            continue
        if predict.expected and request.expected and _differ_as_recorded(scores, request):
            if as_recorded is None:
                said = client.prepare(model, predict)()
                as_recorded = not difference(predict.expected, said.outputs, predict.tolerance)
            if as_recorded:
                continue  # two functions, of which the recorded answers say what is right
        answer = client.classify(model, request.signature, request.examples)
        if not answer.outputs["scores"].any():  # classes alone
            continue
        asked += 1
        found = disagreement(scores, answer.outputs, request.tolerance)
        if found:
            return asked, found
    return asked, ""


def _same_rows(classify: FixedRequest, known: Array) -> Array | None:
    """The numbers of the examples as Predict takes them, if each has as many as a row of `known`."""
    features = [list(example.values()) for example in classify.examples]
    if any(len(values) != 1 or values[0].dtype == object for values in features):
        return None
    rows = [np.asarray(values[0]).ravel() for values in features]
    width = math.prod(known.shape[1:])
    if known.ndim < 2 or known.dtype == object or any(row.size != width for row in rows):
        return None
    return np.stack(rows).astype(known.dtype).reshape((len(rows), *known.shape[1:]))


def _scores(client: Client, model: str, signature: str, inputs: Mapping[str, Array]) -> Array | None:
    """What Predict gives, if it is one matrix of numbers; None also where it takes no such batch."""
    try:
        outputs = client.predict(model, signature, inputs).outputs
    except RequestFailed as error:
        if error.status == "INVALID_ARGUMENT":  # of another batch size, say, which is the model's business
            return None
        raise
    found = [array for array in outputs.values() if is_floating(array.dtype) and array.ndim == 2]
    return found[0] if len(found) == 1 else None


def _differ_as_recorded(scores: Array, request: FixedRequest) -> bool:
    """Whether Predict's scores contradict the recorded classification too: logits, or another network."""
    recorded = request.expected or {}
    known = recorded.get("scores")
    if known is None:
        return True  # classes alone
    named = recorded.get("classes", np.full(known.shape, b"", dtype=object))
    return bool(disagreement(scores, {"classes": named, "scores": known}, request.tolerance))


def _unlike_itself(call: Callable[[], Answer], request: FixedRequest, answer: Answer) -> str:
    """Ask once more; say so if the model answers otherwise, which no other weights explain."""
    try:
        again = call()
    except RequestFailed:
        return ""
    found = difference(_comparable(request, answer), again.outputs, request.tolerance)
    return "; asked again it answers otherwise: it is random, or it changes" if found else ""


def _prepared(client: Client, model: str, requests: Sequence[FixedRequest]) -> list[Callable[[], Answer]]:
    written: dict[int, Callable[[], Answer]] = {}
    for one in requests:  # the same request many times is written once
        if id(one) not in written:
            written[id(one)] = client.prepare(model, one)
    return [written[id(one)] for one in requests]


def _same_inputs(metadata: Metadata, name: str, requests: Sequence[FixedRequest], server: str) -> None:
    signature = metadata.signature(name, server)
    for one in requests:
        if one.signature != name:
            continue
        if signature.name == UNNAMED and not signature.inputs:
            continue  # a model behind the Open Inference Protocol need not tell what it takes
        if one.method != "predict":
            _takes_examples(signature, one, metadata.model, server)
        elif set(one.inputs) | signature.defaults != set(signature.inputs) | signature.defaults:
            raise WrongSignature(
                f"signature {name!r} of model {metadata.model} takes {_listed(signature.inputs)};"
                f" the requests give {_listed(one.inputs)}",
                where=server,
                action="correct the requests, or export the model with the keys they use",
            )


def _takes_examples(signature: Signature, request: FixedRequest, model: str, server: str) -> None:
    """As TensorFlow Serving has it: by a signature's tensors, whatever its method is."""
    kinds = {"classify": {"classes", "scores"}, "regress": {"outputs"}}
    wanted, gives = kinds[request.method], set(signature.outputs)
    takes = {key: spec.dtype for key, spec in signature.inputs.items()}
    if takes == {"inputs": "string"} and wanted & gives and len(gives) <= len(wanted):
        return
    given = ", ".join(f"{key} ({dtype})" for key, dtype in sorted(takes.items())) or "nothing"
    raise WrongSignature(
        f"signature {signature.name!r} of model {model} takes {given} and gives {_listed(signature.outputs)};"
        f" {request.method} wants inputs (string: tf.Examples) and {' or '.join(sorted(wanted))} alone",
        where=server,
        action="correct the requests, or export the model with the signature they use",
    )


def _listed(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys)) or "nothing"


def _report(
    client: Client,
    metadata: Metadata,
    requests: Sequence[FixedRequest],
    ended: Sequence[Ended],
    *,
    calls: Sequence[Callable[[], Answer]],
    statistics: Statistics,
    steady: Load | None,
) -> Report:
    compared = by_form = differences = labelled = wrong = 0
    versions: set[int] = set()
    failed: list[str] = []
    differing: list[str] = []
    for number, (request, end) in enumerate(zip(requests, ended, strict=True), 1):
        where = f"request {number} ({request.method} {request.signature})"
        if end.answer is None:
            said_why = f"{end.error.status}: {end.error.in_one_line()}" if end.error else "no answer"
            failed.append(f"{where}: {said_why}")
            continue
        if end.answer.version is not None:
            versions.add(end.answer.version)
        if (recorded := request.recorded) is not None:
            compared += 1
            by_form += bool(request.forms)
            found = difference(recorded, end.answer.outputs, request.tolerance)
            if found:
                differences += 1
                twice = "" if differing else _unlike_itself(calls[number - 1], request, end.answer)
                differing.append(f"{where}: {found}{twice}")
        if request.labels is not None:
            labelled += len(request.labels)
            said = predicted_classes(end.answer.outputs, len(request.labels))
            pairs = zip(request.labels, said or [-1] * len(request.labels), strict=True)
            wrong += sum(label != answer for label, answer in pairs)
    if not versions and metadata.version is not None:
        versions.add(metadata.version)
    return Report(
        server=client.server,
        transport=client.transport,
        model=metadata.model,
        versions=tuple(sorted(versions)),
        requests=len(ended),
        errors=statistics.errors,
        compared=compared,
        differences=differences,
        labelled=labelled,
        wrong=wrong,
        statuses=statistics.statuses,
        latency=statistics.latency,
        per_second=round(statistics.per_second, 1),
        failures=(*failed[:EXAMPLES_KEPT], *differing[:EXAMPLES_KEPT]),
        load=None if steady is None else steady.as_json(),
        by_form=by_form,
    )
