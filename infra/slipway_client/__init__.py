"""A client for any TensorFlow Serving: Predict and Classify over gRPC and REST, without TensorFlow.

In: an address, a model name, requests. Out: answers, comparisons, statistics. Nothing here knows
which server answers. It also runs inside the serving image and installs alone, so it imports grpcio,
protobuf and numpy beside the standard library, and nothing else: never the driver, TensorFlow or
tensorflow-serving-api. The messages (messages.py), dtypes and TFRecord files of TensorFlow Serving have
their one home here; the server and the driver use them too.
"""
