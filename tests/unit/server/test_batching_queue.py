"""Which requests are run together, and when a batch is believed; TensorFlow's part is played by lists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from slipway_server import batching, log, tensor_rows
from slipway_server.batching import Batches, Batching
from slipway_server.batching_parameters import BatchingParameters
from slipway_server.codes import StatusError, invalid
from slipway_server.metrics import Metrics
from slipway_server.session_tensors import SMALL
from slipway_server.steps import Run
from slipway_server.workers import Workers


class Toy:
    """A tensor of one number a row."""

    dtype = 1

    def __init__(self, rows: Sequence[float], size: int = 4) -> None:
        self.rows = list(rows)
        self.shape = (len(self.rows),)
        self.size = size


class Model:
    """Adds one. `rounded`: what a run of more rows than one gives beyond it."""

    name, version, runtime = "toy", 1, None

    def __init__(self, rounded: float = 0.0, wrong: float | None = None) -> None:
        self.rounded = rounded
        self.wrong = wrong  # a number that a run fails for
        self.runs: list[list[float]] = []

    def session_run(self, run: Run) -> list[Any]:
        (given,) = run.tensors
        rows: list[float] = given.rows  # type: ignore[attr-defined]  # a Toy
        self.runs.append(rows)
        if self.wrong in rows:
            raise invalid("wrong")
        extra = self.rounded if len(rows) > 1 else 0.0
        return [Toy([row + 1 + extra for row in rows])]

    run = session_run


@pytest.fixture(autouse=True)
def lists(monkeypatch: pytest.MonkeyPatch) -> None:
    def joined(_: Any, parts: Sequence[Toy], __: Sequence[int], padding: int) -> Toy:
        return Toy([row for part in parts for row in part.rows] + parts[-1].rows[:1] * padding)

    def split(whole: Toy, counts: Sequence[int], _: int) -> list[Toy]:
        ends = [sum(counts[: at + 1]) for at in range(len(counts))]
        return [Toy(whole.rows[end - count : end]) for end, count in zip(ends, counts, strict=True)]

    monkeypatch.setattr(tensor_rows, "joined", joined)
    monkeypatch.setattr(tensor_rows, "split", split)
    monkeypatch.setattr(tensor_rows, "same_bits", lambda one, other: one.rows == other.rows)


def with_batches(
    model: Model, test: Callable[[Batching], Coroutine[Any, Any, None]], same_bits: bool = True, **fields: Any
) -> None:
    async def main() -> None:
        workers = Workers()
        parameters = BatchingParameters(**fields)
        batches = Batches(parameters, False, same_bits, workers, Metrics())
        found = batches.of(model)  # type: ignore[arg-type]  # a toy
        assert found is not None
        await test(found)
        batches.close()
        workers.close()

    asyncio.run(main())


def a_run(*rows: float, signature: str = "s", size: int = 4, held: list[int] | None = None) -> Run:
    hold = [] if held is None else held
    return Run("Predict", signature, None, [Toy(rows, size)], ["y"], None, hold.append)  # type: ignore[arg-type,list-item]


def keep() -> Callable[[], None]:
    return lambda: None


async def ask(batches: Batching, *runs: Run) -> list[list[float]]:
    results: Any = await asyncio.gather(*(batches.run(run, keep) for run in runs))
    return [tensors[0].rows for tensors in results]


def test_what_arrives_together_is_run_together_and_each_gets_its_rows() -> None:
    model = Model()

    async def test(batches: Batching) -> None:
        assert await ask(batches, a_run(1), a_run(2, 3), a_run(4)) == [[2], [3, 4], [5]]
        assert model.runs == [[1, 2, 3, 4]]

    with_batches(model, test, same_bits=False)


def test_other_signatures_and_full_batches_are_runs_of_their_own() -> None:
    model = Model()

    async def test(batches: Batching) -> None:
        await ask(batches, a_run(1), a_run(2, signature="t"), a_run(3), a_run(4), a_run(5, 6))
        assert sorted(model.runs) == [[1, 3, 4], [2], [5, 6]]

    with_batches(model, test, same_bits=False, max_batch_size=3)


def test_a_batch_is_believed_after_its_trials_and_tried_again() -> None:
    model = Model()

    async def test(batches: Batching) -> None:
        tried = []
        for _ in range(batching.TRY_AGAIN):
            model.runs.clear()
            assert await ask(batches, a_run(1), a_run(2)) == [[2], [3]]
            assert model.runs[0] == [1, 2]
            tried.append(len(model.runs) > 1)
        # the first two batches hold the trials of both requests, the last one is tried for all that
        assert [at for at, was in enumerate(tried) if was] == [0, 1, batching.TRY_AGAIN - 1]

    with_batches(model, test)


def test_what_is_rounded_otherwise_is_run_alone_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(log, "event", lambda name, **fields: told.append({"event": name, **fields}))
    model = Model(rounded=0.5)

    async def test(batches: Batching) -> None:
        assert await ask(batches, a_run(1), a_run(2)) == [[2], [3]]
        model.runs.clear()
        assert await ask(batches, a_run(1), a_run(2)) == [[2], [3]]
        assert model.runs == [[1], [2]]

    with_batches(model, test)
    (event,) = told
    assert (event["event"], event["rows"], event["in_a_batch_of"]) == ("not_batched", [1], 2)


def test_without_trials_a_batch_is_answered_as_it_is_rounded() -> None:
    async def test(batches: Batching) -> None:
        assert await ask(batches, a_run(1), a_run(2)) == [[2.5], [3.5]]

    with_batches(Model(rounded=0.5), test, same_bits=False)


def test_one_at_fault_spoils_no_other_and_nobody_is_set_apart_for_it() -> None:
    model = Model(wrong=2)

    async def test(batches: Batching) -> None:
        good, bad = (asyncio.ensure_future(batches.run(a_run(value), keep)) for value in (1, 2))
        assert (await good)[0].rows == [2]  # type: ignore[attr-defined]  # a Toy
        with pytest.raises(StatusError, match="wrong"):
            await bad
        model.runs.clear()
        await ask(batches, a_run(1), a_run(3))
        assert model.runs == [[1, 3]]

    with_batches(model, test, same_bits=False)


def test_what_is_copied_into_a_batch_is_claimed() -> None:
    async def test(batches: Batching) -> None:
        small, large = [], []  # type: ignore[var-annotated]  # of bytes
        await ask(batches, a_run(1, size=SMALL, held=small), a_run(2, size=SMALL + 1, held=large))
        assert (small, large) == ([], [SMALL + 1])

    with_batches(Model(), test, same_bits=False)


def test_padding_is_nobodys_row() -> None:
    model = Model()

    async def test(batches: Batching) -> None:
        assert await ask(batches, a_run(1), a_run(2, 3)) == [[2], [3, 4]]
        assert model.runs == [[1, 2, 3, 2]]

    with_batches(model, test, same_bits=False, max_batch_size=4, allowed_batch_sizes=(2, 4))
