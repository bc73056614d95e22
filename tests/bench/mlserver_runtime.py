"""MLServer's side of bench_model_server.py: a SavedModel behind its API, and nothing more."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class SavedModelRuntime(MLModel):
    async def load(self) -> bool:
        # As our server runs it: one thread a request.
        tf.config.threading.set_intra_op_parallelism_threads(1)
        self._loaded = tf.saved_model.load(self.settings.parameters.uri)
        self._predict = self._loaded.signatures["predict_images"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given: Any = payload.inputs[0]
        images = (
            np.frombuffer(given.data.root, np.float32)
            if isinstance(given.data.root, bytes)
            else given.data.root
        )
        images = np.asarray(images, np.float32).reshape(given.shape)
        scores = self._predict(images=tf.constant(images))["scores"].numpy()
        output = ResponseOutput(
            name="scores", shape=list(scores.shape), datatype="FP32", data=scores.ravel().tolist()
        )
        return InferenceResponse(model_name=self.name, outputs=[output])
