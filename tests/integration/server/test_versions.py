"""Versions: watched, loaded before the old one leaves, never taken down by a broken one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from slipway_client import messages
from slipway_server.codes import Code, StatusError
from slipway_server.model_state import ModelConfig, Policy, State
from slipway_server.models import Models
from slipway_server.version_folder import files_of, find_versions

from .conftest import TELL_RUNS, Made, Server, StartServer, predict_request
from .protos import INT32, floats, tensor


class Toy:
    """A servable without TensorFlow."""

    def __init__(self, name: str, version: int, path: Path) -> None:
        self.name, self.version, self.path = name, version, path
        self.warmed = 0
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Toys:
    """Loads toys; a folder with a file `broken.pb` fails."""

    def __init__(self) -> None:
        self.loaded: list[Toy] = []
        self.attempts: list[int] = []

    def __call__(self, name: str, version: int, path: Path) -> Any:
        self.attempts.append(version)
        if (path / "broken.pb").exists():
            raise StatusError(Code.DATA_LOSS, "broken")
        self.loaded.append(Toy(name, version, path))
        return self.loaded[-1]

    def alive(self) -> list[int]:
        return [toy.version for toy in self.loaded if not toy.closed]


def at_once(load: Any) -> Models:
    """Models that take a version's files as they are at the first look."""
    return Models(load, settle_seconds=0)


def folder(base: Path, *names: str) -> Path:
    for name in names:
        (base / name).mkdir(parents=True)
    return base


def spec(name: str, version: int | None = None) -> Any:
    out = messages.ModelSpec(name=name)
    if version is not None:
        out.version.value = version
    return out


def newest(models: Models, name: str = "toy") -> int:
    with models.use(spec(name)) as servable:
        return servable.version


def states(models: Models, name: str = "toy") -> dict[int, State]:
    return {number: version.state for number, version in models.status(spec(name))}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), [12]),
        (Policy("latest", 2), [3, 12]),
        (Policy("latest", 9), [-4, 1, 3, 12]),
        (Policy("all"), [-4, 1, 3, 12]),
        (Policy("specific", versions=(3, 1, 7)), [1, 3]),
        (Policy("specific"), []),
    ],
)
def test_a_policy_chooses_versions(tmp_path: Path, policy: Policy, expected: list[int]) -> None:
    folder(tmp_path, "1", "3", "12", "notes", "-4", ".5", "1e3")
    (tmp_path / "99").write_text("a file is not a version")
    assert sorted(policy.choose(find_versions(tmp_path))) == expected


@pytest.mark.parametrize(
    ("names", "found"),
    [
        # file_system_storage_path_source.cc:87 reads numbers with absl::SimpleAtoi: zeros, a sign and blanks
        # around are taken, anything else and what 64 bits do not hold is not
        (["00123"], {123: "00123"}),
        (["+7", "-7", "-0"], {7: "+7", -7: "-7", 0: "-0"}),
        ([" 8", "9 "], {8: " 8", 9: "9 "}),
        (["1_0", "0x1", "1.0", "\u0661", "", "- 1"], {}),
        ([str(2**63 - 1), str(2**63), str(-(2**63))], {2**63 - 1: str(2**63 - 1), -(2**63): str(-(2**63))}),
        (["9" * 250], {}),
        # :128, two folders of one number: the last by name
        (["1", "001", "01"], {1: "1"}),
    ],
    ids=str,
)
def test_a_folder_is_a_version_when_upstream_reads_a_number(
    tmp_path: Path, names: list[str], found: dict[int, str]
) -> None:
    folder(tmp_path, *[name for name in names if name])
    assert {number: path.name for number, path in find_versions(tmp_path).items()} == found


def test_what_waits_to_be_loaded_is_told_as_start_and_the_newest_comes_first(tmp_path: Path) -> None:
    # core/basic_manager.cc:377 publishes kStart for all that is aspired;
    # core/aspired_version_policy.cc, GetHighestAspiredNewServableId
    async def scenario() -> None:
        seen: list[dict[int, State]] = []
        toys = Toys()

        def load(name: str, version: int, path: Path) -> Any:
            seen.append(states(models))
            seen.append(states(models, "other"))
            return toys(name, version, path)

        models = at_once(load)
        folder(tmp_path, "1", "2")
        configs = [ModelConfig(name, tmp_path, Policy("all")) for name in ("toy", "other")]
        await models.configure(configs)
        start, loading, available = State.START, State.LOADING, State.AVAILABLE
        assert toys.attempts == [2, 1, 2, 1]
        assert seen[:4] == [
            {2: loading, 1: start},
            {2: start, 1: start},
            {2: available, 1: loading},
            {2: start, 1: start},
        ]
        await models.close()

    asyncio.run(scenario())


def test_a_version_that_changes_while_it_is_looked_at_holds_nothing_up(tmp_path: Path) -> None:
    # Copying a version into place makes and removes folders under the walk; it must not raise.
    ended = threading.Event()

    def copying() -> None:
        while not ended.is_set():
            (tmp_path / "1" / "variables" / "deep").mkdir(parents=True, exist_ok=True)
            shutil.rmtree(tmp_path / "1" / "variables", ignore_errors=True)

    folder(tmp_path, "1")
    (tmp_path / "1" / "whole.pb").write_text("1")
    copier = threading.Thread(target=copying)
    copier.start()
    try:
        for _ in range(300):
            assert [Path(name).name for name, *_ in files_of(tmp_path / "1")] == ["whole.pb"]
    finally:
        ended.set()
        copier.join()


def test_a_version_whose_files_are_fresh_is_not_loaded_yet(tmp_path: Path) -> None:
    async def scenario() -> None:
        toys = Toys()
        models = Models(toys, settle_seconds=3600)
        with pytest.raises(StatusError):
            await models.configure([ModelConfig("toy", tmp_path)])
        folder(tmp_path, "1")
        await models.look()
        await models.look()
        assert toys.attempts == []
        assert states(models) == {1: State.START}
        await models.close()

    asyncio.run(scenario())


def test_what_was_loaded_from_files_that_changed_meanwhile_is_not_served(tmp_path: Path) -> None:
    async def scenario() -> None:
        toys = Toys()
        late = [tmp_path / "2" / "more.pb"]

        def load(name: str, version: int, path: Path) -> Any:
            if version == 2 and late:
                late.pop().touch()
            return toys(name, version, path)

        models = at_once(load)
        await models.configure([ModelConfig("toy", folder(tmp_path, "1"))])
        folder(tmp_path, "2")
        await models.look()
        assert newest(models) == 1
        error = models.status(spec("toy", 2))[0][1].error
        assert error is not None
        assert error.code is Code.UNAVAILABLE
        assert toys.alive() == [1]
        await models.look()
        assert newest(models) == 2
        await models.close()

    asyncio.run(scenario())


def test_a_version_copied_in_place_is_served_once_it_is_whole(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    base = tmp_path / "net"
    shutil.copytree(made.models / "net" / "1", base / "1")
    server = start("--model_name=net", f"--model_base_path={base}")
    request = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))
    # the graph first, the weights later: TensorFlow loads it without a word, and each request would fail
    (base / "2").mkdir()
    shutil.copy(made.models / "net" / "2" / "saved_model.pb", base / "2")
    failed = server.wait_for("version_failed")
    assert failed["code"] == "FAILED_PRECONDITION"
    assert "variables/variables.index is not there, and the graph has 6 variables" in failed["error"]
    assert server.predict(request).model_spec.version.value == 1
    shutil.copytree(made.models / "net" / "2" / "variables", base / "2" / "variables")
    server.wait_for("version_available", count=2)
    assert server.predict(request).model_spec.version.value == 2


def test_closing_can_be_given_up_while_a_first_version_loads(tmp_path: Path) -> None:
    async def scenario() -> None:
        begun, go_on = threading.Event(), threading.Event()

        def load(name: str, version: int, path: Path) -> Any:
            begun.set()
            go_on.wait()
            return Toys()(name, version, path)

        models = at_once(load)
        with contextlib.suppress(StatusError):
            await models.configure([ModelConfig("toy", tmp_path)])
        folder(tmp_path, "1")
        looking = asyncio.ensure_future(models.look())
        await asyncio.to_thread(begun.wait)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await models.close()
        go_on.set()

    asyncio.run(scenario())


def test_what_was_unloaded_stays_in_the_status_as_end(tmp_path: Path) -> None:
    # core/servable_state_monitor.cc:283: states_ is written to and never cleared by the server
    async def scenario() -> None:
        models = at_once(Toys())
        config = ModelConfig("toy", folder(tmp_path, "1"))
        await models.configure([config])
        folder(tmp_path, "2")
        await models.look()
        folder(tmp_path, "3")
        (tmp_path / "3" / "broken.pb").touch()
        await models.look()
        folder(tmp_path, "4")
        await models.look()
        await models.configure([])
        while states(models)[4] is not State.END:
            await asyncio.sleep(0.01)
        assert states(models) == dict.fromkeys((4, 3, 2, 1), State.END)
        errors = [version.error for _, version in models.status(spec("toy"))]
        assert [error and error.code for error in errors] == [None, Code.DATA_LOSS, None, None]
        with pytest.raises(StatusError, match=r"Latest\(toy\)"):
            newest(models)
        await models.configure([config])
        assert states(models) == {4: State.AVAILABLE, 3: State.END, 2: State.END, 1: State.END}
        await models.close()

    asyncio.run(scenario())


def test_of_versions_nobody_wants_only_the_newest_waits_for_a_wanted_one(tmp_path: Path) -> None:
    # core/availability_preserving_policy.cc, GetNextAction
    async def scenario() -> None:
        toys = Toys()
        models = at_once(toys)
        folder(tmp_path, "1", "2", "3", "9")
        (tmp_path / "9" / "broken.pb").touch()
        await models.configure([ModelConfig("toy", tmp_path, Policy("specific", versions=(1, 2, 3)))])
        assert toys.alive() == [3, 2, 1]
        await models.configure([ModelConfig("toy", tmp_path, Policy("specific", versions=(9,)))])
        while len(toys.alive()) > 1:
            await asyncio.sleep(0.01)
        assert newest(models) == 3
        (tmp_path / "9" / "broken.pb").unlink()
        await models.look()
        assert newest(models) == 9
        # specific versions that are not there: nothing is wanted, so nothing stays
        await models.configure([ModelConfig("toy", tmp_path, Policy("specific", versions=(77,)))])
        with pytest.raises(StatusError, match=r"Latest\(toy\)"):
            newest(models)
        await models.close()
        assert toys.alive() == []

    asyncio.run(scenario())


def test_whatever_a_load_raises_is_the_versions_own_fault(tmp_path: Path) -> None:
    async def scenario() -> None:
        def load(*_: Any) -> Any:
            raise OSError("no room")

        models = at_once(load)
        with pytest.raises(StatusError, match="INTERNAL: cannot be loaded"):
            await models.configure([ModelConfig("toy", folder(tmp_path, "1"))])
        assert states(models) == {1: State.END}
        await models.close()

    asyncio.run(scenario())


def test_a_reload_whose_caller_left_is_done_to_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        going = threading.Event()
        toys = Toys()

        def load(name: str, version: int, path: Path) -> Any:
            going.wait()
            return toys(name, version, path)

        models = at_once(load)
        caller = asyncio.create_task(models.configure([ModelConfig("toy", folder(tmp_path, "1"))]))
        while not models.loading:
            await asyncio.sleep(0.01)
        assert models.loading == ["toy/1"]
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        going.set()
        async with asyncio.timeout(120):
            while models.loading:
                await asyncio.sleep(0.01)
        assert newest(models) == 1
        await models.close()

    asyncio.run(scenario())


def test_a_folder_without_the_versions_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def warnings() -> list[str]:
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [line["error"] for line in lines if line["level"] == "warning"]

    async def scenario() -> None:
        models = at_once(Toys())
        folder(tmp_path, "v1")
        with pytest.raises(StatusError, match="no version in"):
            await models.configure([ModelConfig("toy", tmp_path)])
        await models.look()
        assert warnings() == [f"no version in {tmp_path}: its folders must be named by numbers, such as 1"]
        folder(tmp_path, "1")
        await models.look()
        assert warnings() == []
        await models.configure([ModelConfig("toy", tmp_path, Policy("specific", versions=(8, 1, 7)))])
        await models.look()
        assert warnings() == [f"not in {tmp_path}: version 7, 8"]
        assert newest(models) == 1
        await models.close()

    asyncio.run(scenario())


def test_a_server_without_models_is_ready() -> None:
    # model_servers/server_core.cc:500: nothing is done for an empty config, and the server serves
    assert at_once(Toys()).ready


def test_ready_ends_with_a_model_of_the_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        models = at_once(Toys())
        configs = [ModelConfig(name, tmp_path / name) for name in ("kept", "lost")]
        for config in configs:
            folder(config.base_path, "1")
        await models.configure(configs)
        assert models.ready
        folder(tmp_path / "kept", "2")  # a new version takes the place of the old one: never without
        await models.look()
        assert models.ready
        shutil.rmtree(tmp_path / "lost" / "1")
        await models.look()
        assert not models.ready
        folder(tmp_path / "lost", "2")
        await models.look()
        assert models.ready
        folder(tmp_path / "added", "1")
        await models.configure([*configs, ModelConfig("added", tmp_path / "added")])
        await models.configure(configs)
        assert models.ready  # `added` was not there at the start
        await models.configure(configs[:1])
        assert not models.ready
        await models.configure([])
        assert not models.ready
        await models.close()

    asyncio.run(scenario())


def test_a_new_version_replaces_the_old_one_only_when_it_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        toys = Toys()
        models = at_once(toys)
        folder(tmp_path, "1")
        await models.configure([ModelConfig("toy", tmp_path)])
        assert newest(models) == 1
        folder(tmp_path, "2")
        (tmp_path / "2" / "broken.pb").touch()
        await models.look()
        assert newest(models) == 1
        assert states(models) == {2: State.END, 1: State.AVAILABLE}
        error = models.status(spec("toy", 2))[0][1].error
        assert error is not None
        assert (error.code, error.message) == (Code.DATA_LOSS, "broken")
        await models.look()
        assert toys.attempts == [1, 2]  # the same files fail the same way: not tried again
        (tmp_path / "2" / "broken.pb").unlink()
        await models.look()
        assert newest(models) == 2
        await models.close()
        assert toys.alive() == []

    asyncio.run(scenario())


def test_a_version_in_use_is_freed_after_its_last_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        toys = Toys()
        models = at_once(toys)
        await models.configure([ModelConfig("toy", folder(tmp_path, "1"))])
        with models.use(spec("toy")) as first, models.use(spec("toy", 1)):
            folder(tmp_path, "2")
            await models.look()
            assert newest(models) == 2
            await asyncio.sleep(0.05)
            assert toys.alive() == [1, 2]
            assert states(models)[1] is State.UNLOADING
            with pytest.raises(StatusError, match=r"Specific\(toy, 1\)"), models.use(spec("toy", 1)):
                pass
            assert first.version == 1
        while states(models)[1] is not State.END:
            await asyncio.sleep(0.01)
        assert toys.alive() == [2]
        await models.close()

    asyncio.run(scenario())


def test_an_unreadable_folder_keeps_what_is_served_and_an_emptied_one_does_not(tmp_path: Path) -> None:
    # sources/storage_path/file_system_storage_path_source.cc: a missing base path is an error that
    # aspires nothing new; a base path without versions aspires none.
    async def scenario() -> None:
        toys = Toys()
        models = at_once(toys)
        base = folder(tmp_path / "base", "1")
        await models.configure([ModelConfig("toy", base)])
        base.rename(tmp_path / "away")
        await models.look()
        assert newest(models) == 1
        (tmp_path / "away").rename(base)
        (base / "1").rmdir()
        await models.look()
        with pytest.raises(StatusError, match=r"Latest\(toy\)"):
            newest(models)
        while states(models)[1] is not State.END:  # freed first; a look meanwhile leaves it to the next
            await asyncio.sleep(0.01)
        folder(base, "1")
        await models.look()
        assert newest(models) == 1
        await models.close()

    asyncio.run(scenario())


def test_one_broken_model_does_not_keep_the_others_from_serving(tmp_path: Path) -> None:
    async def scenario() -> None:
        models = at_once(Toys())
        folder(tmp_path / "good", "1")
        folder(tmp_path / "bad", "1")
        (tmp_path / "bad" / "1" / "broken.pb").touch()
        configs = [ModelConfig(name, tmp_path / name) for name in ("good", "bad", "absent")]
        with pytest.raises(StatusError) as caught:
            await models.configure(configs)
        assert caught.value.code is Code.UNKNOWN
        assert "2 model(s) did not become available" in caught.value.message
        # model_servers/server_core.cc:347, WaitUntilModelsAvailable
        assert caught.value.message == (
            "2 model(s) did not become available: {{{name: bad version: 1} due to error: DATA_LOSS: broken}, "
            f"{{{{name: absent}} due to error: [Errno 2] No such file or directory: '{tmp_path}/absent'}}, }}"
        )
        assert newest(models, "good") == 1
        assert not models.ready
        (tmp_path / "bad" / "1" / "broken.pb").unlink()
        folder(tmp_path / "absent", "1")
        await models.look()
        assert models.ready
        await models.configure(configs[:1])
        with pytest.raises(StatusError):
            newest(models, "bad")
        await models.close()

    asyncio.run(scenario())


def test_no_request_fails_while_versions_change(made: Made, start: StartServer, tmp_path: Path) -> None:
    base = tmp_path / "net"
    base.mkdir()
    shutil.copytree(made.models / "net" / "1", base / "1")
    server = start("--model_name=net", f"--model_base_path={base}", "--file_system_poll_wait_seconds=1")
    request = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))
    answers: list[tuple[int, bytes]] = []
    failures: list[grpc.RpcError] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                response = server.predict(request)
            except grpc.RpcError as error:
                failures.append(error)
                return
            answers.append(
                (response.model_spec.version.value, response.outputs["scores"].SerializeToString())
            )

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for count, number in enumerate(("2", "3", "4"), 2):
        shutil.copytree(made.models / "net" / ("2" if count % 2 == 0 else "1"), tmp_path / "fresh")
        (tmp_path / "fresh").rename(base / number)
        server.wait_for("version_available", count=count)
        server.wait_for("version_unloaded", count=count - 1)
    stop.set()
    for asker in askers:
        asker.join()
    assert not failures, failures[0]
    seen = [version for version, _ in answers]
    assert set(seen) == {1, 2, 3, 4}
    odd = {answer for version, answer in answers if version % 2}
    even = {answer for version, answer in answers if not version % 2}
    assert len(odd) == len(even) == 1
    assert odd != even
    assert server.states("net")[4] == "AVAILABLE"
    assert server.stop() == 0


def test_a_broken_version_shows_in_the_status_and_the_good_one_answers(
    made: Made, start: StartServer, tmp_path: Path
) -> None:
    base = tmp_path / "net"
    shutil.copytree(made.models / "net" / "1", base / "1")
    server = start("--model_name=net", f"--model_base_path={base}")
    shutil.copytree(made.models / "net" / "2", tmp_path / "2")
    data = tmp_path / "2" / "variables" / "variables.data-00000-of-00001"
    os.truncate(data, 1000)
    (tmp_path / "2").rename(base / "2")
    failed = server.wait_for("version_failed")
    assert failed["version"] == 2
    request = predict_request("net", "predict_images", images=floats([1, 784], [0.5]))
    assert server.predict(request).model_spec.version.value == 1
    assert server.states("net") == {1: "AVAILABLE", 2: "END"}
    (broken,) = server.status("net", 2).model_version_status
    assert broken.status.error_code != 0
    assert broken.status.error_message
    status, body = server.http("/v1/models/net/versions/2")
    assert status == 200
    assert body["model_version_status"][0]["status"]["error_code"] != "OK"
    shutil.copy(made.models / "net" / "2" / "variables" / data.name, base / "2" / "variables" / data.name)
    server.wait_for("version_available", count=2)
    assert server.predict(request).model_spec.version.value == 2


def test_a_reload_request_adds_and_removes_models(made: Made, start: StartServer) -> None:
    server = start(
        "--model_name=net",
        f"--model_base_path={made.models}/net",
        f"--reload_folders={made.models}",
        "--file_system_poll_wait_seconds=0",
    )
    spin = predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[1]))
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        server.predict(spin)
    request = messages.ReloadConfigRequest(metric_names=["/tensorflow/serving/request_count"])
    models = request.config.model_config_list.config
    models.add(name="shapes", base_path=f"{made.models}/shapes", model_platform="tensorflow")
    response = server.reload(request)
    assert response.status.error_code == 0
    assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [
        ("/tensorflow/serving/request_count", 0)
    ]
    assert server.predict(spin).outputs["n"].int_val == [1]
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        server.predict(predict_request("net", "predict_images", images=floats([1, 784], [0])))
    # core/servable_state_monitor.cc:283: what was served stays in the status
    server.wait_for("version_unloaded")
    assert server.states("net") == {2: "END"}
    status, told = server.http("/v1/models/net")
    assert (status, told["model_version_status"][0]["state"]) == (200, "END")
    assert told["model_version_status"][0]["status"] == {"error_code": "OK", "error_message": ""}
    models.add(name="gone", base_path=f"{made.models}/nonexistent", model_platform="tensorflow")
    with pytest.raises(grpc.RpcError) as caught:
        server.reload(request)
    failure: Any = caught.value
    assert failure.code() is grpc.StatusCode.UNKNOWN
    assert "1 model(s) did not become available: {{{name: gone}" in failure.details()
    assert server.predict(spin).outputs["n"].int_val == [1]


def test_an_old_version_finishes_its_slow_request(made: Made, start: StartServer, tmp_path: Path) -> None:
    base = tmp_path / "shapes"
    shutil.copytree(made.models / "shapes" / "1", base / "1")
    server = start("--model_name=shapes", f"--model_base_path={base}", before=TELL_RUNS)
    slow = predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[spins(server, 3.0)]))
    begun = len(server.events("run_begins"))
    answer: list[Any] = []
    asker = threading.Thread(target=lambda: answer.append(server.predict(slow)))
    asker.start()
    server.wait_for("run_begins", count=begun + 1)
    shutil.copytree(base / "1", tmp_path / "2")
    (tmp_path / "2").rename(base / "2")
    retiring = server.wait_for("version_retiring")
    asker.join()
    if retiring["in_flight"]:  # the swap met the request: the usual case, but a slow disk may miss it
        assert answer[0].model_spec.version.value == 1
    assert answer[0].outputs["n"].int_val == slow.inputs["n"].int_val
    server.wait_for("version_unloaded")
    assert (
        server.predict(predict_request("shapes", "constant", x=floats([1], [1]))).model_spec.version.value
        == 2
    )


def spins(server: Server, seconds: float) -> int:
    """How many rounds of the `spin` signature take about this long here and now."""
    rounds = 0
    for rounds in (100, 2000):  # the first run also pays for TensorFlow's set-up of the graph
        started = time.monotonic()
        server.predict(predict_request("shapes", "spin", n=tensor(INT32, [], int_val=[rounds])))
    return int(rounds * seconds / (time.monotonic() - started)) + 1
