"""SavedModels made by TensorFlow in another process, and real servers in theirs."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway_client import messages
from slipway_server.config import Monitoring
from slipway_server.memory import MIB, Budget, resident
from slipway_server.metrics import Metrics
from slipway_server.models import Models
from slipway_server.reader import Reader
from slipway_server.rest import RestServer
from slipway_server.rest_routes import Routes
from slipway_server.service import Service

from .made import made_folder

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"


@dataclass(frozen=True)
class Made:
    """What make_models.py wrote."""

    models: Path
    answers: list[dict[str, Any]]


@pytest.fixture(scope="session")
def made() -> Made:
    folder = made_folder()
    return Made(folder / "models", pickle.loads((folder / "answers.pickle").read_bytes()))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A running server and its two doors."""

    process: subprocess.Popen[bytes]
    port: int
    rest_port: int
    log: Path
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.port}", options=(("grpc.max_receive_message_length", -1),)
        )

    def raw(self, method: str, request: bytes, timeout: float = 60) -> bytes:
        """Any unary method with bytes in and out; method as Service/Method."""
        answer: bytes = self.channel.unary_unary(f"/{method}")(request, timeout=timeout)
        return answer

    def predict(self, request: Any) -> Any:
        raw = self.raw(f"{PREDICTION}/Predict", request.SerializeToString())
        return messages.PredictResponse.FromString(raw)

    def classify(self, request: Any) -> Any:
        raw = self.raw(f"{PREDICTION}/Classify", request.SerializeToString())
        return messages.ClassificationResponse.FromString(raw)

    def regress(self, request: Any) -> Any:
        raw = self.raw(f"{PREDICTION}/Regress", request.SerializeToString())
        return messages.RegressionResponse.FromString(raw)

    def metadata(self, request: Any) -> Any:
        raw = self.raw(f"{PREDICTION}/GetModelMetadata", request.SerializeToString())
        return messages.GetModelMetadataResponse.FromString(raw)

    def status(self, name: str, number: int | None = None) -> Any:
        request = messages.GetModelStatusRequest()
        request.model_spec.name = name
        if number is not None:
            request.model_spec.version.value = number
        raw = self.raw(f"{MODEL}/GetModelStatus", request.SerializeToString())
        return messages.GetModelStatusResponse.FromString(raw)

    def reload(self, request: Any) -> Any:
        raw = self.raw(f"{MODEL}/HandleReloadConfigRequest", request.SerializeToString())
        return messages.ReloadConfigResponse.FromString(raw)

    def states(self, name: str) -> dict[int, str]:
        """Version -> state's name."""
        kind = messages.ModelVersionStatus.State
        return {line.version: kind.Name(line.state) for line in self.status(name).model_version_status}

    def http(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """GET, or POST when there is a body; the status and the JSON (or the text) of the answer."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.rest_port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, text = response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read().decode()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]

    def wait_for(self, name: str, seconds: float = 60, count: int = 1) -> dict[str, Any]:
        """The `count`th event of this name."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if len(found := self.events(name)) >= count:
                return found[count - 1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"no event {name}: {self.log.read_text()}")

    def resident(self, kind: str = "RssAnon") -> int:
        """Bytes of memory, its own by default: pages of files come and go with what is used of them."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(kind):
                return int(line.split()[1]) * 1024
        raise AssertionError(kind)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


# For StartServer's `before`: an event for each run of a session as it begins, so that no test has to guess.
TELL_RUNS = """
from slipway_server import log, runtime
run = runtime.Session.run
def told(self, *arguments):
    log.event("run_begins")
    return run(self, *arguments)
runtime.Session.run = told
"""
_MODULE = [sys.executable, "-m", "slipway_server"]
_MAIN = "import sys; from slipway_server import __main__; sys.exit(__main__.main())"


class StartServer:
    """Starts servers on free ports and ends them with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.servers: list[Server] = []

    def __call__(
        self, *flags: str, wait: str = "started", before: str = "", through: Sequence[str] = ()
    ) -> Server:
        """wait: the event to wait for, if any. before: Python to run first, to change a limit.

        through: words before the server's own, of a program that becomes it.
        """
        ports = free_port(), free_port()
        log = self.folder / f"server-{ports[0]}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [
                    *through,
                    *([sys.executable, "-c", f"{before}\n{_MAIN}"] if before else _MODULE),
                    *(f"--port={ports[0]}", f"--rest_api_port={ports[1]}"),
                    "--enable_grpc_healthcheck_service",
                    *flags,
                ],
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "infra")},
            )
        server = Server(process, *ports, log)
        self.servers.append(server)
        if wait:
            server.wait_for(wait)
        return server

    def end(self) -> None:
        for server in self.servers:
            server.channel.close()
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartServer]:
    starter = StartServer(tmp_path)
    yield starter
    starter.end()


CONFIG = """
model_config_list {{
  config {{ name: "net" base_path: "{models}/net" model_platform: "tensorflow"
            model_version_policy {{ all {{}} }} }}
  config {{ name: "shapes" base_path: "{models}/shapes" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="session")
def server(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Both made models, net with both versions; shared by all tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "models.config").write_text(CONFIG.format(models=made.models))
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    starter = StartServer(folder)
    running = starter(
        f"--model_config_file={folder}/models.config",
        f"--monitoring_config_file={folder}/monitoring.config",
        f"--reload_folders={made.models}",
    )
    try:
        yield running
        assert running.process.poll() is None, running.log.read_text()
        assert not running.events("fault"), running.events("fault")
    finally:
        starter.end()


@asynccontextmanager
async def rest_without_models(budget: Budget | None = None) -> AsyncIterator[int]:
    """A REST server of this process with nothing to serve, whose limits a test may lower; its port."""
    port = free_port()
    models = Models(lambda *_: None)  # type: ignore[arg-type]  # nothing is loaded
    reader = Reader(200 * MIB, 8 * MIB)
    routes = Routes(Service(models, Metrics()), Monitoring(), reader)
    server = RestServer(routes, port, budget or Budget(64 * MIB, resident()), 8 * MIB)
    await server.start()
    yield port
    await server.stop(1)
    reader.close()
    await models.close()


def predict_request(model: str, signature: str = "", /, **inputs: Any) -> Any:
    """A PredictRequest; inputs are TensorProtos."""
    request = messages.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, proto in inputs.items():
        request.inputs[name].CopyFrom(proto)
    return request
