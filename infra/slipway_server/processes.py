"""Several processes on the same ports: one that watches, and as many that serve as it was told.

The kernel shares connections out (SO_REUSEPORT). The one that watches serves nothing and loads nothing: it
tells all whether each serves, passes their metrics between them, passes SIGTERM on, and ends all when one
ends by itself, so that whoever supervises the server starts it anew, whole. Each is joined to it by a pair of
sockets, one JSON object a line; a serving process whose end is closed drains and ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from slipway_client.errors import EnvironmentFault

from slipway_server import log
from slipway_server.codes import Code, StatusError
from slipway_server.flags import Flags

VARIABLE = "SLIPWAY_SERVER_PROCESS"  # number and file descriptor, for a process that serves
TELL_SECONDS = 2.0  # for all to tell their metrics
END_SECONDS = 30.0  # for all to drain, which they end themselves before
_LONGEST_LINE = 64 * 1024 * 1024


class Siblings:
    """What a serving process has to do with the others."""

    def __init__(self, number: int, end: socket.socket) -> None:
        self.number = number
        self._end = end
        self._asked = 0
        self._answers: dict[int, asyncio.Future[list[Any]]] = {}

    async def join(
        self, stop: Callable[[], None], others_serve: Callable[[bool], None], state: Callable[[], Any]
    ) -> None:
        """Begin to listen.

        stop: called when the process that watches has gone. others_serve: told whether all others serve.
        state: what others are told when they ask.
        """
        reader, self._writer = await asyncio.open_connection(sock=self._end, limit=_LONGEST_LINE)

        async def listen() -> None:
            while line := await reader.readline():
                told = json.loads(line)
                if "others_serve" in told:
                    others_serve(told["others_serve"])
                elif "tell" in told:
                    self._say(told=told["tell"], state=state())
                elif (answer := self._answers.pop(told["answer"], None)) is not None and not answer.done():
                    answer.set_result(told["states"])
            stop()

        self._listening = asyncio.ensure_future(listen())

    def serving(self, value: bool) -> None:
        """Tell the others whether this process serves."""
        self._say(serving=value)

    async def states(self) -> list[Any]:
        """What the others tell of themselves. Raises StatusError UNAVAILABLE when one does not in time."""
        self._asked += 1
        asked = self._asked
        answer = self._answers[asked] = asyncio.get_running_loop().create_future()
        self._say(ask=asked)
        try:
            async with asyncio.timeout(TELL_SECONDS):
                states: list[Any] = await answer
                return states
        except TimeoutError:
            raise StatusError(Code.UNAVAILABLE, "not every process told its metrics in time") from None
        finally:
            self._answers.pop(asked, None)

    def _say(self, **words: Any) -> None:
        self._writer.write(json.dumps(words).encode() + b"\n")


def siblings() -> Siblings | None:
    """The others, if this process is one of several."""
    given = os.environ.pop(VARIABLE, "")
    if not given:
        return None
    number, descriptor = (int(word) for word in given.split(","))
    log.always["process"] = number
    return Siblings(number, socket.socket(fileno=descriptor))


@dataclass(eq=False)
class _Served:
    """A serving process, as the one that watches sees it."""

    number: int
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    serves: bool | None = None  # not told yet

    def say(self, **words: Any) -> None:
        self.writer.write(json.dumps(words).encode() + b"\n")


@dataclass
class _Question:
    """Whose question for the others' states is under way, and what has come."""

    asker: _Served
    number: int
    missing: set[int]
    states: list[Any] = field(default_factory=list)


async def supervise(flags: Flags, argv: Sequence[str]) -> int:
    """Start `flags.processes` processes by `argv`, and watch them until all have ended; the exit code.

    Raises EnvironmentFault when a port cannot be had.
    """
    held = [
        _reserved(flags, name) for name in ("port", "rest_api_port", "health_port") if getattr(flags, name)
    ]
    try:
        return await _Watch(flags.processes, argv).run()
    finally:
        for each in held:
            each.close()


class _Watch:
    """The process that watches."""

    def __init__(self, count: int, argv: Sequence[str]) -> None:
        self._count = count
        self._argv = argv
        self._all: list[_Served] = []
        self._questions: dict[int, _Question] = {}
        self._asked = 0
        self._told_started = False
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for told_by in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(told_by, self._stopping.set)
        for number in range(self._count):
            self._all.append(await self._start(number))
        listening = [asyncio.ensure_future(self._listen(each)) for each in self._all]
        ends = {asyncio.ensure_future(each.process.wait()): each for each in self._all}
        told = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((*ends, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        code = 0
        ended = next((each for future, each in ends.items() if future.done()), None)
        if ended is not None and not self._stopping.is_set():
            code = ended.process.returncode or 1  # even an orderly end was not asked for
            code = code if 0 < code < 128 else 3
            log.event(
                "process_ended",
                level="error",
                number=ended.number,
                returned=ended.process.returncode,
                action="all others are ended",
            )
        for each in self._all:
            if each.process.returncode is None:
                each.process.terminate()
        _, late = await asyncio.wait(ends, timeout=END_SECONDS)
        for future in late:
            ends[future].process.kill()
        await asyncio.wait(ends)
        for task in listening:
            task.cancel()
        log.event("all_stopped")
        return code

    async def _start(self, number: int) -> _Served:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, VARIABLE: f"{number},{theirs.fileno()}"},
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LONGEST_LINE)
        return _Served(number, process, reader, writer)

    async def _listen(self, served: _Served) -> None:
        while line := await served.reader.readline():
            told = json.loads(line)
            if "serving" in told:
                served.serves = told["serving"]
                self._tell_all()
            elif "ask" in told:
                self._ask_others(served, told["ask"])
            else:
                self._pass_on(served, told["told"], told["state"])

    def _tell_all(self) -> None:
        for each in self._all:
            each.say(others_serve=all(other.serves for other in self._all if other is not each))
        if not self._told_started and all(each.serves is not None for each in self._all):
            self._told_started = True
            log.event("all_started", processes=self._count, serving=all(each.serves for each in self._all))

    def _ask_others(self, asker: _Served, number: int) -> None:
        others = [each for each in self._all if each is not asker]
        self._asked += 1
        self._questions[self._asked] = _Question(asker, number, {each.number for each in others})
        asyncio.get_running_loop().call_later(TELL_SECONDS, self._questions.pop, self._asked, None)
        for each in others:
            each.say(tell=self._asked)

    def _pass_on(self, served: _Served, number: int, state: Any) -> None:
        question = self._questions.get(number)
        if question is None:
            return  # too late
        question.states.append(state)
        question.missing.discard(served.number)
        if not question.missing:
            del self._questions[number]
            question.asker.say(answer=question.number, states=question.states)


def _reserved(flags: Flags, name: str) -> socket.socket:
    """A port that is only ours: nothing else listens there, and nothing that does not share can.

    It is bound and never listened to, so that no connection comes to it.
    """
    number = getattr(flags, name)
    for shared in (False, True):
        held = socket.socket(socket.AF_INET6)
        try:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                held.bind(("::", number))
                break
            with held:
                held.bind(("::", number))
                held.listen(1)
        except OSError as error:
            held.close()
            raise EnvironmentFault(
                f"cannot listen on port {number}",
                tail=str(error),
                action=f"choose another --{name}, or end what listens there",
            ) from error
    return held


def command() -> list[str]:
    """How this process was started, so that another can be."""
    return [sys.executable, *sys.orig_argv[1:]]
