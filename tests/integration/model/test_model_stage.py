"""The stage: training settings become an export; a SavedModel brought along is checked and asked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from slipway.core.context import Context
from slipway.core.errors import ModelError, UsageError
from slipway.core.schema import ModelSettings, Settings, SmokeSettings
from slipway.core.state import State
from slipway.core.types import ExportedModel, Outcome
from slipway.model import saved_model
from slipway.model.mnist import data, perceptron, saved_files
from slipway.model.mnist.perceptron import Recipe
from slipway.model.stage import ExportModel
from slipway_client import requests


def context(folder: Path) -> Context:
    return Context(State(folder / "state"), folder / "run", folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stage")


QUICK = Settings(model=ModelSettings(epochs=1, signature_keys="tutorial", name="digits"))


@pytest.fixture(scope="module")
def exported(folder: Path) -> Outcome[ExportedModel]:
    """The stage run for real."""
    return ExportModel().run(context(folder), QUICK)


def bring(path: Path, **smoke: Path) -> Settings:
    return Settings(model=ModelSettings(path=path), smoke=SmokeSettings(**smoke))


def test_the_stage_exports_what_the_settings_say(folder: Path, exported: Outcome[ExportedModel]) -> None:
    assert exported.value.path == folder / "state" / "models" / "digits" / "1"
    assert "inputs" in requests.read(exported.value.requests)[0].inputs
    assert f"{exported.value.accuracy:.3f}" in exported.summary


def test_a_second_run_changes_nothing_and_the_plan_says_so(
    folder: Path, exported: Outcome[ExportedModel]
) -> None:
    stage = ExportModel()
    assert stage.plan(context(folder), QUICK) == []
    again = stage.run(context(folder), QUICK)
    assert (again.changed, again.value) == (0, exported.value)


def test_the_plan_of_a_first_run_changes_nothing(tmp_path: Path) -> None:
    lines = ExportModel().plan(context(tmp_path), Settings())
    assert "50 epochs" in lines[0]
    assert "mnist version 1" in lines[1]
    assert not (tmp_path / "state").exists()


def test_given_weights_are_exported_and_stay_until_the_settings_say_otherwise(
    folder: Path, exported: Outcome[ExportedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "state", tmp_path / "state")
    ctx, stage = context(tmp_path), ExportModel()
    trained = perceptron.trained(Recipe(epochs=1), data.load(None), ctx.state.models)
    saved_files.save(replace(trained, weights=perceptron.initial(3)), tmp_path / "other.ckpt", images=4000)
    given = QUICK.model_copy(
        update={"model": QUICK.model.model_copy(update={"weights": tmp_path / "other.ckpt"})}
    )
    assert [line.split()[0] for line in stage.plan(ctx, given)] == ["restore", "export"]
    second = stage.run(ctx, given)
    assert (second.changed, second.value.version) == (1, 2)
    assert "with the weights of other.ckpt" in second.summary
    assert second.value.accuracy == perceptron.accuracy(perceptron.initial(3), data.load(None).held_out)
    shown = saved_model.inspect(second.value.path)
    assert (shown.restored_from, shown.accuracy) == ("other.ckpt", second.value.accuracy)
    record = json.loads((second.value.path / saved_model.RECORD).read_text())
    assert (record["recipe"], str(tmp_path) in json.dumps(record)) == (None, False)
    with monkeypatch.context() as patched:
        patched.setattr("slipway.model.tasks.run", lambda *_, **__: pytest.fail("TensorFlow was started"))
        assert stage.plan(ctx, given) == []
        assert stage.run(ctx, given).changed == 0
        # Another recipe makes no other model of given weights.
        longer = given.model_copy(update={"model": given.model.model_copy(update={"epochs": 9})})
        assert stage.run(ctx, longer).changed == 0
    third = stage.run(ctx, QUICK)
    assert (third.changed, third.value.version) == (1, 3)
    assert third.value.accuracy == exported.value.accuracy


def test_training_is_wanted_unless_a_model_is_brought(exported: Outcome[ExportedModel]) -> None:
    assert ExportModel().should_run(Settings()) == ""
    assert str(exported.value.path) in ExportModel().should_run(bring(exported.value.path))


@pytest.mark.parametrize("level", ["the model", "its parent"])
def test_an_export_of_slipway_brings_its_own_requests(
    tmp_path: Path, exported: Outcome[ExportedModel], level: str
) -> None:
    path = exported.value.path if level == "the model" else exported.value.path.parent
    value = ExportModel().provided(context(tmp_path), bring(path)).value
    assert value == ExportedModel(
        exported.value.path,
        "mnist",
        1,
        exported.value.sha256,
        exported.value.requests,
        exported.value.accuracy,
        exported.value.data,
    )
    assert not (tmp_path / "state").exists()


def test_models_beside_come_with_requests_of_their_own(
    tmp_path: Path, folder: Path, exported: Outcome[ExportedModel]
) -> None:
    """To a trained model as to one that is brought along."""
    other = Path(shutil.copytree(exported.value.path, tmp_path / "other" / "4"))
    trained = Settings(model=QUICK.model.model_copy(update={"beside": (other.parent,)}))
    own = tmp_path / "mine.jsonl"
    own.write_text(exported.value.requests.read_text().splitlines()[0] + "\n")
    along = Settings(
        model=ModelSettings(path=exported.value.path, beside=(other,)), smoke=SmokeSettings(requests=own)
    )
    for value in (
        ExportModel().run(context(folder), trained).value,
        ExportModel().provided(context(tmp_path), along).value,
    ):
        (beside,) = value.beside
        assert (beside.name, beside.version, beside.path) == ("other", 4, other)
        assert beside.requests == other / "assets.extra" / "requests.jsonl"
        assert beside.sha256 == exported.value.sha256
    shutil.rmtree(other / "assets.extra")
    with pytest.raises(UsageError) as refused:
        ExportModel().provided(context(tmp_path), along)
    assert refused.value.where == "model.beside"
    assert "put requests and expected answers into it as assets.extra/requests.jsonl" in refused.value.action


def test_smoke_requests_come_first(tmp_path: Path, exported: Outcome[ExportedModel]) -> None:
    own = tmp_path / "mine.jsonl"
    own.write_text(exported.value.requests.read_text().splitlines()[0] + "\n")
    assert (
        ExportModel().provided(context(tmp_path), bring(exported.value.path, requests=own)).value.requests
        == own
    )


def test_warm_up_requests_become_fixed_requests_with_tensorflows_answers(
    tmp_path: Path, exported: Outcome[ExportedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = Path(shutil.copytree(exported.value.path, tmp_path / "foreign" / "7"))
    (foreign / "assets.extra" / "requests.jsonl").unlink()
    (foreign / "assets.extra" / "slipway.json").unlink()
    before = {file: file.read_bytes() for file in foreign.rglob("*") if file.is_file()}
    value = ExportModel().provided(context(tmp_path), bring(foreign.parent)).value
    assert (value.version, value.accuracy, value.path) == (7, None, foreign)
    derived = requests.read(value.requests)
    recorded = {
        (request.method, row): request
        for method in ("predict", "classify")
        for row, request in enumerate(r for r in requests.read(exported.value.requests) if r.method == method)
    }
    assert [request.method for request in derived] == ["predict"] * 5 + ["classify"] * 5
    for row, request in enumerate(derived):
        same = recorded[request.method, row % 5]
        assert request.expected is not None
        assert same.expected is not None
        assert request.signature == same.signature
        for key, answer in request.expected.items():
            assert np.array_equal(answer, same.expected[key])
    assert {file: file.read_bytes() for file in foreign.rglob("*") if file.is_file()} == before
    monkeypatch.setattr("slipway.model.tasks.run", lambda *_, **__: pytest.fail("derived again"))
    assert ExportModel().provided(context(tmp_path), bring(foreign)).value.requests == value.requests


def test_a_model_nobody_can_ask_is_refused_with_both_ways_out(
    tmp_path: Path, exported: Outcome[ExportedModel]
) -> None:
    foreign = Path(shutil.copytree(exported.value.path, tmp_path / "foreign"))
    shutil.rmtree(foreign / "assets.extra")
    with pytest.raises(UsageError) as refused:
        ExportModel().provided(context(tmp_path), bring(foreign))
    assert "smoke.requests" in refused.value.action
    assert "assets.extra/tf_serving_warmup_requests" in refused.value.action


def test_a_path_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no saved_model"):
        ExportModel().provided(context(tmp_path), bring(tmp_path))
