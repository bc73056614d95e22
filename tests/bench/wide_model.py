"""Run with TensorFlow itself: a network whose weights no cache holds, so that a run of one row costs nearly what
a run of many does.

usage: wide_model.py FOLDER. Writes FOLDER/1, of 784 floats to 10 by two hidden layers of 2,048.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf


class Wide(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        weights = tf.keras.initializers.GlorotUniform(1)
        self.layers = [tf.Variable(weights(shape)) for shape in ((784, 2048), (2048, 2048), (2048, 10))]

    @tf.function(input_signature=[tf.TensorSpec([None, 784], tf.float32, name="images")])
    def predict_images(self, images: Any) -> Any:
        for weights in self.layers[:-1]:
            images = tf.nn.relu(images @ weights)
        return {"scores": tf.nn.softmax(images @ self.layers[-1])}


def main(folder: Path) -> None:
    model = Wide()
    tf.saved_model.save(model, str(folder / "1"), signatures={"predict_images": model.predict_images})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
