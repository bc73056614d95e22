"""The client for asyncio gives the answers and the errors of the blocking one."""

from __future__ import annotations

import asyncio
import inspect
import socket

import numpy as np
import pytest
from slipway_client.client import AsyncClient, Client, wait_available_async
from slipway_client.connect import connect, connect_async
from slipway_client.errors import NotReachable, NotReady, RequestFailed, TimedOut, UsageError, WrongModel

from tests.standins.inference_server import InferenceStandIn
from tests.standins.model_server import Behaviour, StandIn, fixed_requests, scores_of

TRANSPORTS = ("grpc", "rest")
ROWS = np.random.default_rng(2).random((20, 1, 8)).astype(np.float32)


def _address(server, transport):
    return server.address if transport == "grpc" else server.rest


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_both_clients_answer_alike(transport):
    requests = fixed_requests(3)

    async def ask(address):
        async with connect_async(address, transport, timeout=60.0) as client:
            assert await client.ready("mnist")
            prepared = [await client.prepare("mnist", one) for one in requests]
            answers = await asyncio.gather(*(ask() for ask in prepared))
            examples = [{"x": ROWS[0, 0]}]
            return (
                await client.status("mnist"),
                await client.metadata("mnist"),
                [*answers, await client.classify("mnist", "serving_default", examples)],
            )

    with StandIn() as server:
        status, metadata, answers = asyncio.run(ask(_address(server, transport)))
        with connect(_address(server, transport), transport, timeout=60.0) as client:
            assert (status, metadata) == (client.status("mnist"), client.metadata("mnist"))
            wanted = [client.prepare("mnist", one)() for one in requests]
            wanted.append(client.classify("mnist", "serving_default", [{"x": ROWS[0, 0]}]))
    assert [one.version for one in answers] == [one.version for one in wanted]
    for one, other in zip(answers, wanted, strict=True):
        assert {name: array.tolist() for name, array in one.outputs.items()} == {
            name: array.tolist() for name, array in other.outputs.items()
        }


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", [StandIn, InferenceStandIn])
def test_many_requests_at_once(transport, kind):
    async def ask(address):
        async with connect_async(address, transport, protocol="auto", timeout=60.0) as client:
            asked = [client.predict("mnist", "predict_images", {"images": row}) for row in ROWS]
            return await asyncio.gather(*asked)

    with kind() as server:
        answers = asyncio.run(ask(_address(server, transport)))
    for row, answer in zip(ROWS, answers, strict=True):
        np.testing.assert_allclose(answer.outputs["scores"], scores_of(row), atol=1e-6)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_errors_are_those_of_the_blocking_client(transport):
    async def ask(address, model="mnist", **options):
        async with connect_async(address, transport, **options) as client:
            return await client.status(model)

    with StandIn(Behaviour(token="t")) as server:  # of a stand-in
        with pytest.raises(RequestFailed, match="token"):
            asyncio.run(ask(_address(server, transport)))
        server.behaviour.token = ""
        with pytest.raises(WrongModel):
            asyncio.run(ask(_address(server, transport), "fashion"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(NotReachable, match="connection refused"):
        asyncio.run(ask(address))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises((TimedOut, NotReachable)):
            asyncio.run(ask(address, timeout=0.2))
    with pytest.raises(UsageError):
        asyncio.run(ask("nowhere"))


def test_regress_is_asked_of_tensorflow_serving_only():
    async def ask(address):
        async with connect_async(address, protocol="v2") as client:
            await client.regress("mnist", "s", [{"x": ROWS[0, 0]}])

    with InferenceStandIn() as server, pytest.raises(UsageError, match="no Regress"):
        asyncio.run(ask(server.address))


def test_waiting(monkeypatch):
    behaviour = Behaviour(state="LOADING", version=7)
    waits = []

    async def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            behaviour.state = "AVAILABLE"

    monkeypatch.setattr(asyncio, "sleep", sleep)

    async def wait(address, timeout):
        async with connect_async(address) as client:
            return await wait_available_async(client, "mnist", timeout=timeout)

    with StandIn(behaviour) as server:
        assert asyncio.run(wait(server.address, 60.0)) == 7
        assert len(waits) == 3
        behaviour.state = "LOADING"
        with pytest.raises(NotReady):
            asyncio.run(wait(server.address, 0.0))


def test_the_two_clients_have_the_same_methods_with_the_same_arguments():
    for name, method in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            other = getattr(AsyncClient, name)
            assert inspect.signature(method).parameters == inspect.signature(other).parameters, name
