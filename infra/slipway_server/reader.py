"""Large REST bodies read by a process of its own; this side hands them over and takes what was read."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import Any

from slipway_client import messages

from slipway_server import log
from slipway_server.codes import Code, StatusError
from slipway_server.json_requests import Form
from slipway_server.memory import WAIT_SECONDS, Claim, Full
from slipway_server.reader_process import ANSWERED, ASKED

READ_SECONDS = 20.0  # for one body, whatever it holds
_CHUNK = 256 * 1024
_TAKEN = 3  # times the size of what was read: as it comes, parsed, as a tensor


@dataclass(frozen=True)
class Read:
    """What a body says. request: a PredictRequest with the signature's name and the inputs."""

    request: Any
    form: Form
    examples: int


class Reader:
    """Reads one body at a time. `start` is not waited for by who only wants to be ready soon."""

    def __init__(self, memory: int, largest_body: int) -> None:
        """Bytes: what the process may have, what a body may unpack to."""
        self._memory = memory
        self._largest = largest_body
        self._process: asyncio.subprocess.Process | None = None
        self._ended: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Have the process ready. Without one each body is tried again with a new one."""
        async with self._turn:
            await self._running()

    async def read(self, api: str, body: bytes, signatures: bytes, packed: bool, claim: Claim) -> Read:
        """What a body says. claim: grown by what was read.

        signatures: the model's SignatureDefMap, empty if there is no such model. Raises StatusError.
        """
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise Full("the server is reading other large request bodies; try again") from None
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await self._asked(api, body, signatures, packed, claim)
        except TimeoutError:
            self._end()
            raise Full(f"reading the request body takes longer than {READ_SECONDS:g} s") from None
        except (OSError, EOFError) as error:
            self._end()
            log.event("reader_ended", level="warning", error=repr(error))
            raise Full("reading the request body needs more memory than one request may use") from error
        except asyncio.CancelledError:
            self._end()  # it is in the middle of a body that nobody waits for
            raise
        finally:
            self._turn.release()

    def close(self) -> None:
        self._end()

    async def _asked(self, api: str, body: bytes, signatures: bytes, packed: bool, claim: Claim) -> Read:
        process = await self._running()
        into, out = process.stdin, process.stdout
        assert into is not None
        assert out is not None
        head = ASKED.pack(api[0].encode(), packed, self._largest, len(signatures), len(body))
        into.write(head + signatures)
        whole = memoryview(body)
        for at in range(0, len(body), _CHUNK):
            into.write(whole[at : at + _CHUNK])
            await into.drain()
        number, form, examples, length = ANSWERED.unpack(await out.readexactly(ANSWERED.size))
        try:
            claim.grow(_TAKEN * length)
        except Full:
            self._end()  # rather than take what there is no room for
            raise
        payload = await out.readexactly(length)
        if number != Code.OK:
            raise StatusError(Code(number), payload.decode("utf-8", "surrogateescape"))
        return Read(
            messages.PredictRequest.FromString(payload), "column" if form == b"c" else "row", examples
        )

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            if self._ended is not None:
                await self._ended.wait()  # there is memory for one of them
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "slipway_server.reader_process", str(self._memory)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # what Python says of a lack of memory
                limit=_CHUNK,
            )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            self._ended = process
            with contextlib.suppress(ProcessLookupError):
                process.kill()
