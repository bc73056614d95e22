"""tensorflow-serving-api's generated messages, to hold slipway's own against. TensorFlow is not loaded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pool, message_factory

_MODULES = (
    "tensorflow_serving.apis.classification_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.get_model_status_pb2",
    "tensorflow_serving.apis.model_management_pb2",
    "tensorflow_serving.apis.predict_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.apis.regression_pb2",
    "tensorflow_serving.config.model_server_config_pb2",
    "tensorflow.core.example.example_pb2",
    "tensorflow.core.protobuf.meta_graph_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
)


def message_class(full_name: str) -> Any:
    """The generated class of this name, from protobuf's default pool. Raises KeyError if it is unknown."""
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(full_name))


def enumeration(full_name: str) -> Any:
    """The descriptor of the generated enumeration of this name."""
    return descriptor_pool.Default().FindEnumTypeByName(full_name)


@contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Let `tensorflow.core.*` be imported without `tensorflow/__init__.py`, which takes 8 s and 640 MB.

    A module with the package's path and nothing else stands in for it until the block ends. What was imported
    below it is forgotten then, so that whoever imports TensorFlow later in this process gets all of it.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    spec = PathFinder.find_spec("tensorflow")
    assert spec is not None, "tensorflow-cpu is not installed"
    bare = ModuleType("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["tensorflow"] = bare
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]:
            del sys.modules[name]


with _without_tensorflow():
    for _name in _MODULES:
        importlib.import_module(_name)
