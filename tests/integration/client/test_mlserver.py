"""MLServer as its makers publish it, proved over the Open Inference Protocol by both transports."""

from __future__ import annotations

import json

import numpy as np
import pytest
from slipway_client.__main__ import main
from slipway_client.connect import connect
from slipway_client.errors import WrongModel
from slipway_client.requests import write
from slipway_client.v2 import DATATYPES

from tests.standins.mlserver import running
from tests.standins.model_server import fixed_requests

TRANSPORTS = ("grpc", "rest")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("mlserver")) as found:
        yield found


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """Predict requests with the stand-ins' classifier's answers."""
    file = tmp_path_factory.mktemp("asked") / "requests.jsonl"
    write(file, [one for one in fixed_requests(8) if one.method == "predict"])
    return file


def _address(server, transport):
    return server.address if transport == "grpc" else server.rest


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("protocol", ["auto", "v2"])
def test_a_right_model_is_told_from_a_wrong_one(server, asked, transport, protocol, capsys):
    words = [_address(server, transport), f"--transport={transport}", f"--requests={asked}", "--json"]
    words += [f"--protocol={protocol}", "--num_tests=8"]
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["compared"], report["versions"]) == (True, 8, [2])
    assert main([*words, "--model_name=off"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["differences"], report["errors"], report["versions"]) == (8, 0, [])
    assert main([*words, "--model_name=fashion"]) == 2
    assert "'fashion'" in json.loads(capsys.readouterr().out)["error"]["what"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_metadata_and_versions(server, transport):
    with connect(_address(server, transport), transport, protocol="v2") as client:
        # MLServer names no version in a model's metadata; its answers do.
        assert [(one.version, one.state) for one in client.status("mnist")] == [(None, "AVAILABLE")]
        only = client.metadata("mnist").signature("predict_images", "here")
        assert (only.inputs["images"].dtype, only.inputs["images"].shape) == ("float32", (None, 8))
        with pytest.raises(WrongModel):
            client.status("fashion")


@pytest.mark.parametrize(("transport", "contents"), [("grpc", "raw"), ("grpc", "typed"), ("rest", "typed")])
@pytest.mark.parametrize("name", sorted({*DATATYPES, "BYTES"} - {"BF16"}))  # MLServer has no BF16
def test_every_datatype_goes_there_and_back(server, transport, contents, name):
    if (contents, transport, name) == ("typed", "grpc", "FP16"):
        contents = "raw"  # the protocol has no typed contents for it
    with connect(_address(server, transport), transport, protocol="v2", contents=contents) as client:
        sent = (
            np.array([["ab", "zwölf", ""]], dtype=object)
            if name == "BYTES"
            else np.array([[0, 1, 1]]).astype(DATATYPES[name])
        )
        found = client.predict("echo", "", {"x": sent}).outputs["x"]
        assert found.shape == sent.shape
        assert found.dtype == sent.dtype
        assert found.tolist() == (np.char.encode(sent.astype(str)) if name == "BYTES" else sent).tolist()
