"""What `import infra.predict...` costs and what it leaves of TensorFlow, each in a fresh process."""

import json
import sys

from infra.core import process

MODULES = (
    "infra.predict.over_grpc",
    "infra.predict.over_rest",
    "infra.predict.check",
    "infra.predict.__main__",
)


def _python(text):
    done = process.run([sys.executable, "-c", text], env={"TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=120)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_client_loads_no_tensorflow_and_nothing_else_of_slipway():
    before = set(_python("import sys, json; print(json.dumps(sorted(sys.modules)))"))
    text = "import sys, json\n" + "".join(f"import {name}\n" for name in MODULES)
    loaded = set(_python(text + "print(json.dumps(sorted(sys.modules)))")) - before
    ours = {name for name in loaded if name.startswith("infra.")}
    assert {name for name in ours if not name.startswith("infra.predict")} == {
        "infra.core",
        "infra.core.errors",
    }
    assert not {name for name in loaded if name.startswith("tensorflow.python")}
    tops = {name.partition(".")[0] for name in loaded}
    outside = tops - set(sys.stdlib_module_names) - {name for name in tops if name.startswith("_")}
    assert outside <= {
        "infra",
        "grpc",
        "google",
        "cython_runtime",  # what grpc's and numpy's extension modules share
        "numpy",
        "tensorflow",
        "tensorflow_serving",
        "typing_extensions",
    }


def test_tensorflow_can_be_used_after_the_stubs_were_loaded_without_it():
    found = _python(
        "import json\n"
        "from infra.predict import stubs\n"
        "stubs.load()\n"
        "from tensorflow.core.framework import tensor_pb2\n"
        "bare = not stubs.full()\n"
        "import tensorflow as tf\n"
        "proto = tf.make_tensor_proto([1.0])\n"
        "print(json.dumps([bare, stubs.full(), isinstance(proto, tensor_pb2.TensorProto),"
        " float(tf.constant(2.0) * 3)]))"
    )
    assert found == [True, True, True, 6.0]


def test_a_probe_for_a_dunder_does_not_load_tensorflow():
    found = _python(
        "import json, sys\n"
        "from infra.predict import stubs\n"
        "stubs.load()\n"
        "import tensorflow\n"
        "got = [hasattr(tensorflow, '__wrapped__'), hasattr(tensorflow, '__path__')]\n"
        "print(json.dumps([*got, stubs.full()]))"
    )
    assert found == [False, True, False]
