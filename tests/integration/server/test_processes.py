"""Several processes on the same ports: one server, seen from outside."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway_client import messages

from .conftest import PREDICTION, Made, Server, StartServer, free_port, predict_request
from .protos import floats

COUNT = 2
GOOD = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))


def started(start: StartServer, folder: Path, *flags: str, before: str = "") -> Server:
    return start(
        "--model_name=net",
        f"--model_base_path={folder}/net",
        f"--processes={COUNT}",
        *flags,
        wait="all_started",
        before=before,
    )


@pytest.fixture(scope="module")
def several(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    starter = StartServer(tmp_path_factory.mktemp("several"))
    running = started(starter, made.models)
    try:
        yield running
        assert not running.events("fault")
    finally:
        starter.end()


def pids(server: Server) -> list[int]:
    """The processes that serve."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(pid) for pid in children]


def ask(server: Server, connections: int) -> None:
    """A request on each of some new connections, which the kernel shares out."""
    for _ in range(connections):
        options = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
            raw = channel.unary_unary(f"/{PREDICTION}/Predict")(GOOD.SerializeToString(), timeout=60)
            assert len(messages.PredictResponse.FromString(raw).outputs["scores"].float_val) == 10


def requests_counted(server: Server) -> int:
    status, text = server.http("/monitoring/prometheus/metrics")
    assert status == 200
    name = ':tensorflow:serving:request_count{model_name="net",status="OK"} '
    return sum(int(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


def health(server: Server) -> int:
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options) as channel:
        raw = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60)
    return int(messages.HealthCheckResponse.FromString(raw).status)


def test_connections_are_shared_out_and_metrics_are_of_all(several: Server) -> None:
    assert several.wait_for("all_started")["serving"] is True
    before = requests_counted(several)
    assert len(pids(several)) == COUNT
    ask(several, 40)
    # Whichever process is asked tells the sum.
    assert [requests_counted(several) - before for _ in range(6)] == [40] * 6
    assert {event["process"] for event in several.events("started")} == set(range(COUNT))
    assert health(several) == 1


def test_each_has_its_part_of_the_memory(several: Server, server: Server) -> None:
    whole = server.wait_for("memory")["available"]
    assert [event["available"] for event in several.events("memory")] == [whole // COUNT] * COUNT


def test_another_server_cannot_have_the_port(several: Server, start: StartServer, made: Made) -> None:
    for flags in ((), (f"--processes={COUNT}",)):
        second = start(
            f"--model_base_path={made.models}/net", f"--port={several.port}", *flags, wait="not_started"
        )
        assert second.process.wait(60) == 3
        assert f"cannot listen on port {several.port}" in second.events("not_started")[0]["error"]


# The process with number 1 fails to load a model as long as a file is there.
LACKS = """
import os
from slipway_server import loading
from slipway_server.codes import invalid
if os.environ.get("SLIPWAY_SERVER_PROCESS", "").startswith("1,"):
    load = loading.Loader.__call__
    def lacking(self, name, version, path):
        if os.path.exists({file!r}):
            raise invalid("lacking")
        return load(self, name, version, path)
    loading.Loader.__call__ = lacking
"""


def test_health_is_that_of_all(made: Made, start: StartServer, tmp_path: Path) -> None:
    shutil.copytree(made.models / "net" / "1", tmp_path / "net" / "1")
    lacking = tmp_path / "lacking"
    lacking.touch()
    server = started(start, tmp_path, before=LACKS.format(file=str(lacking)))
    assert server.wait_for("all_started")["serving"] is False
    assert {health(server) for _ in range(12)} == {2}
    lacking.unlink()
    (tmp_path / "net" / "1" / "saved_model.pb").touch()  # what failed is tried again once its files change
    _until(lambda: health(server) == 1)
    assert {health(server) for _ in range(12)} == {1}
    assert server.stop() == 0


def _until(true: Any) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_sigterm_drains_all(made: Made, start: StartServer) -> None:
    server = started(start, made.models)
    serving = pids(server)
    assert server.stop() == 0
    assert sorted(event["process"] for event in server.events("stopped")) == list(range(COUNT))
    assert not [pid for pid in serving if Path(f"/proc/{pid}").exists()]


def test_a_process_that_dies_ends_the_whole(made: Made, start: StartServer) -> None:
    server = started(start, made.models)
    serving = pids(server)
    os.kill(serving[1], signal.SIGKILL)
    assert server.process.wait(60) == 3
    ended = server.events("process_ended")
    assert [(event["number"], event["returned"]) for event in ended] == [(1, -signal.SIGKILL)]
    assert [event["process"] for event in server.events("stopped")] == [0]


def test_all_end_when_the_one_that_watches_is_gone(made: Made, start: StartServer) -> None:
    server = started(start, made.models)
    server.process.kill()
    server.process.wait()
    _until(
        lambda: len([line for line in server.log.read_text().splitlines() if '"stopped"' in line]) == COUNT
    )


def test_what_one_process_lacks_ends_the_whole(start: StartServer, tmp_path: Path) -> None:
    port = free_port()
    server = start(
        f"--model_base_path={tmp_path}",
        f"--processes={COUNT}",
        *(f"--monitoring_config_file={tmp_path}/none", f"--health_port={port}"),
        wait="",
    )
    assert server.process.wait(60) == 2
