"""The portable model server beside MLServer and a bare gRPC server: same model, same requests, same run.

usage: python -m tests.bench.bench_model_server [--model FOLDER] [--seconds N] [--without-mlserver]
Prints one JSON document on stdout. Nothing is asserted: a time says what this machine did today.

FOLDER holds version folders with a `predict_images` signature (784 floats to 10); without it the
tests' own network is used. MLServer has no TensorFlow runtime, so it gets the shortest one possible
(mlserver_runtime.py beside this file), in a virtual environment of its own in slipway's cache.
The bare server (echo_server.py) does nothing but answer: what gRPC's Python itself takes. Batching is measured
with a network that gains by it too (wide_model.py). On a busy machine look at the processor's time for each
request, and at ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
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
from slipway.core.state import cache_home
from slipway_client import messages

from tests.integration.server.conftest import free_port
from tests.integration.server.made import made_folder

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MLSERVER = "mlserver==1.7.1"
IN_FLIGHT = 32


METHOD = "/tensorflow.serving.PredictionService/Predict"
# One batch at a time, so that the next one gathers meanwhile.
BATCHING = "max_batch_size { value: 64 } num_batch_threads { value: 1 }"


def measure(model: Path, seconds: float, *flags: str, connections: int = 1) -> dict[str, Any]:
    """Ours: start to SERVING, memory at rest, p50 at batch 1, requests/s at 32 in flight."""
    port = free_port()
    argv = [
        *(sys.executable, "-m", "slipway_server", f"--port={port}", "--enable_grpc_healthcheck_service"),
        *("--model_name=mnist", f"--model_base_path={model}"),
        *flags,
    ]

    def ready(channel: grpc.Channel) -> bool:
        answer: bytes = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=2)
        return answer == b"\x08\x01"

    return run(argv, environment(), port, ready, METHOD, one_image(), seconds, connections)


def measure_echo(seconds: float) -> dict[str, Any]:
    """The bare server, asked as ours is."""
    port = free_port()
    argv = [sys.executable, str(HERE / "echo_server.py"), str(port)]

    def ready(channel: grpc.Channel) -> bool:
        return bool(channel.unary_unary(METHOD)(b"", timeout=2))

    return run(argv, environment(), port, ready, METHOD, one_image(), seconds)


def measure_batching(model: Path, seconds: float) -> dict[str, Any]:
    """One by one, batched where the bits are the same, and batched always: for the processor and the rate."""
    wanted = ("cpu_us_per_request", "requests_per_second", "p50_ms")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "batching.config"
        file.write_text(BATCHING)
        on = ("--enable_batching", f"--batching_parameters_file={file}")
        ways = {"off": (), "same_bits": on, "always": (*on, "--batching_same_bits=false")}
        found = {name: measure(model, seconds, *flags) for name, flags in ways.items()}
    return {name: {key: each.get(key) for key in wanted} for name, each in found.items()}


def measure_rest(model: Path, seconds: float) -> dict[str, Any]:
    """REST: one image in a JSON body, 32 connections kept alive."""
    port, rest = free_port(), free_port()
    argv = [
        *(sys.executable, "-m", "slipway_server", f"--port={port}", f"--rest_api_port={rest}"),
        *("--model_name=mnist", f"--model_base_path={model}"),
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=environment())
        try:
            wait_for_port(rest, process)
            asyncio.run(rest_throughput(rest, 1))
            before = cpu(process.pid)
            rates = [asyncio.run(rest_throughput(rest, seconds / 3)) for _ in range(3)]
            count = sum(number for number, _ in rates)
            return {
                "requests_per_second": round(statistics.median(number / took for number, took in rates)),
                "cpu_us_per_request": round((cpu(process.pid) - before) / count),
                "in_flight": IN_FLIGHT,
            }
        finally:
            process.terminate()
            process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(6000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise RuntimeError("the server did not start")


async def rest_throughput(port: int, seconds: float) -> tuple[int, float]:
    """Requests answered, and the seconds they took."""
    numbers = struct.unpack("<784f", pixels())
    body = json.dumps({"signature_name": "predict_images", "instances": [list(numbers)]}).encode()
    head = f"POST /v1/models/mnist:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    count = 0
    end = time.perf_counter() + seconds

    async def ask() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(
                line for line in answer.split(b"\r\n") if line.lower().startswith(b"content-length:")
            )
            await reader.readexactly(int(length.split(b":")[1]))
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            count += 1
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*[ask() for _ in range(IN_FLIGHT)])
    return count, time.perf_counter() - started


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "infra")}


def one_image() -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name = "mnist"
    request.model_spec.signature_name = "predict_images"
    images = request.inputs["images"]
    images.dtype = 1
    for size in (1, 784):
        images.tensor_shape.dim.add(size=size)
    images.tensor_content = pixels()
    out: bytes = request.SerializeToString()
    return out


def wide_model() -> Path:
    """The folder of wide_model.py's network; made once."""
    maker = HERE / "wide_model.py"
    folder = cache_home() / "bench" / f"wide-{hashlib.sha256(maker.read_bytes()).hexdigest()[:12]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
            argv = [sys.executable, str(maker), f"{fresh}/whole"]
            subprocess.run(argv, check=True, capture_output=True, text=True)
            Path(fresh, "whole").rename(folder)
    return folder


def measure_mlserver(model: Path, seconds: float) -> dict[str, Any]:
    """MLServer with the same model. Says why when it cannot be had here."""
    try:
        python = mlserver_python()
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
        variables = {**os.environ, "PYTHONPATH": folder}
        method = "/inference.GRPCInferenceService/ModelInfer"
        return run(argv, variables, port, ready, method, request, seconds) | {"version": MLSERVER}


def run(
    argv: list[str],
    variables: dict[str, str],
    port: int,
    ready: Callable[[grpc.Channel], bool],
    method: str,
    request: bytes,
    seconds: float,
    connections: int = 1,
) -> dict[str, Any]:
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, env=variables)
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
            before = cpu(process.pid)
            rates = [
                asyncio.run(throughput(port, method, request, seconds / 3, connections)) for _ in range(3)
            ]
            spent = cpu(process.pid) - before
            return {
                "seconds_to_serving": round(serving, 2),
                "resident_mb_at_rest": rest["VmRSS"],
                "of_it_anonymous_mb": rest["RssAnon"],
                "resident_mb_after_load": memory(process.pid)["VmRSS"],
                "p50_ms": round(statistics.median(latencies) * 1000, 3),
                "p99_ms": round(statistics.quantiles(latencies, n=100)[98] * 1000, 3),
                "requests_per_second": round(statistics.median(count / took for count, took in rates)),
                "cpu_us_per_request": round(spent / sum(count for count, _ in rates)),
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


async def throughput(
    port: int, method: str, request: bytes, seconds: float, connections: int
) -> tuple[int, float]:
    """Requests answered, and the seconds they took."""
    options = (("grpc.use_local_subchannel_pool", 1),)  # a connection for each channel
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options))
            for _ in range(connections)
        ]
        count = 0
        end = time.perf_counter() + seconds

        async def ask(channel: grpc.aio.Channel) -> None:
            nonlocal count
            call = channel.unary_unary(method)
            while time.perf_counter() < end:
                await call(request)
                count += 1

        started = time.perf_counter()
        await asyncio.gather(*[ask(channels[at % connections]) for at in range(IN_FLIGHT)])
        return count, time.perf_counter() - started


def cpu(pid: int) -> float:
    """Microseconds of the processor that a process and those it started have had."""
    total = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0]) / 1000
        for child in (task / "children").read_text().split():
            total += cpu(int(child))
    return total


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


def mlserver_python() -> Path:
    """A virtual environment with MLServer and TensorFlow; made once."""
    folder = cache_home() / "bench" / hashlib.sha256(MLSERVER.encode()).hexdigest()[:12]
    python = folder / "bin" / "python"
    done = folder / "installed"
    if not done.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        for argv in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(python), "-m", "pip", "install", MLSERVER, "tensorflow-cpu==2.21.*"],
        ):
            subprocess.run(argv, check=True, capture_output=True, text=True)
        done.touch()
    return python


def document(model: Path, seconds: float, mlserver: bool = True) -> dict[str, Any]:
    """What `make bench` prints: all servers, ours in its ways, and as a multiple of the others."""
    ours = measure(model, seconds)
    out: dict[str, Any] = {"model": str(model.name), "portable": ours, "echo": measure_echo(seconds)}
    for name, key in (("p50", "p50_ms"), ("cpu", "cpu_us_per_request")):
        if key in ours and key in out["echo"]:
            out[f"times_echo_{name}"] = round(ours[key] / out["echo"][key], 2)
    if mlserver:
        theirs = out["mlserver"] = measure_mlserver(model, seconds)
        if "requests_per_second" in theirs and "requests_per_second" in ours:
            out["times_mlserver"] = round(ours["requests_per_second"] / theirs["requests_per_second"], 2)
    out["rest"] = measure_rest(model, seconds)
    out["two_processes"] = measure(model, seconds, "--processes=2", connections=16)
    out["batching"] = {
        "model": measure_batching(model, seconds),
        "wide": measure_batching(wide_model(), seconds),
    }
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
