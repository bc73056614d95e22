"""The entrypoints of the serving images, with a program in the server's place that tells its arguments."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

ALONE = [
    *("--port=8500", "--rest_api_port=8501", "--model_name=mnist", "--model_base_path=/models/mnist"),
    *("--enable_grpc_healthcheck_service", "--monitoring_config_file=/etc/slipway/monitoring.config"),
]


@pytest.mark.parametrize(
    ("server", "program"),
    [("portable", "slipway-model-server"), ("tensorflow", "tensorflow_model_server")],
)
def test_the_list_of_models_is_taken_where_there_is_one(tmp_path: Path, server: str, program: str) -> None:
    text = files("slipway.image").joinpath(f"Dockerfile.{server}").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if line.startswith("ENTRYPOINT "))
    config = tmp_path / "models.config"
    words = [
        word.replace("/models/models.config", str(config))
        for word in json.loads(line.removeprefix("ENTRYPOINT "))
    ]
    standin = tmp_path / program
    standin.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    standin.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MODEL_NAME": "mnist"}

    def started(*more: str) -> list[str]:
        done = subprocess.run(
            [*words, *more], env=environment, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.splitlines()

    assert started() == ALONE
    if server == "portable":  # Google's image has a variable for it, and this one stands in its place
        environment["MODEL_BASE_PATH"] = "/mnt"
        assert started() == [word.replace("/models/", "/mnt/") for word in ALONE]
        del environment["MODEL_BASE_PATH"]
    assert started("--one=a b") == [*ALONE, "--one=a b"]
    config.touch()
    assert started("--one=a b") == [*ALONE, f"--model_config_file={config}", "--one=a b"]
