"""The REST API: forms, bodies, codes; what TensorFlow Serving's users write and read."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import struct
from typing import Any

import pytest
from slipway_server.metrics import Metrics

from .conftest import Server, predict_request
from .protos import content, floats

NET = "/v1/models/net"
SHAPES = "/v1/models/shapes"


def images(rows: int) -> list[list[float]]:
    return [[(row * 31 + at) % 256 / 255 for at in range(784)] for row in range(rows)]


def over_grpc(server: Server, pixels: list[list[float]]) -> list[float]:
    proto = floats([len(pixels), 784], [value for line in pixels for value in line])
    response = server.predict(predict_request("net", "predict_images", images=proto))
    return list(struct.unpack(f"<{len(pixels) * 10}f", content(response.outputs["scores"])))


def single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def test_row_and_column_form_agree_with_grpc_to_the_bit(server: Server) -> None:
    pixels = images(3)
    expected = over_grpc(server, pixels)
    status, rows = server.http(f"{NET}:predict", {"signature_name": "predict_images", "instances": pixels})
    assert status == 200
    assert [single(value) for line in rows["predictions"] for value in line] == expected
    named = [{"images": line} for line in pixels]
    assert server.http(f"{NET}:predict", {"signature_name": "predict_images", "instances": named}) == (
        200,
        rows,
    )
    for inputs in (pixels, {"images": pixels}):
        body = {"signature_name": "predict_images", "inputs": inputs}
        assert server.http(f"{NET}:predict", body) == (200, {"outputs": rows["predictions"]})


def test_several_outputs_are_objects_by_name(server: Server) -> None:
    given = {"a": [[1.0, 2.0], [3.0, 4.0]], "b": [[0.5, 0.5], [1.0, 1.0]]}
    status, body = server.http(f"{SHAPES}:predict", {"signature_name": "two_defaulted", "inputs": given})
    assert status == 200
    assert body["outputs"] == {
        "sum": [[1.5, 2.5], [4.0, 5.0]],
        "difference": [[0.5, 1.5], [2.0, 3.0]],
        "rows": 2,
    }
    # A scalar has no row per instance: util/json_tensor.cc, MakeRowFormatJsonFromTensors
    rows = [{"a": [1, 2], "b": [3, 4]}]
    status, body = server.http(f"{SHAPES}:predict", {"signature_name": "two", "instances": rows})
    assert (status, body) == (400, {"error": "Tensor name: rows has no shape information "})


def test_versions_in_the_path(server: Server) -> None:
    body = {"signature_name": "predict_images", "instances": images(1)}
    newest = server.http(f"{NET}:predict", body)
    assert server.http(f"{NET}/versions/2:predict", body) == newest
    status, older = server.http(f"{NET}/versions/1:predict", body)
    assert status == 200
    assert older != newest[1]
    assert server.http(f"{NET}/versions/3:predict", body)[0] == 404
    assert server.http(f"{NET}/labels/stable:predict", body) == (
        400,
        {"error": "Unrecognized servable version label: stable"},
    )


def test_classify_and_regress(server: Server) -> None:
    pixels = images(2)
    status, body = server.http(f"{NET}:classify", {"examples": [{"x": line} for line in pixels]})
    assert status == 200
    scores = over_grpc(server, pixels)
    for row, line in enumerate(body["results"]):
        assert len(line) == 10
        assert all(single(score) == scores[row * 10 + int(label)] for label, score in line)
        assert line == sorted(line, key=lambda pair: -pair[1])
    context = {"context": {"x": pixels[0]}, "examples": [{}]}
    alone = {"examples": [{"x": pixels[0]}]}
    assert server.http(f"{NET}:classify", context) == server.http(f"{NET}:classify", alone)
    asked = {"signature_name": "regress", "examples": [{"x": 2.0}, {"x": [-1.0]}, {}]}
    assert server.http(f"{SHAPES}:regress", asked) == (200, {"results": [7.0, 1.0, 5.0]})


def test_strings_and_base64(server: Server) -> None:
    raw = b"\xff\x00\xfe"
    given = [{"b64": base64.b64encode(raw).decode()}, "text"]
    status, body = server.http(f"{SHAPES}:predict", {"signature_name": "echo_string", "instances": given[1:]})
    assert (status, body) == (200, {"predictions": ["text"]})
    status, body = server.http(f"{SHAPES}:predict", {"signature_name": "reverse", "inputs": [given[1]]})
    assert body["outputs"] == {
        "text_bytes": [{"b64": base64.b64encode(b"texttext").decode()}],  # the suffix says: bytes
        "text": ["text"],
        "length": [4],
    }
    asked = {"signature_name": "reverse", "inputs": {"b64": base64.b64encode(b"\x00\x01").decode()}}
    status, body = server.http(f"{SHAPES}:predict", asked)
    assert body["outputs"]["text_bytes"] == {"b64": base64.b64encode(b"\x00\x01\x00\x01").decode()}
    assert body["outputs"]["length"] == 2


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("echo_float32", [1.5, 0.1, 1e30, 3.0]),
        ("echo_float64", [0.1, 1e300, 1 / 3]),
        ("echo_int8", [-128, 127]),
        ("echo_int16", [-32768, 5]),
        ("echo_int32", [-(2**31), 2**31 - 1]),
        ("echo_int64", [-(2**63), 2**63 - 1]),
        ("echo_uint8", [0, 255]),
        ("echo_uint32", [0, 2**32 - 1]),
        ("echo_uint64", [0, 2**64 - 1]),
        ("echo_bool", [True, False]),
        ("echo_string", ["a", "", "\u00fc\u4e16"]),
    ],
)
def test_dtypes_come_back_as_they_went(server: Server, signature: str, values: list[Any]) -> None:
    asked = {"signature_name": signature, "instances": values}
    assert server.http(f"{SHAPES}:predict", asked) == (200, {"predictions": values})
    asked = {"signature_name": signature, "inputs": [values, values]}
    assert server.http(f"{SHAPES}:predict", asked) == (200, {"outputs": [values, values]})
    asked = {"signature_name": signature, "inputs": values[0]}
    assert server.http(f"{SHAPES}:predict", asked) == (200, {"outputs": values[0]})


def test_nan_and_infinity_go_through(server: Server) -> None:
    body = b'{"signature_name": "echo_float32", "instances": [NaN, Infinity, -Infinity]}'
    request = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    request.request("POST", f"{SHAPES}:predict", body)
    text = request.getresponse().read().decode()
    request.close()
    assert text == '{\n    "predictions": [NaN, Infinity, -Infinity\n    ]\n}'


def test_half_is_not_for_json(server: Server) -> None:
    # util/json_tensor.cc, AddValueToTensor: a dtype without a JSON form
    status, body = server.http(f"{SHAPES}:predict", {"signature_name": "echo_half", "inputs": [1.0]})
    assert (status, body) == (501, {"error": "Conversion of JSON Value: 1.0 to type: half"})


def test_status_and_metadata(server: Server) -> None:
    status, body = server.http(NET)
    assert status == 200
    assert body["model_version_status"] == [
        {"version": str(number), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for number in (2, 1)
    ]
    assert server.http(f"{NET}/versions/1")[1]["model_version_status"][0]["version"] == "1"
    status, body = server.http(f"{NET}/metadata")
    assert body["model_spec"] == {"name": "net", "signature_name": "", "version": "2"}
    signature = body["metadata"]["signature_def"]["signature_def"]["predict_images"]
    assert signature["inputs"]["images"]["dtype"] == "DT_FLOAT"
    assert signature["method_name"] == "tensorflow/serving/predict"


# path, body (None: GET), HTTP code, pattern of the whole error text, where upstream has it
REFUSED: list[tuple[str, Any, int, str, str]] = [
    (f"{NET}:predict", b"", 400, "JSON Parse error: The document is empty", "util/json_tensor.cc, ParseJson"),
    (f"{NET}:predict", b"[1]", 400, r"JSON Value: \[1\] Is not object", "util/json_tensor.cc, ParseJson"),
    (
        f"{NET}:predict",
        b'{"a": ',
        400,
        "JSON Parse error: not valid JSON at offset 6",
        "util/json_tensor.cc:486, ParseJson",
    ),
    (
        f"{NET}:predict",
        b'{"a": "\xff"}',
        400,
        "Missing 'inputs' or 'instances' key",
        "raw bytes are accepted",
    ),
    (f"{NET}:predict", b'{"a": ' + b"9" * 5000 + b"}", 400, "JSON Parse error: .*", "ParseJson"),
    (
        f"{NET}:predict",
        {"signature_name": 7},
        400,
        ".*'signature_name' key must be a string value.",
        "FillSignature",
    ),
    (
        f"{NET}:predict",
        {"signature_name": "nothing", "instances": [1]},
        400,
        'Serving signature name: "nothing" not found in signature def',
        "model_servers/http_rest_api_handler.cc, GetInfoMap",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "two"},
        400,
        "Missing 'inputs' or 'instances' key",
        "FillPredictRequest",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "two", "inputs": 1, "instances": [1]},
        400,
        ".*expecting only one of 'inputs' or 'instances' keys to exist ",
        "FillPredictRequestFromJson",
    ),
    (
        f"{NET}:predict",
        {"instances": 1},
        400,
        ".*Expecting 'instances' to be an list/array",
        "FillPredictRequest",
    ),
    (
        f"{NET}:predict",
        {"instances": []},
        400,
        ".*No values in 'instances' array",
        "FillPredictRequestFromJson",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "two", "instances": [[1, 2]]},
        400,
        "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
        "tensorinfo_map",
        "FillTensorMapFromInstancesList",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "two", "instances": [{"a": [1, 2]}]},
        400,
        r"Failed to process element: 0 of 'instances' list\. JSON object: .* keys must be equal to: a,b",
        "FillTensorMapFromInstancesList",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "two", "instances": [{"a": [1, 2], "b": [1, 2]}, 5]},
        400,
        "Expecting object but got list at item 1 of input list",
        "FillTensorMapFromInstancesList",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "two", "instances": [{"a": [1, 2], "z": [1, 2]}]},
        400,
        ".*JSON object: does not have named input: z",
        "AddInstanceItem",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "half_plus_three", "instances": [1.0, [2.0]]},
        400,
        r".*Expecting shape \[\] but got: \[1\]",
        "AddInstanceItem",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "half_plus_three", "inputs": [[1.0, 2.0], [3.0]]},
        400,
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        "FillTensorProto",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "half_plus_three", "inputs": [1.0, [2.0]]},
        400,
        "Encountered list at unexpected level: 1 expected < 1",
        "FillTensorProto",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "half_plus_three", "inputs": [[1.0], 2.0]},
        400,
        r"JSON Value: 2\.0 found at incorrect level: 2 in the JSON DOM\. Expected at level: 2",
        "FillTensorProto",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "half_plus_three", "inputs": ["text"]},
        400,
        'JSON Value: "text" Type: String is not of expected type: float',
        "AddValueToTensor, TypeError",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "echo_int32", "inputs": [2**31]},
        400,
        "JSON Value: 2147483648 Type: Number is not of expected type: int32",
        "AddValueToTensor, TypeError",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "echo_int64", "inputs": [1.5]},
        400,
        r"JSON Value: 1\.5 Type: Number is not of expected type: int64",
        "AddValueToTensor, TypeError",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "echo_bool", "inputs": [1]},
        400,
        "JSON Value: 1 Type: Number is not of expected type: bool",
        "AddValueToTensor, TypeError",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "echo_string", "inputs": [None]},
        400,
        "JSON Value: null Type: Null is not of expected type: string",
        "AddValueToTensor, TypeError",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "echo_string", "inputs": [{"b64": "!!!"}]},
        400,
        "Unable to base64 decode",
        "JsonDecodeBase64Object",
    ),
    (
        f"{SHAPES}:predict",
        {"signature_name": "two", "inputs": {"a": [[1, 2]]}},
        400,
        r"Missing named input: b in 'inputs' object\.",
        "FillTensorMapFromInputsMap",
    ),
    (
        f"{NET}:classify",
        {"instances": []},
        400,
        ".*When method is classify, key 'examples' is expected and was not found",
        "FillClassifyRegressRequestFromJson",
    ),
    (f"{NET}:classify", {"examples": 1}, 400, ".*Expecting 'examples' value to be an list/array", "the same"),
    (f"{NET}:classify", {"examples": []}, 400, ".*'examples' value is an empty array", "the same"),
    (
        f"{NET}:classify",
        {"examples": [1]},
        400,
        "Example must be JSON object but got JSON Number",
        "MakeExample",
    ),
    (
        f"{NET}:classify",
        {"examples": [{"x": [1.0, "a"]}]},
        400,
        "Unexpected element type in feature: x expecting type: float",
        "AddValueToFeature",
    ),
    (
        f"{NET}:classify",
        {"examples": [{"x": [None]}]},
        400,
        "Feature: x has element with unexpected JSON type: Null",
        "AddValueToFeature",
    ),
    (
        f"{NET}:classify",
        {"examples": [{"x": [2**63]}]},
        400,
        r"Feature: x has uint64_t element\. Only int64_t is supported\.",
        "AddValueToFeature",
    ),
    (
        "/v1/models/nobody",
        None,
        404,
        "Could not find any versions of model nobody",
        "get_model_status_impl.cc",
    ),
    (
        "/v1/models/nobody/metadata",
        None,
        404,
        r"Servable not found for request: Latest\(nobody\)",
        "basic_manager.cc",
    ),
    ("/v1/models", None, 400, "Missing model name in request.", "ProcessModelStatusRequest"),
    (
        f"{NET}:train",
        {},
        400,
        f"Malformed request: POST {NET}:train",
        "http_rest_api_handler.cc, ProcessRequest",
    ),
    (
        f"{NET}:predict",
        None,
        400,
        f"Malformed request: GET {NET}:predict",
        "http_rest_api_handler.cc, ProcessRequest",
    ),
    (
        f"{NET}/versions/99999999999999999999:predict",
        {},
        400,
        "Failed to convert version: 99999999999999999999 to numeric.",
        "http_rest_api_util.cc, ParseModelInfo",
    ),
    (f"{NET}:PREDICT", {}, 400, f"Malformed request: POST {NET}:PREDICT", "ProcessRequest compares the word"),
    (f"{NET}:predict?a=1", {}, 400, rf"Malformed request: POST {NET}:predict\?a=1", "evhttp_request.cc:135"),
    (
        f"{NET}?a=1",
        None,
        404,
        r"Could not find any versions of model net\?a=1",
        "evhttp_request.cc:135, uri_path",
    ),
    ("/v1/models/", None, 400, "Malformed request: GET /v1/models/", "http_rest_api_util.cc:34"),
    ("/v1/models/versions/3", None, 400, "Missing model name in request.", "http_rest_api_util.cc:34"),
    (
        f"{NET}/versions/-1",
        None,
        400,
        f"Malformed request: GET {NET}/versions/-1",
        "http_rest_api_util.cc:34",
    ),
    (f"{NET}/versions/9", None, 404, "Could not find version 9 of model net", "get_model_status_impl.cc:89"),
    ("/v1/else", None, 400, "Malformed request: GET /v1/else", "http_rest_api_handler.cc:74"),
    (
        "/v1/models/nobody:classify",
        {"examples": [1]},
        400,
        "Example must be JSON object.*",
        "before the model",
    ),
    (
        "/v1/models/nobody:predict",
        {"signature_name": 1},
        400,
        ".*must be a string value.",
        "before the model",
    ),
    (
        "/v1/models/nobody:predict",
        {"instances": 1},
        404,
        r"Servable not found for request: Latest\(nobody\)",
        "http_rest_api_handler.cc:232, GetInfoMap, before the instances",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=[f"{path} {str(body)[:40]}" for path, body, *_ in REFUSED])
def test_refused(server: Server, case: tuple[str, Any, int, str, str]) -> None:
    path, given, code, pattern, _source = case
    status, body = server.http(path, given)
    assert status == code, body
    assert list(body) == ["error"]
    assert re.fullmatch(pattern, body["error"], re.DOTALL), body["error"]


def send(server: Server, method: str, target: str, body: bytes = b"", **headers: str) -> tuple[Any, bytes]:
    """The response and its body, to the byte."""
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    connection.request(method, target, body, headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    return response, text


def test_error_texts_show_values(server: Server) -> None:
    _, text = send(server, "POST", f"{NET}:predict", b'{"instances": [], "a": [1, 2.50, {"b": null}]}')
    assert json.loads(text)["error"] == (
        'JSON Value: {"instances": [], "a": [1, 2.5, {"b": null}]} No values in \'instances\' array'
    )
    # status.ToString() inside, :565
    asked = b'{"signature_name": "two", "instances": [{"a": [1, "x"], "b": [1, 2]}]}'
    _, text = send(server, "POST", f"{SHAPES}:predict", asked)
    assert json.loads(text)["error"] == (
        "Failed to process element: 0 key: a of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"x\" "
        "Type: String is not of expected type: float"
    )


@pytest.mark.parametrize(
    ("method", "target", "status", "page"),
    [
        # util/net_http/server/internal/evhttp_server.cc:176, evhttp_send_error in libevent's http.c
        ("GET", "/", 404, "Not Found"),
        ("HEAD", "/", 404, ""),
        ("DELETE", "/anything?x", 404, "Not Found"),
        ("OPTIONS", "/", 404, "Not Found"),
        # :114, evhttp_set_allowed_methods
        ("TRACE", NET, 501, "Not Implemented"),
        ("BREW", NET, 501, "Not Implemented"),
    ],
)
def test_where_nobody_answers_libevents_page_does(
    server: Server, method: str, target: str, status: int, page: str
) -> None:
    response, text = send(server, method, target)
    assert (response.status, response.headers["Content-Type"]) == (status, "text/html")
    assert response.headers["Connection"] == "close"
    expected = (
        f"<HTML><HEAD>\n<TITLE>{status} {page}</TITLE>\n</HEAD><BODY>\n<H1>{page}</H1>\n</BODY></HTML>\n"
    )
    assert text.decode() == (expected if page else "")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_malformed_requests(server: Server, method: str) -> None:
    # model_servers/http_rest_api_handler.cc:74: only POST and GET are gone into
    response, text = send(server, method, f"{NET}:predict", b"{}")
    assert (response.status, response.reason) == (400, "Bad Request")
    assert response.headers["Content-Type"] == "application/json"
    error = f'{{\n    "error": "Malformed request: {method} {NET}:predict"\n}}'
    assert text.decode() == ("" if method == "HEAD" else error)
    assert int(response.headers["Content-Length"]) == len(error)


def test_a_head_leaves_the_connection_usable(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    for method in ("HEAD", "GET", "HEAD", "GET"):
        connection.request(method, "/monitoring/prometheus/metrics")
        response = connection.getresponse()
        assert (response.status, response.reason) == (200, "OK")
        assert bool(response.read()) is (method == "GET")
    connection.close()


def test_options_is_a_preflight(server: Server) -> None:
    # model_servers/http_server.cc:170; without --enable_cors no headers of CORS
    response, text = send(server, "OPTIONS", NET, Origin="https://example.org")
    assert (response.status, text) == (200, b"")
    assert "Access-Control-Allow-Origin" not in response.headers
    response, text = send(server, "OPTIONS", NET)
    assert response.status == 400
    assert json.loads(text) == {"error": "Origin header is missing in CORS preflight"}


def test_paths_in_other_spellings(server: Server) -> None:
    status, body = server.http(NET)
    assert status == 200
    # http_rest_api_util.cc:31: (?i); the last word of the path is compared as it stands
    for path in ("/V1/MODELS/net", "/v1/models/%6eet", f"{NET}/METADATA", f"{NET}/labels/any"):
        assert server.http(path) == (status, body)
    # A proxy's request names the host; evhttp_request.cc:94 takes the path of it
    response, text = send(server, "GET", f"http://elsewhere.example:80{NET}")
    assert (response.status, json.loads(text)) == (status, body)
    response, text = send(server, "GET", "/monitoring/prometheus/metrics?a=1")
    # model_servers/http_server.cc:96
    assert (response.status, response.headers["Content-Type"]) == (400, "text/plain")
    assert text == (
        b"Unexpected path: /monitoring/prometheus/metrics?a=1. Should be /monitoring/prometheus/metrics"
    )


def test_status_and_metadata_to_the_byte(server: Server) -> None:
    # model_servers/http_rest_api_util.cc:133 and :193; protobuf json/internal/unparser.cc orders by number
    response, text = send(server, "GET", f"{NET}/versions/1")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert (
        text.decode()
        == """{
 "model_version_status": [
  {
   "version": "1",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
"""
    )
    described = send(server, "GET", f"{NET}/metadata")[1].decode()
    assert described.startswith("""{
"model_spec":{
 "name": "net",
 "version": "2",
 "signature_name": ""
}
,
"metadata": {"signature_def": {
 "signature_def": {
  "__saved_model_init_op": {
   "inputs": {},
   "outputs": {
""")
    assert (
        """
  "predict_images": {
   "inputs": {
    "images": {
     "name": "predict_images_images:0",
     "dtype": "DT_FLOAT",
     "tensor_shape": {
      "dim": [
       {
        "size": "-1",
        "name": ""
       },
       {
        "size": "784",
        "name": ""
       }
      ],
      "unknown_rank": false
     }
    }
   },
   "outputs": {
"""
        in described
    )
    assert described.endswith("""   "method_name": "tensorflow/serving/classify",
   "defaults": {}
  }
 }
}
}
}
""")
    response, text = send(server, "GET", "/v1/models/%3Ca%3E")
    assert text.decode() == '{\n    "error": "Could not find any versions of model <a>"\n}'


# body after the signature's name, the answer to the byte; util/json_tensor.cc:975 and :1028 with RapidJSON's
# PrettyWriter, and :125, WriteDecimal
LAYOUTS: list[tuple[str, str, str]] = [
    ("echo_float32", '"instances": [1, 2.5]', '"predictions": [1.0, 2.5\n    ]'),
    (
        "echo_float32",
        '"instances": [[[1], [2]], [[3], [4]]]',
        '"predictions": [[[1.0], [2.0]], [[3.0], [4.0]]\n    ]',
    ),
    ("echo_float32", '"inputs": 3', '"outputs": 3.0'),
    ("echo_float32", '"inputs": []', '"outputs": []'),
    ("echo_float32", '"inputs": [[], []]', '"outputs": [\n        [],\n        []\n    ]'),
    (
        "echo_float32",
        '"inputs": [[1], [2]]',
        '"outputs": [\n        [\n            1.0\n        ],\n        [\n            2.0\n        ]\n    ]',
    ),
    (
        "echo_float32",
        '"instances": [0.1, 1e-7, 16777216, 1e30, -0.0, -0]',
        '"predictions": [0.1, 1e-07, 16777216.0, 1e+30, -0.0, 0.0\n    ]',
    ),
    (
        "echo_float32",
        '"instances": [0.333333333333, 123456, 1234567, 9000000, 3.4028235e38, 1e-45]',
        '"predictions": [0.333333343, 123456.0, 1234567.0, 9e+06, 3.40282347e+38, 1.4013e-45\n    ]',
    ),
    (
        "echo_float32",
        '"instances": [1e300, -Inf, -NaN, Infinity]',
        '"predictions": [Infinity, -Infinity, NaN, Infinity\n    ]',
    ),
    (
        "echo_float64",
        '"instances": [0.1, 1e300, 0.30000000000000004, 1e22, 123456789]',
        '"predictions": [0.1, 1e+300, 0.30000000000000004, 1e+22, 123456789.0\n    ]',
    ),
    (
        "echo_float64",
        '"instances": [18446744073709551616, 9007199254740993]',
        '"predictions": [1.8446744073709552e+19, 9007199254740992.0\n    ]',
    ),
    ("echo_uint64", '"instances": [18446744073709551615]', '"predictions": [18446744073709551615\n    ]'),
    ("echo_int8", '"instances": [300, -129]', '"predictions": [44, 127\n    ]'),
    ("echo_bool", '"inputs": [true, false]', '"outputs": [\n        true,\n        false\n    ]'),
    (
        "echo_string",
        '"instances": ["a\\u001f\\u000b/<\\"", {"b64": "AA=="}]',
        '"predictions": ["a\\u001F\\u000B/<\\"", "\\u0000"\n    ]',
    ),
    (
        "echo_string",
        '"instances": [{"b64": " Y W I"}, {"b64": "YWI="}, {"b64": "YWI."}]',
        '"predictions": ["ab", "ab", "ab"\n    ]',
    ),
    (
        "reverse",
        '"inputs": "x"',
        '"outputs": {\n        "length": 1,\n        "text": "x",\n        "text_bytes": {\n            "b64": "eHg="\n        }\n    }',
    ),
    (
        "reverse",
        '"instances": ["x"]',
        '"predictions": [\n        {\n            "length": 1,\n            "text": "x",\n            "text_bytes": {\n                "b64": "eHg="\n            }\n        }\n    ]',
    ),
    (
        "constant",
        '"inputs": [1, 2]',
        '"outputs": {\n        "empty": [],\n        "same": [\n            1.0,\n            2.0\n        ],\n        "scalar": 3.0\n    }',
    ),
]


@pytest.mark.parametrize("case", LAYOUTS, ids=[f"{name} {given}" for name, given, _ in LAYOUTS])
def test_answers_to_the_byte(server: Server, case: tuple[str, str, str]) -> None:
    signature, given, expected = case
    response, text = send(
        server, "POST", f"{SHAPES}:predict", f'{{"signature_name": "{signature}", {given}}} beyond'.encode()
    )
    assert text.decode() == f"{{\n    {expected}\n}}"
    assert response.status == 200


def test_classify_and_regress_to_the_byte(server: Server) -> None:
    asked = b'{"signature_name": "regress", "examples": [{"x": 2.0}, {"x": 1e-30}]}'
    assert send(server, "POST", f"{SHAPES}:regress", asked)[1] == b'{\n    "results": [7.0, 3.0]\n}'
    # numbers without a fraction are int64, those of more than 64 bits floats again: json_tensor.cc:775
    asked = b'{"signature_name": "regress", "examples": [{"x": 18446744073709551616}]}'
    assert send(server, "POST", f"{SHAPES}:regress", asked)[1] == b'{\n    "results": [3.68934881e+19]\n}'


def test_bytes_that_are_no_utf8_come_back_as_they_went(server: Server) -> None:
    # RapidJSON without kParseValidateEncodingFlag copies them
    asked = b'{"signature_name": "echo_string", "instances": ["\xff\xfe", "\xc3\xa9"]}'
    response, text = send(server, "POST", f"{SHAPES}:predict", asked)
    assert (response.status, text) == (200, b'{\n    "predictions": ["\xff\xfe", "\xc3\xa9"\n    ]\n}')


@pytest.mark.parametrize(
    "number", ["1e400", "-1e309", "1" + "0" * 400, "-" + "9" * 5000], ids=lambda text: text[:12]
)
def test_numbers_beyond_a_double_are_refused(server: Server, number: str) -> None:
    for given in (f'"inputs": {number}', f'"instances": [1.0, {number}]'):
        asked = f'{{"signature_name": "echo_float64", {given}}}'.encode()
        response, text = send(server, "POST", f"{SHAPES}:predict", asked)
        assert response.status == 400
        assert "Number too big to be stored in double." in json.loads(text)["error"]


def test_gzip_bodies(server: Server) -> None:
    given = json.dumps({"signature_name": "half_plus_three", "instances": [1.0]}).encode()
    headers = {"Content-Encoding": "gzip"}
    assert server.http(f"{SHAPES}:predict", gzip.compress(given), **headers) == (200, {"predictions": [3.5]})
    assert server.http(f"{SHAPES}:predict", given, **headers)[0] == 400
    assert server.http(f"{SHAPES}:predict", gzip.compress(given)[:-9], **headers)[0] == 400
    # evhttp_request.cc:261: only gzip is looked for; a body under another name is read as it is
    for name in ("br", "identity", "utf-8"):
        assert server.http(f"{SHAPES}:predict", given, **{"Content-Encoding": name})[0] == 200


def test_one_connection_takes_many_requests(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=30)
    for value in range(20):
        body = json.dumps({"signature_name": "half_plus_three", "instances": [value]})
        connection.request("POST", f"{SHAPES}:predict", body)
        assert json.loads(connection.getresponse().read()) == {"predictions": [value * 0.5 + 3]}
    connection.close()


def test_metrics_under_upstreams_names(server: Server) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    def counted() -> dict[tuple[str, str], float]:
        text = server.http("/monitoring/prometheus/metrics")[1]
        return {
            # this reader gives a counter's samples the suffix its own library writes
            (sample.name.removesuffix("_total"), json.dumps(sample.labels, sort_keys=True)): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(name: str, **labels: str) -> float:
        return counted().get((name, json.dumps(labels, sort_keys=True)), 0)

    good = {"model_name": "shapes", "status": "OK"}
    bad = {"model_name": "shapes", "status": "INVALID_ARGUMENT"}
    before = (
        value(":tensorflow:serving:request_count", **good),
        value(":tensorflow:serving:request_count", **bad),
    )
    latency = {"model_name": "shapes", "API": "predict", "entrypoint": "REST"}  # as in the path
    timed = value(":tensorflow:serving:request_latency_count", **latency)
    ran = {"model_name": "shapes", "API": "Predict", "runtime": "TF1"}
    runs = value(":tensorflow:serving:runtime_latency_count", **ran)
    server.http(f"{SHAPES}:predict", {"signature_name": "half_plus_three", "instances": [1.0]})
    server.http(f"{SHAPES}:predict", {"signature_name": "half_plus_three", "instances": ["a"]})
    assert value(":tensorflow:serving:request_count", **good) == before[0] + 1
    assert value(":tensorflow:serving:request_count", **bad) == before[1] + 1
    assert value(":tensorflow:serving:request_latency_count", **latency) == timed + 1
    assert value(":tensorflow:serving:runtime_latency_count", **ran) == runs + 1
    everything = counted()
    buckets = [
        count
        for (name, _), count in everything.items()
        if name == ":tensorflow:serving:request_latency_bucket"
    ]
    assert buckets
    loads = [name for name, _ in everything if name == ":tensorflow:cc:saved_model:load_attempt_count"]
    assert len(loads) == 3  # net has two versions


def test_the_metrics_page_is_laid_out_as_upstreams() -> None:
    # util/prometheus_exporter.cc:65, SerializeHistogram; :113, SerializeScalar; :32, SanitizeLabelValue. Each
    # # HELP line is more than there is upstream.
    metrics = Metrics()
    metrics.requests.add('a"\\', "OK", amount=3)
    metrics.examples.add("m", amount=1)
    for count in (1, 2, 3, 20000, 1e7):
        metrics.example_counts.observe(count, "m")
    lines = [line for line in metrics.text().splitlines() if not line.startswith("# HELP")]
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert names == sorted(names)
    at = lines.index("# TYPE :tensorflow:serving:request_count counter")
    assert lines[at + 1] == ':tensorflow:serving:request_count{model_name="a\\"\\\\",status="OK"} 3'
    at = lines.index("# TYPE :tensorflow:serving:request_example_counts histogram")
    name = ":tensorflow:serving:request_example_counts"
    limits = [*(str(2**power) for power in range(15)), "+Inf"]  # servables/tensorflow/util.cc:59
    # a value on a limit counts in the bucket above it: tensorflow/core/lib/histogram/histogram.cc, Add
    counts = [0, 1, 3, *[3] * 12, 5]
    assert lines[at + 1 : at + 19] == [
        *(
            f'{name}_bucket{{model="m",le="{limit}"}} {count}'
            for limit, count in zip(limits, counts, strict=True)
        ),
        f'{name}_sum{{model="m"}} 1.002e+07',
        f'{name}_count{{model="m"}} 5',
    ]
    # servables/tensorflow/util.cc:88: 33 limits from 10, each 1.8 times the one before
    metrics.request_latency.observe(0, "m", "predict", "REST")
    found = re.findall(r'request_latency_bucket\{.*le="(.+?)"', metrics.text())
    assert found[:4] == ["10", "18", "32.4", "58.32"]
    assert (len(found), found[-1], found[-2]) == (34, "+Inf", "1.47476e+09")


def test_every_rest_request_to_a_configured_model_is_counted(server: Server) -> None:
    # model_servers/http_server.cc:195: with the name of the path, whatever is asked; API is empty for a GET
    def counted(pattern: str) -> int:
        found = re.search(pattern + r"\} (\d+)", server.http("/monitoring/prometheus/metrics")[1])
        return int(found[1]) if found else 0

    patterns = {
        NET: r'request_latency_count\{model_name="net",API="",entrypoint="REST"',
        f"{NET}/metadata": r'request_count\{model_name="net",status="OK"',
        f"{NET}/versions/9": r'request_count\{model_name="net",status="NOT_FOUND"',
        f"{NET}/versions/9{'0' * 20}": r'request_count\{model_name="net",status="INVALID_ARGUMENT"',
    }
    for path, pattern in patterns.items():
        before = counted(pattern)
        server.http(path)
        assert counted(pattern) == before + 1, path


def test_a_made_up_model_name_makes_no_metric(server: Server) -> None:
    server.http("/v1/models/made_up:predict", {"instances": [1]})
    assert "made_up" not in server.http("/monitoring/prometheus/metrics")[1]
