"""The portable model server: TensorFlow Serving's gRPC and REST API over TensorFlow's C API.

In: a SavedModel folder per model and version, flags and config files as TensorFlow Serving takes
them. Out: answers, statuses, metrics, one JSON log line an event. Never here: TensorFlow's Python
package (only its shared library is loaded), numpy, a model's own code, the driver. Of slipway it imports
slipway_client's messages, dtypes, TFRecord files and errors.
"""

import os

# gRPC reports errors to its caller too; its own lines on stderr would break the rule of one JSON object a
# line. It reads the variable when it is imported, which any module of this package may do first.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

__version__ = "0.1.0"
