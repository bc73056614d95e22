"""What of the wheels is in the image: what the two programs load, nothing for compilers."""

from __future__ import annotations

import ast
import sys

import pytest
from slipway.image import own_wheels
from slipway.image.contents import wanted


@pytest.mark.parametrize(
    "path",
    [
        "tensorflow/libtensorflow_cc.so.2",
        "tensorflow/libtensorflow_framework.so.2",
        "tensorflow/THIRD_PARTY_NOTICES.txt",
        "numpy/_core/_multiarray_umath.cpython-313-x86_64-linux-gnu.so",
        "numpy/_pytesttester.py",
        "numpy.libs/libscipy_openblas64_-4b78795a.so",
        "grpcio-1.85.1.dist-info/METADATA",
        "grpcio-1.85.1.dist-info/licenses/LICENSE",
        "google/protobuf/message.py",
        "h11/_connection.py",
        "uvloop/loop.cpython-313-x86_64-linux-gnu.so",
    ],
)
def test_what_serving_loads_is_in(path: str) -> None:
    assert wanted(path, "portable")


@pytest.mark.parametrize(
    "path",
    [
        "tensorflow/include/google/protobuf/any_pb2.py",
        "tensorflow/include/tensorflow/core/platform/env.h",
        "tensorflow/__init__.py",
        "tensorflow/core/__init__.py",
        "tensorflow/core/framework/tensor_pb2.py",
        "tensorflow/python/framework/ops.py",
        "tensorflow/python/keras/protobuf/versions_pb2.py",
        "tensorflow/lite/python/lite.py",
        "tensorflow/compiler/mlir/stablehlo/stablehlo_extension.so",
        "tensorflow/tools/pip_package/setup.py",
        "keras/__init__.py",
        "keras-3.15.1.dist-info/METADATA",
        "libclang-18.1.1.dist-info/METADATA",
        "clang/native/libclang.so",
        "numpy/tests/test_matlib.py",
        "numpy/f2py/crackfortran.py",
        "numpy/_core/include/numpy/arrayobject.h",
        "numpy/__init__.pyi",
        "grpcio-1.85.1.dist-info/RECORD",
        "pip/__main__.py",
    ],
)
def test_what_serving_never_loads_is_out(path: str) -> None:
    assert not wanted(path, "portable")


def test_googles_server_brings_its_own_runtime() -> None:
    assert not wanted("tensorflow/libtensorflow_cc.so.2", "tensorflow")
    assert not wanted("tensorflow_cpu-2.21.0.dist-info/METADATA", "tensorflow")
    assert wanted("grpc/__init__.py", "tensorflow")
    assert not wanted("h11/_connection.py", "tensorflow")
    assert not wanted("uvloop-0.23.0.dist-info/METADATA", "tensorflow")


def test_the_programs_import_nothing_that_is_not_in_the_image() -> None:
    known = {
        "google",
        "grpc",
        "h11",
        "ml_dtypes",
        "numpy",
        "opentelemetry",  # an extra: where it is asked for and not there, the server says so
        "typing_extensions",
        "uvloop",
    }
    inside = own_wheels.files("portable")
    for path, source in inside.items():
        if not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(source)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                own = f"site-packages/{name.replace('.', '/')}"
                if {f"{own}.py", f"{own}/__init__.py"} & set(inside):
                    continue
                assert name.partition(".")[0] in known | sys.stdlib_module_names, f"{path} imports {name}"
