"""Training at its full length, and in processes with other numbers of threads."""

from __future__ import annotations

import sys

import pytest
from slipway.core import process
from slipway.model.mnist import data, perceptron
from slipway.model.mnist.data import Dataset
from slipway.model.mnist.perceptron import Recipe

from tests.standins.quick_training import QUICK, digest, every_twentieth


@pytest.fixture(scope="module")
def full() -> Dataset:
    return data.load(None)


@pytest.fixture(scope="module")
def small(full: Dataset) -> Dataset:
    return every_twentieth(full)


def test_same_recipe_and_data_give_the_same_bits_whatever_the_threads(small: Dataset) -> None:
    first = digest(perceptron.train(QUICK, small).weights)
    assert digest(perceptron.train(QUICK, small).weights) == first
    script = (
        "import sys; from dataclasses import replace; from slipway.model.mnist import data, perceptron; "
        "from slipway.model.mnist.data import Images; d = data.load(None); "
        "d = replace(d, train=Images(d.train.images[::20], d.train.labels[::20])); "
        f"r = perceptron.train(perceptron.{QUICK!r}, d); "
        "import hashlib; sys.stdout.write(hashlib.sha256(b''.join(w.tobytes() for w in r.weights)).hexdigest())"
    )
    for threads in ("1", "4"):
        env = {"OPENBLAS_NUM_THREADS": threads}
        assert process.run([sys.executable, "-c", script], env=env).stdout == first


def test_the_recipe_reaches_092_on_images_it_has_not_seen(full: Dataset) -> None:
    result = perceptron.train(Recipe(), full)
    assert result.accuracy >= 0.92
    assert result.accuracy == perceptron.accuracy(result.weights, full.held_out)
