"""The portable model server: TensorFlow Serving's gRPC and REST API over TensorFlow's C API.

In: a SavedModel folder per model and version, flags and config files as TensorFlow Serving takes
them. Out: answers, statuses, metrics, one JSON log line an event. Never here: TensorFlow's Python
package (only its shared library and generated message classes are loaded), a model's own code, any
part of slipway beside infra.core.errors and infra.predict.stubs: the serving image holds no more.
"""
