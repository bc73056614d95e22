"""Restores what save_apart.py saved, in a fresh process, and writes down what came back.

Usage: restore_apart.py FOLDER; the findings are FOLDER/found.json and FOLDER/found.npz.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from slipway.core.errors import SlipwayError
from slipway.model import keras_files, saved_answers, saver
from slipway.model.mnist import graph, keras_perceptron, perceptron
from slipway_client import requests

from tests.integration.model.save_apart import RECIPE, line_graph, some_images

tf1 = tf.compat.v1
X = [1.0, 2.0, 3.0, 4.0]


class Found:
    """values: what was computed. told: what people were told, by case. texts: other findings."""

    def __init__(self) -> None:
        self.values: dict[str, np.ndarray] = {}
        self.told: dict[str, list[str]] = {}
        self.texts: dict[str, Any] = {}

    def failing(self, case: str, attempt: Callable[[], object]) -> None:
        try:
            attempt()
        except SlipwayError as error:
            self.told[case] = [type(error).__name__, error.what, error.tail, error.action]
        else:
            self.told[case] = ["nothing was raised", "", "", ""]


def restore_line(folder: Path, found: Found) -> None:
    selections: dict[str, tuple[str, saver.Selection]] = {
        "all": ("all/line.ckpt", None),
        "folder": ("all", None),
        "index": ("all/line.ckpt.index", None),
        "only w of all": ("all/line.ckpt", ["w"]),
        "pattern": ("all/line.ckpt", ["[w]*"]),
        "only w saved": ("listed/line.ckpt", ["w"]),
        "rename": ("renamed/line.ckpt", {"weights": "w"}),
        "rename by name": ("renamed_by_name/line.ckpt", {"weights": "w"}),
        "written by TensorFlow alone": ("plain/line.ckpt", {"weights": "w"}),
        "latest step": ("steps", None),
    }
    for case, (path, select) in selections.items():
        with tf.Graph().as_default(), tf1.Session() as session:
            _, _, x, y = line_graph(session, 0.0, 0.0)
            result = saver.restore(session, folder / path, select)
            found.values[f"line {case}"] = session.run(y, {x: X})
            found.texts[f"line {case}"] = [list(result.restored), list(result.kept), result.checkpoint.name]
    with tf.Graph().as_default(), tf1.Session() as session:
        w, _, x, y = line_graph(session, 0.0, 0.0)
        tf1.train.Saver({"weights": w}).restore(session, str(folder / "renamed" / "line.ckpt"))
        found.values["line read by TensorFlow alone"] = session.run(y, {x: X})


def damage_line(folder: Path, found: Found) -> None:
    def damaged(name: str, spoil: Callable[[Path], object]) -> Path:
        copy = folder / f"damaged {name}"
        shutil.copytree(folder / "all", copy)
        spoil(copy)
        return copy / "line.ckpt"

    def cut(suffix: str, length: int) -> Callable[[Path], object]:
        def spoil(copy: Path) -> None:
            file = copy / f"line.ckpt{suffix}"
            file.write_bytes(file.read_bytes()[:length])

        return spoil

    def flip(copy: Path) -> None:
        file = copy / "line.ckpt.data-00000-of-00001"
        raw = bytearray(file.read_bytes())
        raw[0] ^= 0xFF
        file.write_bytes(bytes(raw))

    data_file = ".data-00000-of-00001"
    cases: dict[str, tuple[Path, saver.Selection]] = {
        "missing": (folder / "all" / "nothing.ckpt", None),
        "empty folder": (folder, None),
        "no data file": (damaged("no data", lambda copy: (copy / f"line.ckpt{data_file}").unlink()), None),
        "truncated index": (damaged("index", cut(".index", 60)), None),
        "empty index": (damaged("empty index", cut(".index", 0)), None),
        "truncated data": (damaged("data", cut(data_file, 5)), None),
        "empty data": (damaged("empty data", cut(data_file, 0)), None),
        "flipped data": (damaged("flipped", flip), None),
        "other shapes": (folder / "other" / "line.ckpt", None),
        "variable not in it": (folder / "listed" / "line.ckpt", None),
        "name not in it": (folder / "all" / "line.ckpt", {"weights": "w"}),
        "unknown variable": (folder / "all" / "line.ckpt", ["slope"]),
        "unknown in map": (folder / "all" / "line.ckpt", {"w": "slope"}),
        "empty list": (folder / "all" / "line.ckpt", []),
    }
    for case, (path, select) in cases.items():
        with tf.Graph().as_default(), tf1.Session() as session:
            _, _, x, y = line_graph(session, 5.0, 1.0)
            found.failing(case, partial(saver.restore, session, path, select))
            found.values[f"after {case}"] = session.run(y, {x: X})


def restore_network(folder: Path, found: Found) -> None:
    for case, select in (("whole", None), ("hidden", ["hidden*"])):
        with tf.Graph().as_default(), tf1.Session() as session:
            fresh = perceptron.initial(99)
            variables = graph.make_variables(fresh)
            graph.set_variables(session, variables, fresh)
            saver.restore(session, folder / case / "model.ckpt", select)
            logits = graph.logits(tf.constant(some_images().images), variables)
            found.values[f"network {case}"] = session.run(logits)
            for name, value in zip(perceptron.names(variables), session.run(variables), strict=True):
                found.values[f"network {case} {name}"] = value


def restore_keras(folder: Path, found: Found) -> None:
    images = some_images()
    for case in ("whole.keras", "whole.h5"):
        model = keras_files.load_model(folder / case)
        found.values[f"keras {case}"] = model(images.images).numpy()
        found.texts[f"keras {case}"] = [
            type(model.optimizer).__name__,
            int(model.optimizer.iterations.numpy()),
        ]
        keras_perceptron.train(model, images, RECIPE, 1)
        for number, value in enumerate(model.get_weights()):
            found.values[f"keras {case} {number}"] = value
    model = keras_files.load_model(folder / "trained.keras")
    found.texts["keras trained.keras"] = int(model.optimizer.iterations.numpy())
    for number, value in enumerate(model.get_weights()):
        found.values[f"keras trained.keras {number}"] = value
    for case in ("architecture.json", "architecture.yaml"):
        model = keras_files.load_architecture(folder / case)
        found.texts[f"keras {case}"] = [
            [layer.name, type(layer).__name__, layer.units, layer.activation.__name__]
            for layer in model.layers
        ]
        keras_files.load_weights(model, folder / "alone.weights.h5")
        found.values[f"keras {case}"] = model(images.images).numpy()
    (folder / "keras2.yaml").write_text(KERAS_2)
    model = keras_files.load_architecture(folder / "keras2.yaml")
    found.texts["keras 2"] = [list(model.input_shape), [layer.units for layer in model.layers]]


def damage_keras(folder: Path, found: Found) -> None:
    def cut(name: str, share: float) -> Path:
        raw = (folder / name).read_bytes()
        file = folder / f"cut-{share}-{name}"
        file.write_bytes(raw[: int(len(raw) * share)])
        return file

    def written(name: str, text: str) -> Path:
        (folder / name).write_text(text)
        return folder / name

    model = keras_perceptron.perceptron(RECIPE)
    before = [value.copy() for value in model.get_weights()]
    for name in ("whole.keras", "whole.h5"):
        found.failing(f"missing {name}", partial(keras_files.load_model, folder / f"no-{name}"))
        for share in (0.0, 0.3, 0.9):
            found.failing(f"cut {share} {name}", partial(keras_files.load_model, cut(name, share)))
    found.failing("cut weights", lambda: keras_files.load_weights(model, cut("alone.weights.h5", 0.5)))
    found.failing("missing weights", lambda: keras_files.load_weights(model, folder / "no.weights.h5"))
    found.failing("other weights", lambda: keras_files.load_weights(model, folder / "narrow.weights.h5"))
    found.failing(
        "weights as model",
        lambda: keras_files.load_model(
            Path(shutil.copy(folder / "alone.weights.h5", folder / "not_whole.h5"))
        ),
    )
    found.failing("bad json", lambda: keras_files.load_architecture(written("bad.json", '{"class_name": ')))
    found.failing(
        "no architecture", lambda: keras_files.load_architecture(written("list.yaml", "- 1\n- 2\n"))
    )
    found.failing(
        "object tag",
        lambda: keras_files.load_architecture(written("tag.yaml", "!!python/object/apply:os.getcwd []\n")),
    )
    found.failing(
        "unknown layer",
        lambda: keras_files.load_architecture(written("layer.yaml", KERAS_2.replace("Dense", "Dance"))),
    )
    found.failing("weights by another name", lambda: keras_files.save_weights(model, folder / "weights.bin"))
    found.texts["unchanged after failures"] = all(
        np.array_equal(one, two) for one, two in zip(before, model.get_weights(), strict=True)
    )


KERAS_2 = """\
backend: tensorflow
class_name: Sequential
config:
  name: sequential
  layers:
  - class_name: Dense
    config:
      name: dense
      trainable: true
      batch_input_shape: !!python/tuple
      - null
      - 784
      dtype: float32
      units: 32
      activation: relu
      use_bias: true
      kernel_initializer:
        class_name: GlorotUniform
        config:
          seed: null
      bias_initializer:
        class_name: Zeros
        config: {}
      kernel_regularizer: null
      bias_regularizer: null
      activity_regularizer: null
      kernel_constraint: null
      bias_constraint: null
  - class_name: Dense
    config:
      name: dense_1
      trainable: true
      dtype: float32
      units: 10
      activation: softmax
      use_bias: true
keras_version: 2.2.4-tf
"""


def ask_saved_models(folder: Path, found: Found) -> None:
    images = some_images().images[:3]
    examples = tuple({"x": image} for image in images)
    asked = [
        requests.FixedRequest("predict", "predict_images", {"images": images}),
        requests.FixedRequest("classify", "serving_default", {}, examples),
    ]
    predict, classify = (request.expected for request in saved_answers.answer(folder / "names", asked))
    assert predict is not None
    assert classify is not None
    found.values["predict scores"] = predict["scores"]
    found.values["classify scores"] = classify["scores"]
    found.texts["classify classes"] = [
        [name.decode() for name in row] for row in classify["classes"].tolist()
    ]
    loaded = tf.saved_model.load(str(folder / "names"))
    found.values["loaded by TensorFlow 2"] = loaded.signatures["predict_images"](images=images)[
        "scores"
    ].numpy()
    wrong = {
        "no such signature": requests.FixedRequest("predict", "predict", {"images": images}),
        "no such input": requests.FixedRequest("predict", "predict_images", {"pixels": images}),
        "wrong shape": requests.FixedRequest("predict", "predict_images", {"images": images[:, :9]}),
        "no feature x": requests.FixedRequest("classify", "serving_default", {}, ({"y": images[0]},)),
    }
    for case, request in wrong.items():
        found.failing(case, partial(saved_answers.answer, folder / "names", [request]))


def main(folder: Path) -> None:
    keras_files.repeatable(RECIPE.seed + 1)
    found = Found()
    for name, tasks in (
        ("line", (restore_line, damage_line)),
        ("network", (restore_network,)),
        ("keras", (restore_keras, damage_keras)),
        (".", (ask_saved_models,)),
    ):
        for task in tasks:
            task(folder / name, found)
    values: dict[str, Any] = found.values
    np.savez(folder / "found.npz", **values)
    (folder / "found.json").write_text(json.dumps({"told": found.told, "texts": found.texts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
