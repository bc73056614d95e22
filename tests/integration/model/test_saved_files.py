"""Save and restore as the command line does it: by the name of the file, TensorFlow apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.core import events
from slipway.core.errors import ModelError, SlipwayError, UsageError
from slipway.model.mnist import data, perceptron, saved_files
from slipway.model.mnist.data import Dataset, Images
from slipway.model.mnist.perceptron import Recipe

NAMES = perceptron.names(perceptron.initial(1))
RECIPE = Recipe(epochs=1, batch_size=16, seed=2)


@pytest.fixture(scope="module")
def images() -> Dataset:
    full = data.load(None)
    some = Images(full.train.images[::20], full.train.labels[::20])
    return Dataset(some, full.held_out, full.source, "3" * 64)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("m.keras", "model"), ("m.h5", "model"), ("m.hdf5", "model"), ("m.weights.h5", "weights")),
        *(("m.json", "architecture"), ("m.yaml", "architecture"), ("m.yml", "architecture")),
        *(("m.ckpt", "checkpoint"), ("m", "checkpoint"), ("m.ckpt-300", "checkpoint")),
    ],
)
def test_the_form_follows_from_the_name(name: str, kind: str) -> None:
    assert saved_files.kind_of(Path("some.h5/dir") / name) == kind


def test_a_checkpoint_of_chosen_variables_is_written(tmp_path: Path, images: Dataset) -> None:
    result = perceptron.Trained(perceptron.initial(8), 0.1, RECIPE, images.description, images.sha256)
    path = tmp_path / "run" / "model.ckpt"
    saved = saved_files.save(result, path, images=200, rename={"first": "hidden1/kernel"})
    assert saved.variables == ("first",)
    assert {file.name for file in saved.files} == {
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
        "model.ckpt.meta",
    }
    assert all(file.is_file() for file in saved.files)


def test_a_checkpoint_comes_back_in_part(saved_apart: Path, images: Dataset) -> None:
    path = saved_apart / "network" / "hidden" / "model.ckpt"
    restored = saved_files.restore(path, RECIPE, images, variables=["hidden1/*", "hidden2/kernel"])
    assert restored.kept == ("hidden2/bias", "logits/kernel", "logits/bias")
    assert restored.weights is not None
    own, given = perceptron.initial(RECIPE.seed), perceptron.initial(11)
    for name, value in zip(NAMES, restored.weights, strict=True):
        source = own if name in restored.kept else given
        assert np.array_equal(value, source[NAMES.index(name)])
    assert restored.accuracy == perceptron.accuracy(restored.weights, images.held_out)


def test_a_whole_model_trains_on_and_is_saved_again(
    saved_apart: Path, tmp_path: Path, images: Dataset
) -> None:
    seen: list[events.Event] = []
    restored = saved_files.restore(
        saved_apart / "keras" / "whole.keras",
        RECIPE,
        images,
        epochs=1,
        to=tmp_path / "on.h5",
        emit=seen.append,
    )
    assert restored.steps == 26  # two epochs of 200 images in batches of 16
    assert restored.saved is not None
    assert restored.saved.files == (tmp_path / "on.h5",)
    assert (tmp_path / "on.h5").stat().st_size > 3_000_000  # Adam keeps two more numbers for each weight
    assert set(restored.restored) == set(NAMES)
    assert restored.weights is not None
    with np.load(saved_apart / "keras" / "after_two.npz") as file:
        straight = [file[name] for name in file.files]
    for value, wanted in zip(restored.weights, straight, strict=True):
        assert np.array_equal(value, wanted)
    assert [event for event in seen if not isinstance(event, events.Detail)] == [
        events.ProgressStarted("training on for 1 epochs", 1),
        events.ProgressAdvanced("training on for 1 epochs", 1),
        events.ProgressFinished("training on for 1 epochs", ok=True),
    ]


def test_a_checkpoint_is_trained_weights_by_every_name_and_restored_once(
    saved_apart: Path, tmp_path: Path, images: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = saved_apart / "network" / "whole" / "model.ckpt"
    found = saved_files.trained(prefix, RECIPE, images, tmp_path)
    for value, wanted in zip(found.weights, perceptron.initial(11), strict=True):
        assert np.array_equal(value, wanted)
    assert found.restored_from == "model.ckpt"
    assert found.accuracy == perceptron.accuracy(found.weights, images.held_out)
    monkeypatch.setattr("slipway.model.tasks.run", lambda *_, **__: pytest.fail("restored again"))
    for name in ("model.ckpt", "model.ckpt.index", "model.ckpt.meta", "model.ckpt.data-00000-of-00001"):
        again = saved_files.trained(prefix.with_name(name), RECIPE, images, tmp_path)
        assert again.accuracy == found.accuracy


@pytest.mark.parametrize("damage", [b"", b"half of an .npz"])
def test_a_damaged_memory_is_restored_anew(
    tmp_path: Path, images: Dataset, damage: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(_task: str, arguments: Mapping[str, Any], *_rest: object, **_named: object) -> dict[str, Any]:
        perceptron.save_weights(Path(arguments["weights"]), perceptron.initial(11))
        return {"restored": NAMES, "kept": (), "accuracy": 0.1, "steps": None}

    monkeypatch.setattr("slipway.model.tasks.run", play)
    path = tmp_path / "m.keras"
    path.write_bytes(b"a model")
    memory = saved_files.remembered(path, RECIPE, tmp_path)
    memory.parent.mkdir()
    memory.write_bytes(damage)
    found = saved_files.trained(path, RECIPE, images, tmp_path)
    for one, again, wanted in zip(
        found.weights, perceptron.load_weights(memory), perceptron.initial(11), strict=True
    ):
        assert np.array_equal(one, wanted)
        assert np.array_equal(again, wanted)


@pytest.mark.parametrize("name", ["m.ckpt", "m.keras"])
def test_what_was_restored_is_remembered_by_the_files_content(tmp_path: Path, name: str) -> None:
    parts = [f"{name}.index", f"{name}.data-00000-of-00001"] if name == "m.ckpt" else [name]
    seen = set()
    for part in parts:
        (tmp_path / part).write_bytes(b"1")
    for content in (b"1", b"2", b"1"):
        (tmp_path / parts[-1]).write_bytes(content)
        (tmp_path / f"{name}.meta").write_bytes(content)  # a graph does not hold weights
        seen.add(saved_files.remembered(tmp_path / name, RECIPE, tmp_path))
    assert len(seen) == 2
    assert [file.name for file in saved_files.files_of(tmp_path / name)] == sorted(parts)
    other = saved_files.remembered(tmp_path / name, Recipe(hidden=(8,)), tmp_path)
    assert other not in seen


def test_a_keras_model_of_another_size_that_gives_logits_is_taken(
    saved_apart: Path, tmp_path: Path, images: Dataset
) -> None:
    found = saved_files.trained(saved_apart / "keras" / "logits.keras", RECIPE, images, tmp_path)
    with np.load(saved_apart / "keras" / "logits.npz") as file:
        for value, wanted in zip(found.weights, file.values(), strict=True):
            assert np.array_equal(value, wanted)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("keras/tanh.keras", "holds another network than the perceptron"),
        ("keras/narrow.weights.h5", "do not fit this model"),
        ("keras/architecture.json", "holds an architecture and no weights"),
        ("network/hidden/model.ckpt", "logits/kernel: not in the checkpoint"),
        ("network/none.ckpt", "does not exist"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_not_remembered(
    saved_apart: Path, tmp_path: Path, images: Dataset, path: str, says: str
) -> None:
    with pytest.raises(SlipwayError) as refused:
        saved_files.trained(saved_apart / path, RECIPE, images, tmp_path)
    said = "\n".join(refused.value.lines())
    assert says in said
    assert Path(path).name in said
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("name", ["taken.keras", "file/m.h5", "file/m.ckpt"])
def test_what_cannot_be_written_is_told_by_name_and_leaves_nothing(
    tmp_path: Path, images: Dataset, name: str
) -> None:
    (tmp_path / "taken.keras").mkdir()
    (tmp_path / "file").touch()
    result = perceptron.Trained(perceptron.initial(8), 0.1, RECIPE, images.description, images.sha256)
    with pytest.raises(ModelError) as refused:
        saved_files.save(result, tmp_path / name, images=200)
    assert refused.value.what == f"cannot save {tmp_path / name}"
    assert "Traceback" not in refused.value.tail
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.keras"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"path": "m.keras", "variables": ["a"]}, "in checkpoints only"),
        ({"path": "m.ckpt", "variables": ["a"], "rename": {"b": "a"}}, "not both"),
        ({"path": "m.ckpt", "epochs": 2}, "no optimizer state"),
        ({"path": "m.weights.h5", "epochs": 2}, "no optimizer state"),
        ({"path": "m.keras", "to": Path("m.ckpt")}, "a Keras model is saved as"),
        ({"path": "m.ckpt", "to": Path("m.h5")}, "a checkpoint is saved as a checkpoint"),
        ({"path": "m.keras", "architecture": Path("m.json")}, "only given with weights alone"),
    ],
)
def test_combinations_that_mean_nothing_are_refused_before_tensorflow_starts(
    call: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.model.tasks.run", lambda *_, **__: pytest.fail("TensorFlow was started"))
    empty = data.Images(np.zeros((0, 784), np.float32), np.zeros(0, np.uint8))
    path = Path(str(call.pop("path")))
    with pytest.raises(UsageError, match=says):
        saved_files.restore(path, Recipe(), data.Dataset(empty, empty, "", ""), **call)  # type: ignore[arg-type]  # mixed table
