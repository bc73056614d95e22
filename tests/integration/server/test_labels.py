"""Version labels of a model's configuration, asked for by both doors and changed while the server runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway_client import messages

from .conftest import Made, Server, StartServer, predict_request
from .protos import floats

CONFIG = """
model_config_list {{ config {{
  name: "net" base_path: "{base}" model_platform: "tensorflow" model_version_policy {{ all {{}} }}
  version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 2 }} {more}
}} }}
"""


def started(made: Made, start: StartServer, tmp_path: Path, *flags: str, more: str = "") -> Server:
    config = tmp_path / "models.config"
    config.write_text(CONFIG.format(base=made.models / "net", more=more))
    return start(f"--model_config_file={config}", f"--reload_folders={made.models}", *flags)


def asked(server: Server, label: str) -> int:
    """The version that answers gRPC's requests for a label; REST must answer as it does."""
    request = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))
    request.model_spec.version_label = label
    answer = server.predict(request)
    number: int = answer.model_spec.version.value
    body = {"signature_name": "predict_images", "instances": [[0.5] * 784]}
    by_label = server.http(f"/v1/models/net/labels/{label}:predict", body)
    assert by_label == server.http(f"/v1/models/net/versions/{number}:predict", body)
    assert by_label[0] == 200
    status, told = server.http(f"/v1/models/net/labels/{label}/metadata")
    assert (status, told["model_spec"]["version"]) == (200, str(number))
    return number


def reload(server: Server, made: Made, **labels: int) -> None:
    request = messages.ReloadConfigRequest()
    config = request.config.model_config_list.config.add(
        name="net", base_path=f"{made.models}/net", model_platform="tensorflow"
    )
    config.model_version_policy.all.SetInParent()
    for label, number in labels.items():
        config.version_labels[label] = number
    server.reload(request)


def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    failure: Any = caught.value
    return failure.code(), failure.details()


def test_labels_are_served_and_changed(made: Made, start: StartServer, tmp_path: Path) -> None:
    server = started(made, start, tmp_path)
    assert (asked(server, "stable"), asked(server, "canary")) == (1, 2)
    assert server.events("label_without_version") == []
    reload(server, made, stable=2)
    assert asked(server, "stable") == 2
    unknown = (grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: canary")
    assert refused(lambda: asked(server, "canary")) == unknown
    # server_core.cc:549: nothing changes when one label cannot be given
    assert refused(lambda: reload(server, made, stable=1, next=3)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version 3 of model net, which is not currently available for inference",
    )
    assert asked(server, "stable") == 2


def test_a_new_label_may_come_before_its_version(made: Made, start: StartServer, tmp_path: Path) -> None:
    server = started(
        made,
        start,
        tmp_path,
        "--allow_version_labels_for_unavailable_models",
        more='version_labels { key: "late" value: 3 }',
    )
    told = server.wait_for("label_without_version")
    assert (told["label"], told["version"]) == ("late", 3)
    missing = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(net, 3)")
    assert refused(lambda: asked(server, "late")) == missing
    reload(server, made, stable=1, next=4)
    missing = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(net, 4)")
    assert refused(lambda: asked(server, "next")) == missing
    # a label that is given already is only moved to a version that serves
    code, _ = refused(lambda: reload(server, made, stable=4))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert asked(server, "stable") == 1
