"""Batching across requests: what each gets is what it gets alone, and who waits how long for whom."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway_client import messages

from .conftest import PREDICTION, Made, Server, StartServer, predict_request
from .protos import INT32, STRING, example, floats, tensor

CONFIG = """
model_config_list {{
  config {{ name: "net" base_path: "{models}/net" model_platform: "tensorflow" }}
  config {{ name: "shapes" base_path: "{models}/shapes" model_platform: "tensorflow" }}
}}
"""
# Long enough that all requests of a burst are in one batch however busy the machine is.
PARAMETERS = """
max_batch_size {{ value: {largest} }} batch_timeout_micros {{ value: {micros} }}
max_enqueued_batches {{ value: {batches} }} num_batch_threads {{ value: {threads} }}
thread_pool_name {{ value: "pool" }}
"""
Asked = tuple[str, bytes]


def batched(
    start: StartServer,
    made: Made,
    folder: Path,
    *flags: str,
    largest: int = 64,
    micros: int = 20_000,
    batches: int = 100,
    threads: int = 2,
    more: str = "",
    before: str = "",
) -> Server:
    (folder / "models.config").write_text(CONFIG.format(models=made.models))
    text = PARAMETERS.format(largest=largest, micros=micros, batches=batches, threads=threads) + more
    (folder / "batching.config").write_text(text)
    return start(
        f"--model_config_file={folder}/models.config",
        "--enable_batching",
        f"--batching_parameters_file={folder}/batching.config",
        *flags,
        before=before,
    )


@pytest.fixture(scope="module")
def always(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Batches whatever can be, rounded as it may be; for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("always")
    starter = StartServer(folder)
    running = batched(starter, made, folder, "--batching_same_bits=false")
    try:
        yield running
        assert not running.events("fault"), running.events("fault")
    finally:
        starter.end()


@pytest.fixture(scope="module")
def same_bits(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("same")
    starter = StartServer(folder)
    running = batched(starter, made, folder)
    try:
        yield running
        assert not running.events("fault"), running.events("fault")
    finally:
        starter.end()


def ask_all(server: Server, requests: Sequence[Asked]) -> list[bytes | tuple[Any, str]]:
    """All at once; each answer, or the code and the text of a refusal."""
    calls = [
        server.channel.unary_unary(f"/{PREDICTION}/{api}").future(raw, timeout=60) for api, raw in requests
    ]
    out: list[bytes | tuple[Any, str]] = []
    for call in calls:
        try:
            out.append(call.result())
        except grpc.RpcError as error:
            out.append((error.code(), error.details()))
    return out


def images(rows: int, seed: int) -> Asked:
    values = [random.Random(seed).random() for _ in range(rows * 784)]
    return "Predict", predict_request(
        "net", "predict_images", images=floats([rows, 784], values)
    ).SerializeToString()


def classify(rows: int, seed: int) -> Asked:
    request = messages.ClassificationRequest()
    request.model_spec.name = "net"
    for row in range(rows):
        values = [random.Random(seed * 100 + row).random() for _ in range(784)]
        request.input.example_list.examples.append(example(x=values))
    return "Classify", request.SerializeToString()


def regress(value: float, rows: int = 1) -> Asked:
    request = messages.RegressionRequest()
    request.model_spec.name = "shapes"
    request.model_spec.signature_name = "regress"
    for row in range(rows):
        request.input.example_list.examples.append(example(x=[value + row]))
    return "Regress", request.SerializeToString()


def shapes(signature: str, **inputs: Any) -> Asked:
    return "Predict", predict_request("shapes", signature, **inputs).SerializeToString()


def recorded(made: Made) -> list[Asked]:
    """A request for each of TensorFlow's own answers."""
    out = []
    for case in made.answers:
        request = predict_request(case["model"], case["signature"])
        for name, proto in case["inputs"].items():
            request.inputs[name].ParseFromString(proto)
        out.append(("Predict", request.SerializeToString()))
    return out


def batches(server: Server) -> dict[str, float]:
    """Sum and count of the rows of the batches there were."""
    text = server.http("/monitoring/prometheus/metrics")[1]
    name = ":tensorflow:serving:batching_session:processed_batch_size_"
    found = (line.removeprefix(name).split() for line in text.splitlines() if line.startswith(name))
    return {key: float(value) for key, value in found if key in ("sum", "count")}


MIXED: Sequence[Asked] = [
    *(images(rows, seed) for seed, rows in enumerate((1, 2, 3, 1, 5, 2, 1, 8))),
    *(classify(rows, seed) for seed, rows in enumerate((1, 2, 1, 3))),
    *(regress(value, rows) for value, rows in ((0.1, 1), (1.7, 2), (-3.3, 1))),
    *(shapes("half_plus_three", x=floats([2], [value, 1 / 3])) for value in (0.1, 0.7, 1e30)),
    *(shapes("two", a=floats([1, 2], [value, 2]), b=floats([1, 2], [1e-3, value])) for value in (0.1, 3)),
    *(shapes("two_defaulted", a=floats([1, 2], [value, 2])) for value in (0.1, 3)),
    *(
        shapes("reverse", text=tensor(STRING, [2], string_val=[text, b"\x00" * 70]))
        for text in (b"a", b"", b"\xff")
    ),
    *(shapes("reverse", text=tensor(STRING, [2, 2], string_val=[b"x"] * 4)) for _ in range(2)),
    *(shapes("constant", x=floats([1], [value])) for value in (1, 2)),
    *(shapes("spin", n=tensor(INT32, [], int_val=[n])) for n in (1, 2)),
    *(shapes("half_plus_three", x=floats([0], [])) for _ in range(2)),
]


@pytest.fixture(scope="module")
def alone(server: Server) -> Callable[[Sequence[Asked]], list[Any]]:
    """What a server without batching answers, one by one."""
    return lambda requests: [ask_all(server, [request])[0] for request in requests]


def test_every_request_gets_the_bits_it_gets_alone(
    same_bits: Server, made: Made, alone: Callable[[Sequence[Asked]], list[Any]]
) -> None:
    requests = [*MIXED, *recorded(made)]
    wanted = alone(requests)
    order = list(range(len(requests)))
    for seed in range(6):  # also once trials have passed
        random.Random(seed).shuffle(order)
        answers = ask_all(same_bits, [requests[at] for at in order])
        assert [at for at, answer in zip(order, answers, strict=True) if answer != wanted[at]] == []
    found = batches(same_bits)
    assert found["sum"] > found["count"] > 0  # some were run together


def test_a_request_that_is_rounded_otherwise_in_a_batch_is_run_alone_from_then_on(
    same_bits: Server, alone: Callable[[Sequence[Asked]], list[Any]]
) -> None:
    # TensorFlow multiplies few rows by a matrix with other code than many: one row where the processor has AVX-512,
    # two, three and eight as well where it has not.
    requests = [images(1, seed) for seed in range(20)]
    assert ask_all(same_bits, requests) == alone(requests)
    told = [
        event["rows"] for event in same_bits.events("not_batched") if event["signature"] == "predict_images"
    ]
    assert len(told) == len({tuple(rows) for rows in told}), "each is found out once"
    before = batches(same_bits)["sum"]
    assert ask_all(same_bits, requests) == alone(requests)
    assert batches(same_bits)["sum"] - before == (0 if [1] in told else len(requests))


def test_requests_of_a_burst_are_run_together(
    always: Server, alone: Callable[[Sequence[Asked]], list[Any]]
) -> None:
    requests = [images(1, seed) for seed in range(32)]
    before = batches(always)
    answers = ask_all(always, requests)
    rows = {key: value - before.get(key, 0) for key, value in batches(always).items()}
    assert rows["sum"] > rows["count"]
    for answer, wanted in zip(answers, alone(requests), strict=True):
        assert isinstance(answer, bytes)
        ours, theirs = (messages.PredictResponse.FromString(raw) for raw in (answer, wanted))
        assert ours.model_spec == theirs.model_spec
        assert ours.outputs["scores"].float_val == pytest.approx(theirs.outputs["scores"].float_val, abs=1e-5)


def test_what_differs_does_not_mix(always: Server, alone: Callable[[Sequence[Asked]], list[Any]]) -> None:
    # Sums and copies round alike whatever is beside them, so whoever gets a neighbour's rows is found.
    requests = [request for request in MIXED if b"net" not in request[1]]
    order = list(range(len(requests)))
    wanted = alone(requests)
    for seed in range(3):
        random.Random(seed).shuffle(order)
        answers = ask_all(always, [requests[at] for at in order])
        assert answers == [wanted[at] for at in order]


def test_rest_and_grpc_wait_together(always: Server) -> None:
    before = batches(always)
    body = {"signature_name": "half_plus_three", "inputs": {"x": [1.0, 2.0]}}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: always.http("/v1/models/shapes:predict", body), range(8)))
    assert answers == [(200, {"outputs": [3.5, 4.0]})] * 8
    rows = {key: value - before.get(key, 0) for key, value in batches(always).items()}
    assert rows["count"] < 8


def test_a_request_at_fault_spoils_no_other(
    always: Server, alone: Callable[[Sequence[Asked]], list[Any]]
) -> None:
    broken = messages.RegressionRequest()
    broken.ParseFromString(regress(1.0)[1])
    broken.input.example_list.examples.append(example(x=[1, 2]))
    requests = [regress(0.5), regress(2.5), ("Regress", broken.SerializeToString()), regress(4.5)]
    answers = ask_all(always, requests)
    assert answers == alone(requests)
    assert [isinstance(answer, bytes) for answer in answers] == [True, True, False, True]
    assert ask_all(always, requests[:2]) == answers[:2]


def test_too_many_rows_are_refused_in_upstreams_words(always: Server) -> None:
    words = "Task size 65 is larger than maximum input batch size 64"
    assert ask_all(always, [halves(65)]) == [(grpc.StatusCode.INVALID_ARGUMENT, words)]


def halves(rows: int) -> Asked:
    return shapes("half_plus_three", x=floats([rows], [1.0] * rows))


class Held:
    """A server whose runs begin, and go on when told to."""

    def __init__(self, start: StartServer, made: Made, folder: Path) -> None:
        self.models = made.models
        self.gate = folder / "closed"
        self.gate.touch()
        self.server = batched(
            start,
            made,
            folder,
            *("--batching_same_bits=false", f"--reload_folders={made.models}"),
            largest=2,
            batches=2,
            threads=1,
            before=HOLD.format(gate=str(self.gate)),
        )
        # One run is under way, in the only thread for batches.
        self.first = self.ask(2)
        self.server.wait_for("run_begins")

    def ask(self, rows: int, timeout: float = 60) -> Any:
        api, raw = halves(rows)
        return self.server.channel.unary_unary(f"/{PREDICTION}/{api}").future(raw, timeout=timeout)


HOLD = """
import os, time
from slipway_server import log, runtime
run = runtime.Session.run
def held(self, *arguments):
    log.event("run_begins")
    while os.path.exists({gate!r}):
        time.sleep(0.01)
    return run(self, *arguments)
runtime.Session.run = held
"""


@pytest.fixture
def held(start: StartServer, made: Made, tmp_path: Path) -> Held:
    return Held(start, made, tmp_path)


def test_a_full_queue_refuses_in_upstreams_words(held: Held) -> None:
    calls = [held.ask(2) for _ in range(3)]
    refused: list[Any] = []
    while not refused:  # two wait, so the third is answered at once; gRPC may bring them in any order
        refused = [call for call in calls if call.done()]
        time.sleep(0.01)
    assert [(call.code(), call.details()) for call in refused] == [
        (
            grpc.StatusCode.UNAVAILABLE,
            "The batch scheduling queue to which this task was submitted is full; currently 2 batches "
            "enqueued and max_enqueued_batches is 2",
        )
    ]
    held.gate.unlink()
    served = [held.first, *(call for call in calls if call not in refused)]
    assert len({call.result() for call in served}) == 1
    assert held.server.stop() == 0


def test_who_left_is_left_out_of_the_batch(held: Held) -> None:
    left = held.ask(1, timeout=0.2)
    with pytest.raises(grpc.RpcError):
        left.result()
    assert left.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stays = held.ask(1)
    held.gate.unlink()
    answer = messages.PredictResponse.FromString(stays.result())
    assert list(answer.outputs["y"].float_val) == [3.5]
    # Two rows would have been a batch; one row alone is none.
    assert batches(held.server) == {}
    assert len(held.server.events("run_begins")) == 2
    assert held.server.stop() == 0


def test_a_batch_keeps_its_version_though_its_callers_left(held: Held) -> None:
    held.first.cancel()
    request = messages.ReloadConfigRequest()
    path = str(held.models / "net")
    request.config.model_config_list.config.add(name="net", base_path=path, model_platform="tensorflow")
    held.server.reload(request)
    assert [event["in_flight"] for event in held.server.events("version_retiring")] == [1]
    assert not held.server.events("version_unloaded")
    held.gate.unlink()
    held.server.wait_for("version_unloaded")
    assert held.server.stop() == 0


def test_sizes_are_padded_to_allowed_ones(
    made: Made, start: StartServer, tmp_path: Path, alone: Callable[[Sequence[Asked]], list[Any]]
) -> None:
    server = batched(
        start, made, tmp_path, "--batching_same_bits=false", largest=8, more="allowed_batch_sizes: [4, 8]"
    )
    requests = [
        shapes("half_plus_three", x=floats([3], [1.0, 2.0, 3.0])),
        shapes("reverse", text=tensor(STRING, [1, 2], string_val=[b"a", b"bc"])),
    ]
    for request in requests:
        before = batches(server)
        assert ask_all(server, [request]) == alone([request])
        assert {key: value - before.get(key, 0) for key, value in batches(server).items()} == {
            "sum": 4,
            "count": 1,
        }


def test_a_version_with_its_own_parameters_is_batched_and_no_other(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    shutil.copytree(made.models / "shapes", tmp_path / "own")
    (tmp_path / "own/1/batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    shutil.copytree(made.models / "shapes", tmp_path / "none")
    names = ("own", "none")
    (tmp_path / "models.config").write_text(
        "model_config_list {"
        + "".join(
            f'config {{ name: "{name}" base_path: "{tmp_path}/{name}" model_platform: "tensorflow" }}'
            for name in names
        )
        + "}"
    )
    server = start(
        f"--model_config_file={tmp_path}/models.config",
        "--enable_batching",
        "--enable_per_model_batching_parameters",
    )
    three = {"x": floats([3], [1, 2, 3])}
    own, none = (
        ask_all(server, [("Predict", predict_request(name, "half_plus_three", **three).SerializeToString())])[
            0
        ]
        for name in names
    )
    refused = "Task size 3 is larger than maximum input batch size 2"
    assert own == (grpc.StatusCode.INVALID_ARGUMENT, refused)
    assert isinstance(none, bytes)
    assert server.stop() == 0
