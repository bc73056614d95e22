"""What `import slipway_client...` loads, in a fresh process."""

import json
import sys

from slipway.core import process

MODULES = (
    "slipway_client.over_grpc",
    "slipway_client.over_rest",
    "slipway_client.check",
    "slipway_client.__main__",
)


def _python(text):
    done = process.run([sys.executable, "-c", text], env={"TF_CPP_MIN_LOG_LEVEL": "3"}, timeout=120)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_client_loads_grpc_protobuf_and_numpy_only():
    before = set(_python("import sys, json; print(json.dumps(sorted(sys.modules)))"))
    text = "import sys, json\n" + "".join(f"import {name}\n" for name in MODULES)
    loaded = set(_python(text + "print(json.dumps(sorted(sys.modules)))")) - before
    assert not {name for name in loaded if name.partition(".")[0] in ("slipway", "slipway_server")}
    tops = {name.partition(".")[0] for name in loaded}
    outside = tops - set(sys.stdlib_module_names) - {name for name in tops if name.startswith("_")}
    assert outside <= {
        "slipway_client",
        "grpc",
        "google",
        "grpc_reflection",  # grpc's own import looks for it
        "ml_dtypes",
        "cython_runtime",  # what grpc's and numpy's extension modules share
        "numpy",
        "typing_extensions",
    }


def test_tensorflow_and_the_generated_messages_live_beside_the_clients_own():
    found = _python(
        "import json\n"
        "from slipway_client import messages\n"
        "import tensorflow as tf\n"
        "from tensorflow_serving.apis import predict_pb2\n"
        "theirs = predict_pb2.PredictRequest()\n"
        "theirs.inputs['x'].CopyFrom(tf.make_tensor_proto([1.0]))\n"
        "ours = messages.PredictRequest.FromString(theirs.SerializeToString())\n"
        "print(json.dumps([ours.SerializeToString() == theirs.SerializeToString(),"
        " float(tf.constant(2.0) * 3)]))"
    )
    assert found == [True, 6.0]
