"""TensorFlow in a process of its own: slipway's own stays small, quick to start and free of its state.

A task is a function in __main__.TASKS. Its arguments go in as JSON on stdin, its result comes back as
JSON in a file; arrays travel as .npz and .jsonl files named in the arguments.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slipway.core import extras, process
from slipway.core.errors import CommandError, ModelError, UsageError
from slipway.core.events import Detail, Emit, progress, silent

# Quiet start, no search for graphics cards, one thread for the BLAS of numpy.
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
    "OPENBLAS_NUM_THREADS": "1",
    "KERAS_BACKEND": "tensorflow",
}
_TIMEOUT = 3600.0
# What a person asked for when it turns out that the task cannot run here.
_PURPOSES = {
    "write_saved_model": "exporting a model",
    "answer": "exporting a model",
    "derive_requests": "answering a model's warm-up requests",
    "missing_ops": "comparing a model's ops with TensorFlow's",
    "save": "saving a model",
    "restore": "restoring a model",
}


_PROGRESS = "slipway-progress "


def report_progress(done: int) -> None:
    """In the task's process: so many steps are done."""
    sys.stdout.write(f"{_PROGRESS}{done}\n")
    sys.stdout.flush()


def run(
    task: str, arguments: Mapping[str, Any], emit: Emit = silent, *, label: str = "", total: int = 0
) -> dict[str, Any]:
    """Run one task to its end and return its result; its log lines become Detail events.

    With a label there is a progress bar of `total` steps.

    Raises the task's own ModelError or UsageError, ModelError with the last lines of its log when the
    process itself fails, and EnvironmentFault where TensorFlow is not installed.
    """
    extras.need("train", _PURPOSES.get(task, f"the task `{task}`"))
    if not label:
        return _run(task, arguments, lambda line: emit(Detail(line)))
    with progress(emit, label, total) as advance:

        def on_line(line: str) -> None:
            if line.startswith(_PROGRESS):
                advance(int(line.removeprefix(_PROGRESS)))
            else:
                emit(Detail(line))

        return _run(task, arguments, on_line)


def _run(task: str, arguments: Mapping[str, Any], on_line: Callable[[str], None]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="slipway-model-") as folder:
        result = Path(folder) / "result.json"
        try:
            process.run(
                [sys.executable, "-m", "slipway.model", task, result],
                input=json.dumps(arguments, default=str),
                env=_ENVIRONMENT,
                timeout=_TIMEOUT,
                on_line=on_line,
            )
        except CommandError as error:
            raise ModelError(f"TensorFlow's process failed in `{task}`", tail=error.output) from error
        document: dict[str, Any] = json.loads(result.read_text())
    if "error" in document:
        told = document["error"]
        kind = UsageError if told["kind"] == "UsageError" else ModelError
        raise kind(told["what"], where=told["where"], tail=told["tail"], action=told["action"])
    answer: dict[str, Any] = document["result"]
    return answer
