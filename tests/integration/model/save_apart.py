"""Saves things in every form with TensorFlow, in a process of its own; test_saving.py says what and why.

Usage: save_apart.py FOLDER
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from slipway.model import keras_files, saver
from slipway.model.mnist import data, forms, graph, keras_perceptron, perceptron
from slipway.model.mnist.data import Images
from tensorflow.python.tools import saved_model_cli

tf1 = tf.compat.v1
RECIPE = perceptron.Recipe(epochs=1, batch_size=16, learning_rate=0.01, seed=2)


def line_graph(
    session: tf.compat.v1.Session, w: float, b: float
) -> tuple[tf.Variable, tf.Variable, tf.Tensor, tf.Tensor]:
    """The chapter's line model y = w x + b with these initial values."""
    w_variable = tf1.get_variable("w", [1], initializer=tf1.constant_initializer(w))
    b_variable = tf1.get_variable("b", [1], initializer=tf1.constant_initializer(b))
    x = tf1.placeholder(tf.float32, name="x")
    y = tf.add(w_variable * x, b_variable, name="y")
    session.run(tf1.global_variables_initializer())
    return w_variable, b_variable, x, y


def some_images() -> Images:
    everything = data.load(None).train
    return Images(everything.images[::20], everything.labels[::20])


def adam(model: keras.Model) -> None:
    """An optimizer whose state is more than a count: what a restore must not lose."""
    model.compile(keras.optimizers.Adam(0.002), "sparse_categorical_crossentropy", metrics=["accuracy"])


def save_line(folder: Path) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        w, _, _, _ = line_graph(session, 0.3, -0.3)
        saver.save(session, folder / "all" / "line.ckpt")
        saver.save(session, folder / "listed" / "line.ckpt", ["w"])
        saver.save(session, folder / "renamed" / "line.ckpt", {"weights": w})
        saver.save(session, folder / "renamed_by_name" / "line.ckpt", {"weights": "w"})
        saver.save(session, folder / "steps" / "line.ckpt", step=3)
        saver.save(session, folder / "steps" / "line.ckpt", step=7)
        (folder / "plain").mkdir()
        tf1.train.Saver({"weights": w}).save(session, str(folder / "plain" / "line.ckpt"))
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.get_variable("w", [2, 1], initializer=tf1.zeros_initializer())
        tf1.get_variable("b", [1], tf.float64, tf1.zeros_initializer())
        saver_path = folder / "other" / "line.ckpt"
        session.run(tf1.global_variables_initializer())
        saver.save(session, saver_path)


def save_network(folder: Path) -> None:
    weights = perceptron.initial(11)
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = graph.make_variables(weights)
        graph.set_variables(session, variables, weights)
        images = tf.constant(some_images().images)
        np.save(folder / "logits.npy", session.run(graph.logits(images, variables)))
        saver.save(session, folder / "whole" / "model.ckpt")
        saver.save(session, folder / "hidden" / "model.ckpt", ["hidden?/*"])


def save_keras(folder: Path) -> None:
    images = some_images()
    model = keras_perceptron.perceptron(RECIPE)
    adam(model)
    keras_perceptron.train(model, images, RECIPE, 1)
    keras_files.save_model(model, folder / "whole.keras")
    keras_files.save_model(model, folder / "whole.h5")
    keras_files.save_architecture(model, folder / "architecture.json")
    keras_files.save_architecture(model, folder / "architecture.yaml")
    keras_files.save_weights(model, folder / "alone.weights.h5")
    np.save(folder / "after_one.npy", model(images.images).numpy())
    keras_perceptron.train(model, images, RECIPE, 1)
    np.savez(folder / "after_two.npz", *model.get_weights())
    forms.save("model", folder / "trained.keras", perceptron.initial(4), RECIPE, steps=77, selection=None)
    narrow = keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, name="logits")])
    keras_files.save_weights(narrow, folder / "narrow.weights.h5")
    # Same shapes, another network; and the same network in another size, made to give logits.
    for name, hidden, activation, last in (
        ("tanh", (256, 256), "tanh", "softmax"),
        ("logits", (20,), "relu", None),
    ):
        other = keras.Sequential(
            [
                keras.Input((784,)),
                *(keras.layers.Dense(units, activation) for units in hidden),
                keras.layers.Dense(10, last),
            ]
        )
        keras_files.save_model(other, folder / f"{name}.keras")
        np.savez(folder / f"{name}.npz", *other.get_weights())


def save_functions(folder: Path) -> None:
    """Functions of every kind a model may have: any rank, strings, nested arguments, traced twice."""
    module = tf.Module()
    module.any_rank = tf.function(lambda x: {"y": -x}, input_signature=[tf.TensorSpec(None, tf.float32)])
    module.words = tf.function(
        lambda words, n: {"upper": tf.strings.upper(words), "n": n + 1},
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int64)],
    )
    module.nothing = tf.function(lambda: {"one": tf.constant(1.0)})
    alone = module.nothing.get_concrete_function()
    module.nested = tf.function(
        lambda pair: pair["a"],
        input_signature=[{"a": [tf.TensorSpec([2, None], tf.bfloat16), tf.RaggedTensorSpec([None, None])]}],
    )
    module.traced = tf.function(lambda x, flag=True, scale=2.0: x * scale if flag else -x)
    module.traced(tf.constant([1.0, 2.0]))
    module.traced(tf.constant(1.0), flag=False)
    module.bare = tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec([], tf.int32, "count"))
    tf.saved_model.save(
        module, str(folder), signatures={"any": module.any_rank, "words": module.words, "nothing": alone}
    )


def save_several(folder: Path) -> None:
    """Three graphs in one file, as TensorFlow 1 programs wrote them, one without signatures."""
    api = tf1.saved_model
    with tf.Graph().as_default(), tf1.Session() as session:
        values = tf1.placeholder(tf.float32, [None, 2], name="x")
        scaled = tf.identity(
            values * tf1.get_variable("v", initializer=[2.0, 3.0], use_resource=True), name="y"
        )
        sparse = tf1.sparse_placeholder(tf.float32, name="sparse")
        infos = [api.build_tensor_info(tensor) for tensor in (sparse, tf.sparse.to_dense(sparse))]
        signatures = {
            "serving_default": api.predict_signature_def({"x": values}, {"y": scaled}),
            "sparse": api.build_signature_def({"in": infos[0]}, {"out": infos[1]}, "any/method"),
            "empty": api.build_signature_def(),
        }
        session.run(tf1.global_variables_initializer())
        builder = api.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["train"], signature_def_map={})
        builder.add_meta_graph(["serve", "gpu"], signature_def_map=signatures)
        builder.add_meta_graph(["serve"], signature_def_map=signatures)
        builder.save()


def main(folder: Path) -> None:
    keras_files.repeatable(RECIPE.seed)
    for name, task in (("line", save_line), ("network", save_network), ("keras", save_keras)):
        (folder / name).mkdir()
        task(folder / name)
    graph.write_saved_model(folder / "names", perceptron.initial(11), "names")
    graph.write_saved_model(folder / "names_again", perceptron.initial(11), "names")
    graph.write_saved_model(folder / "tutorial", perceptron.initial(11), "tutorial")
    module = tf.Module()
    module.scale = tf.Variable(2.0)
    signature = [tf.TensorSpec([None], tf.int64, "n"), tf.TensorSpec([], tf.string, "unit")]
    module.double = tf.function(
        lambda n, unit: {"twice": tf.cast(n, tf.float32) * module.scale, "unit": unit},
        input_signature=signature,
    )
    tf.saved_model.save(module, str(folder / "foreign" / "12"), signatures={"double": module.double})
    mute = tf.Module()
    mute.scale = tf.Variable(2.0)
    tf.saved_model.save(mute, str(folder / "mute"))
    save_functions(folder / "functions")
    save_several(folder / "several")
    for name in ("names", "foreign/12", "mute", "functions", "several"):
        with (folder / name).with_suffix(".txt").open("w") as file, contextlib.redirect_stdout(file):
            saved_model_cli._show_all(str(folder / name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
