"""What waits for what, read from signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway import pipeline
from slipway.core.context import Context
from slipway.core.order import EARLIER, LATER, Task, in_order
from slipway.core.schema import Settings
from slipway.core.stage import is_shared, name_of
from slipway.core.state import State
from slipway.core.types import Cluster, Outcome


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return Context(State(tmp_path), tmp_path / "run", tmp_path)


def waits(tasks: tuple[Task, ...]) -> dict[str, tuple[str, ...]]:
    return {task.label: task.after for task in tasks}


def chain(ctx: Context, settings: Settings, skip: dict[str, str] | None = None) -> list[Task]:
    """The tasks of a run of the real stages, made as the pipeline makes them."""
    skip = skip or {}
    shared = [stage for stage in pipeline.STAGES if is_shared(stage)]
    own = [stage for stage in pipeline.STAGES if not is_shared(stage)]
    return [
        *(Task(stage, ctx, settings, skip.get(name_of(stage), "")) for stage in shared),
        *(
            Task(stage, ctx.of(name), its, skip.get(name_of(stage), ""))
            for name, its in settings.each()
            for stage in own
        ),
    ]


def test_the_chains_own_order(ctx: Context) -> None:
    assert waits(in_order(chain(ctx, Settings()))) == {
        "hosts": (),
        "provision": ("hosts",),
        "model": (),
        "serve": (),
        "image": ("hosts", "provision", "model"),
        "deploy": ("provision", "image", "model"),
        "smoke": ("hosts", "provision", "model", "image", "deploy"),
    }


def test_a_server_on_a_host_waits_for_no_cluster(ctx: Context) -> None:
    served = Settings.model_validate({"hosts": {"model_servers": 1}})
    assert waits(in_order(chain(ctx, served)))["serve"] == ("hosts", "model")


def test_each_model_waits_for_its_own_and_for_what_all_share(ctx: Context) -> None:
    two = Settings.model_validate({"models": {"a": {}, "b": {}}})
    found = waits(in_order(chain(ctx, two)))
    assert found["image b"] == ("hosts", "provision", "model b")
    assert found["deploy a"] == ("provision", "image a", "model a")


def test_what_is_not_run_waits_for_nothing(ctx: Context, tmp_path: Path) -> None:
    found = waits(in_order(chain(ctx, Settings(), {"provision": EARLIER, "smoke": LATER})))
    assert found["provision"] == found["smoke"] == ()
    assert found["image"] == ("hosts", "provision", "model")
    (tmp_path / "kubeconfig").touch()
    brought = Settings.model_validate({"cluster": {"kubeconfig": tmp_path / "kubeconfig"}})
    assert waits(in_order(chain(ctx, brought)))["provision"] == ()


def test_only_what_stands_earlier_is_waited_for_and_earlier_tasks_count(ctx: Context) -> None:
    class Away:
        title = "Take away"
        __module__ = "slipway.deploy.away"

        def run(self, ctx: Context, cluster: Cluster) -> Outcome[None]:
            raise AssertionError

        def plan(self, ctx: Context) -> list[str]:
            raise AssertionError

    hosts, provision, *_ = chain(ctx, Settings())
    assert waits(in_order([provision, hosts])) == {"provision": (), "hosts": ()}
    away: Any = Away()
    assert waits(in_order([Task(away, ctx.of("c"), Settings())], [hosts, provision])) == {
        "deploy c": ("provision",)
    }
