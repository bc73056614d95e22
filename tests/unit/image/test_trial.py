"""The check before the push: what the container does becomes one clear outcome, and it is removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from slipway.clients.docker import ContainerState, Docker
from slipway.core import retry
from slipway.core.context import Context
from slipway.core.errors import ImageError
from slipway.core.state import State
from slipway.core.types import ExportedModel
from slipway.image import trial as under_test
from slipway_client import check as prediction
from slipway_client import connect as connecting
from slipway_client.check import Report
from slipway_client.client import VersionStatus
from slipway_client.errors import NotReachable, WrongModel

from tests.standins.clock import stopped

REQUEST = (
    '{"method":"predict","signature":"s","inputs":{"x":{"dtype":"float32","shape":[1],"values":[1.0]}}}\n'
)


def report(**what: Any) -> Report:
    values: dict[str, Any] = {
        "server": "s",
        "transport": "grpc",
        "model": "mnist",
        "versions": (1,),
        "requests": 110,
        "errors": 0,
        "compared": 110,
        "differences": 0,
        "labelled": 110,
        "wrong": 7,
        "statuses": {},
        "latency": None,
        "per_second": 0.0,
    }
    return Report(**(values | what))


@dataclass(frozen=True)
class FakeDocker(Docker):
    """A build host whose container does what the test says."""

    states: list[ContainerState] = field(default_factory=lambda: [ContainerState(True, 0)])
    printed: str = "the container's last line"
    removed: list[str] = field(default_factory=list)

    @contextmanager
    def running(self, reference: str, name: str, *, port: int, to: int) -> Iterator[None]:
        assert (port, to) == (8500, 8500)
        try:
            yield
        finally:
            self.removed.append(name)

    def state(self, name: str) -> ContainerState:
        return self.states[0] if len(self.states) == 1 else self.states.pop(0)

    def logs(self, name: str, lines: int = 200) -> str:
        assert not self.removed, "the log is gone with the container"
        return self.printed


class Tunnel:
    def tunnel(self, address: str, port: int) -> Any:
        assert (address, port) == ("127.0.0.1", 8500)
        return nullcontext(("127.0.0.1", 40000))


class FakeClient:
    def __init__(self, statuses: list[Any]) -> None:
        self.statuses = statuses

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self, model: str) -> tuple[VersionStatus, ...]:
        found = self.statuses[0] if len(self.statuses) == 1 else self.statuses.pop(0)
        if isinstance(found, Exception):
            raise found
        return (VersionStatus(1, found, ""),)


Run = Callable[..., int]


@pytest.fixture
def docker() -> FakeDocker:
    return FakeDocker(Tunnel(), "cp")  # type: ignore[arg-type]  # only its tunnel is used


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "requests.jsonl").write_text(REQUEST)
    model = ExportedModel(tmp_path, "mnist", 1, "ab", tmp_path / "requests.jsonl")
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path)
    stopped(monkeypatch, retry)  # waiting costs no time, however loaded this machine is

    def go(docker: FakeDocker, answer: Report | Exception, *statuses: Any) -> int:
        client = FakeClient([*statuses] or ["AVAILABLE"])
        monkeypatch.setattr(connecting, "connect", lambda server: client)

        def check(*_: object) -> Report:
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(prediction, "check", check)
        try:
            return under_test.run_and_ask(ctx, docker, "slipway/serving:1", model)
        finally:
            assert len(docker.removed) == 1
            assert (tmp_path / "run/evidence/image-check.log").read_text().strip() == docker.printed

    return go


def error_of(ask: Run, docker: FakeDocker, answer: Report | Exception, *statuses: Any) -> ImageError:
    with pytest.raises(ImageError) as caught:
        ask(docker, answer, *statuses)
    assert caught.value.where == "cp" and caught.value.action and caught.value.exit_code == 5
    return caught.value


def test_right_answers_are_counted(ask: Run, docker: FakeDocker) -> None:
    assert ask(docker, report(), NotReachable("not yet"), "LOADING", "AVAILABLE") == 110


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (report(differences=2, failures=("request 7 (predict s): scores differ",)), "2 differ"),
        (report(errors=1, failures=("request 3 (classify s): INTERNAL",)), "1 failed"),
        (report(versions=(2,)), "model version 2"),
        (report(requests=0, versions=()), "model version none"),
    ],
)
def test_wrong_answers_name_the_request(ask: Run, docker: FakeDocker, answer: Report, said: str) -> None:
    error = error_of(ask, docker, answer)
    assert said in error.what
    assert error.tail == "\n".join(answer.failures)
    assert "not pushed" in error.action


def test_every_model_of_the_image_is_asked_and_a_wrong_one_named(
    tmp_path: Path, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "requests.jsonl").write_text(REQUEST)
    one = ExportedModel(tmp_path, "mnist", 1, "ab", tmp_path / "requests.jsonl")
    both = replace(one, beside=(replace(one, name="digits", version=2),))
    ctx = Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path)
    answers = {"mnist": report(requests=5), "digits": report(requests=7, versions=(2,))}
    stopped(monkeypatch, retry)
    monkeypatch.setattr(connecting, "connect", lambda server: FakeClient(["AVAILABLE"]))
    monkeypatch.setattr(prediction, "check", lambda client, model, requests: answers[model])
    assert under_test.run_and_ask(ctx, docker, "slipway/serving:1", both) == 12
    answers["digits"] = report(differences=2)
    docker.removed.clear()
    with pytest.raises(ImageError, match="answers wrongly for model digits: of 110 fixed requests"):
        under_test.run_and_ask(ctx, docker, "slipway/serving:1", both)
    monkeypatch.setattr(connecting, "connect", lambda server: FakeClient(["AVAILABLE", "END"]))
    docker.removed.clear()
    with pytest.raises(ImageError, match="cannot load the model digits"):
        under_test.run_and_ask(ctx, docker, "slipway/serving:1", both)


def test_a_container_that_ends_at_its_start_shows_its_last_lines(ask: Run, docker: FakeDocker) -> None:
    docker.states[:] = [ContainerState(True, 0), ContainerState(False, 139)]
    error = error_of(ask, docker, report(), NotReachable("refused"))
    assert "exit code 139" in error.what
    assert error.tail == docker.printed


def test_a_model_that_never_gets_available_shows_state_and_log(ask: Run, docker: FakeDocker) -> None:
    error = error_of(ask, docker, report(), "LOADING")
    assert "did not serve the model" in error.what
    assert "LOADING" in error.tail and docker.printed in error.tail


def test_a_model_that_cannot_be_loaded_is_not_waited_for(
    ask: Run, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "STARTS_WITHIN", 3600)
    error = error_of(ask, docker, report(), "LOADING", "END")
    assert "cannot load the model" in error.what and "END" in error.tail


def test_a_server_with_another_model_is_said_at_once(ask: Run, docker: FakeDocker) -> None:
    error = error_of(ask, docker, report(), WrongModel("there is no model mnist", action="look"))
    assert "no model mnist" in error.what
    assert error.tail == docker.printed


def test_a_signature_the_model_lacks_is_an_image_error(ask: Run, docker: FakeDocker) -> None:
    from slipway_client.errors import WrongSignature

    error = error_of(ask, docker, WrongSignature("no signature s", tail="it has t"))
    assert "no signature s" in error.what and error.tail == "it has t"
