"""Both transports against the stand-in server: answers, and one clear error for each thing gone wrong."""

import socket

import grpc
import numpy as np
import pytest
from slipway.core.errors import UsageError
from slipway_client import client as under_test
from slipway_client.client import wait_available
from slipway_client.connect import connect
from slipway_client.errors import (
    NotReachable,
    NotReady,
    RequestFailed,
    WrongModel,
    WrongSignature,
)

from tests.standins.clock import Clock
from tests.standins.model_server import CLASSIFY, PREDICT, Behaviour, StandIn, fixed_requests, scores_of

TRANSPORTS = ("grpc", "rest")
ROW = np.arange(8, dtype=np.float32)[None] / 8


def _client(server, transport, timeout=60.0, tls=None):
    return connect(
        server.address if transport == "grpc" else server.rest, transport, timeout=timeout, tls=tls
    )


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_predict_classify_status_and_metadata(transport):
    with StandIn(Behaviour(version=4)) as server, _client(server, transport) as client:
        assert [(one.version, one.state) for one in client.status("mnist")] == [(4, "AVAILABLE")]
        metadata = client.metadata("mnist")
        assert metadata.version == 4
        assert {name: one.method for name, one in metadata.signatures.items()} == {
            "predict_images": "predict",
            "serving_default": "classify",
        }
        images = metadata.signatures["predict_images"].inputs["images"]
        assert (images.dtype, images.shape) == ("float32", (None, 8))
        answer = client.predict("mnist", "predict_images", {"images": ROW})
        np.testing.assert_allclose(answer.outputs["scores"], scores_of(ROW), atol=1e-7)
        assert answer.version == (4 if transport == "grpc" else None)
        classified = client.classify("mnist", "serving_default", [{"x": ROW[0]}, {"x": -ROW[0]}])
        assert classified.outputs["classes"].shape == (2, 3)
        assert classified.outputs["scores"][0, 0] == pytest.approx(float(scores_of(ROW).max()))


@pytest.mark.parametrize("key", ["results", "result"])
def test_rest_reads_classifications_as_servers_write_and_as_the_documentation_has_them(key):
    with StandIn(Behaviour(results_key=key)) as server, _client(server, "rest") as client:
        classified = client.classify("mnist", "serving_default", [{"x": ROW[0]}])
        assert classified.outputs["classes"].shape == (1, 3)
        server.behaviour.results_key = "other"
        with pytest.raises(RequestFailed, match="cannot be read"):
            client.classify("mnist", "serving_default", [{"x": ROW[0]}])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_prepared_request_answers_as_the_plain_one(transport):
    with StandIn() as server, _client(server, transport) as client:
        for request in fixed_requests(2):
            answer = client.prepare("mnist", request)()
            assert request.expected is not None
            assert set(answer.outputs) == set(request.expected)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_wrong_model_is_named(transport):
    with StandIn() as server, _client(server, transport) as client:
        for ask in (client.status, client.metadata):
            with pytest.raises(WrongModel) as caught:
                ask("fashion")
            assert "'fashion'" in caught.value.what
            assert "Servable not found" in caught.value.tail
            assert caught.value.exit_code == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_wrong_signature_names_those_there_are(transport):
    with StandIn() as server, _client(server, transport) as client:
        metadata = client.metadata("mnist")
    with pytest.raises(WrongSignature, match="predict_images, serving_default"):
        metadata.signature("other", "here")


def test_a_wrong_signature_in_a_request_is_the_servers_own_word():
    with StandIn() as server, _client(server, "grpc") as client:
        with pytest.raises(WrongSignature) as caught:
            client.predict("mnist", "other", {"images": ROW})
        assert '"other" not found' in caught.value.tail


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nothing_listens(transport):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with connect(f"127.0.0.1:{port}", transport) as client, pytest.raises(NotReachable) as caught:
        client.status("mnist")
    assert "connection refused" in caught.value.what
    assert caught.value.where == f"127.0.0.1:{port}"
    assert caught.value.exit_code == 3


def test_a_name_without_address():
    with connect("no-such-host.invalid:8500") as client, pytest.raises(NotReachable) as caught:
        client.status("mnist")
    assert "no-such-host.invalid has no address" in caught.value.what


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_other_protocols_port_is_recognized(transport):
    with StandIn() as server:
        other = server.rest if transport == "grpc" else server.address
        with connect(other, transport) as client, pytest.raises(NotReachable) as caught:
            client.status("mnist")
    assert "HTTP/1.1" in caught.value.what
    assert "--transport" in caught.value.action


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_error_of_the_server_keeps_its_status_and_words(transport):
    behaviour = Behaviour(fail_with=grpc.StatusCode.RESOURCE_EXHAUSTED)
    with (
        StandIn(behaviour) as server,
        _client(server, transport) as client,
        pytest.raises(RequestFailed) as caught,
    ):
        client.classify("mnist", "serving_default", [{"x": ROW[0]}])
    assert caught.value.status == ("RESOURCE_EXHAUSTED" if transport == "grpc" else "UNAVAILABLE")
    assert "told to fail" in caught.value.tail


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_model_that_does_not_load_is_not_ready(transport, monkeypatch):
    monkeypatch.setattr(under_test, "time", Clock())
    behaviour = Behaviour(state="END", state_error="no space left")
    with (
        StandIn(behaviour) as server,
        _client(server, transport) as client,
        pytest.raises(NotReady) as caught,
    ):
        wait_available(client, "mnist", timeout=30)
    assert "version 1: END no space left" in caught.value.tail
    assert caught.value.exit_code == 3


def test_waiting_ends_when_the_model_becomes_available(monkeypatch):
    behaviour = Behaviour(state="LOADING", version=7)

    class Loading(Clock):
        def sleep(self, seconds):
            super().sleep(seconds)
            if self.now > 3:
                behaviour.state = "AVAILABLE"

    clock = Loading()
    monkeypatch.setattr(under_test, "time", clock)
    with StandIn(behaviour) as server, _client(server, "grpc") as client:
        assert wait_available(client, "mnist", timeout=10) == 7
    assert 3 < clock.now < 3.5


def test_waiting_does_not_wait_for_a_model_the_server_does_not_have():
    with StandIn() as server, _client(server, "grpc") as client, pytest.raises(WrongModel):
        wait_available(client, "other", timeout=3600)


NO_ADDRESSES = ["localhost", "localhost:", ":8500", "localhost:http", "a:0", "::1:8500"]
NO_NAMES = ["foo..bar:8500", ".:8500", f"{'a' * 64}.example:8500", "\ud800:8500"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("server", [*NO_ADDRESSES, *NO_NAMES])
def test_what_is_no_address_is_refused(server, transport):
    with pytest.raises(UsageError, match="HOST:PORT"):
        connect(server, transport)


@pytest.mark.parametrize("server", ["foo.bar.:8500", f"{'a' * 63}.example:8500", "müller.example:8500"])
def test_names_are_left_to_the_resolver(server):
    assert connect(server, "rest").host == server.removesuffix(":8500")


def test_signature_keys_are_the_servers_own():
    behaviour = Behaviour(
        signatures={
            "predict_images": (PREDICT, "inputs", "outputs"),
            "serving_default": (CLASSIFY, "inputs", "scores"),
        }
    )
    with StandIn(behaviour) as server, _client(server, "grpc") as client:
        signature = client.metadata("mnist").signatures["predict_images"]
        ((key, _),) = signature.inputs.items()
        assert set(client.predict("mnist", "predict_images", {key: ROW}).outputs) == {"outputs"}
