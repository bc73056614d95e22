"""SavedModels of every shape people bring, each with warm-up requests, and what the model stage makes of them.

Run in a process of its own: TensorFlow starts slowly, so it starts once for all of them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf
from slipway.core.context import Context
from slipway.core.errors import SlipwayError
from slipway.core.events import Event, Note
from slipway.core.schema import ImageSettings, ModelSettings, Settings
from slipway.core.state import State
from slipway.model import __main__ as apart
from slipway.model import derived_requests, saved_model, tasks
from slipway.model.stage import ExportModel
from slipway_client.requests import FixedRequest
from tensorflow.core.protobuf import saved_model_pb2

tf1 = tf.compat.v1
DIALECTS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
MAKERS: dict[str, Callable[[Path], Iterable[FixedRequest]]] = {}
LARGE_BYTES = 300_000_000


def model(maker: Callable[[Path], Iterable[FixedRequest]]) -> Callable[[Path], Iterable[FixedRequest]]:
    """A function that writes the model of its name into a folder and returns what to ask it."""
    MAKERS[maker.__name__] = maker
    return maker


def floats(*shape: int) -> Any:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def strings(*items: bytes) -> Any:
    return np.array(items, dtype=object)


def predict(signature: str = "serving_default", **inputs: Any) -> FixedRequest:
    return FixedRequest("predict", signature, {key: np.asarray(value) for key, value in inputs.items()})


def save(path: Path, **signatures: Any) -> None:
    """Functions with an input signature, as the signatures of a tf.Module that holds what they need."""
    module = tf.Module()
    module.held = [getattr(function, "held", None) for function in signatures.values()]
    module.functions = list(signatures.values())
    tf.saved_model.save(module, str(path), signatures=signatures)


def function(*specs: Any, held: Any = None) -> Callable[[Callable[..., Any]], Any]:
    def decorate(body: Callable[..., Any]) -> Any:
        made = tf.function(body, input_signature=specs)
        made.held = held
        return made

    return decorate


def spec(dtype: Any, *shape: int | None, name: str = "x") -> Any:
    return tf.TensorSpec(shape, dtype, name=name)


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change what the file of a SavedModel says."""
    file = path / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    change(saved.meta_graphs[0])
    file.write_bytes(saved.SerializeToString())


def method(path: Path, **methods: str) -> None:
    def change(graph: Any) -> None:
        for signature, name in methods.items():
            graph.signature_def[signature].method_name = DIALECTS[name]

    edit(path, change)


# ---- Keras ------------------------------------------------------------------------------------


def export(network: Any, path: Path) -> None:
    network.export(str(path), verbose=False)


@model
def keras_sequential(path: Path) -> Iterable[FixedRequest]:
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    export(network, path)
    yield predict(signature="serve", keras_tensor=floats(2, 4))
    yield predict(keras_tensor=floats(1, 4))


@model
def keras_heads(path: Path) -> Iterable[FixedRequest]:
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    both = keras.layers.Concatenate()([left, right])
    corners = keras.layers.Reshape((2, 2), name="corners")(keras.layers.Dense(4)(both))
    heads = {"corners": corners, "age": keras.layers.Dense(1, name="age")(both)}
    export(keras.Model({"left": left, "right": right}, heads), path)
    yield predict(left=floats(2, 3), right=floats(2, 2))


@model
def cnn(path: Path) -> Iterable[FixedRequest]:
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((16, 16, 3), dtype="uint8", name="image"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax"),
        ]
    )
    export(network, path)
    yield predict(image=np.arange(2 * 16 * 16 * 3, dtype=np.uint8).reshape(2, 16, 16, 3))


@model
def lstm(path: Path) -> Iterable[FixedRequest]:
    network = keras.Sequential([keras.Input((None, 3), name="steps"), keras.layers.LSTM(4)])
    export(network, path)
    for length in (2, 5):
        yield predict(steps=floats(2, length, 3))


@model
def embedding(path: Path) -> Iterable[FixedRequest]:
    layers = keras.layers
    words = keras.Input((None,), dtype="int64", name="words")
    vector = layers.GlobalAveragePooling1D()(layers.Embedding(50, 8)(words))
    export(keras.Model(words, layers.UnitNormalization()(vector)), path)
    yield predict(words=np.array([[1, 2, 49]]))


@model
def mixed_float16(path: Path) -> Iterable[FixedRequest]:
    network = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, dtype="mixed_float16")])
    export(network, path)
    yield predict(x=floats(2, 4))


@model
def mixed_bfloat16(path: Path) -> Iterable[FixedRequest]:
    network = keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(3, dtype="mixed_bfloat16")])
    export(network, path)
    yield predict(x=floats(2, 4))


# ---- dtypes -----------------------------------------------------------------------------------


@model
def half(path: Path) -> Iterable[FixedRequest]:
    save(path, serving_default=function(spec(tf.half, None))(lambda x: {"y": x * 0.5}))
    yield predict(x=np.array([1, 65504, np.nan], np.float16))


@model
def bfloat16(path: Path) -> Iterable[FixedRequest]:
    double = tf.constant(2, tf.bfloat16)
    save(path, serving_default=function(spec(tf.bfloat16, None))(lambda x: {"y": x * double}))
    yield predict(x=np.array([1.5, -3, np.inf], ml_dtypes.bfloat16))


@model
def complex_numbers(path: Path) -> Iterable[FixedRequest]:
    save(
        path,
        serving_default=function(spec(tf.float32, None, 8))(lambda x: {"waves": tf.signal.rfft(x)}),
        turned=function(spec(tf.complex128, None))(lambda x: {"y": x * 1j}),
    )
    yield predict(x=floats(2, 8))
    yield predict("turned", x=np.array([1 + 2j, complex(np.nan, 0)]))


@model
def whole_numbers(path: Path) -> Iterable[FixedRequest]:
    kinds = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "float64")
    same = {kind: function(spec(kind, None))(lambda x: {"y": tf.identity(x)}) for kind in kinds}
    save(path, **same)
    for kind in kinds:
        limits = np.iinfo(kind) if "int" in kind else None
        values = [limits.min, limits.max] if limits is not None else [0, 1]
        yield predict(kind, x=np.array(values, kind))


def classified(features: int) -> Any:
    """Probabilities of as many classes as there are features."""

    @function(spec(tf.string, None, name="inputs"))
    def classify(inputs: Any) -> Any:
        row = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([features], tf.float32)})["x"]
        names = [[str(place) for place in range(features)]]
        return {"classes": tf.tile(names, [tf.shape(row)[0], 1]), "scores": tf.nn.softmax(row * 3)}

    return classify


@model
def text(path: Path) -> Iterable[FixedRequest]:
    """Beside it a Classify of numbers as many as Predict has strings: nothing to compare."""
    shout = function(spec(tf.string, None, 1, name="text"))(lambda text: {"loud": tf.strings.upper(text)})
    save(path, serving_default=shout, kind=classified(1))
    method(path, kind="classify")
    yield predict(text=strings(b"to be", "\u00fc\u00df".encode(), b"")[:, None])
    yield FixedRequest("classify", "kind", examples=({"x": floats(1)},))


@model
def binary_strings(path: Path) -> Iterable[FixedRequest]:
    @function(spec(tf.string, None))
    def packed(x: Any) -> Any:
        return {"packed": tf.strings.join([b"\xff\x00", x]), "ends_in_zero": tf.strings.join([x, b"\x00"])}

    save(path, serving_default=packed)
    yield predict(x=strings(b"a", b"\xfe"))


# ---- signatures -------------------------------------------------------------------------------


@model
def tf_module(path: Path) -> Iterable[FixedRequest]:
    weight = tf.Variable(0.5)
    save(path, serving_default=function(spec(tf.float32, None), held=weight)(lambda x: {"y": x * weight + 2}))
    yield predict(x=np.array([1, 2, 5], np.float32))


@model
def tf1_builder(path: Path) -> Iterable[FixedRequest]:
    """The chapter's own way: a graph, a session, three methods of one network."""
    with tf.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        serialized = tf1.placeholder(tf.string, [None], name="examples")
        parsed = tf1.parse_example(serialized, {"x": tf1.FixedLenFeature([4], tf.float32)})["x"]
        weights = tf1.get_variable("w", initializer=tf.constant(floats(4, 3)))
        scores = tf.nn.softmax(tf.matmul(tf.identity(parsed, "rows"), weights))
        values, places = tf.nn.top_k(scores, 3)
        classes = tf.strings.as_string(places)
        total = tf.reduce_sum(values * values, axis=1, keepdims=True)
        session.run(tf1.global_variables_initializer())
        info, build = tf1.saved_model.utils.build_tensor_info, tf1.saved_model.signature_def_utils
        builder = tf1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "scores": build.predict_signature_def({"rows": parsed}, {"scores": scores}),
                "serving_default": build.classification_signature_def(serialized, classes, values),
                "total": build.regression_signature_def(serialized, total),
            },
        )
        assert info is not None
        builder.save()
    examples = tuple({"x": row} for row in floats(2, 4))
    yield predict("scores", rows=floats(2, 4))
    yield FixedRequest("classify", "serving_default", examples=examples)
    yield FixedRequest("regress", "total", examples=examples)


def parsed_price(serialized: Any) -> Any:
    feature = {"rooms": tf.io.FixedLenFeature([], tf.int64), "area": tf.io.FixedLenFeature([], tf.float32)}
    row = tf.io.parse_example(serialized, feature)
    return tf.cast(row["rooms"], tf.float32) * 10 + row["area"]


HOUSES = (
    {"rooms": np.array([3]), "area": np.array([90.5], np.float32)},
    {"rooms": np.array([5]), "area": np.array([120.0], np.float32)},
)


def price_of() -> Any:
    return function(spec(tf.string, None, name="inputs"))(lambda inputs: {"outputs": parsed_price(inputs)})


@model
def regress_only(path: Path) -> Iterable[FixedRequest]:
    save(path, serving_default=price_of())
    method(path, serving_default="regress")
    yield FixedRequest("regress", "serving_default", examples=HOUSES)


@model
def classify_only(path: Path) -> Iterable[FixedRequest]:
    """Classes without scores."""

    @function(spec(tf.string, None, name="inputs"))
    def size(inputs: Any) -> Any:
        return {"classes": tf.where(parsed_price(inputs) > 140, "large", "small")[:, None]}

    save(path, serving_default=size)
    method(path, serving_default="classify")
    yield FixedRequest("classify", "serving_default", examples=HOUSES)


@model
def other_methods(path: Path) -> Iterable[FixedRequest]:
    """Predict on a signature of Regress, Classify and Regress on those of Predict: servers look at tensors."""

    @function(spec(tf.string, None, name="inputs"))
    def kinds(inputs: Any) -> Any:
        price = parsed_price(inputs)
        classes = tf.tile([["dear", "cheap"]], [tf.size(price), 1])
        return {"classes": classes, "scores": tf.stack([price, -price], 1)}

    save(path, kinds=kinds, price=price_of(), regressed=price_of())
    method(path, regressed="regress")
    yield FixedRequest("classify", "kinds", examples=HOUSES)
    yield FixedRequest("regress", "price", examples=HOUSES)
    feature = tf.train.Feature
    example = tf.train.Example(
        features=tf.train.Features(
            feature={
                "rooms": feature(int64_list=tf.train.Int64List(value=[2])),
                "area": feature(float_list=tf.train.FloatList(value=[40.0])),
            }
        )
    )
    yield predict("regressed", inputs=strings(example.SerializeToString()))


@model
def logits_beside_classes(path: Path) -> Iterable[FixedRequest]:
    """Predict gives logits, Classify probabilities: two functions that need not agree."""
    logits = function(spec(tf.float32, None, 3))(lambda x: {"logits": x * 3})
    save(path, serving_default=classified(3), logits=logits)
    method(path, serving_default="classify")
    yield predict("logits", x=floats(2, 3))
    yield FixedRequest("classify", "serving_default", examples=tuple({"x": row} for row in floats(2, 3)))


@model
def defaults(path: Path) -> Iterable[FixedRequest]:
    @tf.function(input_signature=[spec(tf.float32, None), spec(tf.float32, name="scale")])
    def scaled(x: Any, scale: Any = tf.constant(3.0)) -> Any:  # noqa: B008  # that is how a default is saved
        return {"y": x * scale}

    save(path, serving_default=scaled)
    yield predict(x=np.array([1, 2], np.float32))
    yield predict(x=np.array([1, 2], np.float32), scale=np.float32(5))


@model
def no_inputs(path: Path) -> Iterable[FixedRequest]:
    about = function()(lambda: {"version": tf.constant("1.4"), "classes": tf.constant(["cat", "dog"])})
    save(path, serving_default=about)
    yield predict()


@model
def scalars(path: Path) -> Iterable[FixedRequest]:
    @function(spec(tf.float32, None))
    def told(x: Any) -> Any:
        return {"mean": tf.reduce_mean(x), "count": tf.size(x), "word": tf.constant("of numbers")}

    save(path, serving_default=told, alone=function(spec(tf.float32))(lambda x: {"y": -x}))
    yield predict(x=np.array([1, 2, 6], np.float32))
    yield predict("alone", x=np.float32(2))


@model
def static_batch(path: Path) -> Iterable[FixedRequest]:
    """Beside it a Classify of as many features, whose examples are fewer than Predict takes."""
    probable = function(spec(tf.float32, 4, 3))(lambda x: {"y": tf.nn.softmax(x * 3)})
    save(path, serving_default=probable, kind=classified(3))
    method(path, kind="classify")
    yield predict(x=floats(4, 3))
    yield FixedRequest("classify", "kind", examples=tuple({"x": row} for row in floats(2, 3)))


@model
def no_rows(path: Path) -> Iterable[FixedRequest]:
    """What is left of a filter that nothing passes: an empty output whose other sizes JSON loses."""
    kept = function(spec(tf.float32, None, 3))(lambda x: {"kept": tf.boolean_mask(x, x[:, 0] > 1e9)})
    save(path, serving_default=kept)
    yield predict(x=floats(2, 3))


# ---- what goes with the graph -----------------------------------------------------------------


@model
def table_of_an_asset(path: Path) -> Iterable[FixedRequest]:
    words = path.parent / "words.txt"
    words.parent.mkdir(parents=True, exist_ok=True)
    words.write_text("apple\nplum\n")
    source = tf.lookup.TextFileInitializer(
        str(words),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    table = tf.lookup.StaticHashTable(source, -1)
    held = tf.Module()
    held.table, held.asset = table, tf.saved_model.Asset(str(words))
    place = function(spec(tf.string, None, name="words"), held=held)(
        lambda words: {"ids": table.lookup(words)}
    )
    save(path, serving_default=place)
    words.unlink()
    yield predict(words=strings(b"plum", b"apple", b"fig"))


@model
def image_bytes(path: Path) -> Iterable[FixedRequest]:
    """PNG in, decoded, resized and summed up in the graph."""

    def one(png: Any) -> Any:
        image = tf.image.resize(tf.io.decode_png(png, channels=3), [4, 4])
        return tf.reduce_mean(image, [0, 1]) / 255

    @function(spec(tf.string, None, name="image_bytes"))
    def colours(image_bytes: Any) -> Any:
        return {"mean": tf.map_fn(one, image_bytes, fn_output_signature=tf.float32)}

    save(path, serving_default=colours)
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    yield predict(image_bytes=strings(tf.io.encode_png(pixels).numpy()))


@model
def large(path: Path) -> Iterable[FixedRequest]:
    rows = LARGE_BYTES // 4 // 1000
    values = np.zeros((rows, 1000), np.float32)
    values[:, 0] = np.arange(rows)
    table = tf.Variable(values)
    row = function(spec(tf.int64, None, name="ids"), held=table)(lambda ids: {"row": tf.gather(table, ids)})
    save(path, serving_default=row)
    yield predict(ids=np.array([0, rows - 1]))


# ---- what is told -----------------------------------------------------------------------------


@model
def random(path: Path) -> Iterable[FixedRequest]:
    @function(spec(tf.float32, None))
    def noisy(x: Any) -> Any:
        noise = tf.random.uniform(tf.shape(x))
        return {"noisy": x + noise, "plain": x * 2}

    save(path, serving_default=noisy)
    yield predict(x=np.array([1, 2], np.float32))


@model
def random_length(path: Path) -> Iterable[FixedRequest]:
    """Words drawn by chance, as many as chance has it; nothing else to compare."""

    @function(spec(tf.int32))
    def draw(x: Any) -> Any:
        return {"drawn": tf.fill([tf.random.uniform([], 0, 100_000, tf.int32)], x > 0)}

    save(path, serving_default=draw)
    yield predict(x=np.int32(3))


@model
def sparse(path: Path) -> Iterable[FixedRequest]:
    with tf.Graph().as_default() as graph, tf1.Session(graph=graph) as session:
        bag = tf1.sparse_placeholder(tf.float32, [None, 4], name="bag")
        total = tf1.sparse_reduce_sum(bag, axis=1)
        build = tf1.saved_model.signature_def_utils.predict_signature_def
        builder = tf1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": build({"bag": bag}, {"total": total})}
        )
        builder.save()
    yield predict(bag=floats(1, 4))


@model
def ragged(path: Path) -> Iterable[FixedRequest]:
    """Beside it a signature that can be asked."""

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.float32)])
    def lengths(rows: Any) -> Any:
        return {"doubled": rows * 2}

    same = function(spec(tf.float32, None))(lambda x: {"y": x})
    save(path, serving_default=same, rows=lengths)
    yield predict(x=floats(3))


def with_op(path: Path, name: str) -> Iterable[FixedRequest]:
    """A model whose op TensorFlow does not have: as tf.strings.lower it is saved, by its name it is another."""
    lower = function(spec(tf.string, None, name="text"))(lambda text: {"folded": tf.strings.lower(text)})
    save(path, serving_default=lower)

    def change(graph: Any) -> None:
        for body in graph.graph_def.library.function:
            for node in body.node_def:
                if node.op == "StringLower":
                    node.op = name
                    node.attr.clear()

    edit(path, change)
    yield predict(text=strings(b"To Be"))


@model
def text_op(path: Path) -> Iterable[FixedRequest]:
    return with_op(path, "CaseFoldUTF8")


@model
def op_of_nobody(path: Path) -> Iterable[FixedRequest]:
    return with_op(path, "OurOwnOp")


@model
def wrong_request(path: Path) -> Iterable[FixedRequest]:
    weights = tf.Variable(floats(2, 1))
    product = function(spec(tf.float32, None, None), held=weights)(lambda x: {"y": tf.matmul(x, weights)})
    save(path, serving_default=product)
    yield predict(x=floats(1, 3))


# ---- what comes of them -----------------------------------------------------------------------


@dataclass
class Told:
    """What inspect and the model stage say of a model. requests: the file of what to ask it, empty if refused."""

    inspected: str
    requests: str = ""
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def bring(folder: Path, name: str, server: Any = "portable") -> Told:
    path = folder / name
    told = Told(saved_model.as_text(saved_model.inspect(path)))

    def emit(event: Event) -> None:
        if isinstance(event, Note):
            told.notes.append(event.text)

    here = folder.parent / f"state-{server}"
    ctx = Context(State(here), here / "run", here, emit=emit)
    settings = Settings(model=ModelSettings(path=path, name=name), image=ImageSettings(server=server))
    try:
        told.requests = str(ExportModel().provided(ctx, settings).value.requests)
    except SlipwayError as error:
        told.refused = error.lines()
    return told


def run_here(task: str, arguments: Any, *_: Any, **__: Any) -> Any:
    """A task in this process, which has TensorFlow; its arguments travel as they do between two."""
    return apart.TASKS[task](json.loads(json.dumps(arguments, default=str)))


def main(folder: Path) -> None:
    tasks.run = run_here
    keras.utils.set_random_seed(1)
    models = folder / "models"
    told = {}
    for name, maker in MAKERS.items():
        path = models / name / "1"
        asked = list(maker(path))
        warmup = path / saved_model.WARMUP
        warmup.parent.mkdir(parents=True, exist_ok=True)
        warmup.write_bytes(derived_requests.encode(asked, name))
        told[name] = vars(bring(models, name))
        if name == "text_op":
            told[f"{name}, image.server: tensorflow"] = vars(bring(models, name, "tensorflow"))
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
