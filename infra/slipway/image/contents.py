"""What of the wheels is in the image: the one list of what serving loads and what it never does.

The image is right when the model server and the client run from it: the check before every push
(trial.py) is the proof of these rules.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

Server = Literal["portable", "tensorflow"]

# Paths are those in site-packages; "*" also matches "/".
# Of TensorFlow's 1.3 GB the portable server loads two libraries through the C API, the client nothing.
_RUNTIME = (
    "tensorflow/libtensorflow_cc.so.2",
    "tensorflow/libtensorflow_framework.so.2",
    "tensorflow/THIRD_PARTY_NOTICES.txt",
)

# In any package: tests, headers and sources for compilers, type stubs, and pip's own records.
_NEVER = (
    "*/tests/*",
    "*.pyi",
    "*/py.typed",
    "*.h",
    "*.hpp",
    "*.inc",
    "*.c",
    "*.cc",
    "*.cpp",
    "*.pxd",
    "*.pyx",
    "*.pxi",
    "*.proto",
    "*.a",
    "*.lib",
    "*.f90",
    "*.so.debug",
    "*.dist-info/RECORD*",
    "*.dist-info/WHEEL",
    "*.dist-info/INSTALLER",
    "*.dist-info/top_level.txt",
    "*.dist-info/entry_points.txt",
    "numpy/f2py/*",
    "numpy/random/lib/*",
    "numpy/random/_examples/*",
    "numpy/_core/include/*",
    "numpy/_core/lib/*",
    "numpy/_pyinstaller/*",
    "uvloop/_testbase.py",
)
# Packages the wheels' metadata asks for and serving never imports.
_NEVER_PACKAGES = ("keras", "tensorboard", "libclang", "clang", "pip", "setuptools", "wheel")
# What only slipway's own model server loads.
_SERVER_PACKAGES = ("h11", "tensorflow", "tensorflow_cpu", "uvloop")


def wanted(path: str, server: Server) -> bool:
    """Whether a file of a wheel belongs into the image of this server; path as in site-packages."""
    top = path.partition("/")[0]
    package = top.partition("-")[0] if top.endswith((".dist-info", ".data")) else top
    if package in _NEVER_PACKAGES or any(fnmatchcase(path, rule) for rule in _NEVER):
        return False
    if package in _SERVER_PACKAGES and server != "portable":
        return False
    return top != "tensorflow" or path in _RUNTIME
