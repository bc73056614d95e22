"""What a stranger may change by a reload request: nothing, unless the server's owner says in which folders."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway_client import messages

from .conftest import Made, Server, StartServer, predict_request
from .protos import floats
from .test_lifecycle import NOT_SERVING, SERVING, health

GOOD = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))


def asked(**models: str) -> Any:
    """A ReloadConfigRequest for these models: name -> base path."""
    request = messages.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name, path in models.items():
        request.config.model_config_list.config.add(name=name, base_path=path, model_platform="tensorflow")
    return request


def refused(server: Server, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        server.reload(request)
    failure: Any = caught.value
    return failure.code().name, failure.details()


def test_a_server_obeys_no_reload_request_unless_a_flag_says_so(made: Made, start: StartServer) -> None:
    server = start("--model_name=net", f"--model_base_path={made.models}/net")
    told = set()
    for request in (
        messages.ReloadConfigRequest(),
        asked(),
        asked(net=f"{made.models}/net"),
        asked(net="/etc"),
        asked(net="/nonexistent"),
    ):
        told.add(refused(server, request))
    ((code, text),) = told  # one answer to all: nothing can be learnt from it
    assert code == "PERMISSION_DENIED"
    assert "--reload_folders" in text
    time.sleep(1.2)  # longer than between two looks at the models
    assert health(server) == SERVING
    assert len(server.predict(GOOD).outputs["scores"].float_val) == 10


def test_a_path_outside_of_the_folders_is_refused_whether_it_exists_or_not(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    allowed, outside = tmp_path / "allowed", tmp_path / "allowed-not"
    for folder in (allowed, outside / "there"):
        folder.mkdir(parents=True)
    (allowed / "net").symlink_to(made.models / "net")  # leads out of what is allowed
    (allowed / "shapes").mkdir()
    (allowed / "shapes" / "1").symlink_to(made.models / "shapes" / "1")  # inside, what its owner put there
    server = start(
        "--model_name=net", f"--model_base_path={made.models}/net", f"--reload_folders={allowed},/srv/none"
    )
    told = {
        refused(server, asked(net=path))
        for path in (
            "/",
            "/etc",
            "/nonexistent",
            str(tmp_path),
            str(outside / "there"),
            str(outside / "not"),
            f"{allowed}/../allowed-not/there",
            f"{allowed}/../allowed-not/not",
            f"{allowed}/net",
            f"{allowed}/a\0b",
            f"file://{outside}/there",
        )
    }
    assert told == {
        ("PERMISSION_DENIED", "the base path of model net is in none of the folders of --reload_folders")
    }
    assert len(server.predict(GOOD).outputs["scores"].float_val) == 10
    server.reload(asked(shapes=f"{allowed}/shapes"))
    assert server.states("shapes") == {1: "AVAILABLE"}


def test_health_says_when_a_model_of_the_start_is_gone(made: Made, start: StartServer) -> None:
    server = start(
        "--model_name=net", f"--model_base_path={made.models}/net", f"--reload_folders={made.models}"
    )
    for models, wanted in (
        ({"shapes": f"{made.models}/shapes"}, NOT_SERVING),
        ({"net": f"{made.models}/net"}, SERVING),
        ({}, NOT_SERVING),
    ):
        server.reload(asked(**models))
        deadline = time.monotonic() + 30
        while health(server) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        assert health(server) == wanted, models
