"""A client for model servers: TensorFlow Serving's API and the Open Inference Protocol, over gRPC and REST.

In: an address, a model name, requests. Out: answers, comparisons, statistics. connect.py is the way in,
client.py has the calls. It also runs inside the serving image and installs alone, so it imports grpcio,
protobuf, numpy and ml_dtypes beside the standard library, and nothing else: never the driver, TensorFlow or
tensorflow-serving-api. The messages (messages.py), dtypes and TFRecord files of TensorFlow Serving have
their one home here; the server and the driver use them too.
"""
