"""A deployment that the settings do not name any more: taken away, or passed on under its present name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from slipway.clients.kubectl import Change, Kubectl
from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault
from slipway.core.events import Event, Note
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Cluster, ExportedModel
from slipway.deploy import deployed, leaving
from slipway.deploy.deployed import APPLYSET, Earlier
from slipway.deploy.engine import stack_of
from slipway.deploy.leaving import TakeAway
from slipway.deploy.stage import Deploy
from slipway_stacks.outputs import Names

CLUSTER = Cluster(Path("kubeconfig"), Path("kubectl"), "", (), None)
KUBECTL = Kubectl.of(CLUSTER)


def models(*names: str, **deploy: Any) -> Settings:
    return Settings.model_validate({"models": {name: {} for name in names}, "deploy": deploy})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the cluster and the engine, in order."""
    out: list[str] = []

    class Applier:
        def __init__(self, _: Kubectl, namespace: str, applyset: str) -> None:
            self.name = f"{namespace}/{applyset}"

        def remove(self, *, alone: bool) -> list[Change]:
            out.append(f"remove {self.name}")
            return [Change("remove", "Deployment", "one"), *self.remove_rest(alone=alone)]

        def remove_rest(self, *, alone: bool) -> list[Change]:
            out.append(f"the rest of {self.name}{'' if alone else ', others stay'}")
            return [Change("remove", "Namespace", "n")] if alone else []

        def dissolve_set(self, kept: Any) -> list[Change]:
            out.append(f"dissolve {self.name}")
            return []

    class Engine:
        def __init__(self, stack: str, backend: str | None) -> None:
            self.stack = f"{stack}{f' in {backend}' if backend else ''}"

        def unlock(self) -> int:
            return 0

        def destroy(self) -> list[Change]:
            out.append(f"destroy {self.stack}")
            return [Change("remove", "Deployment", "one")]

        def rename(self, name: str) -> None:
            out.append(f"rename {self.stack} to {name}")

    def engine_of(ctx: Context, settings: Settings, _: Kubectl) -> Engine:
        return Engine(stack_of(ctx), settings.deploy.backend)

    monkeypatch.setattr(leaving, "Applier", Applier)
    monkeypatch.setattr(leaving, "engine_of", engine_of)
    return out


@pytest.fixture
def said() -> list[Event]:
    return []


@pytest.fixture
def ctx(tmp_path: Path, said: list[Event]) -> Context:
    (tmp_path / "Pulumi.yaml").write_text("name: slipway\nstackConfigDir: envs\n")
    state = State(tmp_path / ".slipway")
    return Context(state, state.root / "run", tmp_path, emit=said.append)


def made(ctx: Context, name: str, namespace: str = "serving", by: Any = "render", **more: Any) -> Context:
    """A deployment on record; name: of which of several models, empty for a single one called mnist."""
    place = ctx.of(name)
    deployed.remember(place, Earlier(namespace, by, Names(name or "mnist").deployment, **more))
    place.state.keep(ExportedModel(Path("m"), name or "mnist", 1, "00", Path("r")))
    return place


def test_each_model_has_its_own_stack_and_set(ctx: Context) -> None:
    assert (stack_of(ctx), deployed.applyset(ctx)) == ("lab", APPLYSET)
    one = ctx.of("Half_Plus.2")
    assert stack_of(one) == "lab-Half_Plus.2"
    assert deployed.applyset(one) == f"{APPLYSET}-half-plus-2-4a7d40"


def test_what_is_gone_is_what_the_settings_do_not_name(ctx: Context) -> None:
    for name in ("", "a", "b"):
        made(ctx, name)

    def gone(settings: Settings) -> list[str]:
        return [name for name, _ in Deploy().left(ctx, settings)]

    assert gone(models("a", "b")) == [""]
    assert gone(models("a", "c")) == ["", "b"]
    assert gone(Settings()) == ["a", "b"]
    deployed.forget(ctx.of("b"))
    assert gone(Settings()) == ["a"]


def test_one_model_goes_and_what_others_need_stays(ctx: Context, asked: list[str]) -> None:
    for name in ("a", "b"):
        made(ctx, name)
    made(ctx, "c", by="engine", backend="s3://states")
    settings = models("a", "b")
    outcome = TakeAway().run(ctx.of("c"), settings, CLUSTER)
    assert asked == ["destroy lab-c in s3://states", f"the rest of serving/{APPLYSET}-c, others stay"]
    assert outcome.changed == 1
    assert outcome.summary == (
        "the settings no longer name c-deployment in namespace serving: 1 objects removed"
    )
    assert ctx.state.kept_models == ("a", "b")
    asked.clear()
    assert leaving.destroy(ctx.of("a"), settings, CLUSTER) == ["remove Deployment one"]
    # taken away and still named: what was made of it before stays
    assert ctx.state.of("a").kept(ExportedModel) is not None
    assert leaving.destroy(ctx.of("b"), settings, CLUSTER)[-1] == "remove Namespace n"
    assert asked[-1] == f"the rest of serving/{APPLYSET}-b"
    assert leaving.destroy(ctx.of("b"), settings, CLUSTER) == []


def test_a_namespace_of_its_own_goes_with_a_model(ctx: Context, asked: list[str]) -> None:
    made(ctx, "a")
    made(ctx, "b", namespace="other")
    leaving.destroy(ctx.of("b"), models("a", "b"), CLUSTER)
    assert asked == [f"remove other/{APPLYSET}-b", f"the rest of other/{APPLYSET}-b"]


def test_an_engine_that_is_not_there_any_more_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    made(ctx, "a", by="engine")
    monkeypatch.setattr(leaving, "engine_of", lambda *_: None)
    with pytest.raises(EnvironmentFault, match="made by Pulumi's engine"):
        TakeAway().run(ctx.of("a"), models("b"), CLUSTER)
    assert ctx.state.kept_models == ("a",)


@pytest.mark.parametrize("by", ["engine", "render"])
def test_a_single_model_becomes_one_of_several_as_it_is_and_back(
    ctx: Context, asked: list[str], said: list[Event], by: str
) -> None:
    made(ctx, "", by=by)
    settings, now = models("mnist", "other"), ctx.of("mnist")
    place = leaving.before(now, settings, "serving", Names("mnist"))
    assert place is not None and place.state == ctx.state
    assert TakeAway().plan(place, settings) == []  # it does not go
    leaving.pass_on(now, settings, place, KUBECTL, [])
    assert asked == ["rename lab to lab-mnist" if by == "engine" else f"dissolve serving/{APPLYSET}"]
    assert deployed.remembered(ctx) is None
    assert deployed.remembered(now) == Earlier("serving", by, "mnist-deployment")  # type: ignore[arg-type]
    assert ctx.state.kept(ExportedModel) is None  # else status told of it twice
    assert said == [Note("mnist-deployment is taken over as it is: the settings name it otherwise now")]
    assert leaving.before(now, settings, "serving", Names("mnist")) is None
    asked.clear()
    back = leaving.before(ctx, Settings(), "serving", Names("mnist"))
    assert back is not None
    leaving.pass_on(ctx, Settings(), back, KUBECTL, [])
    assert asked == ["rename lab-mnist to lab" if by == "engine" else f"dissolve serving/{APPLYSET}-mnist"]
    assert ctx.state.kept_models == ()


def test_only_the_same_deployment_is_passed_on(ctx: Context) -> None:
    made(ctx, "")
    made(ctx, "a")
    settings = models("mnist", "a")
    assert leaving.before(ctx.of("mnist"), settings, "other", Names("mnist")) is None
    assert leaving.before(ctx.of("b"), models("mnist", "b"), "serving", Names("b")) is None
    assert leaving.before(ctx.of("a"), settings, "serving", Names("mnist")) is None  # it has one
    assert leaving.before(ctx, Settings(), "serving", Names("a")) is None  # likewise
    (line,) = TakeAway().plan(ctx, models("b"))
    assert line == (
        "take away mnist-deployment and what belongs to it in namespace serving: the settings no longer name it"
    )


def test_a_place_that_was_left_by_half_is_finished(ctx: Context, asked: list[str]) -> None:
    """Killed between remembering the new place and forgetting the old one: nothing in use goes."""
    made(ctx, "")
    made(ctx, "mnist")
    TakeAway().run(ctx, models("mnist"), CLUSTER)
    assert asked == [f"remove serving/{APPLYSET}", f"the rest of serving/{APPLYSET}, others stay"]
    assert deployed.remembered(ctx.of("mnist")) is not None
