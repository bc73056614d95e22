"""Runs inside the cluster: keep a Service busy, then ask it a little, over a new connection for every request.

usage: python loading.py SERVICE:PORT MODEL
It asks as fast as it can until the file /tmp/calm is there, from then on twice a second, and ends once /tmp/done is
there or after ten minutes. It prints {"what was answered or went wrong": how often}.
"""

from __future__ import annotations

import collections
import json
import sys
import threading
import time
from pathlib import Path

import grpc
from slipway_client import messages

PREDICT = "/tensorflow.serving.PredictionService/Predict"
THREADS = 4
LIMIT = 600.0  # seconds
CALM, DONE = Path("/tmp/calm"), Path("/tmp/done")  # the pod's own


def main(server: str, model: str) -> None:
    request = messages.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "predict_images"
    images = request.inputs["images"]
    images.dtype = 1
    for size in (1, 784):
        images.tensor_shape.dim.add(size=size)
    images.float_val.append(0.5)
    raw = request.SerializeToString()
    counts: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + LIMIT

    def keep_on() -> None:
        while not DONE.exists() and time.monotonic() < end:
            try:
                # a channel of its own: gRPC shares connections between those with the same arguments
                with grpc.insecure_channel(server, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                    channel.unary_unary(PREDICT)(raw, timeout=20)
                counts["answered"] += 1
            except grpc.RpcError as error:
                counts[f"{error.code().name}: {error.details()}"] += 1
            time.sleep(THREADS / 2 if CALM.exists() else 0.005)

    threads = [threading.Thread(target=keep_on) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
