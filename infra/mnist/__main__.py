"""The other end of tasks.run: `python -m infra.mnist TASK RESULT_FILE < ARGUMENTS`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.core.errors import SlipwayError, UsageError
from infra.mnist import tasks
from infra.mnist.network import Recipe

Arguments = dict[str, Any]


def write_saved_model(arguments: Arguments) -> Arguments:
    """weights (.npz), target, signature_keys, requests (JSONL) -> the SavedModel and its answers."""
    from infra.mnist import graph, network

    target = Path(arguments["target"])
    weights = network.load_weights(Path(arguments["weights"]))
    graph.write_saved_model(target, weights, arguments["signature_keys"])
    return answer({"model": target, "requests": arguments["requests"], "out": arguments["out"]})


def answer(arguments: Arguments) -> Arguments:
    """model, requests (JSONL), out -> the same requests with TensorFlow's answers in `out`."""
    from infra.mnist import graph
    from infra.predict import requests

    answered = graph.answer(Path(arguments["model"]), requests.read(Path(arguments["requests"])))
    requests.write(Path(arguments["out"]), answered)
    return {"requests": len(answered)}


def derive_requests(arguments: Arguments) -> Arguments:
    """model, warmup, out -> its warm-up requests with TensorFlow's answers in `out`."""
    from infra.mnist import graph, warmup
    from infra.predict import requests

    asked = warmup.decode(Path(arguments["warmup"]))
    if asked:
        requests.write(Path(arguments["out"]), graph.answer(Path(arguments["model"]), asked))
    return {"requests": len(asked)}


def save(arguments: Arguments) -> Arguments:
    """kind, path, weights, recipe, steps, variables or rename -> files and variables."""
    from infra.mnist import forms, network

    return forms.save(
        arguments["kind"],
        Path(arguments["path"]),
        network.load_weights(Path(arguments["weights"])),
        _recipe(arguments["recipe"]),
        steps=arguments["steps"],
        selection=arguments["rename"] or arguments["variables"] or None,
    )


def restore(arguments: Arguments) -> Arguments:
    """The fields of forms.RestoreArguments -> restored, kept, accuracy, steps, files, variables."""
    from infra.mnist import forms

    chosen = arguments.pop("rename") or arguments.pop("variables") or None
    arguments.pop("variables", None)
    recipe = _recipe(arguments.pop("recipe"))
    for key in ("path", "fresh", "images", "weights", "architecture", "to"):
        arguments[key] = None if arguments[key] is None else Path(arguments[key])
    return forms.restore(
        forms.RestoreArguments(recipe=recipe, selection=chosen, **arguments), tasks.report_progress
    )


def _recipe(given: Arguments) -> Recipe:
    return Recipe(**{**given, "hidden": tuple(given["hidden"])})


TASKS: dict[str, Callable[[Arguments], Arguments]] = {
    task.__name__: task for task in (write_saved_model, answer, derive_requests, save, restore)
}


def main(task: str, result: Path) -> None:
    """Run the task; an expected error becomes part of the result, any other one is a traceback."""
    perform = TASKS[task]
    # What loads TensorFlow loads all of it, first: the stubs stand in for it only where it is absent.
    import tensorflow  # noqa: F401

    document: Arguments
    try:
        document = {"result": perform(json.load(sys.stdin))}
    except SlipwayError as error:
        told = {"what": error.what, "where": error.where, "tail": error.tail, "action": error.action}
        kind = "UsageError" if isinstance(error, UsageError) else "ModelError"
        document = {"error": {"kind": kind, **told}}
    result.write_text(json.dumps(document, default=str))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
