"""What of the wheels is in the image: enough to import every stub, nothing for compilers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import infra
from infra.images import context
from infra.images.contents import wanted

ROOT = Path(infra.__file__).parent


@pytest.mark.parametrize(
    "path",
    [
        "tensorflow/__init__.py",
        "tensorflow/core/__init__.py",
        "tensorflow/core/framework/__init__.py",
        "tensorflow/core/framework/tensor_pb2.py",
        "tensorflow/libtensorflow_cc.so.2",
        "tensorflow/libtensorflow_framework.so.2",
        "tensorflow_serving/apis/predict_pb2.py",
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
    assert wanted("tensorflow/core/framework/tensor_pb2.py", "tensorflow")
    assert wanted("grpc/__init__.py", "tensorflow")
    assert not wanted("h11/_connection.py", "tensorflow")
    assert not wanted("uvloop-0.23.0.dist-info/METADATA", "tensorflow")


def test_slipways_own_files_in_the_image_are_all_that_its_programs_import() -> None:
    inside = {path.removeprefix("infra/") for path in context.sources()}
    for path in sorted(inside):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                words = name.split(".")
                if words[0] != "infra":
                    continue
                target = ROOT.joinpath(*words[1:])
                if target.is_dir():
                    target = target / "__init__.py"
                elif not target.with_suffix(".py").is_file():
                    continue  # a name inside a module
                else:
                    target = target.with_suffix(".py")
                found = target.relative_to(ROOT).as_posix()
                assert found in inside, f"infra/{path} imports {name}, which is not in the image"


def test_the_programs_import_nothing_that_is_not_in_the_lock() -> None:
    known = {
        "google",
        "grpc",
        "h11",
        "numpy",
        "tensorflow",
        "tensorflow_serving",
        "typing_extensions",
        "uvloop",
        "infra",
    }
    import sys

    for path in context.sources():
        for node in ast.walk(ast.parse((ROOT.parent / path).read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                assert top in known | sys.stdlib_module_names, f"{path} imports {name}"
