"""Requests in threads: what a caller that leaves early may and may not take with it."""

from __future__ import annotations

import os

import grpc
import pytest
from slipway_client import messages

from .conftest import PREDICTION, Made, Server, StartServer, predict_request
from .protos import INT32, floats, tensor
from .test_versions import spins

GOOD = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))


def leave_during_a_run(server: Server, seconds: float) -> None:
    """Ask for a run of about `seconds`, twice as many as there are threads, and give up at once."""
    rounds = spins(server, seconds)
    raw = predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[rounds])).SerializeToString()
    calls = [server.channel.unary_unary(f"/{PREDICTION}/Predict").future(raw, timeout=0.3) for _ in range(8)]
    for call in calls:
        with pytest.raises(grpc.RpcError):
            call.result()
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def reload(server: Server, made: Made, *names: str) -> None:
    request = messages.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name in names:
        request.config.model_config_list.config.add(
            name=name, base_path=str(made.models / name), model_platform="tensorflow"
        )
    server.reload(request)


def serving(start: StartServer, made: Made) -> Server:
    server = start(
        "--model_name=shapes", f"--model_base_path={made.models}/shapes", f"--reload_folders={made.models}"
    )
    reload(server, made, "shapes", "net")
    return server


def test_a_version_is_freed_only_when_its_last_run_has_ended(made: Made, start: StartServer) -> None:
    # The callers are gone, the runs are not: freeing the session under them would end the process.
    server = serving(start, made)
    leave_during_a_run(server, 3)
    reload(server, made, "net")
    retiring = server.wait_for("version_retiring")
    assert 0 < retiring["in_flight"] <= max(2, os.cpu_count() or 1)  # what had not begun left with its caller
    server.wait_for("version_unloaded")
    assert len(server.predict(GOOD).outputs["scores"].float_val) == 10
    assert server.stop() == 0
