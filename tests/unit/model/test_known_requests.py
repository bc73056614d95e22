"""A SavedModel with ops of Google's server, and warm-up requests with and without answers; no TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from slipway.core.context import Context
from slipway.core.errors import ModelError, UsageError
from slipway.core.events import Event, Note
from slipway.core.state import State
from slipway.model import derived_requests, known_requests, saved_model, serving_ops
from slipway_client import messages, requests, tfrecord
from slipway_client.json_values import ShapeOnly
from slipway_client.requests import FixedRequest, Recorded, to_line
from slipway_client.tensors import fill_example, to_proto

TEXT = np.array([b"To Be"], object)


def saved(folder: Path, op: str, *logs: bytes) -> saved_model.ModelDescription:
    message = messages.SavedModel()
    graph = message.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.graph_def.node.add(name="folded", op=op)
    signature = graph.signature_def["serving_default"]
    signature.inputs["text"].name = "text:0"
    signature.outputs["folded"].name = "folded:0"
    warmup = folder / saved_model.WARMUP
    warmup.parent.mkdir(parents=True)
    warmup.write_bytes(tfrecord.encode(logs))
    (folder / "saved_model.pb").write_bytes(message.SerializeToString())
    return saved_model.inspect(folder)


def logged(*, answer: np.ndarray | None = None) -> bytes:
    log = messages.PredictionLog()
    log.predict_log.request.model_spec.name = "m"
    log.predict_log.request.inputs["text"].CopyFrom(to_proto(TEXT))
    if answer is not None:
        log.predict_log.response.outputs["folded"].CopyFrom(to_proto(answer))
    return bytes(log.SerializeToString())


def of_model(tmp_path: Path, *logs: bytes) -> tuple[tuple[FixedRequest, ...], list[str]]:
    """What Google's server is to be asked, and what is told of it."""
    description = saved(tmp_path / "1", "CaseFoldUTF8", *logs)
    told: list[str] = []

    def emit(event: Event) -> None:
        told.extend([event.text] if isinstance(event, Note) else [])

    ctx = Context(State(tmp_path / "state"), tmp_path, tmp_path, emit=emit)
    path = known_requests.of_model(ctx, description, None, "model.path", "tensorflow")
    return requests.read(path), told


@pytest.mark.parametrize("op", ["CaseFoldUTF8", "TFText>Anything", "SimpleMLInferenceOpWithHandle"])
def test_ops_of_googles_server_are_refused_for_another_one_with_what_to_set(tmp_path: Path, op: str) -> None:
    description = saved(tmp_path / "1", op)
    with pytest.raises(ModelError, match=op) as refused:
        serving_ops.lacking(description, "portable")
    assert refused.value.where == "image.server"
    assert "image.server: tensorflow" in refused.value.action
    assert serving_ops.lacking(description, "tensorflow") == (op,)
    assert f"the ops {op}: only Google's server" in saved_model.as_text(description)


def test_what_cannot_be_loaded_here_is_asked_with_the_answers_that_were_recorded_with_the_requests(
    tmp_path: Path,
) -> None:
    (asked,), (note,) = of_model(tmp_path, logged(answer=np.array([b"to be"], object)))
    assert asked.inputs["text"].tolist() == TEXT.tolist()
    assert asked.expected is not None
    assert asked.expected["folded"].tolist() == [b"to be"]
    assert (
        "is not loaded here, for TensorFlow lacks CaseFoldUTF8: the answers in its warm-up requests" in note
    )


def test_without_recorded_answers_it_is_said_what_the_proof_is_worth(tmp_path: Path) -> None:
    asked, (note,) = of_model(tmp_path, logged(), logged(answer=TEXT))
    assert [one.expected is None for one in asked] == [True, False]
    assert "1 of 2 warm-up requests have no recorded answer" in note
    assert "smoke.requests" in note


def test_a_model_without_warm_up_requests_is_refused_for_that_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing says what to ask"):
        of_model(tmp_path)


def test_outputs_that_are_not_the_same_twice_are_told_once_each() -> None:
    noisy: Recorded = {"noisy": ShapeOnly("float32", (2,)), "plain": np.zeros(2)}
    asked = [FixedRequest("predict", "draw").answered(noisy)] * 3 + [FixedRequest("predict", "other")]
    (told,) = known_requests.unrepeatable(asked)
    assert told.startswith("output noisy of signature draw is not the same twice")


def test_answers_of_classify_and_regress_are_read_from_a_warm_up_file(tmp_path: Path) -> None:
    example = {"x": np.array([3])}
    logs = []
    for kind in ("classify", "regress"):
        log = messages.PredictionLog()
        inner = getattr(log, f"{kind}_log")
        fill_example(inner.request.input.example_list.examples.add(), example)
        if kind == "classify":
            inner.response.result.classifications.add().classes.add(label="large", score=0.5)
        else:
            inner.response.result.regressions.add(value=12.5)
        logs.append(log.SerializeToString())
    path = tmp_path / "warmup"
    path.write_bytes(tfrecord.encode(logs))
    classify, regress = derived_requests.decode(path)
    assert [classify.method, regress.method, classify.signature] == ["classify", "regress", "serving_default"]
    assert regress.examples[0]["x"].tolist() == [3]
    assert classify.expected is not None
    assert regress.expected is not None
    assert classify.expected["classes"].tolist() == [[b"large"]]
    assert regress.expected["outputs"].tolist() == [12.5]


def test_requests_are_written_as_warm_up_and_read_back(tmp_path: Path) -> None:
    given = [
        FixedRequest("predict", "s", {"t": TEXT, "x": np.array(2, np.uint16)}),
        FixedRequest("regress", "price", examples=({"x": np.array([1.5], np.float32)},)),
    ]
    path = tmp_path / "warmup"
    path.write_bytes(derived_requests.encode(given, "m"))
    assert [to_line(one) for one in derived_requests.decode(path)] == [to_line(one) for one in given]
