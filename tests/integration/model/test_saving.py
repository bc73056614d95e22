"""Save and restore: one process saves, a fresh one restores, and the bits are compared here.

save_apart.py and restore_apart.py are those two processes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.core import process
from slipway.model.mnist import perceptron
from slipway_client import requests

HERE = Path(__file__).parent
ONLY_W = (
    *("only w of all", "pattern", "only w saved", "rename", "rename by name"),
    "written by TensorFlow alone",
)


class Found:
    def __init__(self, folder: Path) -> None:
        with np.load(folder / "found.npz") as file:
            self.values = dict(file)
        document = json.loads((folder / "found.json").read_text())
        self.told: dict[str, list[str]] = document["told"]
        self.texts: dict[str, Any] = document["texts"]


@pytest.fixture(scope="session")  # once for what is saved once, however tests are dealt out
def found(saved_apart: Path) -> Found:
    process.run(
        [sys.executable, "-m", "tests.integration.model.restore_apart", saved_apart],
        env={"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"},
        cwd=HERE.parents[2],
    )
    return Found(saved_apart)


def line(w: float, b: float) -> np.ndarray:
    return np.float32(w) * np.array([1, 2, 3, 4], np.float32) + np.float32(b)


@pytest.mark.parametrize("case", ["all", "folder", "index", "latest step"])
def test_the_line_model_restored_whole(found: Found, case: str) -> None:
    y = found.values[f"line {case}"]
    np.testing.assert_allclose(y, [0, 0.3, 0.6, 0.9], atol=1e-6)
    assert y.tobytes() == line(0.3, -0.3).tobytes()
    assert found.texts[f"line {case}"][:2] == [["w", "b"], []]


@pytest.mark.parametrize("case", ONLY_W)
def test_the_line_model_with_only_w_restored_keeps_its_own_b(found: Found, case: str) -> None:
    y = found.values[f"line {case}"]
    np.testing.assert_allclose(y, [0.3, 0.6, 0.9, 1.2], atol=1e-6)
    assert y.tobytes() == line(0.3, 0).tobytes()
    assert found.texts[f"line {case}"][:2] == [["w"], ["b"]]


def test_tensorflows_own_saver_reads_what_was_saved(found: Found) -> None:
    assert found.values["line read by TensorFlow alone"].tobytes() == line(0.3, 0).tobytes()


def test_a_checkpoint_is_its_three_files_and_the_folders_latest_is_taken(
    saved_apart: Path, found: Found
) -> None:
    files = {file.name for file in (saved_apart / "line" / "all").iterdir()}
    assert files == {"checkpoint", "line.ckpt.meta", "line.ckpt.index", "line.ckpt.data-00000-of-00001"}
    assert found.texts["line latest step"][2] == "line.ckpt-7"
    assert (saved_apart / "line" / "steps" / "line.ckpt-3.index").is_file()


def test_the_network_gives_the_same_bits_in_a_fresh_process(saved_apart: Path, found: Found) -> None:
    logits = np.load(saved_apart / "network" / "logits.npy")
    assert logits.std() > 0
    assert found.values["network whole"].tobytes() == logits.tobytes()
    assert found.values["network hidden"].tobytes() != logits.tobytes()


NAMES = perceptron.names(perceptron.initial(1))


@pytest.mark.parametrize("name", NAMES)
def test_a_pattern_restores_what_it_matches_and_nothing_else(found: Found, name: str) -> None:
    names = NAMES.index(name)
    seed = 11 if name.startswith("hidden") else 99  # 11 was saved, 99 is the fresh graph's own
    assert found.values[f"network hidden {name}"].tobytes() == perceptron.initial(seed)[names].tobytes()


@pytest.mark.parametrize("case", ["whole.keras", "whole.h5", "architecture.json", "architecture.yaml"])
def test_keras_gives_the_same_bits_in_a_fresh_process(saved_apart: Path, found: Found, case: str) -> None:
    before = np.load(saved_apart / "keras" / "after_one.npy")
    assert found.values[f"keras {case}"].tobytes() == before.tobytes()


@pytest.mark.parametrize("case", ["whole.keras", "whole.h5"])
def test_a_whole_model_trains_on_where_it_stopped(saved_apart: Path, found: Found, case: str) -> None:
    assert found.texts[f"keras {case}"] == ["Adam", 13]  # 200 images in batches of 16
    with np.load(saved_apart / "keras" / "after_two.npz") as file:
        straight = [file[name] for name in file.files]
    for number, value in enumerate(straight):
        assert found.values[f"keras {case} {number}"].tobytes() == value.tobytes()


def test_trained_weights_become_a_model_that_knows_its_steps(found: Found) -> None:
    assert found.texts["keras trained.keras"] == 77
    for number, value in enumerate(perceptron.initial(4)):
        assert found.values[f"keras trained.keras {number}"].tobytes() == value.tobytes()


@pytest.mark.parametrize("case", ["architecture.json", "architecture.yaml"])
def test_an_architecture_alone_is_the_layers(found: Found, case: str) -> None:
    dense = [
        ["hidden1", "Dense", 256, "relu"],
        ["hidden2", "Dense", 256, "relu"],
        ["logits", "Dense", 10, "softmax"],
    ]
    assert found.texts[f"keras {case}"] == dense


def test_yaml_as_keras_2_wrote_it_is_read(found: Found) -> None:
    assert found.texts["keras 2"] == [[None, 784], [32, 10]]


def test_weights_alone_hold_no_optimizer(saved_apart: Path) -> None:
    import h5py

    with h5py.File(saved_apart / "keras" / "alone.weights.h5") as file:
        assert "layers" in file
        assert "optimizer" not in file
    assert "compile_config" not in (saved_apart / "keras" / "architecture.json").read_text()


# case -> class and the words that must be told: the file, the variables and shapes at odds, the remedy.
TOLD: dict[str, tuple[str, tuple[str, ...]]] = {
    "missing": ("ModelError", ("nothing.ckpt.index", "does not exist", "checkpoints beside it: line.ckpt")),
    "empty folder": ("ModelError", ("line holds no checkpoint",)),
    "no data file": ("ModelError", ("incomplete", "line.ckpt.data-00000-of-00001 missing")),
    "truncated index": ("ModelError", ("line.ckpt.index", "truncated", "sstable")),
    "empty index": ("ModelError", ("line.ckpt.index", "truncated")),
    "truncated data": ("ModelError", ("line.ckpt is damaged", "w [1] cannot be read")),
    "empty data": ("ModelError", ("line.ckpt is damaged", "w [1], b [1] cannot be read")),
    "flipped data": ("ModelError", ("line.ckpt is damaged", "b [1] cannot be read")),
    "other shapes": (
        "ModelError",
        (
            "other/line.ckpt",
            "2 of 2",
            "w: float32 [2, 1] in the checkpoint",
            "is float32 [1]",
            "b: float64 [1]",
        ),
    ),
    "variable not in it": ("ModelError", ("listed/line.ckpt", "1 of 2", "b: not in the checkpoint")),
    "name not in it": (
        "ModelError",
        ("weights: not in the checkpoint", "also in the checkpoint: b [1], w [1]"),
    ),
    "unknown variable": ("UsageError", ("slope", "the variables are b, w")),
    "unknown in map": ("UsageError", ("slope", "the variables are b, w")),
    "empty list": ("UsageError", ("selects no variable",)),
    "missing whole.keras": ("ModelError", ("no-whole.keras does not exist",)),
    "missing whole.h5": ("ModelError", ("no-whole.h5 does not exist",)),
    **{
        f"cut {share} whole.{kind}": ("ModelError", (f"cut-{share}-whole.{kind} is truncated",))
        for share in (0.0, 0.3, 0.9)
        for kind in ("keras", "h5")
    },
    "cut weights": ("ModelError", ("cut-0.5-alone.weights.h5 is truncated",)),
    "missing weights": ("ModelError", ("no.weights.h5 does not exist",)),
    "other weights": (
        "ModelError",
        (
            *("narrow.weights.h5", "5 variables at odds", "hidden1/kernel: absent in the file, [784, 256]"),
            "logits/kernel: [784, 10] in the file, [256, 10] in the model",
        ),
    ),
    "weights as model": ("ModelError", ("not_whole.h5 does not hold a whole model",)),
    "bad json": ("ModelError", ("bad.json is not JSON", "line 1")),
    "no architecture": ("ModelError", ("list.yaml is not a Keras architecture",)),
    "object tag": ("ModelError", ("tag.yaml is not plain YAML", "python/object/apply")),
    "unknown layer": ("ModelError", ("layer.yaml", "Dance")),
    "weights by another name": ("UsageError", ("weights.bin", "NAME.weights.h5")),
    "no such signature": (
        "ModelError",
        ("request 1 asks signature predict", "predict_images, serving_default"),
    ),
    "no such input": (
        "ModelError",
        ("request 1 (predict_images)", "it takes images, the request has pixels"),
    ),
    "wrong shape": ("ModelError", ("request 1", "(3, 9)", "(None, 784)")),
    "no feature x": ("ModelError", ("request 1 (serving_default)", "Feature: x")),
}


def test_every_failure_has_its_words(found: Found) -> None:
    assert set(found.told) == set(TOLD)


@pytest.mark.parametrize("case", TOLD)
def test_a_failure_names_what_is_at_odds(found: Found, case: str) -> None:
    kind, words = TOLD[case]
    assert found.told[case][0] == kind
    told = "\n".join(found.told[case][1:])
    assert [word for word in words if word not in told] == [], told


@pytest.mark.parametrize(
    "case", [case for case in TOLD if TOLD[case] and not case.startswith(("cut", "missing w"))][:14]
)
def test_a_failed_restore_changes_no_variable(found: Found, case: str) -> None:
    assert found.values[f"after {case}"].tobytes() == line(5, 1).tobytes()


def test_failed_weights_leave_the_model_as_it_was(found: Found) -> None:
    assert found.texts["unchanged after failures"] is True


def test_the_same_weights_are_written_to_the_same_bytes(saved_apart: Path) -> None:
    names, again = saved_apart / "names", saved_apart / "names_again"
    files = sorted(file.relative_to(names) for file in names.rglob("*") if file.is_file())
    assert len(files) >= 3
    for file in files:
        assert (names / file).read_bytes() == (again / file).read_bytes()


def test_signatures_answer_alike_and_as_numpy_does(found: Found) -> None:
    scores = found.values["predict scores"]
    best_first = -np.sort(-scores, axis=1)
    assert found.values["classify scores"].tobytes() == best_first.tobytes()
    by_class = np.argsort(-scores, axis=1)
    assert found.texts["classify classes"] == [[str(digit) for digit in row] for row in by_class.tolist()]
    np.testing.assert_allclose(found.values["loaded by TensorFlow 2"], scores, atol=1e-6)
    assert requests.TOLERANCE == 1e-5
