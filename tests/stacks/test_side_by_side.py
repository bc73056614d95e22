"""Several models of one slipway.yaml against a real API: each its own deployment, gone or passed on by itself."""

from __future__ import annotations

from typing import Any

import pytest
from slipway.core.errors import DeployError
from slipway.core.schema import Settings
from slipway.core.types import Endpoints, ImageRef, Outcome
from slipway.deploy import deployed, leaving
from slipway.deploy.stage import Deploy
from slipway_stacks.outputs import Names

from tests.stacks.desk import GOOD, NO_PULL, OTHER, Desk

pytestmark = pytest.mark.lab
WAYS = ["render", pytest.param("engine", marks=[pytest.mark.engine, pytest.mark.timeout(3600)])]
KINDS = "deployment,service,serviceaccount,networkpolicy,poddisruptionbudget,pod"


@pytest.fixture(params=WAYS)
def desk(desk: Desk, request: pytest.FixtureRequest) -> Desk:
    """In a checkout of its own, by one way or the other."""
    desk.by = request.param
    desk.check_out()
    return desk


def models(desk: Desk, *names: str, **more: Any) -> Settings:
    given = {name: {"deploy": {"replicas": 1}} for name in names}
    deploy = {"namespace": desk.namespace, "timeout": 300, "by": desk.by, **more}
    return Settings.model_validate({"models": given, "deploy": deploy})


def image(name: str, last: str = GOOD) -> ImageRef:
    return ImageRef(
        f"registry.lab:5000/{Names(name).stem}", f"sha256:{last * 64}", "1", "portable", name, 1, "0"
    )


def up(desk: Desk, settings: Settings, last: str = GOOD) -> dict[str, Outcome[Any]]:
    """The stage as the pipeline runs it: each model, then what is left of earlier settings."""
    out: dict[str, Outcome[Any]] = {}
    desk.ctx.state.keep(desk.cluster)
    for name, own in settings.each():
        ctx = desk.ctx.of(name)
        out[name] = Deploy().run(ctx, own, desk.cluster, image(name or "mnist", last))
        ctx.state.keep(out[name].value)
    for name, away in Deploy().left(desk.ctx, settings):
        out[name] = away.run(desk.ctx.of(name), settings, cluster=desk.cluster)
    return out


def plan(desk: Desk, settings: Settings) -> list[str]:
    lines = [
        f"{name}: {line}"
        for name, own in settings.each()
        for line in Deploy().plan(desk.ctx.of(name), own, desk.cluster, image(name or "mnist"))
    ]
    away = leaving.TakeAway()
    return lines + [
        f"{place.state.model}: {line}"
        for place in leaving.gone(desk.ctx, settings)
        for line in away.plan(place, settings)
    ]


def objects(desk: Desk, model: str) -> dict[tuple[str, str], str]:
    """What there is of a model, with what changes when anything about it does."""
    items = desk.get(KINDS, "-l", f"app={Names(model).server}")["items"]
    return {(item["kind"], item["metadata"]["name"]): item["metadata"]["uid"] for item in items}


def test_each_comes_and_goes_by_itself(desk: Desk) -> None:
    two = models(desk, "digits", "Half_Plus.2")
    first = up(desk, two)
    assert {name: len(made.value.replicas) for name, made in first.items()} == {"digits": 1, "Half_Plus.2": 1}
    assert {made.value.service for made in first.values()} == {"digits-service", Names("Half_Plus.2").service}
    digits, half = objects(desk, "digits"), objects(desk, "Half_Plus.2")
    assert len(digits) == len(half) == 7
    assert [made.changed for made in up(desk, two).values()] == [0, 0]
    assert plan(desk, two) == []

    alone = models(desk, "digits")
    (line,) = plan(desk, alone)
    assert line.startswith(f"Half_Plus.2: take away {Names('Half_Plus.2').deployment} and what belongs to it")
    gone = up(desk, alone)
    assert gone["digits"].changed == 0
    assert gone["Half_Plus.2"].changed >= 6
    assert objects(desk, "Half_Plus.2") == {}
    assert objects(desk, "digits") == digits
    assert desk.get("secret", "registry-login")  # it is digits' too
    assert desk.ctx.state.kept_models == ("digits",)
    assert plan(desk, alone) == []

    lines = leaving.destroy(desk.ctx.of("digits"), alone.of("digits"), desk.cluster)
    assert f"remove Namespace {desk.namespace}" in lines
    assert desk.plane.kubectl.find("namespace", desk.namespace) is None


def test_a_single_model_becomes_one_of_several_and_back_without_a_restart(desk: Desk) -> None:
    alone = Settings.model_validate({"deploy": dict(models(desk).deploy, replicas=1)})
    up(desk, alone)
    before = objects(desk, "mnist")
    two = models(desk, "mnist", "digits")
    told = plan(desk, two)
    assert told and all(line.startswith("digits: create ") for line in told), told
    assert list(up(desk, two)) == ["mnist", "digits"]  # nothing was taken away
    assert objects(desk, "mnist") == before
    assert "mnist-deployment is taken over as it is: the settings name it otherwise now" in desk.notes()
    assert {made.changed for made in up(desk, two).values()} == {0}

    assert plan(desk, alone)[0].startswith("digits: take away digits-deployment")
    back = up(desk, alone)
    assert (back[""].changed, back["digits"].changed > 0) == (0, True)
    assert objects(desk, "mnist") == before
    assert objects(desk, "digits") == {}
    assert desk.ctx.state.kept_models == ()
    assert plan(desk, alone) == []


def test_what_was_passed_on_by_half_goes_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended right after the stack was renamed, or the set dissolved, and nothing of it noted."""
    alone = Settings.model_validate({"deploy": dict(models(desk).deploy, replicas=1)})
    up(desk, alone)
    before, two = objects(desk, "mnist"), models(desk, "mnist")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(deployed, "remember", killed)
        with pytest.raises(KeyboardInterrupt):
            up(desk, two)
    assert up(desk, two)["mnist"].value.deployment == "mnist-deployment"
    assert objects(desk, "mnist") == before
    assert [made.changed for made in up(desk, two).values()] == [0]


def test_one_that_cannot_start_is_its_own_trouble(desk: Desk) -> None:
    two = models(desk, "digits", "letters")
    up(desk, two)
    before = objects(desk, "digits")
    name, own = two.each("letters")[0]
    with pytest.raises(DeployError):
        Deploy().run(desk.ctx.of(name), own, desk.cluster, image(name, NO_PULL))
    assert objects(desk, "digits") == before
    name, own = two.each("digits")[0]
    found: Outcome[Endpoints] = Deploy().run(desk.ctx.of(name), own, desk.cluster, image(name, OTHER))
    assert len(found.value.replicas) == 1


def test_down_leaves_nothing_in_a_cluster_that_was_there(desk: Desk) -> None:
    two = models(desk, "digits", "letters")
    up(desk, two)
    there = two.model_copy(
        update={"cluster": two.cluster.model_copy(update={"kubeconfig": desk.plane.kubeconfig})}
    )
    removed = [
        line
        for name in ("", *desk.ctx.state.kept_models)
        for line in Deploy().remove(desk.ctx.of(name), there.of(name))
    ]
    assert f"remove Namespace {desk.namespace}" in removed
    assert desk.plane.kubectl.find("namespace", desk.namespace) is None
    assert deployed.places(desk.ctx) == []
