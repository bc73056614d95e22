"""How requests are batched: BatchingParameters in protobuf's text format, each field obeyed or refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from slipway_client import messages
from slipway_client.errors import UsageError

from slipway_server.codes import StatusError, invalid
from slipway_server.config import parsed, text_of
from slipway_server.flags import Flags

PER_MODEL_FILE = "batching_params.pbtxt"  # in the folder of a version: bundle_factory_util.cc:41


@dataclass(frozen=True)
class BatchingParameters:
    """The fields of BatchingParameters; defaults are those of upstream's shared_batch_scheduler.h."""

    max_batch_size: int = 1000  # rows
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = max(1, os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()

    def padded(self, rows: int) -> int:
        """The smallest allowed size for so many rows."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


# Without a file (model_servers/server.cc:230).
DEFAULTS = BatchingParameters(thread_pool_name="model_server_batch_threads")


def batching_of(flags: Flags) -> BatchingParameters:
    """The parameters the flags ask for. Raises UsageError for a file that is wrong."""
    file = flags.batching_parameters_file
    if file and not flags.enable_batching:
        raise UsageError("--batching_parameters_file is set without --enable_batching")
    return read_parameters(Path(file)) if file else DEFAULTS


def read_parameters(path: Path) -> BatchingParameters:
    """A --batching_parameters_file. Raises UsageError naming the file, the field and what was expected."""
    try:
        return parameters_of(parsed(text_of(path), path, messages.BatchingParameters()))
    except StatusError as error:
        raise UsageError(error.message, where=str(path)) from error


def parameters_of_version(path: Path) -> BatchingParameters | None:
    """The parameters in a version's own folder; None, and no batching, if there are none.

    Raises StatusError INVALID_ARGUMENT with the file: such a version cannot be loaded.
    """
    file = path / PER_MODEL_FILE
    if not file.exists():
        return None
    try:
        return read_parameters(file)
    except UsageError as error:
        raise invalid(" ".join(error.lines())) from error


def parameters_of(message: Any) -> BatchingParameters:
    """The parameters in a BatchingParameters message.

    Raises StatusError INVALID_ARGUMENT, in upstream's words where it has some (bundle_factory_util.cc).
    """
    _refuse(message)
    given = {
        name: getattr(message, name).value
        for name in (
            *("max_batch_size", "batch_timeout_micros", "max_enqueued_batches"),
            *("num_batch_threads", "thread_pool_name"),
        )
        if message.HasField(name)
    }
    for name, lowest in (
        *(("max_batch_size", 1), ("batch_timeout_micros", 0)),
        *(("max_enqueued_batches", 1), ("num_batch_threads", 1)),
    ):
        if given.get(name, lowest) < lowest:
            raise invalid(f"{name} must be at least {lowest}; was {given[name]}")
    found = BatchingParameters(**given, allowed_batch_sizes=tuple(message.allowed_batch_sizes))
    sizes = found.allowed_batch_sizes
    if sizes and sizes[-1] != found.max_batch_size:
        raise invalid(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {found.max_batch_size}"
        )
    if sizes and (sizes[0] < 1 or any(size >= after for size, after in pairwise(sizes))):
        raise invalid(f"allowed_batch_sizes must be positive and increasing; were {list(sizes)}")
    return found


def _refuse(message: Any) -> None:
    """Fields that would change answers, or that nothing here does."""
    if message.pad_variable_length_inputs:
        raise invalid(
            "pad_variable_length_inputs is not done, for it changes answers: requests of other shapes are "
            "batched apart; leave it out"
        )
    if message.enable_large_batch_splitting.value:
        raise invalid(
            "enable_large_batch_splitting is not done: a request larger than max_batch_size is refused; "
            "leave it out"
        )
    if message.HasField("max_execution_batch_size"):
        raise invalid("max_execution_batch_size belongs to enable_large_batch_splitting, which is not done")
