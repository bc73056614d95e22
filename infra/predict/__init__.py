"""A client for any TensorFlow Serving: Predict and Classify over gRPC and REST, without TensorFlow.

In: an address, a model name, requests. Out: answers, comparisons, statistics. Nothing here knows
which server answers. It also runs inside the serving image, so of slipway it may import
infra.core.errors only, and beside the standard library grpcio, protobuf, numpy and the generated
stubs of tensorflow-serving-api; never pydantic, rich, typer or TensorFlow itself.
"""
