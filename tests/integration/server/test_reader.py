"""The process that reads large bodies: what is true while one takes the place of another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from slipway_server.memory import MIB
from slipway_server.reader import Reader


def test_one_has_ended_before_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has memory for one."""
    made: list[asyncio.subprocess.Process] = []
    create = asyncio.create_subprocess_exec

    async def alone(*words: str, **more: Any) -> asyncio.subprocess.Process:
        assert [one for one in made if one.returncode is None] == []
        made.append(await create(*words, **more))
        return made[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", alone)

    async def main() -> None:
        process = Reader(256 * MIB, 8 * MIB)
        await process.start()
        process._end()  # as after a body that takes too much
        await process.start()
        process.close()
        await asyncio.gather(*(one.wait() for one in made))

    asyncio.run(main())
    assert len(made) == 2
