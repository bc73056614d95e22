"""MLServer, KServe and Triton as their makers publish them, each in an environment that is made once.

The environments are kept in slipway's cache. All three serve the stand-ins' classifier as `mnist`, one with other
weights as `off`, and `echo`, whose inputs and outputs are called by their datatypes.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from slipway.core.state import cache_home
from slipway_client.client import wait_available
from slipway_client.connect import connect
from slipway_client.v2 import BYTES, DATATYPES

from tests.integration.server.conftest import free_port
from tests.standins.model_server import CLASSES, FEATURES, WEIGHTS

MLSERVER, KSERVE, TRITON = "mlserver==1.7.1", "kserve==0.21.0", "nvidia-pytriton==0.7.0"
MODELS = Path(__file__).parent / "published_models"
STARTS_WITHIN = 120.0
WEIGHTS_OF = {"mnist": WEIGHTS, "off": WEIGHTS + np.float32(0.1) * np.arange(CLASSES, dtype=np.float32)}


def python_with(*packages: str) -> Path:
    """The Python of an environment with these packages.

    Raises CalledProcessError when it cannot be made here.
    """
    key = hashlib.sha256(" ".join((sys.version, *packages)).encode()).hexdigest()[:12]
    folder = cache_home() / "tests" / "published" / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        uv = str(Path(sys.executable).parent / "uv")
        for argv in (
            [uv, "venv", "-q", "--clear", "--python", sys.executable, str(made)],
            [uv, "pip", "install", "-q", "--python", str(made / "bin" / "python"), *packages],
        ):
            subprocess.run(argv, check=True, capture_output=True, text=True)
        with suppress(OSError):  # another run was first: its environment is as good
            made.rename(folder)
        shutil.rmtree(made, ignore_errors=True)
    return folder / "bin" / "python"


def lacks(kind: str) -> str:
    """What this machine lacks to run a server; empty if nothing."""
    ends = {"mlserver": (3, 13), "kserve": (3, 14)}  # the first Python that its makers do not publish it for
    if sys.version_info >= ends.get(kind, (4, 0)):
        return f"{kind} is not published for Python {sys.version_info[0]}.{sys.version_info[1]}"
    if kind == "triton":
        library = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
        try:
            ctypes.CDLL(library)
        except OSError:
            return f"Triton's Python backend needs {library}, which Debian has in a package of that name"
    return ""


@dataclass(frozen=True)
class Ports:
    grpc: int
    http: int
    metrics: int


@dataclass(frozen=True)
class Running:
    """kind: which of the three. address and rest: HOST:PORT."""

    kind: str
    address: str
    rest: str


@dataclass(frozen=True)
class Program:
    argv: Sequence[str]
    environment: Mapping[str, str]


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Running]:
    """A server of the three models as long as the block runs; folder: for what it needs, and its log.

    Raises what the client says of a server that does not become ready.
    """
    ports = Ports(free_port(), free_port(), free_port())
    for name, weights in WEIGHTS_OF.items():
        (folder / name).mkdir()
        np.save(folder / name / "weights.npy", weights)
    (folder / "echo").mkdir()
    program = KINDS[kind](folder, ports)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            program.argv, stdout=log, stderr=log, cwd=folder, env={**os.environ, **program.environment}
        )
    try:
        server = Running(kind, f"127.0.0.1:{ports.grpc}", f"127.0.0.1:{ports.http}")
        with connect(server.address, protocol="v2") as client:
            for name in (*WEIGHTS_OF, "echo"):
                wait_available(client, name, timeout=STARTS_WITHIN)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _mlserver(folder: Path, ports: Ports) -> Program:
    settings = {
        **{"grpc_port": ports.grpc, "http_port": ports.http, "metrics_port": ports.metrics},
        **{"host": "127.0.0.1", "debug": False, "parallel_workers": 0},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    shutil.copy(MODELS / "mlserver_models.py", folder)
    for name, version in (("mnist", "2"), ("off", "v2-beta")):
        model = {
            "implementation": "mlserver_models.Classifier",
            "parameters": {"uri": str(folder / name / "weights.npy"), "version": version},
            "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, FEATURES]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]}],
        }
        (folder / name / "model-settings.json").write_text(json.dumps({"name": name, **model}))
    echo = {"name": "echo", "implementation": "mlserver_models.Echo"}
    (folder / "echo" / "model-settings.json").write_text(json.dumps(echo))
    argv = [str(python_with(MLSERVER)), "-m", "mlserver.cli.main", "start", str(folder)]
    return Program(argv, {"PYTHONPATH": str(folder)})


def _kserve(folder: Path, ports: Ports) -> Program:
    given = [f"{name}={folder / name / 'weights.npy'}" for name in WEIGHTS_OF]
    script = str(MODELS / "kserve_models.py")
    return Program(
        [str(python_with(KSERVE)), script, str(ports.http), str(ports.grpc), *given], {"PYTHONPATH": ""}
    )


def _triton(folder: Path, ports: Ports) -> Program:
    (packages,) = (python_with(TRITON).parents[1] / "lib").glob("python*/site-packages")
    home = packages / "pytriton" / "tritonserver"
    # The backend has a program for each Python; it stands beside the library that starts it.
    backend = folder / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    stub = home / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.copy(stub / "triton_python_backend_stub", backend)
    for name in WEIGHTS_OF:
        _triton_model(
            folder / "models" / name,
            packages,
            "max_batch_size: 16\n"
            f'input [{{ name: "images" data_type: TYPE_FP32 dims: [{FEATURES}] }}]\n'
            f'output [{{ name: "scores" data_type: TYPE_FP32 dims: [{CLASSES}] }}]\n',
        )
        shutil.copy(folder / name / "weights.npy", folder / "models" / name / "1")
    words = {name: f"TYPE_{'STRING' if name == BYTES else name}" for name in (*DATATYPES, BYTES)}
    tensors = [f'name: "{name}" data_type: {word} dims: [-1, -1]' for name, word in words.items()]
    _triton_model(
        folder / "models" / "echo",
        packages,
        "".join(f"input [{{ {one} optional: true }}]\noutput [{{ {one} }}]\n" for one in tensors),
    )
    argv = [
        str(home / "bin" / "tritonserver"),
        *(f"--model-repository={folder / 'models'}", f"--backend-directory={backend.parent}"),
        *(f"--grpc-port={ports.grpc}", f"--http-port={ports.http}", f"--metrics-port={ports.metrics}"),
    ]
    return Program(argv, {"PYTHONPATH": "", "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")})


def _triton_model(folder: Path, packages: Path, tensors: str) -> None:
    (folder / "1").mkdir(parents=True)
    shutil.copy(MODELS / "triton_model.py", folder / "1" / "model.py")
    (folder / "1" / "packages").write_text(str(packages))
    config = f'backend: "python"\ninstance_group [{{ kind: KIND_CPU }}]\n{tensors}'
    (folder / "config.pbtxt").write_text(config)


KINDS: Mapping[str, Callable[[Path, Ports], Program]] = {
    "mlserver": _mlserver,
    "kserve": _kserve,
    "triton": _triton,
}
