"""tensorflow-serving-api's generated stubs without TensorFlow: 0.2 s and 35 MB, not 8 s and 640 MB.

The stubs import `tensorflow.core.*_pb2`, and Python runs `tensorflow/__init__.py` before it looks
into a subpackage. A module named `tensorflow` that has the package's path and nothing else makes
the subpackages importable at once. It stays honest: the first use of a real attribute
(`tf.constant`) runs TensorFlow's own __init__ into that same module, so whatever imports TensorFlow
later in this process gets all of it.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from infra.core.errors import EnvironmentFault

_NAME = "tensorflow"
_loading = threading.RLock()


class _Namespace(ModuleType):
    """`tensorflow` with a path; becomes the real package when something asks for its content."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(_NAME)
        self._bare = True
        self.__spec__ = spec
        self.__path__ = list(spec.submodule_search_locations or ())
        self.__package__ = _NAME
        self.__file__ = spec.origin
        self.__loader__ = spec.loader

    def __getattr__(self, name: str) -> Any:
        # Only called for what is not there. Double underscores are the probes of inspect, copy and
        # the import system itself; they must not cost 8 s. __version__ is what people ask.
        if name.startswith("__") and name != "__version__":
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        with _loading:
            spec = self.__spec__
            if not self._bare or spec is None or spec.loader is None:
                raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
            self._bare = False  # before it runs: its __init__ probes itself for what is not there yet
            spec.loader.exec_module(self)
        return getattr(self, name)


def load() -> None:
    """Make `tensorflow_serving.apis.*` and `tensorflow.core.*` importable without TensorFlow.

    Does nothing when TensorFlow is already in this process, or when called before. Raises
    EnvironmentFault when no package provides `tensorflow/core`.
    """
    if _NAME in sys.modules:
        return
    spec = PathFinder.find_spec(_NAME)
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentFault(
            "the package that provides tensorflow/core is not installed",
            action="install tensorflow-cpu and tensorflow-serving-api (requirements.lock has both)",
        )
    sys.modules[_NAME] = _Namespace(spec)


def full() -> bool:
    """Whether TensorFlow itself runs in this process."""
    module = sys.modules.get(_NAME)
    return module is not None and not (isinstance(module, _Namespace) and module._bare)
