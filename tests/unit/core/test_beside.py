"""What stages prepare beside the first ones of a run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from slipway.core import beside
from slipway.core.beside import preparing
from slipway.core.context import Context
from slipway.core.events import Detail, Event
from slipway.core.schema import Settings
from slipway.core.state import State

LONG = 60  # seconds; never waited for where all is well


def stage(name: str, prepare: Any, **members: Any) -> Any:
    kind = type(name.title(), (), {"__module__": f"slipway.{name}.stage", "prepare": prepare, **members})
    return kind()


@pytest.fixture
def said() -> list[Event]:
    return []


@pytest.fixture
def ctx(tmp_path: Path, said: list[Event]) -> Context:
    return Context(State(tmp_path / ".slipway"), tmp_path / "run", tmp_path, emit=said.append)


def test_it_is_done_while_the_block_goes_on_and_one_failure_stops_no_other(
    ctx: Context, said: list[Event]
) -> None:
    done = threading.Event()

    def fails(self: object, ctx: Context, settings: Settings) -> None:
        raise OSError("no space")

    def works(self: object, ctx: Context, settings: Settings) -> None:
        done.set()

    unwanted = {"should_run": lambda self, settings: "brought along"}
    stages = [stage("provision", fails, **unwanted), stage("image", fails), stage("deploy", works)]
    with preparing(ctx, Settings().each(), stages):
        assert done.wait(LONG)
    assert said == [Detail("image could not prepare: no space")]


def test_what_is_not_done_at_the_end_is_not_begun_and_not_waited_for(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "_PATIENCE", 0)
    begun, go_on, later = threading.Event(), threading.Event(), threading.Event()

    def waits(self: object, ctx: Context, settings: Settings) -> None:
        begun.set()
        go_on.wait(LONG)

    def never(self: object, ctx: Context, settings: Settings) -> None:
        later.set()

    with (
        pytest.raises(KeyError),
        preparing(ctx, Settings().each(), [stage("image", waits), stage("deploy", never)]),
    ):
        assert begun.wait(LONG)
        raise KeyError
    go_on.set()
    (thread,) = [one for one in threading.enumerate() if one.name == "prepare"] or [threading.Thread()]
    if thread.ident is not None:
        thread.join(LONG)
    assert not later.is_set()
