"""The client against slipway's own model server and a model of TensorFlow's making, both transports."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from slipway_client.check import check, methods_agree, sample, unlike
from slipway_client.client import Transport
from slipway_client.connect import connect
from slipway_client.errors import WrongModel, WrongSignature
from slipway_client.requests import FixedRequest, read, write

from tests.integration.server.conftest import made, start  # noqa: F401  # fixtures: a real model, a real server

ROWS = np.random.default_rng(1).random((4, 784)).astype(np.float32)


def _questions():
    predict = [FixedRequest("predict", "predict_images", {"images": row[None]}) for row in ROWS]
    return [*predict, FixedRequest("classify", "serving_default", examples=tuple({"x": row} for row in ROWS))]


TRANSPORTS: tuple[Transport, Transport] = ("grpc", "rest")


@pytest.fixture
def two(made, start, tmp_path):  # noqa: F811  # pytest's way of naming a fixture
    """Servers of version 1 and 2 of the same model."""
    servers = []
    for version in ("1", "2"):
        base = tmp_path / version
        shutil.copytree(made.models / "net" / version, base / version)
        servers.append(start("--model_name=net", f"--model_base_path={base}"))
    return servers


def test_recorded_answers_are_reproduced_on_both_ports_and_told_apart_from_another_models(two, tmp_path):
    right, other = two
    with connect(f"127.0.0.1:{right.port}") as client:
        recorded = [
            replace(one, expected=answer.outputs) for one, answer in sample(client, "net", _questions())
        ]
        write(tmp_path / "requests.jsonl", recorded)
        fixed = read(tmp_path / "requests.jsonl")
        assert methods_agree(client, "net", fixed) == (1, "")
        ours = sample(client, "net", fixed)
        report = check(client, "net", fixed, concurrency=2)
        assert (report.ok, report.compared, report.versions) == (True, 5, (1,))
    with connect(f"127.0.0.1:{right.rest_port}", "rest") as client:
        assert unlike(sample(client, "net", fixed), ours, "over gRPC") == ""
        report = check(client, "net", fixed)
        assert (report.ok, report.compared, report.versions) == (True, 5, (1,))
    for transport, port in zip(TRANSPORTS, (other.port, other.rest_port), strict=True):
        with connect(f"127.0.0.1:{port}", transport) as client:
            report = check(client, "net", fixed)
            assert (report.errors, report.differences, report.versions) == (0, 5, (2,))


def test_what_the_server_does_not_have_is_told_alike_on_both_ports(two):
    for transport, port in zip(TRANSPORTS, (two[0].port, two[0].rest_port), strict=True):
        with connect(f"127.0.0.1:{port}", transport) as client:
            with pytest.raises(WrongModel):
                client.status("other")
            with pytest.raises(WrongSignature, match="predict_images"):
                client.metadata("net").signature("other", "here")
