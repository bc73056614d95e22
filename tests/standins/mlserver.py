"""MLServer from PyPI, in an environment of its own that is made once and kept in slipway's cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from slipway.core.state import cache_home
from slipway_client.client import wait_available
from slipway_client.connect import connect

from tests.integration.server.conftest import free_port
from tests.standins.model_server import CLASSES, FEATURES, WEIGHTS

MLSERVER = "mlserver==1.7.1"
MODELS = Path(__file__).parent / "mlserver_models.py"
STARTS_WITHIN = 120.0


def python_with(*packages: str) -> Path:
    """The Python of an environment with these packages beside MLServer.

    Raises CalledProcessError when it cannot be made here.
    """
    wanted = (MLSERVER, *packages)
    key = hashlib.sha256(" ".join((sys.version, *wanted)).encode()).hexdigest()[:12]
    folder = cache_home() / "mlserver" / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        uv = str(Path(sys.executable).parent / "uv")
        for argv in (
            [uv, "venv", "-q", "--clear", "--python", sys.executable, str(made)],
            [uv, "pip", "install", "-q", "--python", str(made / "bin" / "python"), *wanted],
        ):
            subprocess.run(argv, check=True, capture_output=True, text=True)
        with suppress(OSError):  # another run was first: its environment is as good
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
    return folder / "bin" / "python"


@dataclass(frozen=True)
class Running:
    address: str
    rest: str


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    """A server of three models as long as the block runs: `mnist`, the stand-ins' classifier; `off`, one
    with other weights; `echo`.

    folder: for its settings and its log. Raises what the client says of a server that does not become ready.
    """
    ports = {name: free_port() for name in ("grpc_port", "http_port", "metrics_port")}
    settings = {**ports, "host": "127.0.0.1", "debug": False, "parallel_workers": 0}
    (folder / "settings.json").write_text(json.dumps(settings))
    shutil.copy(MODELS, folder)
    _classifier(folder / "mnist", WEIGHTS, "2")
    _classifier(folder / "off", WEIGHTS + np.float32(0.1) * np.arange(CLASSES, dtype=np.float32), "v2-beta")
    _model(folder / "echo", {"implementation": f"{MODELS.stem}.Echo"})
    argv = [str(python_with()), "-m", "mlserver.cli.main", "start", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(folder)}
        )
    try:
        server = Running(*(f"127.0.0.1:{ports[name]}" for name in ("grpc_port", "http_port")))
        with connect(server.address, protocol="v2") as client:
            for name in ("mnist", "off", "echo"):
                # Its words are in folder/log, which pytest keeps of a run that failed.
                wait_available(client, name, timeout=STARTS_WITHIN)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _classifier(folder: Path, weights: np.ndarray, version: str) -> None:
    folder.mkdir()
    np.save(folder / "weights.npy", weights)
    tensors = {
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, FEATURES]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]}],
    }
    parameters = {"uri": str(folder / "weights.npy"), "version": version}
    _model(folder, {"implementation": f"{MODELS.stem}.Classifier", "parameters": parameters, **tensors})


def _model(folder: Path, settings: Mapping[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model-settings.json").write_text(json.dumps({"name": folder.name, **settings}))
