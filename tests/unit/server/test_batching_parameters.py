"""BatchingParameters: each field obeyed, or refused by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway_client.errors import UsageError
from slipway_server.batching_parameters import (
    DEFAULTS,
    PER_MODEL_FILE,
    BatchingParameters,
    batching_of,
    parameters_of_version,
    read_parameters,
)
from slipway_server.codes import Code, StatusError
from slipway_server.flags import Flags

ALL = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 500 }
max_enqueued_batches { value: 7 }
num_batch_threads { value: 3 }
thread_pool_name { value: "mine" }
allowed_batch_sizes: 8
allowed_batch_sizes: [16, 32]
pad_variable_length_inputs: false
enable_large_batch_splitting { value: false }
"""


def read(folder: Path, text: str) -> BatchingParameters:
    file = folder / "batching.config"
    file.write_text(text)
    return read_parameters(file)


def test_every_field_that_is_done(tmp_path: Path) -> None:
    assert read(tmp_path, ALL) == BatchingParameters(32, 500, 7, 3, "mine", (8, 16, 32))


def test_what_a_file_leaves_out_is_upstreams_default(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert (found.max_batch_size, found.batch_timeout_micros, found.max_enqueued_batches) == (1000, 0, 10)
    assert found.thread_pool_name == "batch_threads"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be at least 0; was -1"),
        ("max_enqueued_batches { value: 0 }", "max_enqueued_batches must be at least 1; was 0"),
        ("num_batch_threads { value: 0 }", "num_batch_threads must be at least 1; was 0"),
        (
            "allowed_batch_sizes: 8",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 1000",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [8, 8]",
            "allowed_batch_sizes must be positive and increasing; were [8, 8]",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [0, 8]",
            "allowed_batch_sizes must be positive and increasing; were [0, 8]",
        ),
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs is not done"),
        ("enable_large_batch_splitting { value: true }", "enable_large_batch_splitting is not done"),
        ("max_execution_batch_size { value: 8 }", "max_execution_batch_size belongs to"),
        ("max_batch_size: 8", "not a text-format BatchingParameters"),
        ("batch_size { value: 8 }", "batch_size"),
    ],
)
def test_what_cannot_be_done_is_refused_with_file_and_field(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    told = " ".join(caught.value.lines())
    assert words in told
    assert "batching.config" in told


def test_a_batch_is_padded_to_the_next_allowed_size() -> None:
    parameters = BatchingParameters(max_batch_size=8, allowed_batch_sizes=(2, 8))
    assert [parameters.padded(rows) for rows in (1, 2, 3, 8)] == [2, 2, 8, 8]
    assert BatchingParameters().padded(3) == 3


def test_flags(tmp_path: Path) -> None:
    assert batching_of(Flags(enable_batching=True)) == DEFAULTS
    file = tmp_path / "batching.config"
    file.write_text(ALL)
    flags = Flags(enable_batching=True, batching_parameters_file=str(file))
    assert batching_of(flags).max_batch_size == 32
    with pytest.raises(UsageError, match="without --enable_batching"):
        batching_of(Flags(batching_parameters_file=str(file)))


def test_a_version_has_its_own_or_is_not_batched(tmp_path: Path) -> None:
    assert parameters_of_version(tmp_path) is None
    (tmp_path / PER_MODEL_FILE).write_text(ALL)
    found = parameters_of_version(tmp_path)
    assert found is not None
    assert found.max_batch_size == 32
    (tmp_path / PER_MODEL_FILE).write_text("max_batch_size { value: 0 }")
    with pytest.raises(StatusError, match=PER_MODEL_FILE) as caught:
        parameters_of_version(tmp_path)
    assert caught.value.code is Code.INVALID_ARGUMENT
