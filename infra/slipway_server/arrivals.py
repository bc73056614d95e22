"""The messages of gRPC requests that are still on their way."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc.aio

from slipway_server.codes import Code, StatusError
from slipway_server.grpc_calls import STATUS
from slipway_server.memory import MIB, Budget, Full, give_back

ARRIVAL_SECONDS = 300.0  # for a whole request
PROBE_SECONDS = 0.5  # for a health check's, which is a few bytes
ROOM_SECONDS = 0.2  # that a request may wait before it is asked for its message
LOOK_SECONDS = 0.02  # between two looks at what arrives; a loopback brings 20 MB meanwhile


class Arrivals:
    """The requests whose message is still on its way.

    A message is asked for before its size is known, and gRPC gathers it outside of Python. So what arrives is
    measured instead of claimed: while much of it is in memory, new requests wait before they are asked for
    their message, and when it becomes too much, all but the oldest are refused.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        # Context -> when it was asked for its message, the oldest first; those of health checks apart.
        self._under_way: dict[Any, float] = {}
        self._probes: dict[Any, float] = {}
        self._large = 0  # messages over 1 MiB that have come and are not answered yet
        self._looking = False
        self._refusals: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    async def message(self, context: Any, probe: bool = False) -> bytes:
        """The request's message. Raises what gRPC raises in a call that has ended or was refused."""
        loop = asyncio.get_running_loop()
        if (self._large or self._under_way) and not probe:
            await self._room(loop)
        among = self._probes if probe else self._under_way
        among[context] = loop.time()
        if not self._looking:
            self._looking = True
            loop.call_later(LOOK_SECONDS, self._look)
        try:
            raw = await context.read()
        finally:
            among.pop(context, None)
        if raw is grpc.aio.EOF:
            raise StatusError(Code.INTERNAL, "the call has no message")
        message: bytes = raw
        if len(message) > MIB:
            self._large += 1
            context.add_done_callback(self._ended)
        return message

    def _ended(self, _context: Any) -> None:
        self._large -= 1

    async def _room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait a moment while the memory is half full of others' messages.

        No longer, for most messages are small and can always come. Looked at only when some may
        be large: it takes longer than a small request.
        """
        deadline = None
        while self._large or (
            self._under_way and loop.time() - next(iter(self._under_way.values())) > LOOK_SECONDS
        ):
            deadline = deadline or loop.time() + ROOM_SECONDS
            if self._budget.used <= self._budget.total // 2 or loop.time() > deadline:
                return
            await asyncio.to_thread(give_back)
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        old = [context for context, began in self._under_way.items() if now - began > LOOK_SECONDS]
        if old and self._budget.used > self._budget.total:
            for context in old[1:]:
                del self._under_way[context]
                self._refuse(context, Full("too many large messages arrive at once; try again"))
        for among, seconds in ((self._under_way, ARRIVAL_SECONDS), (self._probes, PROBE_SECONDS)):
            context = next(iter(among), None)
            if context is not None and now - among[context] > seconds:
                del among[context]
                late = "the request's message did not arrive in time"
                self._refuse(context, StatusError(Code.DEADLINE_EXCEEDED, late))
        self._looking = bool(self._under_way or self._probes)
        if self._looking:
            loop.call_later(LOOK_SECONDS, self._look)

    def _refuse(self, context: Any, error: StatusError) -> None:
        async def abort() -> None:
            # The handler that reads meets the same end; it is not cancelled, for gRPC's batch is under way.
            with contextlib.suppress(Exception):
                await context.abort(STATUS[int(error.code)], error.details())

        task = asyncio.ensure_future(abort())
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)
