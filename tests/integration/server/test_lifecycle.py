"""The process: flags, ports, health, SIGTERM, the log."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway.core.errors import UsageError
from slipway_server import rest, warmup
from slipway_server.config import Monitoring, parse_models, read_monitoring, text_of
from slipway_server.memory import MIB
from slipway_server.model_state import ModelConfig, Policy
from slipway_server.server import GRACE_SECONDS

from .conftest import TELL_RUNS, Made, Server, StartServer, free_port, predict_request, rest_without_models
from .protos import INT32, floats, tensor
from .test_versions import spins
from .test_warmup import predict_log, record

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


def health(server: Server, name: bytes = b"") -> bytes:
    request = b"\x0a" + bytes((len(name),)) + name if name else b""
    return server.raw("grpc.health.v1.Health/Check", request)


# ---- files -----------------------------------------------------------------------------------


def test_model_config_file(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text("""
        model_config_list {
          config { name: "a" base_path: "file:///m/a" model_platform: "tensorflow" }
          config { name: "b" base_path: "/m/b" model_type: TENSORFLOW
                   model_version_policy { latest { num_versions: 2 } } }
          config { name: "c" base_path: "/m/c" model_platform: "tensorflow"
                   model_version_policy { specific { versions: 4 versions: 2 } } }
          config { name: "d" base_path: "/m/d" model_platform: "tensorflow" model_version_policy { all {} } }
        }""")
    assert parse_models(text_of(file), file) == [
        ModelConfig("a", Path("/m/a"), Policy()),
        ModelConfig("b", Path("/m/b"), Policy("latest", 2)),
        ModelConfig("c", Path("/m/c"), Policy("specific", versions=(4, 2))),
        ModelConfig("d", Path("/m/d"), Policy("all")),
    ]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("model_config_list {", "not a text-format ModelServerConfig"),
        ("strange: 1", 'has no field named "strange"'),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "torch" } }',
            "Model a requests unsupported platform torch",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" '
            "model_type: TENSORFLOW } }",
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform, model name is a",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_type: OTHER } }',
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
        (
            # server_core.cc:117: names and paths of all come before the platform of any
            'model_config_list { config { name: "a" base_path: "/a" } config { name: "b" base_path: "b" } }',
            "Expected model b to have an absolute path or URI; got base_path()=b",
        ),
        (
            'model_config_list { config { name: "a" base_path: "gs://bucket/a" model_platform: "tensorflow" } }',
            "model a: base_path gs://bucket/a is in gs: a local folder is expected",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "tensorflow" '
            'logging_config { log_collector_config { type: "x" filename_prefix: "/x" } } } }',
            "model a: this server does not record requests: leave logging_config out",
        ),
    ],
)
def test_a_bad_model_config_names_file_and_fault(tmp_path: Path, text: str, pattern: str) -> None:
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        parse_models(text_of(file), file)
    assert caught.value.where == str(file)
    assert pattern in caught.value.what


def test_monitoring_config_file(tmp_path: Path) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text("prometheus_config { enable: true }")
    assert read_monitoring(file) == Monitoring(True, "/monitoring/prometheus/metrics")
    file.write_text('prometheus_config { enable: true path: "/metrics" }')
    assert read_monitoring(file) == Monitoring(True, "/metrics")
    file.write_text('prometheus_config { path: "metrics" }')
    with pytest.raises(UsageError, match="must begin with /"):
        read_monitoring(file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_monitoring(tmp_path / "absent")


# ---- health and readiness --------------------------------------------------------------------


def test_health(server: Server) -> None:
    assert health(server) == SERVING
    assert health(server, b"PredictionService") == SERVING
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        health(server, b"somebody")


def test_health_waits_for_the_model(made: Made, start: StartServer, tmp_path: Path) -> None:
    base = tmp_path / "net"
    server = start("--model_name=net", f"--model_base_path={base}")
    assert health(server) == NOT_SERVING
    assert server.events("folder_unreadable")[0]["model"] == "net"
    (tmp_path / "fresh").mkdir()
    shutil.copytree(made.models / "net" / "1", tmp_path / "fresh" / "1")
    (tmp_path / "fresh").rename(base)
    server.wait_for("version_available")
    deadline = time.monotonic() + 20
    while health(server) != SERVING and time.monotonic() < deadline:
        time.sleep(0.05)
    assert health(server) == SERVING


def test_what_only_its_start_needed_leaves_it(made: Made, start: StartServer) -> None:
    server = start("--model_name=net", f"--model_base_path={made.models}/net")
    server.wait_for("started")
    deadline = time.monotonic() + 30
    while (of_files := server.resident("RssFile")) > 100 * MIB:
        assert time.monotonic() < deadline, of_files
        time.sleep(0.1)
    assert health(server) == SERVING


def test_without_the_flag_there_is_no_health_service(made: Made, start: StartServer) -> None:
    server = start(
        "--enable_grpc_healthcheck_service=false", "--model_name=net", f"--model_base_path={made.models}/net"
    )
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        health(server)


def test_sigterm_says_not_serving_finishes_and_exits_0(made: Made, start: StartServer) -> None:
    server = start("--model_name=shapes", f"--model_base_path={made.models}/shapes", before=TELL_RUNS)
    watched: list[bytes] = []

    def watch() -> None:
        try:
            for message in server.channel.unary_stream("/grpc.health.v1.Health/Watch")(b""):
                watched.append(message)
        except grpc.RpcError:
            pass  # the stream ends with the server

    answers: list[Any] = []
    rounds = spins(server, 3)
    slow = predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[rounds]))
    body = {"signature_name": "spin", "inputs": rounds}
    threads = [
        threading.Thread(target=watch),
        threading.Thread(target=lambda: answers.append(server.predict(slow).outputs["n"].int_val[0])),
        threading.Thread(
            target=lambda: answers.append(server.http("/v1/models/shapes:predict", body)[1]["outputs"]["n"])
        ),
    ]
    begun = len(server.events("run_begins"))
    for thread in threads:
        thread.start()
    server.wait_for("run_begins", count=begun + 2)
    assert answers == []  # both are under way
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert server.process.wait(40) == 0
    assert answers == [rounds, rounds]
    assert watched == [SERVING, NOT_SERVING]
    events = [json.loads(line) for line in server.log.read_text().splitlines()]  # every line is JSON
    assert [line["event"] for line in events][-1] == "stopped"
    assert all({"time", "level", "event"} <= set(line) for line in events)


def endless(made: Made, folder: Path) -> Path:
    """A version that never gets ready: it is warmed up by a run of many minutes inside TensorFlow."""
    shutil.copytree(made.models / "shapes" / "1", folder)
    log = predict_log()
    log.predict_log.request.CopyFrom(
        predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[2**31 - 1]))
    )
    (folder / warmup.FILE).parent.mkdir()
    (folder / warmup.FILE).write_bytes(record(log.SerializeToString()))
    return folder


def ended(server: Server) -> list[dict[str, Any]]:
    """SIGTERM was sent: the events of a process that left in time, in peace and with JSON only."""
    assert server.process.wait(int(GRACE_SECONDS)) == 0
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_sigterm_in_the_first_load_does_not_wait_for_it(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    endless(made, tmp_path / "shapes" / "1")
    flags = ("--model_name=shapes", f"--model_base_path={tmp_path}/shapes")
    server = start(*flags, wait="run_begins", before=TELL_RUNS)  # well inside TensorFlow
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.rest_port), 5)  # nothing is served before the models
    server.process.send_signal(signal.SIGTERM)
    events = ended(server)
    # without what TensorFlow logs, and that the files are new
    names = [event["event"] for event in events if event["event"] not in ("tensorflow", "version_arriving")]
    assert names == ["runtime_loaded", "version_loading", "run_begins", "draining", "stopped"]
    assert events[-1]["not_waited_for"] == ["shapes/1"]


def test_sigterm_while_a_later_version_loads_finishes_requests_and_leaves(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    shutil.copytree(made.models / "shapes" / "1", tmp_path / "shapes" / "1")
    server = start("--model_name=shapes", f"--model_base_path={tmp_path}/shapes", before=TELL_RUNS)
    rounds = spins(server, 2)
    begun = len(server.events("run_begins"))
    endless(made, tmp_path / "2").rename(tmp_path / "shapes" / "2")
    server.wait_for("version_loading", count=2)
    server.wait_for("run_begins", count=begun + 1)  # the warm-up is well inside TensorFlow
    slow = predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[rounds]))
    answers: list[Any] = []
    asker = threading.Thread(target=lambda: answers.append(server.predict(slow).outputs["n"].int_val[0]))
    asker.start()
    server.wait_for("run_begins", count=begun + 2)
    assert server.states("shapes") == {2: "LOADING", 1: "AVAILABLE"}
    server.process.send_signal(signal.SIGTERM)
    asker.join()
    events = ended(server)
    assert answers == [rounds]
    assert (events[-1]["event"], events[-1]["not_waited_for"]) == ("stopped", ["shapes/2"])


def test_a_run_that_outlasts_the_grace_period_is_left_behind(made: Made, start: StartServer) -> None:
    server = start(
        "--model_name=shapes",
        f"--model_base_path={made.models}/shapes",
        before=f"{TELL_RUNS}\nfrom slipway_server import server; server.GRACE_SECONDS = 1",
    )
    endless_run = predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[2**31 - 1]))
    failures: list[grpc.RpcError] = []

    def ask() -> None:
        try:
            server.predict(endless_run)
        except grpc.RpcError as error:
            failures.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    server.wait_for("run_begins")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(int(GRACE_SECONDS)) == 0
    asker.join()
    assert len(failures) == 1
    assert server.events("stopped")[0]["not_waited_for"] == "requests under way"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_server_is_up_ends_it_at_once(
    made: Made, start: StartServer, number: signal.Signals
) -> None:
    # an import of main() takes for ever, after its handlers were set and before serve() takes over
    stuck = "import sys, time\nclass Stuck:\n def find_spec(self, name, *_):\n  if name == 'uvloop': time.sleep(600)\n"
    server = start(
        "--model_name=net",
        f"--model_base_path={made.models}/net",
        wait="",
        before=f"{stuck}sys.meta_path.insert(0, Stuck())",
    )
    for _ in range(6000):
        caught = Path(f"/proc/{server.process.pid}/status").read_text().split("SigCgt:")[1].split()[0]
        if int(caught, 16) & 1 << signal.SIGTERM - 1:
            break
        time.sleep(0.01)
    server.process.send_signal(number)
    assert [event["event"] for event in ended(server)] == ["stopped"]


def test_a_taken_port_is_said_and_exits_3(made: Made, start: StartServer) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        for flag in ("--port", "--rest_api_port"):
            port = taken.getsockname()[1]
            server = start(f"{flag}={port}", f"--model_base_path={made.models}/net", wait="")
            assert server.process.wait(60) == 3
            (event,) = server.events("not_started")
            assert f"cannot listen on port {port}" in event["error"]
            assert f"choose another {flag}" in event["error"]


def test_a_broken_only_version_is_reported_and_repaired(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    base = tmp_path / "net"
    shutil.copytree(made.models / "net" / "1", base / "1")
    model = base / "1" / "saved_model.pb"
    whole = model.read_bytes()
    model.write_bytes(whole[:-100])
    server = start("--model_name=net", f"--model_base_path={base}")
    assert health(server) == NOT_SERVING
    assert server.states("net") == {1: "END"}
    model.write_bytes(whole)
    server.wait_for("version_available")
    assert server.states("net") == {1: "AVAILABLE"}


def test_serving_opens_no_file_for_writing(made: Made, start: StartServer) -> None:
    """The image's root is read-only and its user owns nothing."""
    server = start("--model_name=net", f"--model_base_path={made.models}/net")
    process = Path("/proc") / str(server.process.pid)
    written, looked_at = [], 0
    for entry in (process / "fd").iterdir():
        try:
            flags_line = (process / "fdinfo" / entry.name).read_text().split("flags:")[1].split()[0]
            target = str(entry.readlink())
        except FileNotFoundError:
            continue  # closed meanwhile: the threads of the server go on
        looked_at += 1
        if int(flags_line, 8) & os.O_ACCMODE and target.startswith("/") and int(entry.name) > 2:
            written.append(target)
    assert looked_at > 5  # its ports and their loops
    assert [path for path in written if not path.startswith(("/dev/", "/memfd:"))] == []


def test_tensorflows_python_is_never_imported(made: Made) -> None:
    """Nor its generated messages, nor numpy; the modules a serving process loads are the proof."""
    script = (
        "import sys, slipway_server.server; "
        "print([name for name in sys.modules if name.startswith(('tensorflow', 'numpy', 'keras'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_server_answers_from_only_the_files_the_image_keeps(made: Made, tmp_path: Path) -> None:
    """Of TensorFlow two libraries and no Python file, of the other packages only those it names itself."""
    import site

    kept = tmp_path / "kept"
    source = Path(next(path for path in site.getsitepackages() if (Path(path) / "tensorflow").is_dir()))
    for name in ("grpc", "google", "h11", "uvloop", "typing_extensions.py"):
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (kept / name).symlink_to(source / name)
    (kept / "tensorflow").mkdir()
    for name in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"):
        (kept / "tensorflow" / name).symlink_to(source / "tensorflow" / name)
    root = Path(__file__).parents[3]
    for name in ("slipway_server", "slipway_client"):
        shutil.copytree(root / "infra" / name, kept / name)
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-S", "-m", "slipway_server"),
                *(f"--port={port}", "--model_name=net", f"--model_base_path={made.models}/net"),
            ],
            stderr=stderr,
            cwd=tmp_path,
            env={"PYTHONPATH": str(kept)},
        )
    server = Server(process, port, 0, log)
    try:
        server.wait_for("started")
        request = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))
        assert len(server.predict(request).outputs["scores"].float_val) == 10
        assert server.stop() == 0
    finally:
        process.kill()
        process.wait()


# ---- slow clients, with short limits ---------------------------------------------------------


def test_slow_heads_are_closed_and_slow_bodies_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(rest, "LINGER_SECONDS", 0.1)

    async def scenario() -> None:
        async with rest_without_models() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/models/a:predict HT")
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/models/a:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 408")
            writer.close()

    asyncio.run(scenario())
