"""The perceptron: its start, its gradient, its repeatability, and the accuracy the recipe promises."""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.core import events, process
from infra.core.errors import ModelError
from infra.mnist import data, network
from infra.mnist.data import Dataset, Images
from infra.mnist.network import Recipe, Weights

QUICK = Recipe(epochs=2, batch_size=16, learning_rate=0.05, seed=3)


@pytest.fixture(scope="module")
def full() -> Dataset:
    return data.load(None)


@pytest.fixture(scope="module")
def small(full: Dataset) -> Dataset:
    some = Images(full.train.images[::20], full.train.labels[::20])
    return replace(full, train=some, sha256="0" * 64)


def digest(weights: Weights) -> str:
    return hashlib.sha256(b"".join(values.tobytes() for values in weights)).hexdigest()


def test_initial_weights_are_glorot_uniform_with_zero_biases() -> None:
    weights = network.initial(1)
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
    weights = [values * 200 for values in network.initial(1)]
    scores = network.scores(tuple(weights), np.ones((3, 784), np.float32))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)


def test_a_step_follows_the_numeric_gradient_of_the_mean_cross_entropy(small: Dataset) -> None:
    images, labels = small.train.images[:8], small.train.labels[:8]
    exact = tuple(values.astype(np.float64) for values in network.initial(5))

    def loss(weights: tuple[np.ndarray, ...]) -> float:
        scores = network.scores(weights, images.astype(np.float64))
        return float(-np.log(scores[np.arange(8), labels]).mean())

    moved = tuple(values.copy() for values in exact)
    network._descend(moved, images.astype(np.float64), np.eye(10)[labels], np.float64(1))
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


def test_same_recipe_and_data_give_the_same_bits_whatever_the_threads(small: Dataset) -> None:
    first = digest(network.train(QUICK, small).weights)
    assert digest(network.train(QUICK, small).weights) == first
    script = (
        "import sys; from dataclasses import replace; from infra.mnist import data, network; "
        "from infra.mnist.data import Images; d = data.load(None); "
        "d = replace(d, train=Images(d.train.images[::20], d.train.labels[::20])); "
        f"r = network.train(network.{QUICK!r}, d); "
        "import hashlib; sys.stdout.write(hashlib.sha256(b''.join(w.tobytes() for w in r.weights)).hexdigest())"
    )
    for threads in ("1", "4"):
        env = {"OPENBLAS_NUM_THREADS": threads}
        assert process.run([sys.executable, "-c", script], env=env).stdout == first


@pytest.mark.parametrize("change", [{"seed": 4}, {"epochs": 3}, {"batch_size": 8}, {"learning_rate": 0.04}])
def test_every_part_of_the_recipe_counts(small: Dataset, change: dict[str, float]) -> None:
    other = replace(QUICK, **change)
    assert other.fingerprint(small.sha256) != QUICK.fingerprint(small.sha256)
    assert digest(network.train(other, small).weights) != digest(network.train(QUICK, small).weights)


def test_other_data_is_another_fingerprint() -> None:
    assert QUICK.fingerprint("a") != QUICK.fingerprint("b")


def test_the_recipe_reaches_092_on_images_it_has_not_seen(full: Dataset) -> None:
    result = network.train(Recipe(), full)
    assert result.accuracy >= 0.92
    assert result.accuracy == network.accuracy(result.weights, full.held_out)


def test_progress_is_told_by_epoch(small: Dataset) -> None:
    seen: list[events.Event] = []
    network.train(QUICK, small, seen.append)
    label = "training 2 epochs on 200 images"
    assert seen == [
        events.ProgressStarted(label, 2),
        events.ProgressAdvanced(label, 1),
        events.ProgressAdvanced(label, 2),
        events.ProgressFinished(label, ok=True),
    ]


def test_divergence_is_an_error_that_names_the_epoch_and_the_remedy(small: Dataset) -> None:
    with pytest.raises(ModelError) as failed:
        network.train(replace(QUICK, learning_rate=10.0), small)
    assert re.search(r"diverged in epoch \d", failed.value.what)
    assert "model.learning_rate" in failed.value.action


def test_trained_weights_are_remembered_and_a_damaged_memory_is_replaced(
    tmp_path: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = network.trained(QUICK, small, tmp_path)
    (file,) = (tmp_path / ".trained").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(network, "train", lambda *_: pytest.fail("trained again"))
        again = network.trained(QUICK, small, tmp_path)
    assert digest(again.weights) == digest(first.weights)
    assert again.accuracy == first.accuracy
    whole = file.read_bytes()
    for damage in (b"", whole[: len(whole) // 2], whole[:2000] + bytes(5000) + whole[7000:]):
        file.write_bytes(damage)
        assert digest(network.trained(QUICK, small, tmp_path).weights) == digest(first.weights)
        assert network.load_weights(file)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "other.npz", **{name: np.zeros((2, 2), np.float32) for name in network.names(range(6))}
    )
    with pytest.raises(ModelError, match=r"other\.npz"):
        network.load_weights(tmp_path / "other.npz")
