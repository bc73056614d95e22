"""The perceptron: its start, its gradient, its repeatability, and the accuracy the recipe promises."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slipway.core import events
from slipway.core.errors import ModelError
from slipway.model.mnist import data, perceptron
from slipway.model.mnist.data import Dataset

from tests.standins.quick_training import QUICK, digest, every_twentieth


@pytest.fixture(scope="module")
def full() -> Dataset:
    return data.load(None)


@pytest.fixture(scope="module")
def small(full: Dataset) -> Dataset:
    return every_twentieth(full)


def test_initial_weights_are_glorot_uniform_with_zero_biases() -> None:
    weights = perceptron.initial(1)
    assert tuple(values.shape for values in weights) == (
        (784, 256),
        (256,),
        (256, 256),
        (256,),
        (256, 10),
        (10,),
    )
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        limit = np.sqrt(6 / sum(kernel.shape))
        assert kernel.dtype == np.float32
        assert 0.95 * limit < np.abs(kernel).max() <= limit
        assert abs(kernel.mean()) < 0.05 * limit
        assert not bias.any()


def test_scores_are_probabilities_also_for_extreme_logits() -> None:
    weights = [values * 200 for values in perceptron.initial(1)]
    scores = perceptron.scores(tuple(weights), np.ones((3, 784), np.float32))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)


def test_a_step_follows_the_numeric_gradient_of_the_mean_cross_entropy(small: Dataset) -> None:
    images, labels = small.train.images[:8], small.train.labels[:8]
    exact = tuple(values.astype(np.float64) for values in perceptron.initial(5))

    def loss(weights: tuple[np.ndarray, ...]) -> float:
        scores = perceptron.scores(weights, images.astype(np.float64))
        return float(-np.log(scores[np.arange(8), labels]).mean())

    moved = tuple(values.copy() for values in exact)
    wide: Any = (
        moved,
        images.astype(np.float64),
        np.eye(10)[labels],
        np.float64(1),
    )  # float32 is too coarse here
    perceptron._descend(*wide)
    random = np.random.default_rng(0)
    for part, (before, after) in enumerate(zip(exact, moved, strict=True)):
        for _ in range(5):
            at = tuple(int(random.integers(size)) for size in before.shape)
            if part == 0:  # a pixel that is dark in all images has no gradient to compare
                at = (int(images.sum(axis=0).argmax()), at[1])
            shifted = [values.copy() for values in exact]
            shifted[part][at] += 1e-6
            up = loss(tuple(shifted))
            shifted[part][at] -= 2e-6
            numeric = (up - loss(tuple(shifted))) / 2e-6
            assert before[at] - after[at] == pytest.approx(numeric, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("change", [{"seed": 4}, {"epochs": 3}, {"batch_size": 8}, {"learning_rate": 0.04}])
def test_every_part_of_the_recipe_counts(small: Dataset, change: dict[str, Any]) -> None:
    other = replace(QUICK, **change)
    assert other.fingerprint(small.sha256) != QUICK.fingerprint(small.sha256)
    assert digest(perceptron.train(other, small).weights) != digest(perceptron.train(QUICK, small).weights)


def test_other_data_is_another_fingerprint() -> None:
    assert QUICK.fingerprint("a") != QUICK.fingerprint("b")


def test_progress_is_told_by_epoch(small: Dataset) -> None:
    seen: list[events.Event] = []
    perceptron.train(QUICK, small, seen.append)
    label = "training 2 epochs on 200 images"
    assert seen == [
        events.ProgressStarted(label, 2),
        events.ProgressAdvanced(label, 1),
        events.ProgressAdvanced(label, 2),
        events.ProgressFinished(label, ok=True),
    ]


def test_divergence_is_an_error_that_names_the_epoch_and_the_remedy(small: Dataset) -> None:
    with pytest.raises(ModelError) as failed:
        perceptron.train(replace(QUICK, learning_rate=10.0), small)
    assert re.search(r"diverged in epoch \d", failed.value.what)
    assert "model.learning_rate" in failed.value.action


def test_trained_weights_are_remembered_and_a_damaged_memory_is_replaced(
    tmp_path: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = perceptron.trained(QUICK, small, tmp_path)
    (file,) = (tmp_path / ".trained").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(perceptron, "train", lambda *_: pytest.fail("trained again"))
        again = perceptron.trained(QUICK, small, tmp_path)
    assert digest(again.weights) == digest(first.weights)
    assert again.accuracy == first.accuracy
    whole = file.read_bytes()
    for damage in (b"", whole[: len(whole) // 2], whole[:2000] + bytes(5000) + whole[7000:]):
        file.write_bytes(damage)
        assert digest(perceptron.trained(QUICK, small, tmp_path).weights) == digest(first.weights)
        assert perceptron.load_weights(file)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other: dict[str, Any] = {name: np.zeros((2, 2), np.float32) for name in perceptron.names(range(6))}
    np.savez(tmp_path / "other.npz", **other)
    with pytest.raises(ModelError, match=r"other\.npz"):
        perceptron.load_weights(tmp_path / "other.npz")
