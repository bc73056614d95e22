"""The portable model server beside MLServer: same model, same requests, same run.

usage: python -m tests.bench.bench_model_server [--model FOLDER] [--seconds N] [--without-mlserver]
Prints one JSON document on stdout. Nothing is asserted: a time says what this machine did today.

FOLDER holds version folders with a `predict_images` signature (784 floats to 10); without it the
tests' own network is used. MLServer has no TensorFlow runtime, so it gets the shortest one possible
(mlserver_runtime.py beside this file), in an environment of its own (tests/standins/published_servers.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from slipway_client import messages

from tests.integration.server.conftest import free_port
from tests.integration.server.made import made_folder
from tests.standins.published_servers import MLSERVER, python_with

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IN_FLIGHT = 32


def measure(model: Path, seconds: float) -> dict[str, Any]:
    """Ours: start to SERVING, memory at rest, p50 at batch 1, requests/s at 32 in flight."""
    port = free_port()
    argv = [
        *(sys.executable, "-m", "slipway_server", f"--port={port}", "--enable_grpc_healthcheck_service"),
        *("--model_name=mnist", f"--model_base_path={model}"),
    ]

    def ready(channel: grpc.Channel) -> bool:
        answer: bytes = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=2)
        return answer == b"\x08\x01"

    environment = {**os.environ, "PYTHONPATH": str(ROOT / "infra")}
    request = messages.PredictRequest()
    request.model_spec.name = "mnist"
    request.model_spec.signature_name = "predict_images"
    images = request.inputs["images"]
    images.dtype = 1
    for size in (1, 784):
        images.tensor_shape.dim.add(size=size)
    images.tensor_content = pixels()
    method = "/tensorflow.serving.PredictionService/Predict"
    return run(argv, environment, port, ready, method, request.SerializeToString(), seconds)


def measure_mlserver(model: Path, seconds: float) -> dict[str, Any]:
    """MLServer with the same model. Says why when it cannot be had here."""
    try:
        python = python_with(MLSERVER, "tensorflow-cpu==2.21.*")
    except subprocess.CalledProcessError as error:
        return {"skipped": f"{MLSERVER} cannot be installed here: {error.stderr.strip().splitlines()[-1:]}"}
    port, ports = free_port(), (free_port(), free_port())
    newest = max((path for path in model.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "mlserver_runtime.py", folder)
        settings = {"grpc_port": port, "http_port": ports[0], "metrics_port": ports[1], "debug": False}
        # In its own process MLServer answers faster than through its worker pool: its best is compared.
        (Path(folder) / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0}))
        (Path(folder) / "model-settings.json").write_text(
            json.dumps(
                {
                    "name": "mnist",
                    "implementation": "mlserver_runtime.SavedModelRuntime",
                    "parameters": {"uri": str(newest.absolute())},
                }
            )
        )
        maker = (
            "import sys; from mlserver.grpc import dataplane_pb2 as pb; r = pb.ModelInferRequest(model_name='mnist'); "
            "i = r.inputs.add(name='images', datatype='FP32', shape=[1, 784]); "
            "r.raw_input_contents.append(sys.stdin.buffer.read()); sys.stdout.buffer.write(r.SerializeToString())"
        )
        request = subprocess.run(
            [python, "-c", maker], input=pixels(), capture_output=True, check=True
        ).stdout

        def ready(channel: grpc.Channel) -> bool:
            answer: bytes = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")(
                b"\x0a\x05mnist", timeout=2
            )
            return answer == b"\x08\x01"

        argv = [str(python), "-m", "mlserver.cli.main", "start", folder]
        environment = {**os.environ, "PYTHONPATH": folder}
        method = "/inference.GRPCInferenceService/ModelInfer"
        return run(argv, environment, port, ready, method, request, seconds) | {"version": MLSERVER}


def run(
    argv: list[str],
    environment: dict[str, str],
    port: int,
    ready: Callable[[grpc.Channel], bool],
    method: str,
    request: bytes,
    seconds: float,
) -> dict[str, Any]:
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment)
        try:
            with grpc.insecure_channel(
                f"127.0.0.1:{port}",
                options=(
                    ("grpc.max_reconnect_backoff_ms", 20),
                    ("grpc.min_reconnect_backoff_ms", 20),
                    ("grpc.initial_reconnect_backoff_ms", 20),
                ),
            ) as channel:
                while not is_ready(ready, channel):
                    if process.poll() is not None or time.perf_counter() - started > 120:
                        log.seek(0)
                        return {"failed": log.read().decode("utf-8", "replace")[-2000:]}
                    time.sleep(0.01)
                serving = time.perf_counter() - started
                time.sleep(1)
                rest = memory(process.pid)
                latencies = latency(channel, method, request, seconds)
            rates = [asyncio.run(throughput(port, method, request, seconds / 3)) for _ in range(3)]
            return {
                "seconds_to_serving": round(serving, 2),
                "resident_mb_at_rest": rest["VmRSS"],
                "of_it_anonymous_mb": rest["RssAnon"],
                "resident_mb_after_load": memory(process.pid)["VmRSS"],
                "p50_ms": round(statistics.median(latencies) * 1000, 3),
                "p99_ms": round(statistics.quantiles(latencies, n=100)[98] * 1000, 3),
                "requests_per_second": round(statistics.median(rates)),
                "in_flight": IN_FLIGHT,
            }
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_ready(ready: Callable[[grpc.Channel], bool], channel: grpc.Channel) -> bool:
    try:
        return ready(channel)
    except grpc.RpcError:
        return False


def latency(channel: grpc.Channel, method: str, request: bytes, seconds: float) -> list[float]:
    call = channel.unary_unary(method)
    for _ in range(200):
        call(request)
    out = []
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        call(request)
        out.append(time.perf_counter() - now)
    return out


async def throughput(port: int, method: str, request: bytes, seconds: float) -> float:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(method)
        count = 0
        end = time.perf_counter() + seconds

        async def ask() -> None:
            nonlocal count
            while time.perf_counter() < end:
                await call(request)
                count += 1

        started = time.perf_counter()
        await asyncio.gather(*[ask() for _ in range(IN_FLIGHT)])
        return count / (time.perf_counter() - started)


def memory(pid: int) -> dict[str, int]:
    """MB by kind."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {
        line.split(":")[0]: int(line.split()[1]) // 1024
        for line in lines
        if line.startswith(("VmRSS", "RssAnon"))
    }


def pixels() -> bytes:
    random.seed(1)
    return struct.pack("<784f", *[random.random() for _ in range(784)])


def document(model: Path, seconds: float, mlserver: bool = True) -> dict[str, Any]:
    """What `make bench` prints: both servers, and ours as a multiple of the other's throughput."""
    ours = measure(model, seconds)
    out: dict[str, Any] = {"model": str(model.name), "portable": ours}
    if mlserver:
        theirs = out["mlserver"] = measure_mlserver(model, seconds)
        if "requests_per_second" in theirs and "requests_per_second" in ours:
            out["times_mlserver"] = round(ours["requests_per_second"] / theirs["requests_per_second"], 2)
    return out | {"cpus": os.cpu_count(), "load_average": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of version folders")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each figure is measured")
    parser.add_argument("--without-mlserver", action="store_true")
    flags = parser.parse_args()
    model = flags.model or made_folder() / "models" / "net"
    print(json.dumps(document(model, flags.seconds, not flags.without_mlserver), indent=2))


if __name__ == "__main__":
    main()
