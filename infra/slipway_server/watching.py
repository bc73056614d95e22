"""What changes on disk while the server runs: versions, the configuration file, certificates and tokens."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from slipway_client.errors import UsageError

from slipway_server import log
from slipway_server.codes import Code, StatusError
from slipway_server.config import parse_models, text_of
from slipway_server.models import Models


async def versions(models: Models, seconds: int, after: Callable[[], Awaitable[None]]) -> None:
    """Look for versions every `seconds`; if 0, only a reload request changes what is served.

    after: called after each look, and each second without any.
    """
    while True:
        await asyncio.sleep(seconds if seconds > 0 else 1)
        try:
            if seconds > 0:
                await models.look()
            await after()
        except Exception as error:  # noqa: BLE001  # the watch must go on whatever one look meets
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())


async def credentials(looks: Sequence[Callable[[], None]]) -> None:
    """Look once a second whether certificates and tokens have changed."""
    while looks:
        await asyncio.sleep(1)
        for look in looks:
            try:
                await asyncio.to_thread(look)
            except Exception as error:  # noqa: BLE001  # the watch must go on whatever one look meets
                log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())


class ConfigFile:
    """A --model_config_file that is looked at again: what is new is served, what is wrong with it is told."""

    def __init__(self, path: Path, models: Models, served: str) -> None:
        """served: its text when the models were first loaded, which may have taken a while."""
        self._path = path
        self._models = models
        self._served = served
        self._told = ""

    async def watch(self, seconds: int) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self.look()

    async def look(self) -> None:
        """Serve what the file says if it says something else, or could not be served before.

        A label whose version is still being loaded can be given at a later look. The same fault is told once.
        """
        try:
            text = await asyncio.to_thread(text_of, self._path)
            if text == self._served:
                return
            configs = parse_models(text, self._path, self._models.names())
            try:
                await self._models.configure(configs)
            except StatusError as error:
                if error.code is not Code.UNKNOWN:  # else taken: what did not load is told of and tried again
                    raise UsageError(error.message, where=str(self._path)) from error
            self._served, self._told = text, ""
            log.event("config_taken_up", file=str(self._path), models=self._models.names())
        except UsageError as error:
            words = "; ".join(error.lines())
            if words != self._told:
                log.event("config_refused", level="error", error=words, serving=self._models.names())
            self._told = words
        except Exception as error:  # noqa: BLE001  # the watch must go on whatever one look meets
            log.event("fault", level="error", error=repr(error), trace=traceback.format_exc())
