"""A Keras architecture as JSON or YAML text: Keras 3 writes JSON only; YAML stays readable here.

The same document in either notation. What Keras 2 wrote (no `module` keys, batch_input_shape,
!!python/tuple) is brought to today's form. Only plain data is read: no YAML tag can make an object.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from slipway.core.errors import ModelError

_MODELS = {"Sequential", "Functional", "Model"}
_INITIALIZERS = {
    *("Zeros", "Ones", "Constant", "RandomNormal", "RandomUniform", "TruncatedNormal", "Orthogonal"),
    *("VarianceScaling", "GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform"),
    *("LecunNormal", "Identity"),
}
_REGULARIZERS = {"L1", "L2", "L1L2"}


class _Loader(yaml.SafeLoader):
    """SafeLoader that also knows the one Python tag Keras 2 wrote."""


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> list[Any]:
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.constructor.ConstructorError(None, None, "a tuple is a sequence", node.start_mark)
    return loader.construct_sequence(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def to_yaml(text: str) -> str:
    """An architecture's JSON text as YAML."""
    return yaml.safe_dump(json.loads(text), sort_keys=False)


def to_json(text: str, name: str) -> str:
    """An architecture, JSON or YAML, Keras 2 or 3, as JSON text Keras 3 reads; `name` is its file's.

    Raises ModelError naming the file and what is wrong with it.
    """
    try:
        # JSON first: it is stricter, and not all of it is YAML (tabs, for one).
        document = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
    except ValueError as error:
        raise ModelError(f"{name} is not JSON: {error}", action=_EXPECTED) from error
    except yaml.YAMLError as error:
        raise ModelError(f"{name} is not plain YAML: {error}", action=_EXPECTED) from error
    if not isinstance(document, dict) or not {"class_name", "config"} <= set(document):
        raise ModelError(
            f"{name} is not a Keras architecture: it lacks class_name or config", action=_EXPECTED
        )
    return json.dumps(_modern(document))


_EXPECTED = "give the text of a Keras model's to_json() or, of old, to_yaml()"


def _modern(value: Any) -> Any:
    """Keras 2's configuration in Keras 3's form; Keras 3's own is left as it is."""
    if isinstance(value, list):
        return [_modern(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {key: _modern(item) for key, item in value.items()}
    if "class_name" not in out or "config" not in out or "module" in out:
        return out
    kind, config = out["class_name"], out["config"]
    if kind in _MODELS:
        out["module"] = "keras"
        out["class_name"] = "Functional" if kind == "Model" else kind
        if kind == "Sequential":
            # Keras 1 and early 2 wrote the bare list of layers.
            config = {"layers": config} if isinstance(config, list) else config
            out["config"] = {**config, "layers": _with_input(config["layers"])}
    elif kind in _INITIALIZERS:
        out["module"] = "keras.initializers"
    elif kind in _REGULARIZERS:
        out["module"] = "keras.regularizers"
    else:
        out["module"] = "keras.layers"
        if kind == "InputLayer" and isinstance(config, dict) and "batch_input_shape" in config:
            known = {key: config[key] for key in ("name", "dtype", "sparse") if key in config}
            out["config"] = {**known, "batch_shape": config["batch_input_shape"]}
    out.setdefault("registered_name", None)
    return out


def _with_input(layers: list[Any]) -> list[Any]:
    """Sequential layers whose first one is an InputLayer, made of the first batch_input_shape if need be."""
    out = []
    for number, layer in enumerate(layers):
        config = dict(layer["config"])
        shape = config.pop("batch_input_shape", None)
        if number == 0 and shape is not None:
            out.append(
                {
                    "module": "keras.layers",
                    "class_name": "InputLayer",
                    "config": {"batch_shape": shape, "dtype": config.get("dtype", "float32")},
                    "registered_name": None,
                }
            )
        out.append({**layer, "config": config})
    return out
