"""Export: what is in it, when there is a next version, and what a watching server sees."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.core.errors import ModelError
from slipway.core.types import ExportedModel, Outcome
from slipway.model import saved_model, tasks, versions
from slipway.model.mnist import data, export, perceptron
from slipway.model.mnist.data import Dataset, Images
from slipway.model.mnist.perceptron import Recipe
from slipway_client import requests

QUICK = Recipe(epochs=1, batch_size=32, learning_rate=0.05, seed=1)


@pytest.fixture(scope="module")
def images() -> Dataset:
    full = data.load(None)
    return replace(full, train=Images(full.train.images[::10], full.train.labels[::10]), sha256="1" * 64)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def first(models: Path, images: Dataset) -> Outcome[ExportedModel]:
    """A real export, TensorFlow and all."""
    return export.export(models, "mnist", QUICK, images)


@pytest.fixture
def copied(
    first: Outcome[ExportedModel], models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of the models folder in which TensorFlow's part is played by the real export's files."""
    made = shutil.copytree(first.value.path, tmp_path / "made")

    def play(task: str, arguments: Mapping[str, Any], *_rest: object, **_named: object) -> dict[str, Any]:
        assert task == "write_saved_model"
        target = Path(arguments["target"])
        target.mkdir()
        for part in ("saved_model.pb", "variables"):
            (shutil.copytree if (made / part).is_dir() else shutil.copyfile)(made / part, target / part)
        shutil.copyfile(made / saved_model.REQUESTS, arguments["out"])
        return {}

    monkeypatch.setattr(tasks, "run", play)
    return Path(shutil.copytree(models, tmp_path / "models"))


def test_the_first_export_is_version_1_and_complete(first: Outcome[ExportedModel], models: Path) -> None:
    value = first.value
    assert (value.version, value.path, first.changed) == (1, models / "mnist" / "1", 1)
    assert sorted(str(file.relative_to(value.path)) for file in value.path.rglob("*") if file.is_file()) == [
        "assets.extra/requests.jsonl",
        "assets.extra/slipway.json",
        "assets.extra/tf_serving_warmup_requests",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert value.sha256 == saved_model.sha256(value.path)
    assert sorted(child.name for child in (models / "mnist").iterdir()) == ["1"]


def test_the_record_tells_accuracy_data_recipe_and_versions(
    first: Outcome[ExportedModel], images: Dataset
) -> None:
    record = json.loads((first.value.path / "assets.extra/slipway.json").read_text())
    assert record["accuracy"] == first.value.accuracy
    assert 0.3 < record["accuracy"] < 0.95
    assert record["recipe"] == {
        "epochs": 1,
        "batch_size": 32,
        "learning_rate": 0.05,
        "seed": 1,
        "hidden": [256, 256],
    }
    assert (record["layers"], record["restored_from"]) == ([784, 256, 256, 10], None)
    assert record["data"] == images.description
    assert record["versions"]["tensorflow"].startswith("2.")
    assert str(first.value.path.parent) not in json.dumps(record)
    description = saved_model.inspect(first.value.path)
    assert (description.accuracy, description.intact) == (first.value.accuracy, True)


def test_fixed_requests_carry_tensorflows_own_answers(
    first: Outcome[ExportedModel], images: Dataset, models: Path
) -> None:
    fixed = requests.read(first.value.requests)
    weights = perceptron.trained(QUICK, images, models).weights
    predict = [request for request in fixed if request.method == "predict"]
    classify = [request for request in fixed if request.method == "classify"]
    assert (len(predict), len(classify)) == (100, 10)
    for row, request in enumerate(predict):
        assert request.expected is not None
        assert request.inputs["images"].tobytes() == images.held_out.images[row : row + 1].tobytes()
        assert request.labels == (images.held_out.labels[row],)
        wanted = perceptron.scores(weights, images.held_out.images[row : row + 1])
        np.testing.assert_allclose(request.expected["scores"], wanted, atol=1e-6)
    for row, request in enumerate(classify):
        assert request.expected is not None
        answers = predict[row].expected
        assert answers is not None
        scores = answers["scores"]
        assert request.expected["classes"][0].tolist() == [str(d).encode() for d in np.argsort(-scores[0])]
        np.testing.assert_allclose(request.expected["scores"], -np.sort(-scores), atol=1e-6)


def test_warm_up_requests_are_prediction_logs_of_this_model(
    first: Outcome[ExportedModel], images: Dataset
) -> None:
    from slipway_client import messages, tfrecord

    file = first.value.path / "assets.extra/tf_serving_warmup_requests"
    logs = [messages.PredictionLog.FromString(record) for record in tfrecord.read(file)]
    assert [log.WhichOneof("log_type") for log in logs] == ["predict_log"] * 5 + ["classify_log"] * 5
    asked = logs[0].predict_log.request
    assert (asked.model_spec.name, asked.model_spec.signature_name) == ("mnist", "predict_images")
    assert [dim.size for dim in asked.inputs["images"].tensor_shape.dim] == [1, 784]
    assert asked.inputs["images"].tensor_content == images.held_out.images[0].tobytes()
    example = logs[5].classify_log.request.input.example_list.examples[0]
    assert list(example.features.feature["x"].float_list.value) == images.held_out.images[0].tolist()


def test_an_unchanged_export_is_a_no_op(
    first: Outcome[ExportedModel], models: Path, images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "run", lambda *_, **__: pytest.fail("TensorFlow was started"))
    monkeypatch.setattr(perceptron, "train", lambda *_, **__: pytest.fail("trained again"))
    assert export.planned(models, "mnist", QUICK, images, "names") == []
    again = export.export(models, "mnist", QUICK, images)
    assert again.changed == 0
    assert again.value == first.value


@pytest.mark.parametrize(
    "change", ["recipe", "keys", "data", "weights", "tampered", "removed file", "added file", "no record"]
)
def test_anything_changed_is_the_next_version(copied: Path, images: Dataset, change: str) -> None:
    recipe, keys, weights, dataset = QUICK, "names", None, images
    newest = copied / "mnist" / "1"
    if change == "recipe":
        recipe = replace(QUICK, seed=2)
    elif change == "keys":
        keys = "tutorial"
    elif change == "data":
        dataset = replace(images, sha256="2" * 64)
    elif change == "weights":
        weights = perceptron.initial(5)
    elif change == "tampered":
        (newest / "saved_model.pb").write_bytes((newest / "saved_model.pb").read_bytes() + b"\0")
    elif change == "removed file":
        (newest / "variables" / "variables.index").unlink()
    elif change == "added file":
        (newest / "extra").touch()
    else:
        (newest / "assets.extra" / "slipway.json").write_text("{")
    before = saved_model.sha256(newest)
    if change != "weights":
        assert any("version 2" in line for line in export.planned(copied, "mnist", recipe, dataset, keys))
    outcome = export.export(copied, "mnist", recipe, dataset, keys, weights=weights)
    assert (outcome.changed, outcome.value.version) == (1, 2)
    assert saved_model.sha256(newest) == before
    assert export.export(copied, "mnist", recipe, dataset, keys, weights=weights).changed == 0


def test_the_next_version_follows_the_highest_number(copied: Path, images: Dataset) -> None:
    (copied / "mnist" / "41").mkdir()
    assert export.export(copied, "mnist", QUICK, images).value.version == 42


def test_a_failed_export_leaves_nothing(
    copied: Path, images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_task: str, arguments: Mapping[str, Any], *_rest: object, **_named: object) -> dict[str, Any]:
        Path(arguments["target"]).mkdir()
        raise ModelError("no space left")

    monkeypatch.setattr(tasks, "run", fail)
    with pytest.raises(ModelError, match="no space left"):
        export.export(copied, "mnist", replace(QUICK, seed=9), images)
    assert [child.name for child in (copied / "mnist").iterdir()] == ["1"]


def test_what_a_killed_export_left_is_removed_but_not_a_living_ones(copied: Path, images: Dataset) -> None:
    dead, alive = copied / "mnist" / ".export-999999999", copied / "mnist" / ".export-1"
    for folder in (dead, alive):
        (folder / "model").mkdir(parents=True)
    export.export(copied, "mnist", replace(QUICK, seed=9), images)
    assert not dead.exists()
    assert alive.exists()


def test_a_watching_server_never_sees_half_a_version(copied: Path, images: Dataset) -> None:
    whole = {
        str(f.relative_to(copied / "mnist" / "1")) for f in (copied / "mnist" / "1").rglob("*") if f.is_file()
    }
    halves: list[tuple[str, set[str]]] = []
    seen: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for version in versions.numbers(copied / "mnist"):
                folder = copied / "mnist" / str(version)
                files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
                seen.add(folder.name)
                if files != whole:
                    halves.append((folder.name, files))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for seed in range(2, 8):
            export.export(copied, "mnist", QUICK, images, weights=perceptron.initial(seed))
    finally:
        stop.set()
        watcher.join()
    assert halves == []
    assert len(seen) > 1


def test_a_version_that_appears_meanwhile_costs_a_number(
    copied: Path, images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = versions.next_version
    calls: list[int] = []

    def late(folder: Path) -> int:
        number = real(folder)
        if not calls:
            (folder / str(number) / "taken").mkdir(parents=True)
        calls.append(number)
        return number

    monkeypatch.setattr(versions, "next_version", late)
    assert export.export(copied, "mnist", replace(QUICK, seed=9), images).value.version == 3


@pytest.mark.parametrize("name", ["2", "007"])
def test_a_file_with_a_number_for_its_name_costs_this_number(
    copied: Path, images: Dataset, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []
    real = versions.next_version

    def counted(folder: Path) -> int:
        tries.append(folder)
        return real(folder) if len(tries) < 10 else pytest.fail("tries for ever")

    monkeypatch.setattr(versions, "next_version", counted)
    (copied / "mnist" / name).write_text("no version")
    value = export.export(copied, "mnist", replace(QUICK, seed=9), images).value
    assert value.version == int(name) + 1
    assert (copied / "mnist" / name).read_text() == "no version"


def test_the_tasks_process_reports_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as failed:
        tasks.run("no_such_task", {})
    assert "no_such_task" in failed.value.what
    assert "KeyError" in failed.value.tail
