"""The other end of tasks.run: `python -m slipway.model TASK RESULT_FILE < ARGUMENTS`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway.core.errors import SlipwayError, UsageError
from slipway.model import tasks
from slipway.model.mnist.perceptron import Recipe

Arguments = dict[str, Any]


def write_saved_model(arguments: Arguments) -> Arguments:
    """weights (.npz), target, signature_keys, requests (JSONL) -> the SavedModel and its answers."""
    from slipway.model.mnist import graph, perceptron

    target = Path(arguments["target"])
    weights = perceptron.load_weights(Path(arguments["weights"]))
    graph.write_saved_model(target, weights, arguments["signature_keys"])
    return answer({"model": target, "requests": arguments["requests"], "out": arguments["out"]})


def answer(arguments: Arguments) -> Arguments:
    """model, requests (JSONL), out -> the same requests with TensorFlow's answers in `out`."""
    from slipway_client import requests

    from slipway.model import saved_answers

    answered = saved_answers.answer(Path(arguments["model"]), requests.read(Path(arguments["requests"])))
    requests.write(Path(arguments["out"]), answered)
    return {"requests": len(answered)}


def derive_requests(arguments: Arguments) -> Arguments:
    """model, warmup, out -> its warm-up requests with TensorFlow's answers in `out`."""
    from slipway_client import requests

    from slipway.model import derived_requests, saved_answers

    asked = derived_requests.decode(Path(arguments["warmup"]))
    if asked:
        requests.write(Path(arguments["out"]), saved_answers.answer(Path(arguments["model"]), asked))
    return {"requests": len(asked)}


def missing_ops(arguments: Arguments) -> Arguments:
    """ops -> those of them that TensorFlow's runtime does not have."""
    from slipway.model import serving_ops

    return {"missing": serving_ops.missing(arguments["ops"])}


def save(arguments: Arguments) -> Arguments:
    """kind, path, weights, recipe, steps, variables or rename -> files and variables."""
    from slipway.model.mnist import forms, perceptron

    return forms.save(
        arguments["kind"],
        Path(arguments["path"]),
        perceptron.load_weights(Path(arguments["weights"])),
        _recipe(arguments["recipe"]),
        steps=arguments["steps"],
        selection=arguments["rename"] or arguments["variables"] or None,
    )


def restore(arguments: Arguments) -> Arguments:
    """The fields of forms.RestoreArguments -> restored, kept, accuracy, steps, files, variables."""
    from slipway.model.mnist import forms

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
    task.__name__: task for task in (write_saved_model, answer, derive_requests, missing_ops, save, restore)
}


def main(task: str, result: Path) -> None:
    """Run the task; an expected error becomes part of the result, any other one is a traceback."""
    perform = TASKS[task]
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
