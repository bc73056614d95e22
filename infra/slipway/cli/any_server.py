"""Proving one server at an address, whoever runs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipway_client.client import Client
from slipway_client.connect import Options
from slipway_client.loop import Ended
from slipway_client.requests import FixedRequest, read

from slipway.cli.printing import show
from slipway.cli.session import Session
from slipway.core.errors import UsageError
from slipway.core.schema import Settings
from slipway.core.setting_types import A_MODEL_NAME, MODEL_NAME
from slipway.core.types import ExportedModel, dump


@dataclass(frozen=True)
class Subject:
    """The model that a server is asked for. settings: what is asked of it. exported: the last export here."""

    settings: Settings
    exported: ExportedModel | None


def about(session: Session, model: str, name: str | None) -> Subject:
    """The model that is meant: one of the settings, or whatever the server calls by a name.

    Raises UsageError where the settings have several and none is named.
    """
    kept, settings = ("", session.settings) if name is not None and not model else session.one(model)
    if name is not None:
        if not MODEL_NAME.fullmatch(name):
            raise UsageError(f"--model-name {name}: expected {A_MODEL_NAME}")
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"name": name})})
    return Subject(settings, session.state.of(kept).kept(ExportedModel))


def questions(
    subject: Subject, server: str, work_dir: Path | None, signature: str
) -> Callable[[Client], Sequence[FixedRequest]]:
    """What the server is asked: MNIST's test images, or fixed requests. Raises UsageError for neither."""
    from slipway.model.mnist.idx import images_as_requests
    from slipway.smoke.replicas import READY_SECONDS

    smoke, name = subject.settings.smoke, subject.settings.model.name
    if work_dir is not None:
        return lambda client: images_as_requests(
            client, name, work_dir, smoke.num_tests, ready_timeout=READY_SECONDS, signature=signature
        )
    file = smoke.requests or (subject.exported.requests if subject.exported else None)
    if file is None:
        raise UsageError(
            f"nothing says what to ask {server}",
            action="name a JSONL file with --requests or MNIST's test files with --work_dir; "
            "`slipway model train` makes requests for MNIST",
        )
    fixed = read(file)
    return lambda _client: fixed


def prove(
    session: Session,
    subject: Subject,
    server: str,
    asked: Callable[[Client], Sequence[FixedRequest]],
    transport: Literal["grpc", "rest"],
    options: Options,
    *,
    as_json: bool,
) -> int:
    """Ask one server and tell how it went, with a dot for each answer and an x for each error."""
    from slipway.smoke.proof import prove_server, require

    with session.console.recording(None) as out:

        def dot(ended: Ended) -> None:
            if not as_json:
                out.write("." if ended.error is None else "x")
                out.flush()

        proof = prove_server(
            server, subject.settings, asked, transport=transport, options=options, on_end=dot
        )

    def lines() -> list[str]:
        gates = [
            f"{'ok    ' if gate.ok else 'FAILED'}  {gate.name}: {gate.value:g} "
            f"(limit {gate.limit:g}) {gate.note}".rstrip()
            for gate in proof.gates
        ]
        rate = "" if proof.accuracy is None else f"Inference error rate: {100 * (1 - proof.accuracy):.1f}%"
        return ["", *gates, *filter(None, [rate]), f"{server}: {proof.requests} requests"]

    show(json.loads(dump(proof)), as_json, lines)
    require(proof)
    return 0
