"""Servers as their makers publish them, proved over the Open Inference Protocol by both transports."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from slipway.core import process
from slipway_client import messages
from slipway_client.__main__ import main
from slipway_client.connect import connect
from slipway_client.errors import RequestFailed, UsageError, WrongModel
from slipway_client.requests import write
from slipway_client.v2 import BYTES, DATATYPES

from tests.standins.model_server import fixed_requests
from tests.standins.published_servers import KINDS, KSERVE, MLSERVER, lacks, python_with, running

TRANSPORTS = ("grpc", "rest")
WAYS = (("grpc", "raw"), ("grpc", "typed"), ("rest", "raw"), ("rest", "typed"))
# What a server does not take, and answers with a refusal: (kind, transport, contents, datatype).
REFUSED = {
    *(("mlserver", "rest", "raw", name) for name in (*DATATYPES, BYTES)),  # it has no binary data extension
    *(("mlserver", *way, "BF16") for way in (("grpc", "raw"), ("rest", "typed"))),
    *(("kserve", *way, "BF16") for way in (("grpc", "raw"), ("rest", "raw"), ("rest", "typed"))),
    ("kserve", "rest", "typed", "FP16"),
    *(("triton", "rest", "typed", name) for name in ("FP16", "BF16")),
}
# The versions that answers name, where these are numbers.
VERSIONS = {"mlserver": [2], "kserve": [], "triton": [1]}


@pytest.fixture(scope="module", params=KINDS)
def server(request, tmp_path_factory):
    if missing := lacks(request.param):
        pytest.skip(missing)
    with running(request.param, tmp_path_factory.mktemp(request.param)) as found:
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
    assert (report["ok"], report["compared"], report["versions"]) == (True, 8, VERSIONS[server.kind])
    assert main([*words, "--model_name=off"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["differences"], report["errors"]) == (8, 0)
    assert main([*words, "--model_name=fashion"]) == 2
    assert "'fashion'" in json.loads(capsys.readouterr().out)["error"]["what"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_states_and_metadata(server, transport):
    with connect(_address(server, transport), transport, protocol="v2") as client:
        (found,) = client.status("mnist")
        # MLServer names no version in a model's metadata; its answers do.
        assert (found.version, found.state) == (1 if server.kind == "triton" else None, "AVAILABLE")
        only = client.metadata("mnist").signature("predict_images", "here")
        if server.kind != "kserve":  # which declares nothing
            assert (only.inputs["images"].dtype, only.inputs["images"].shape) == ("float32", (None, 8))
        with pytest.raises(WrongModel):
            client.status("fashion")


@pytest.mark.parametrize(("transport", "contents"), WAYS)
@pytest.mark.parametrize("name", [*DATATYPES, BYTES])
def test_every_datatype_goes_there_and_back(server, transport, contents, name):
    sent = (
        np.array([["ab", "zwölf", ""]], dtype=object)
        if name == BYTES
        else np.array([[0, 1, 1]]).astype(DATATYPES[name])
    )
    with connect(_address(server, transport), transport, protocol="v2", contents=contents) as client:
        if (transport, contents, name) in (("grpc", "typed", "FP16"), ("grpc", "typed", "BF16")):
            with pytest.raises(UsageError, match="raw contents only"):
                client.predict("echo", "", {name: sent})
            return
        if (server.kind, transport, contents, name) in REFUSED:
            with pytest.raises(RequestFailed):
                client.predict("echo", "", {name: sent}, output_filter=[name])
            return
        found = client.predict("echo", "", {name: sent}, output_filter=[name]).outputs[name]
    assert (found.shape, found.dtype) == (sent.shape, sent.dtype)
    assert found.tolist() == (np.char.encode(sent.astype(str)) if name == BYTES else sent).tolist()


@pytest.mark.parametrize(
    ("package", "module"),
    [(MLSERVER, "mlserver.grpc.dataplane_pb2"), (KSERVE, "kserve.protocol.grpc.grpc_predict_v2_pb2")],
)
def test_every_field_has_the_name_number_and_type_of_the_generated_messages(package, module):
    if missing := lacks(package.partition("=")[0]):
        pytest.skip(missing)
    text = f"import base64, {module} as m; print(base64.b64encode(m.DESCRIPTOR.serialized_pb).decode())"
    done = process.run([str(python_with(package)), "-c", text], env={"PYTHONPATH": ""}, timeout=120)
    theirs = descriptor_pb2.FileDescriptorProto.FromString(
        base64.b64decode(done.stdout.strip().splitlines()[-1])
    )
    own = descriptor_pb2.FileDescriptorProto()
    messages.POOL.FindFileByName("slipway_client/inference").CopyToProto(own)
    ours, wanted = _facts(own.message_type), _facts(theirs.message_type)
    assert ours
    assert ours == {name: wanted.get(name) for name in ours}


def _facts(listed, outer=""):
    """Message and field -> number, type, repeated or not, oneof."""
    found = {}
    for message in listed:
        name = f"{outer}{message.name}"
        for field in message.field:
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            found[f"{name}.{field.name}"] = (field.number, field.type, field.type_name, field.label, oneof)
        found |= _facts(message.nested_type, f"{name}.")
    return found
