"""Runs inside the cluster: ask the Service without a pause until only the new version answers.

usage: python asking.py SERVICE:PORT MODEL VERSION
Two threads keep their connection, two make one for every request. It ends once each has had 200
answers of VERSION in a row, or after ten minutes, and prints
{"kept" or "fresh": {"what was answered or went wrong": how often}}.
"""

from __future__ import annotations

import collections
import json
import sys
import threading
import time

import grpc
from slipway_client import messages

PREDICT = "/tensorflow.serving.PredictionService/Predict"
IN_A_ROW = 200
LIMIT = 600.0  # seconds


def main(server: str, model: str, version: int) -> None:
    request = messages.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "predict_images"
    images = request.inputs["images"]
    images.dtype = 1
    for size in (1, 784):
        images.tensor_shape.dim.add(size=size)
    images.float_val.append(0.5)
    raw = request.SerializeToString()
    counts: dict[str, collections.Counter[str]] = {
        "kept": collections.Counter(),
        "fresh": collections.Counter(),
    }
    end = time.monotonic() + LIMIT

    def ask(channel: grpc.Channel, kind: str) -> bool:
        """One request; whether the new version answered it."""
        try:
            answer = messages.PredictResponse.FromString(channel.unary_unary(PREDICT)(raw, timeout=20))
        except grpc.RpcError as error:
            counts[kind][f"{error.code().name}: {error.details()}"] += 1
            return False
        counts[kind][f"version {answer.model_spec.version.value}"] += 1
        return bool(answer.model_spec.version.value == version)

    def keep_on(kind: str) -> None:
        kept = grpc.insecure_channel(server)
        row = 0
        while row < IN_A_ROW and time.monotonic() < end:
            if kind == "fresh":
                with grpc.insecure_channel(server) as channel:
                    row = row + 1 if ask(channel, kind) else 0
            else:
                row = row + 1 if ask(kept, kind) else 0
            time.sleep(0.01)

    threads = [threading.Thread(target=keep_on, args=(kind,)) for kind in ("kept", "kept", "fresh", "fresh")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
