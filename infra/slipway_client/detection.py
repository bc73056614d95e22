"""Find out by asking which protocol a server speaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from slipway_client.interface import Answer, Api, Examples, Metadata, Steps, VersionStatus
from slipway_client.json_values import Array
from slipway_client.requests import FixedRequest
from slipway_client.v2 import V2

# Statuses that tell nothing of the protocol: of a proxy in between, or of a server that is starting.
_NEITHER = ("UNAVAILABLE", "UNAUTHENTICATED", "PERMISSION_DENIED", "DEADLINE_EXCEEDED")


class Detected(Api):
    """The Open Inference Protocol if the server says by it that it lives, else TensorFlow Serving's API.

    The server is asked before the first call, and again as long as it does not answer.
    """

    def __init__(self, server: str, tensorflow: Api, v2: V2) -> None:
        super().__init__(server)
        self._tensorflow, self._v2 = tensorflow, v2
        self._found: Api | None = None

    def status(self, model: str) -> Steps[tuple[VersionStatus, ...]]:
        api = yield from self._spoken(model)
        return (yield from api.status(model))

    def metadata(self, model: str, version: int | None) -> Steps[Metadata]:
        api = yield from self._spoken(model)
        return (yield from api.metadata(model, version))

    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, Array],
        version: int | None,
        output_filter: Sequence[str],
    ) -> Steps[Answer]:
        api = yield from self._spoken(model)
        return (yield from api.predict(model, signature, inputs, version, output_filter))

    def classify(self, model: str, signature: str, examples: Examples, version: int | None) -> Steps[Answer]:
        api = yield from self._spoken(model)
        return (yield from api.classify(model, signature, examples, version))

    def regress(self, model: str, signature: str, examples: Examples, version: int | None) -> Steps[Answer]:
        api = yield from self._spoken(model)
        return (yield from api.regress(model, signature, examples, version))

    def prepare(self, model: str, request: FixedRequest) -> Steps[Callable[[], Steps[Answer]]]:
        api = yield from self._spoken(model)
        return (yield from api.prepare(model, request))

    def _spoken(self, model: str) -> Steps[Api]:
        if self._found is None:
            reply = yield self._v2.alive()
            if reply.status in _NEITHER:
                raise self.refused(reply.status, reply.said, model)
            self._found = self._v2 if reply.status == "OK" else self._tensorflow
        return self._found
