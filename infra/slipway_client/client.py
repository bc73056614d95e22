"""The clients: one API over one channel, blocking or under asyncio. connect.py makes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Self, TypeVar

from slipway_client.channel import AsyncChannel, Channel, Connection, Deadline
from slipway_client.credentials import Tls, Token
from slipway_client.errors import NotReady, RequestFailed, TimedOut, TlsFailed, WrongModel
from slipway_client.interface import (
    Answer,
    Api,
    Examples,
    Metadata,
    Signature,
    Steps,
    TensorSpec,
    Transport,
    VersionStatus,
)
from slipway_client.json_values import Array
from slipway_client.requests import FixedRequest

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "Examples",
    "Metadata",
    "Signature",
    "TensorSpec",
    "Tls",
    "Token",
    "Transport",
    "VersionStatus",
    "wait_available",
    "wait_available_async",
]

T = TypeVar("T")
AVAILABLE = "AVAILABLE"
INTERVAL = 0.2  # seconds between two looks at a model that is not available yet


class _Known:
    """What both clients know of their server."""

    def __init__(self, connection: Connection, api: Api) -> None:
        self.connection = connection
        self.server = connection.server
        self.transport: Transport = connection.transport
        self.timeout = connection.timeout
        self.host, self.port = connection.address
        self._api = api


class Client(_Known):
    """A connection to one server, for any number of threads.

    timeout, of each method: seconds the call may take in all, the connection's where it is None. Every
    method raises the errors of slipway_client.errors.
    """

    def __init__(self, connection: Connection, api: Api, channel: Channel) -> None:
        super().__init__(connection, api)
        self._channel = channel

    def status(self, model: str, *, timeout: float | None = None) -> tuple[VersionStatus, ...]:
        """The model's versions and their states."""
        return self._run(self._api.status(model), timeout)

    def ready(self, model: str, *, timeout: float | None = None) -> bool:
        """Whether a version of the model can be asked."""
        return _is_available(self.status(model, timeout=timeout))

    def metadata(self, model: str, version: int | None = None, *, timeout: float | None = None) -> Metadata:
        """The model's signatures: names, dtypes and shapes of what goes in and comes out."""
        return self._run(self._api.metadata(model, version), timeout)

    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, Array],
        *,
        version: int | None = None,
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Answer:
        """Ask with arrays. output_filter: the outputs that are wanted, all if empty.

        Over TensorFlow Serving's REST API this asks for the metadata first.
        """
        return self._run(self._api.predict(model, signature, inputs, version, output_filter), timeout)

    def classify(
        self,
        model: str,
        signature: str,
        examples: Examples,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Ask with tf.Examples, each a mapping of features. TensorFlow Serving only."""
        return self._run(self._api.classify(model, signature, examples, version), timeout)

    def regress(
        self,
        model: str,
        signature: str,
        examples: Examples,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Ask with tf.Examples, each a mapping of features. TensorFlow Serving only."""
        return self._run(self._api.regress(model, signature, examples, version), timeout)

    def prepare(self, model: str, request: FixedRequest) -> Callable[[], Answer]:
        """A request written once, to be sent any number of times from any thread."""
        ask = self._run(self._api.prepare(model, request))
        return lambda: self._run(ask())

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps[T], timeout: float | None = None) -> T:
        deadline = Deadline(self.timeout if timeout is None else timeout)
        try:
            request = next(steps)
            while True:
                request = steps.send(self._channel.send(request, deadline))
        except StopIteration as end:
            answer: T = end.value
            return answer


class AsyncClient(_Known):
    """As Client, for one event loop; a call that is cancelled is cancelled at the server too (gRPC)."""

    def __init__(self, connection: Connection, api: Api, channel: AsyncChannel) -> None:
        super().__init__(connection, api)
        self._channel = channel

    async def status(self, model: str, *, timeout: float | None = None) -> tuple[VersionStatus, ...]:
        """The model's versions and their states."""
        return await self._run(self._api.status(model), timeout)

    async def ready(self, model: str, *, timeout: float | None = None) -> bool:
        """Whether a version of the model can be asked."""
        return _is_available(await self.status(model, timeout=timeout))

    async def metadata(
        self, model: str, version: int | None = None, *, timeout: float | None = None
    ) -> Metadata:
        """The model's signatures: names, dtypes and shapes of what goes in and comes out."""
        return await self._run(self._api.metadata(model, version), timeout)

    async def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, Array],
        *,
        version: int | None = None,
        output_filter: Sequence[str] = (),
        timeout: float | None = None,
    ) -> Answer:
        """Ask with arrays. output_filter: the outputs that are wanted, all if empty."""
        return await self._run(self._api.predict(model, signature, inputs, version, output_filter), timeout)

    async def classify(
        self,
        model: str,
        signature: str,
        examples: Examples,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Ask with tf.Examples, each a mapping of features. TensorFlow Serving only."""
        return await self._run(self._api.classify(model, signature, examples, version), timeout)

    async def regress(
        self,
        model: str,
        signature: str,
        examples: Examples,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Ask with tf.Examples, each a mapping of features. TensorFlow Serving only."""
        return await self._run(self._api.regress(model, signature, examples, version), timeout)

    async def prepare(self, model: str, request: FixedRequest) -> Callable[[], Awaitable[Answer]]:
        """A request written once, to be sent any number of times."""
        ask = await self._run(self._api.prepare(model, request))
        return lambda: self._run(ask())

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, steps: Steps[T], timeout: float | None = None) -> T:
        deadline = Deadline(self.timeout if timeout is None else timeout)
        try:
            request = next(steps)
            while True:
                request = steps.send(await self._channel.send(request, deadline))
        except StopIteration as end:
            answer: T = end.value
            return answer


def wait_available(client: Client, model: str, *, timeout: float, interval: float = INTERVAL) -> int | None:
    """Wait until a version of the model is AVAILABLE and return the newest such version's number, if any.

    An address that does not answer yet is asked again until `timeout` seconds have passed. Raises WrongModel
    and TlsFailed at once; after `timeout` NotReady with what the server said last, or the error of the last
    attempt.
    """
    waiting = _Waiting(model, client.server)
    deadline = time.monotonic() + timeout
    while True:
        try:
            waiting.look(client.status(model))
        except RequestFailed as error:
            waiting.failed(error)
        if waiting.over(time.monotonic() + interval > deadline):
            return waiting.version
        time.sleep(interval)


async def wait_available_async(
    client: AsyncClient, model: str, *, timeout: float, interval: float = INTERVAL
) -> int | None:
    """As wait_available, under asyncio."""
    waiting = _Waiting(model, client.server)
    deadline = time.monotonic() + timeout
    while True:
        try:
            waiting.look(await client.status(model))
        except RequestFailed as error:
            waiting.failed(error)
        if waiting.over(time.monotonic() + interval > deadline):
            return waiting.version
        await asyncio.sleep(interval)


class _Waiting:
    """What has been seen of a model that is waited for."""

    def __init__(self, model: str, server: str) -> None:
        self._model, self._server = model, server
        self._last: RequestFailed | None = None
        self.version: int | None = None

    def look(self, versions: Sequence[VersionStatus]) -> None:
        self._last = None
        if _is_available(versions):
            numbers = [one.version for one in versions if one.state == AVAILABLE and one.version is not None]
            self.version = max(numbers, default=None)
            return
        said = [
            f"{'the model' if one.version is None else f'version {one.version}'}: {one.state} {one.error}"
            for one in versions
        ]
        self._last = NotReady(
            f"no version of model {self._model} is AVAILABLE",
            where=self._server,
            tail="\n".join(map(str.rstrip, said)) or "the server knows the model and lists no version of it",
            action="wait for it to load; the model server's log tells why it does not",
        )

    def failed(self, error: RequestFailed) -> None:
        """Keep the error, or raise it where waiting does not help."""
        if isinstance(error, WrongModel | TlsFailed) or error.status in _FINAL:
            raise error
        self._last = error

    def over(self, late: bool) -> bool:
        """Whether the model is available. Raises what was seen last when it is too late."""
        if self._last is None:
            return True
        if late:
            if isinstance(self._last, TimedOut):
                self._last.action = (
                    self._last.action or "the server accepts connections and does not answer: read its log"
                )
            raise self._last
        return False


_FINAL = ("UNAUTHENTICATED", "PERMISSION_DENIED")  # time changes nothing about who asks


def _is_available(versions: Sequence[VersionStatus]) -> bool:
    return any(one.state == AVAILABLE for one in versions)
