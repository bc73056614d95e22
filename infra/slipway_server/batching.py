"""Batching across requests, as batching_session.cc and shared_batch_scheduler.h do it.

Requests that feed and fetch the same tensors, of the same dtypes and the same shapes behind the first
dimension, wait together and are run as one. Each gets its own rows of the result. What cannot be run so is
run alone: a request without rows, a batch of which one request is at fault, a model whose outputs have no row
for each row of its inputs.

A run of many rows may round otherwise than a run of few, for TensorFlow has other code for other sizes.
Unless told that this does not matter, a request is batched only where trials with requests themselves gave
the same bits as alone (`_Queue.compute`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from slipway_server import log, session_tensors, tensor_rows
from slipway_server import runtime as rt
from slipway_server.batching_parameters import BatchingParameters, parameters_of_version
from slipway_server.codes import Code, StatusError, invalid
from slipway_server.metrics import Metrics
from slipway_server.servable import Servable
from slipway_server.steps import Keep, Run, Times
from slipway_server.workers import Workers

TRIALS = 3  # that requests of a size in a batch of a size must pass before they are believed
TRY_AGAIN = 64  # batches, of which one is tried all the same
# A batch that takes longer is run in a thread, so that the next one gathers meanwhile.
QUICK_BATCH_SECONDS = 0.0005
MOST_QUEUES = 1024  # shapes come from clients; what is known of them stays bounded

Outcome = Sequence[rt.Tensor] | Exception


@dataclass(eq=False)
class Task:
    """A request that waits for its run."""

    run: Run
    rows: int
    answer: asyncio.Future[Sequence[rt.Tensor]]
    since: float  # of time.perf_counter
    begun: float = 0.0
    ended: float = 0.0


class BatchThreads:
    """The threads that all models' batches share. Used from one event loop."""

    def __init__(self, workers: Workers, count: int) -> None:
        self.workers = workers
        self.pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="batch")
        self._free = count
        self._waiting: deque[_Queue] = deque()

    def take(self, queue: _Queue) -> bool:
        """Whether a thread is free; if none is, the queue is served once one is, in its turn."""
        if self._free:
            self._free -= 1
            return True
        if queue not in self._waiting:
            self._waiting.append(queue)
        return False

    def give_back(self) -> None:
        self._free += 1
        while self._free and self._waiting:
            self._waiting.popleft().serve()

    def close(self) -> None:
        """Batches under way are waited for."""
        self.pool.shutdown()


class Batches:
    """The batches of all servables."""

    def __init__(
        self,
        parameters: BatchingParameters,
        per_model: bool,
        same_bits: bool,
        workers: Workers,
        metrics: Metrics,
    ) -> None:
        """per_model: each version has parameters of its own or is not batched; the threads are shared."""
        self._parameters = parameters
        self._per_model = per_model
        self._same_bits = same_bits
        self._threads = BatchThreads(workers, parameters.num_batch_threads)
        self._metrics = metrics

    def of(self, servable: Servable) -> Batching | None:
        """The batches of a servable, if it has any. Raises StatusError for a version's wrong parameters."""
        parameters: BatchingParameters | None = self._parameters
        if self._per_model:
            own = parameters_of_version(servable.path)
            parameters = own and replace(own, thread_pool_name=self._parameters.thread_pool_name)
        if parameters is None:
            return None
        return Batching(servable, parameters, self._threads, self._metrics, self._same_bits)

    def close(self) -> None:
        """Give the threads back; batches under way are waited for."""
        self._threads.close()


class Batching:
    """The batches of one servable."""

    def __init__(
        self,
        servable: Servable,
        parameters: BatchingParameters,
        threads: BatchThreads,
        metrics: Metrics,
        same_bits: bool,
    ) -> None:
        self.servable = servable
        self.parameters = parameters
        self.threads = threads
        self.metrics = metrics
        self.same_bits = same_bits
        self._queues: dict[Hashable, _Queue] = {}

    async def run(self, run: Run, keep: Keep, times: Times | None = None) -> Sequence[rt.Tensor]:
        """The results of a run, alone or with others'. times: gets those of the queue and the run.

        Raises StatusError with the session's own code and text; INVALID_ARGUMENT for more rows than a batch
        takes and UNAVAILABLE when the queue is full, in upstream's words.
        """
        shapes = [tensor.shape for tensor in run.tensors]
        rows = _rows(shapes)
        queue = self._queue(run, shapes) if rows else None
        if queue is None or rows in queue.apart:
            begun = time.perf_counter()
            try:
                return await self._alone(run, rows, keep)
            finally:
                if times is not None:
                    times.append(("run", begun, time.perf_counter()))
        if (size := sum(tensor.size for tensor in run.tensors)) > session_tensors.SMALL:
            run.hold(size)  # they are copied into the batch
        task = Task(run, rows, asyncio.get_running_loop().create_future(), time.perf_counter())
        self.metrics.input_batch_size.observe(rows)
        queue.add(task, keep)
        try:
            results = await task.answer
        finally:
            if times is not None:
                now = time.perf_counter()
                times.append(("queue", task.since, task.begun or now))
                if task.begun:
                    times.append(("run", task.begun, task.ended or now))
        if run.api:
            seconds = time.perf_counter() - task.since
            self.metrics.runtime_latency.observe(seconds * 1e6, self.servable.name, run.api, "TF1")
        return results

    async def _alone(self, run: Run, rows: int, keep: Keep) -> Sequence[rt.Tensor]:
        kind = (self.servable, run.signature, "alone", rows.bit_length())
        work = partial(self.servable.run, run)
        if self.threads.workers.quick(kind):
            return self.threads.workers.here(kind, work)
        return await self.threads.workers.there(kind, work, keep())

    def _queue(self, run: Run, shapes: Sequence[tuple[int, ...]]) -> _Queue:
        dtypes = (tensor.dtype for tensor in run.tensors)
        key = (run.signature, *run.wanted, *dtypes, *(shape[1:] for shape in shapes))
        queue = self._queues.get(key)
        if queue is None:
            if len(self._queues) >= MOST_QUEUES:
                self._queues = {key: queue for key, queue in self._queues.items() if queue.tasks}
            queue = self._queues[key] = _Queue(self, run.signature)
        return queue


class _Queue:
    """Requests whose runs can be one: full batches, and the open one behind them.

    Used from one event loop, but for `compute`.
    """

    def __init__(self, batching: Batching, signature: str) -> None:
        self._batching = batching
        self._signature = signature
        self._batches: deque[list[Task]] = deque([[]])  # the last is open
        self._timer: asyncio.TimerHandle | None = None  # serves the open batch at its time
        self._called = False  # to serve in this turn of the event loop
        self._keep: Keep | None = None
        self.apart: set[int] = set()  # rows of requests that are run alone from now on
        self._passed: dict[tuple[int, int], int] = {}  # rows of a request, of its batch -> trials passed
        self._run = 0  # batches

    @property
    def tasks(self) -> int:
        return sum(map(len, self._batches))

    def add(self, task: Task, keep: Keep) -> None:
        """Raises StatusError when the task is too large or the queue is full."""
        parameters = self._batching.parameters
        if task.rows > parameters.max_batch_size:
            raise invalid(
                f"Task size {task.rows} is larger than maximum input batch size {parameters.max_batch_size}"
            )
        if _rows_of(self._batches[-1]) + task.rows > parameters.max_batch_size:
            if len(self._batches) >= parameters.max_enqueued_batches:
                raise StatusError(
                    Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{len(self._batches)} batches enqueued and max_enqueued_batches is "
                    f"{parameters.max_enqueued_batches}",
                )
            self._batches.append([])
        self._batches[-1].append(task)
        self._keep = keep
        self._wake()

    def serve(self) -> None:
        """Begin the batches that are due, as far as there are threads."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._called = False
        threads = self._batching.threads
        while self._due():
            tasks = [task for task in self._batches[0] if not task.answer.done()]  # who left is left out
            kind = self._kind(tasks)
            quick = threads.workers.quick(kind, QUICK_BATCH_SECONDS)
            if not quick and not threads.take(self):
                return
            self._batches.popleft()
            if not self._batches:
                self._batches.append([])
            self._begin(tasks, kind, quick)
        if self._batches[0]:
            self._wake()

    def _kind(self, tasks: Sequence[Task]) -> Hashable:
        return (self._batching.servable, self._signature, "batch", _rows_of(tasks).bit_length())

    def _due(self) -> bool:
        first = self._batches[0]
        parameters = self._batching.parameters
        return len(self._batches) > 1 or (
            bool(first)
            and (
                time.perf_counter() - first[0].since >= parameters.batch_timeout_micros / 1e6
                or _rows_of(first) >= parameters.max_batch_size
            )
        )

    def _wake(self) -> None:
        """Have `serve` called when a batch is due: the first time all that has arrived by now is in it."""
        loop = asyncio.get_running_loop()
        if self._due():
            if not self._called:
                self._called = True
                loop.call_soon(self.serve)
        elif self._timer is None:
            wait = self._batches[0][0].since + self._batching.parameters.batch_timeout_micros / 1e6
            self._timer = loop.call_later(max(0.0, wait - time.perf_counter()), self.serve)

    def _begin(self, tasks: list[Task], kind: Hashable, quick: bool) -> None:
        threads, metrics = self._batching.threads, self._batching.metrics
        now = time.perf_counter()
        for task in tasks:
            task.begun = now
            pool = self._batching.parameters.thread_pool_name
            metrics.queuing_latency.observe((now - task.since) * 1e6, pool)
        if not tasks:
            if not quick:
                threads.give_back()
            return
        work = partial(self.compute, tasks)
        if quick:
            _tell(tasks, threads.workers.here(kind, work))
            return
        assert self._keep is not None
        let_go = self._keep()

        def ended() -> None:
            let_go()
            threads.give_back()

        async def there() -> None:
            _tell(tasks, await threads.workers.there(kind, work, ended, threads.pool))

        running = asyncio.ensure_future(there())
        _under_way.add(running)
        running.add_done_callback(_under_way.discard)

    def compute(self, tasks: Sequence[Task]) -> list[Outcome]:
        """What each of the tasks gets. May be called in any thread, of one batch at a time or of several."""
        try:
            return self._compute(tasks)
        except Exception as error:  # noqa: BLE001  # each caller is told, as of a run of its own
            return [error] * len(tasks)

    def _compute(self, tasks: Sequence[Task]) -> list[Outcome]:
        batching = self._batching
        rows = _rows_of(tasks)
        padded = batching.parameters.padded(rows)
        if len(tasks) == 1 and padded == rows:
            return [self._alone(tasks[0])]
        try:
            together = self._together(tasks, padded)
        except StatusError as error:
            outcomes = [self._alone(task) for task in tasks]
            if not any(isinstance(outcome, Exception) for outcome in outcomes):  # it is the batch's fault
                self._set_apart({task.rows for task in tasks}, padded, f"{error.code.name}: {error.message}")
            return outcomes
        self._run += 1
        if batching.same_bits:
            again = self._run % TRY_AGAIN == 0
            for at, task in enumerate(tasks):
                pair = (task.rows, padded)
                if again or self._passed.get(pair, 0) < TRIALS:
                    together[at] = self._tried(task, together[at], pair)
        return together

    def _together(self, tasks: Sequence[Task], padded: int) -> list[Outcome]:
        batching, first = self._batching, tasks[0].run
        counts = [task.rows for task in tasks]
        padding = padded - sum(counts)
        batching.metrics.processed_batch_size.observe(padded)
        batching.metrics.padding_size.observe(padding, str(padded))
        tensors = [
            tensor_rows.joined(batching.servable.runtime, parts, counts, padding)
            for parts in zip(*(task.run.tensors for task in tasks), strict=True)
        ]
        results = batching.servable.session_run(first._replace(tensors=tensors))
        columns = [tensor_rows.split(result, counts, padded) for result in results]
        return [list(row) for row in zip(*columns, strict=True)]

    def _alone(self, task: Task) -> Outcome:
        try:
            return self._batching.servable.session_run(task.run)
        except Exception as error:  # noqa: BLE001  # its caller is told
            return error

    def _tried(self, task: Task, together: Outcome, pair: tuple[int, int]) -> Outcome:
        """The answer of a run alone, and what it says of the batch's."""
        alone = self._alone(task)
        if isinstance(alone, Exception) or isinstance(together, Exception):
            return alone
        if all(map(tensor_rows.same_bits, alone, together)):
            if len(self._passed) >= MOST_QUEUES:
                self._passed.clear()
            self._passed[pair] = self._passed.get(pair, 0) + 1
        else:
            self._set_apart({task.rows}, pair[1], "other bits than alone")
        return alone

    def _set_apart(self, rows: set[int], padded: int, why: str) -> None:
        if rows <= self.apart:
            return
        self.apart |= rows
        servable = self._batching.servable
        log.event(
            "not_batched",
            model=servable.name,
            version=servable.version,
            signature=self._signature,
            rows=sorted(rows),
            in_a_batch_of=padded,
            because=why,
        )


_under_way: set[asyncio.Future[None]] = set()  # an event loop holds its tasks only weakly


def _tell(tasks: Sequence[Task], outcomes: Sequence[Outcome]) -> None:
    now = time.perf_counter()
    for task, outcome in zip(tasks, outcomes, strict=True):
        task.ended = now
        if task.answer.done():
            continue  # the caller left
        if isinstance(outcome, Exception):
            task.answer.set_exception(outcome)
        else:
            task.answer.set_result(outcome)


def _rows(shapes: Sequence[tuple[int, ...]]) -> int:
    """The rows that tensors of these shapes all have; 0 if they differ, or one is a scalar."""
    found = {shape[0] if shape else 0 for shape in shapes}
    return found.pop() if len(found) == 1 else 0


def _rows_of(tasks: Sequence[Task]) -> int:
    return sum(task.rows for task in tasks)
