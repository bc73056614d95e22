"""What a SavedModel brought along is asked: its own requests, or its warm-up requests with their answers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from slipway_client import requests
from slipway_client.requests import FixedRequest

from slipway.core.context import Context
from slipway.core.errors import ModelError, UsageError
from slipway.core.events import Note
from slipway.model import derived_requests, saved_model, serving_ops, tasks
from slipway.model.saved_model import ModelDescription
from slipway.model.serving_ops import Server


def of_model(
    ctx: Context, description: ModelDescription, given: Path | None, where: str, server: Server
) -> Path:
    """The file of what to ask the model: `given`, else its own, else one made of its warm-up requests.

    Their right answers are TensorFlow's, computed once on this machine and kept in the state's models folder,
    or, where TensorFlow cannot load the model, those that were recorded with the requests.

    Raises ModelError when the server cannot load the model or a request cannot be asked, UsageError when
    nothing says what to ask. where: the setting that brought the model.
    """
    if given is not None:
        serving_ops.lacking(description, server, ctx.emit)  # told now, not when it is served
        return given.resolve()
    found = _of_model(ctx, description, where, server)
    for told in unrepeatable(requests.read(found)):
        ctx.emit(Note(told))
    return found


def unrepeatable(asked: Iterable[FixedRequest]) -> list[str]:
    """A sentence for each output whose values nobody can compare, for they are others each time."""
    outputs = {f"output {key} of signature {one.signature}" for one in asked for key in one.forms}
    return [
        f"{output} is not the same twice: its dtype and shape are proved, its values are not (export the "
        "model without what is random, or say in smoke.requests what is expected, with smoke.max_differences)"
        for output in sorted(outputs)
    ]


def _of_model(ctx: Context, description: ModelDescription, where: str, server: Server) -> Path:
    own, warmup = description.path / saved_model.REQUESTS, description.path / saved_model.WARMUP
    derived = ctx.state.models / ".requests" / f"{description.sha256[:16]}.jsonl"
    asked: tuple[FixedRequest, ...] = ()
    if not own.is_file() and not derived.is_file():
        asked = derived_requests.decode(warmup) if warmup.is_file() else ()
        if not asked:
            raise _nothing_to_ask(description, where, has_warmup=warmup.is_file())
        _carried(asked, description)
    # A file of derived requests is there when TensorFlow has loaded the model, or when it is known not to.
    lacking = serving_ops.lacking(description, server, ctx.emit, loaded=derived.is_file())
    if not asked:
        return own.resolve() if own.is_file() else derived
    derived.parent.mkdir(parents=True, exist_ok=True)
    beside = derived.with_suffix(".new")
    if lacking:
        requests.write(beside, asked)
        without = sum(one.expected is None for one in asked)
        ctx.emit(Note(_unanswered(description, lacking, without, len(asked))))
    else:
        tasks.run("derive_requests", {"model": description.path, "warmup": warmup, "out": beside}, ctx.emit)
    beside.replace(derived)
    return derived


def _carried(asked: Iterable[FixedRequest], description: ModelDescription) -> None:
    obstacles = {one.name: one.obstacle for one in description.signatures(carried=False)}
    for number, request in enumerate(asked, 1):
        if obstacle := obstacles.get(request.signature):
            raise ModelError(
                f"warm-up request {number} of {description.path} cannot be asked: {obstacle}",
                action="export the signature with dense tensors, and record the request anew",
            )


def _unanswered(description: ModelDescription, lacking: tuple[str, ...], without: int, count: int) -> str:
    why = f"{description.path} is not loaded here, for TensorFlow lacks {', '.join(lacking)}"
    if not without:
        return f"{why}: the answers in its warm-up requests are what is expected"
    return (
        f"{why}: {without} of {count} warm-up requests have no recorded answer, so that every replica must "
        "answer, and all alike, but nobody knows what is right (smoke.requests can say it)"
    )


def _nothing_to_ask(description: ModelDescription, where: str, *, has_warmup: bool) -> UsageError:
    found = (
        "none of its warm-up requests is a Predict, Classify or Regress" if has_warmup else "it has neither"
    )
    return UsageError(
        f"nothing says what to ask {description.path}: {found}",
        where=where,
        action="set smoke.requests to a JSONL file of requests and expected answers, or put warm-up "
        f"requests (TFRecords of PredictionLog) into the model as {saved_model.WARMUP}"
        if where == "model.path"
        else f"put requests and expected answers into it as {saved_model.REQUESTS}, or warm-up requests as "
        f"{saved_model.WARMUP}",
    )
