"""A load phase of one round: what it reports is real, how long a steady load takes is not waited for."""

from __future__ import annotations

from collections.abc import Sequence

from slipway_client.loop import Call, Load, each
from slipway_client.statistics import summarize


def one_round(calls: Sequence[Call], concurrency: int) -> Load:
    """In the place of slipway_client.loop.load, where `slipway_client.check` calls it."""
    ended, seconds = each(calls, concurrency)
    return Load(False, concurrency, summarize([(one.status, one.seconds) for one in ended], seconds), ())
