"""Every shape of SavedModel people bring goes through inspect, the model stage, a server and the proof.

The models are made, and brought along, in one process (zoo_apart.py); one server serves them all.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.core import process
from slipway.core.schema import SmokeSettings
from slipway.core.types import Replica
from slipway.smoke import gates
from slipway.smoke.replicas import Tried, ask_one
from slipway_client import requests
from slipway_client.check import check
from slipway_client.client import Transport
from slipway_client.connect import connect
from slipway_client.requests import FixedRequest

from tests.integration.model.conftest import ENVIRONMENT, HERE
from tests.integration.server.conftest import Server, StartServer

DOCS = Path(__file__).parents[3] / "docs" / "model.md"
NUM_TESTS = 12  # Predict requests, round and round; more than any of these models has
PROVED = "proved"
NOT_IN_JSON = "proved; REST left out: JSON cannot carry {}"


@dataclass(frozen=True)
class Shape:
    """One model of the zoo. what: it is. result: of proving it, or of bringing it along."""

    name: str
    what: str
    result: str


ZOO = (
    Shape("keras_sequential", "Keras 3, `model.export`: signatures `serve` and `serving_default`", PROVED),
    Shape("keras_heads", "Keras 3, two inputs and two heads, one of rank 3", PROVED),
    Shape("cnn", "uint8 images, preprocessing in the graph, convolution, batch normalization", PROVED),
    Shape("lstm", "sequences of any length", PROVED),
    Shape("embedding", "int64 words in, a unit vector out", PROVED),
    Shape(
        "mixed_float16",
        "Keras' `mixed_float16`: float32 in, half out",
        NOT_IN_JSON.format("half (output output_0)"),
    ),
    Shape(
        "mixed_bfloat16",
        "Keras' `mixed_bfloat16`: float32 in, bfloat16 out",
        NOT_IN_JSON.format("bfloat16 (output output_0)"),
    ),
    Shape("half", "half in and out, NaN and the largest", NOT_IN_JSON.format("half (input x)")),
    Shape("bfloat16", "bfloat16 in and out, infinity", NOT_IN_JSON.format("bfloat16 (input x)")),
    Shape(
        "complex_numbers", "a spectrum; complex128 in and out", NOT_IN_JSON.format("complex64 (output waves)")
    ),
    Shape(
        "whole_numbers",
        "every integer type with its limits, bool, float64",
        "proved; REST in part, else JSON cannot carry uint16 (input x)",
    ),
    Shape("text", "strings in and out, beside Classify of numbers", PROVED),
    Shape(
        "binary_strings",
        "strings out that are no text, or end in a zero",
        NOT_IN_JSON.format("bytes that are no text (output ends_in_zero)"),
    ),
    Shape("tf_module", "`tf.Module`, y = x / 2 + 2", PROVED),
    Shape("tf1_builder", "TensorFlow 1's builder: Predict, Classify and Regress of one network", PROVED),
    Shape("regress_only", "Regress, features int64 and float", PROVED),
    Shape("classify_only", "Classify, classes without scores", PROVED),
    Shape(
        "other_methods", "Classify and Regress on a signature of Predict, Predict on one of Regress", PROVED
    ),
    Shape("logits_beside_classes", "Predict gives logits, Classify probabilities", PROVED),
    Shape(
        "defaults",
        "an input with a default, asked with and without it",
        "proved; REST in part, else REST takes no request without input scale, which has a default",
    ),
    Shape(
        "no_inputs",
        "a signature without inputs",
        "proved; REST left out: REST takes no request without inputs",
    ),
    Shape("scalars", "scalar inputs and outputs", PROVED),
    Shape("static_batch", "a batch of four and no other, beside Classify of any", PROVED),
    Shape("no_rows", "an output of shape [0, 3]", NOT_IN_JSON.format("the shape [0, 3] (output kept)")),
    Shape("table_of_an_asset", "a lookup table that is filled from an asset", PROVED),
    Shape("image_bytes", "PNG in, decoded in the graph", PROVED),
    Shape("large", "300 MB of weights", PROVED),
    Shape(
        "random",
        "`tf.random` in one of two outputs",
        "proved; some outputs by dtype and shape only",
    ),
    Shape(
        "random_length",
        "`tf.random` for the size too",
        "proved; some outputs by dtype and shape only",
    ),
    Shape(
        "sparse",
        "a sparse input",
        "refused: it has no signature a server could answer; signature serving_default takes a sparse tensor (input "
        "bag), which no TensorFlow Serving carries",
    ),
    Shape("ragged", "a ragged output, and a signature without one", PROVED),
    Shape(
        "text_op",
        "an op of TensorFlow Text",
        "refused: it runs ops that TensorFlow does not have: CaseFoldUTF8",
    ),
    Shape(
        "text_op, image.server: tensorflow", "the same for Google's server", "asked without recorded answers"
    ),
    Shape(
        "op_of_nobody", "an op of the user's own", "refused: it runs ops that no model server has: OurOwnOp"
    ),
    Shape(
        "wrong_request",
        "a warm-up request of a wrong shape",
        "refused: TensorFlow does not answer request 1 (serving_default); Matrix size-incompatible: In[0]: [1,3], "
        "In[1]: [2,1]",
    ),
)
REFUSED = [shape for shape in ZOO if shape.result.startswith("refused")]
SERVED = [shape for shape in ZOO if shape.result.startswith(PROVED)]


@dataclass(frozen=True)
class Zoo:
    """told: what inspect and the model stage said of each."""

    models: Path
    told: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    folder = tmp_path_factory.mktemp("zoo")
    process.run([sys.executable, HERE / "zoo_apart.py", folder], env=ENVIRONMENT, timeout=600)
    yield Zoo(folder / "models", json.loads((folder / "told.json").read_text()))
    shutil.rmtree(folder)  # a few hundred MB


@pytest.fixture(scope="module")
def server(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One portable server with every model that the stage let pass; their warm-up requests come first."""
    folder = tmp_path_factory.mktemp("serving")
    listed = "".join(
        f'config {{ name: "{one.name}" base_path: "{zoo.models / one.name}" model_platform: "tensorflow" }}\n'
        for one in SERVED
    )
    (folder / "models.config").write_text(f"model_config_list {{\n{listed}}}\n")
    starter = StartServer(folder)
    try:
        yield starter(f"--model_config_file={folder / 'models.config'}")
    finally:
        starter.end()


@dataclass(frozen=True)
class Directly:
    """A replica that is a process of this machine."""

    words = "loopback"

    def to(self, replica: Replica, port: int) -> AbstractContextManager[tuple[str, int]]:
        return nullcontext((replica.address, port))


def in_words(tried: Tried) -> str:
    """What the table says of a proof."""
    assert tried.report is not None, tried.error
    held = [*gates.answer_gates([tried.report], SmokeSettings()), gates.transports_gate([tried])]
    assert [gate for gate in held if not gate.ok] == [], gates.replica_proof(tried, 1, {}).error
    assert gates.replica_proof(tried, 1, {}).error == ""
    parts = [PROVED]
    if tried.report.by_form:
        parts.append("some outputs by dtype and shape only")
    if tried.not_over_rest:
        parts.append(f"REST {'in part, else' if tried.transports else 'left out:'} {tried.not_over_rest}")
    return "; ".join(parts)


@pytest.mark.parametrize("shape", SERVED, ids=lambda shape: shape.name)
def test_it_is_served_and_proved(zoo: Zoo, server: Server, shape: Shape) -> None:
    told = zoo.told[shape.name]
    assert told["refused"] == []
    asked = requests.read(Path(told["requests"]))
    replica = Replica("pod", "node", "127.0.0.1", server.port, server.rest_port)
    tried = ask_one(Directly(), replica, shape.name, asked, SmokeSettings(num_tests=NUM_TESTS))
    assert in_words(tried) == shape.result
    assert tried.report is not None
    assert tried.report.compared == tried.report.requests >= len(asked)


@pytest.mark.parametrize("shape", REFUSED, ids=lambda shape: shape.name)
def test_it_is_refused_before_anything_is_built(zoo: Zoo, shape: Shape) -> None:
    told = zoo.told[shape.name]
    what, *tail, action = told["refused"]
    assert action.startswith("  what to do: ")
    cause = "".join(f"; {line.removeprefix('  | ')}" for line in tail)
    place = re.escape(str(zoo.models / shape.name / "1"))
    assert re.sub(rf"^(image\.server: )?{place}", "it", what) + cause == shape.result.removeprefix(
        "refused: "
    )


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_request_the_model_does_not_take_is_told_by_what_was_wrong(
    server: Server, transport: Transport
) -> None:
    """The first line of TensorFlow's words, and not where in the graph it happened."""
    rows, whole = np.zeros((1, 3), np.float32), ({"x": np.array([1, 2, 3, 4])},)
    asked = [
        FixedRequest("predict", "scores", {"rows": rows}),
        FixedRequest("regress", "total", examples=whole),
    ]
    with connect(address(server, transport), transport) as client:
        failures = check(client, "tf1_builder", asked).failures
    assert "Matrix size-incompatible: In[0]: [1,3], In[1]: [4,3]" in failures[0]
    assert "Data type: int64 but expected type: float" in failures[1]
    assert not any("{{node" in failure or "?" in failure for failure in failures)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_regress_of_the_library(zoo: Zoo, server: Server, transport: Transport) -> None:
    (recorded,) = requests.read(Path(zoo.told["regress_only"]["requests"]))
    with connect(address(server, transport), transport) as client:
        answer = client.regress("regress_only", "serving_default", recorded.examples)
    assert recorded.expected is not None
    assert answer.outputs["outputs"].tolist() == recorded.expected["outputs"].tolist()


def address(server: Server, transport: Transport) -> str:
    return f"127.0.0.1:{server.port if transport == 'grpc' else server.rest_port}"


def test_what_inspect_and_the_stage_tell(zoo: Zoo) -> None:
    told = {name: (one["inspected"], one["notes"]) for name, one in zoo.told.items()}
    obstacle = "signature rows gives a ragged tensor (output doubled), which no TensorFlow Serving carries"
    assert f"WARNING: {obstacle}\n" in told["ragged"][0]
    assert told["ragged"][1] == [obstacle]
    assert "signature serving_default: input scale has a default and may be left out\n" in told["defaults"][0]
    assert "does not have the ops CaseFoldUTF8: only Google's server can serve it" in told["text_op"][0]
    (note,) = told["random"][1]
    assert note.startswith(
        "output noisy of signature serving_default is not the same twice: its dtype and shape"
    )
    assert told["tf_module"][1] == []


def test_a_model_for_googles_server_is_not_loaded_here(zoo: Zoo) -> None:
    told = zoo.told["text_op, image.server: tensorflow"]
    (note,) = told["notes"]
    assert "is not loaded here, for TensorFlow lacks CaseFoldUTF8: 1 of 1 warm-up requests have no" in note
    (asked,) = requests.read(Path(told["requests"]))
    assert asked.inputs["text"].tolist() == [b"To Be"]
    assert asked.expected is None


def test_every_model_made_is_in_the_table_and_the_table_in_the_docs(zoo: Zoo) -> None:
    assert list(zoo.told) == sorted(zoo.told, key=[shape.name for shape in ZOO].index)
    rows = [f"| {shape.name} | {shape.what} | {shape.result} |" for shape in ZOO]
    page = DOCS.read_text()
    assert "\n".join(["| model | what it is | what comes of it |", "| --- | --- | --- |", *rows]) in page
