"""What a run prepares beside its first stages, so that a later one need not wait for it."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence

from slipway.core.context import Context
from slipway.core.events import Detail
from slipway.core.interrupt import Cancelled, Interrupt, in_force
from slipway.core.schema import Settings
from slipway.core.stage import HasPrepare, Stage, name_of
from slipway.core.step import unwanted

_PATIENCE = 15  # seconds; a download or another run's lock is left to the end of this process


@contextlib.contextmanager
def preparing(ctx: Context, each: Sequence[tuple[str, Settings]], stages: Sequence[Stage]) -> Iterator[None]:
    """Have the wanted stages prepare, one after the other, in a thread that ends with the block.

    each: (name, settings) of every model, whose settings decide what is wanted.
    """
    over, interrupt = threading.Event(), Interrupt()

    def prepare() -> None:
        for stage, (model, settings) in itertools.product(stages, each):
            if over.is_set() or not isinstance(stage, HasPrepare) or unwanted(stage, settings):
                continue
            try:
                stage.prepare(ctx.of(model), settings)
            except Cancelled:
                return
            except Exception as error:  # noqa: BLE001  # the stage itself meets it again, and tells it
                ctx.emit(Detail(f"{name_of(stage)} could not prepare: {error}"))

    thread = threading.Thread(target=prepare, name="prepare", daemon=True)
    with in_force(interrupt):
        thread.start()
        try:
            yield
        finally:
            over.set()
            interrupt.ask()
            thread.join(_PATIENCE)
