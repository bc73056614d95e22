"""What flags of TensorFlow Serving do, beyond those that other files are about."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from slipway_client import messages
from slipway_server import __main__, __version__
from slipway_server.reflection import MOST_STREAMS, Reflection

from .conftest import PREDICTION, Made, Server, StartServer, predict_request
from .protos import example, floats
from .test_warmup import predict_log, record

REQUEST = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}


@pytest.fixture(scope="module")
def opened(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with much switched on that does not get into its own way."""
    folder = tmp_path_factory.mktemp("flags")
    config = folder / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "{made.models}/{name}" model_platform: "tensorflow" }}'
        for name in ("net", "shapes")
    )
    config.write_text(f"model_config_list {{ {models} }}")
    starter = StartServer(folder)
    yield starter(
        *(f"--model_config_file={config}", f"--grpc_socket_path={folder}/serving.sock"),
        *("--rest_api_enable_cors_support", "--access_log", "--tensorflow_session_parallelism=4"),
        "--grpc_channel_arguments=grpc.max_concurrent_streams=100,grpc.max_connection_age_ms=600000",
    )
    starter.end()


def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    failure: Any = caught.value
    return failure.code(), failure.details()


def answer(
    server: Server, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        response.read()
        return response.status, dict(response.getheaders())
    finally:
        connection.close()


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--version"]) == 0
    assert capsys.readouterr().out == (f"slipway-model-server: {__version__}\nTensorFlow Library: 2.21.0\n")


def test_what_has_no_effect_is_told_in_the_log(opened: Server) -> None:
    (told,) = opened.events("flag_ignored")
    assert (told["flag"], told["value"]) == ("tensorflow_session_parallelism", "4")
    assert "one thread" in told["because"]


def test_a_unix_socket_answers_beside_the_port(opened: Server) -> None:
    path = opened.log.parent / "serving.sock"
    with grpc.insecure_channel(f"unix:{path}") as channel:
        raw = channel.unary_unary(f"/{PREDICTION}/Predict")(REQUEST.SerializeToString(), timeout=30)
    assert messages.PredictResponse.FromString(raw) == opened.predict(REQUEST)


def test_cors_headers_are_upstreams(opened: Server, server: Server) -> None:
    # model_servers/http_rest_api_util.cc:40, on every answer of the API, errors and preflights too
    origin = {"Origin": "https://page.example"}
    for method, path, status in (
        ("GET", "/v1/models/net", 200),
        ("GET", "/v1/models/absent", 404),
        ("OPTIONS", "/v1/models/net:predict", 200),
    ):
        code, headers = answer(opened, method, path, **origin)
        assert code == status
        assert CORS.items() <= headers.items()
        assert not CORS.keys() & answer(server, method, path, **origin)[1].keys()


def test_metrics_are_on_without_a_monitoring_file(opened: Server, made: Made, start: StartServer) -> None:
    status, text = opened.http("/monitoring/prometheus/metrics")
    assert status == 200
    assert ":tensorflow:serving:request_count" in text
    off = opened.log.parent / "monitoring.config"
    off.write_text("prometheus_config { enable: false }")
    silent = start(
        "--model_name=net", f"--model_base_path={made.models}/net", f"--monitoring_config_file={off}"
    )
    assert silent.http("/monitoring/prometheus/metrics")[0] == 404


def test_channel_arguments_reach_grpc(opened: Server) -> None:
    # HTTP/2's first frame of the server has its settings: 3 is the most concurrent streams
    with socket.create_connection(("127.0.0.1", opened.port), 30) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        received = b""
        while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3]):
            received += connection.recv(4096)
    settings = received[9 : 9 + int.from_bytes(received[:3])]
    pairs = [settings[at : at + 6] for at in range(0, len(settings), 6)]
    assert (3).to_bytes(2) + (100).to_bytes(4) in pairs


def test_the_access_log_has_a_line_for_each_request(opened: Server) -> None:
    count = len(opened.events("request"))
    opened.predict(REQUEST)
    code, _ = refused(lambda: opened.predict(predict_request("absent")))
    assert code is grpc.StatusCode.NOT_FOUND
    opened.status("net")
    body = {"signature_name": "half_plus_three", "instances": [1.0]}
    assert answer(opened, "POST", "/v1/models/shapes:predict", body)[0] == 200
    assert answer(opened, "GET", "/v1/models/absent/metadata")[0] == 404
    opened.wait_for("request", count=count + 5)
    lines = opened.events("request")[count:]
    assert [
        (one["entrypoint"], one["method"], one["model"], one["version"], one["code"]) for one in lines
    ] == [
        ("GRPC", "Predict", "net", 2, "OK"),
        ("GRPC", "Predict", "absent", None, "NOT_FOUND"),
        ("GRPC", "GetModelStatus", "net", None, "OK"),
        ("REST", "POST /v1/models/shapes:predict", "shapes", 1, 200),
        ("REST", "GET /v1/models/absent/metadata", "absent", None, 404),
    ]
    assert lines[0]["bytes_in"] == len(REQUEST.SerializeToString())
    assert lines[0]["bytes_out"] == len(opened.predict(REQUEST).SerializeToString())
    assert lines[3]["bytes_in"] == len(json.dumps(body))
    assert all(one["seconds"] > 0 and one["peer"].startswith("ipv4:127.0.0.1:") for one in lines)


def test_warm_up_is_repeated_or_left_out(made: Made, start: StartServer, tmp_path: Path) -> None:
    version = tmp_path / "net" / "1"
    (version / "assets.extra").mkdir(parents=True)
    for part in ("saved_model.pb", "variables"):
        (version / part).symlink_to(made.models / "net" / "1" / part)
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(
        record(predict_log().SerializeToString())
    )
    flags = ("--model_name=net", f"--model_base_path={tmp_path}/net")
    for more, told, runs in (
        ("--num_request_iterations_for_warmup=3", 1, 3),
        ("--enable_model_warmup=false", 0, 0),
    ):
        server = start(*flags, more)
        assert server.events("version_available")[0]["warmup_requests"] == told
        text = server.http("/monitoring/prometheus/metrics")[1]
        count = [line for line in text.splitlines() if "runtime_latency_count" in line]
        assert [int(line.rpartition(" ")[2]) for line in count] == [runs] * bool(runs)


def test_a_graph_is_chosen_by_all_of_its_tags(made: Made, start: StartServer) -> None:
    server = start("--model_name=net", f"--model_base_path={made.models}/net", "--saved_model_tags=serve,gpu")
    assert "Could not find meta graph def matching supplied tags: { gpu serve }" in (
        server.events("version_failed")[0]["error"].replace("serve gpu", "gpu serve")
    )


# ---- MultiInference ----------------------------------------------------------------------------


def multi(*tasks: tuple[str, str, str], rows: int = 1) -> Any:
    """A MultiInferenceRequest. tasks: model, signature and method; rows: of examples."""
    request = messages.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    for row in range(rows):
        request.input.example_list.examples.append(
            example(x=[0.5 + row] * (784 if tasks[:1] == (NET,) else 1))
        )
    return request


NET = ("net", "", "tensorflow/serving/classify")
REGRESS = ("shapes", "regress", "tensorflow/serving/regress")


def infer(server: Server, request: Any) -> Any:
    raw = server.raw(f"{PREDICTION}/MultiInference", request.SerializeToString())
    return messages.MultiInferenceResponse.FromString(raw)


def test_multi_inference_answers_as_classify_and_regress_do(opened: Server) -> None:
    request = multi(REGRESS, rows=3)
    (result,) = infer(opened, request).results
    alone = messages.RegressionRequest(input=request.input, model_spec=request.tasks[0].model_spec)
    expected = opened.regress(alone)
    assert result.regression_result == expected.result
    assert len(expected.result.regressions) == 3
    assert result.model_spec == expected.model_spec
    request = multi(NET)
    (result,) = infer(opened, request).results
    single = messages.ClassificationRequest(input=request.input, model_spec=request.tasks[0].model_spec)
    assert result.classification_result == opened.classify(single).result
    assert result.model_spec.signature_name == "serving_default"
    assert result.model_spec.version.value == 2


NARROW = ("shapes", "narrow", "tensorflow/serving/classify")
INVALID, UNIMPLEMENTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("tasks", "rows", "code", "words"),
    [
        # multi_inference_helper.cc: without tasks the default ModelSpec is asked for
        ((), 1, INVALID, "ModelSpec has no name specified."),
        # multi_inference.cc, Infer, in its order
        ((REGRESS, ("", "", "")), 1, INVALID, "Found ModelSpec with an empty model name."),
        (
            (REGRESS, NET),
            1,
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        ((REGRESS, REGRESS), 1, INVALID, "Duplicate evaluation of signature: regress"),
        (
            (("shapes", "", REGRESS[2]),),
            1,
            INVALID,
            "Requested signature not found in model graph: serving_default",
        ),
        (
            (("shapes", "regress", "tensorflow/serving/predict"),),
            1,
            UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            (("shapes", "half_plus_three", REGRESS[2]),),
            1,
            INVALID,
            "No regression inputs found in SignatureDef",
        ),
        ((REGRESS,), 0, INVALID, "Input is empty."),
        # both are computed in one run, and either's fault is the request's
        ((REGRESS, NARROW), 2, INVALID, "Expected scores output batch size of 2. Got: 3"),
    ],
)
def test_multi_inference_refuses_with_upstreams_codes_and_words(
    opened: Server, tasks: tuple[tuple[str, str, str], ...], rows: int, code: grpc.StatusCode, words: str
) -> None:
    found, details = refused(lambda: infer(opened, multi(*tasks, rows=rows)))
    assert found is code
    assert details.startswith(words)


# ---- reflection --------------------------------------------------------------------------------


def test_reflection_tells_the_whole_api(opened: Server) -> None:

    kinds = Reflection(health=True)
    for package in ("grpc.reflection.v1", "grpc.reflection.v1alpha"):
        call = opened.channel.stream_stream(f"/{package}.ServerReflection/ServerReflectionInfo")

        def ask(call: Any = call, **question: str) -> Any:
            (raw,) = call(iter([kinds._request(**question).SerializeToString()]), timeout=30)
            return kinds._response.FromString(raw)

        names = [one.name for one in ask(list_services="").list_services_response.service]
        assert names[:3] == [
            "tensorflow.serving.PredictionService",
            "tensorflow.serving.ModelService",
            "grpc.health.v1.Health",
        ]
        # what a client does: a pool of the files that it is sent, and the methods that it finds there
        for name in names:
            pool = descriptor_pool.DescriptorPool()
            sent = ask(file_containing_symbol=name).file_descriptor_response.file_descriptor_proto
            files = {file.name: file for file in map(descriptor_pb2.FileDescriptorProto.FromString, sent)}
            while files:
                ready = next(file for file in files.values() if not set(file.dependency) & set(files))
                pool.Add(files.pop(ready.name))
            service = pool.FindServiceByName(name)
            assert service.methods
            assert all(method.input_type.fields for method in service.methods)
        assert ask(file_containing_symbol="no.such.Thing").error_response.error_code == 5


def test_reflection_streams_are_few_and_end_with_the_server(made: Made, start: StartServer) -> None:
    server = start("--model_name=net", f"--model_base_path={made.models}/net")
    kinds = Reflection(health=False)
    question = kinds._request(list_services="").SerializeToString()
    call = server.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    ended = threading.Event()

    def asked_and_kept_open() -> Iterator[bytes]:
        yield question
        ended.wait(60)

    streams = [call(asked_and_kept_open(), timeout=60) for _ in range(MOST_STREAMS)]
    try:
        for stream in streams:
            next(stream)
        code, words = refused(lambda: next(call(iter([question]), timeout=30)))
        assert (code, words) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many reflection streams already")
        server.process.send_signal(signal.SIGTERM)
        for stream in streams:
            assert refused(lambda it=stream: next(it)) == (grpc.StatusCode.UNAVAILABLE, "the server stops")
    finally:
        ended.set()
    assert server.process.wait(40) == 0
    assert not server.events("fault")


def test_reflection_can_be_switched_off(made: Made, start: StartServer) -> None:
    server = start("--model_name=net", f"--model_base_path={made.models}/net", "--grpc_reflection=false")
    call = server.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    code, _ = refused(lambda: list(call(iter([b""]), timeout=30)))
    assert code is grpc.StatusCode.UNIMPLEMENTED


# ---- a configuration file that is looked at again ----------------------------------------------


def test_a_config_file_is_taken_up_anew_and_a_bad_one_changes_nothing(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    config = tmp_path / "models.config"

    def write(*names: str, more: str = "") -> None:
        models = "".join(
            f'config {{ name: "{name}" base_path: "{made.models}/{name}" model_platform: "tensorflow" {more} }}'
            for name in names
        )
        config.with_name("next").write_text(f"model_config_list {{ {models} }}")
        config.with_name("next").replace(config)

    write("net")
    server = start(f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1")
    write("net", "shapes")
    assert server.wait_for("config_taken_up")["models"] == ["net", "shapes"]
    assert server.states("shapes") == {1: "AVAILABLE"}
    config.write_text("model_config_list {")
    told = server.wait_for("config_refused")
    assert "not a text-format ModelServerConfig" in told["error"]
    assert told["serving"] == ["net", "shapes"]
    write("net", "shapes", more='version_labels { key: "stable" value: 7 }')
    told = server.wait_for("config_refused", count=2)
    assert "Request to assign label to version 7 of model net" in told["error"]
    config.unlink()
    assert "cannot be read" in server.wait_for("config_refused", count=3)["error"]
    assert server.states("net") == {2: "AVAILABLE"}
    write("shapes")
    server.wait_for("config_taken_up", count=2)
    code, _ = refused(lambda: server.predict(REQUEST))
    assert code is grpc.StatusCode.NOT_FOUND
    assert not server.events("fault")
