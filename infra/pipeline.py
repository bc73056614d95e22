"""The recipe: which stages there are, in which order, and how a run of them goes.

In: a Request. Out: a Run, and under `.slipway/runs/<UTC time>/` its report. Nothing else orders
stages; nothing here knows what a stage does.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
import traceback
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.core.context import Context
from infra.core.errors import GateFailed, SlipwayError, UsageError
from infra.core.events import Detail, Note, StageFinished, StageStarted
from infra.core.schema import Settings
from infra.core.stage import HasCollect, HasProvided, HasRemove, HasShouldRun, Stage
from infra.core.state import State, write_atomically
from infra.core.types import Outcome, Request, Result, Run, Status, dump, load
from infra.deploy import Deploy
from infra.hosts import MakeHosts
from infra.image import BuildImage
from infra.model import ExportModel
from infra.provision import Provision
from infra.report import Report
from infra.settings import ReadSettings
from infra.smoke import Smoke

STAGES: tuple[Stage, ...] = (
    ReadSettings(),
    MakeHosts(),
    Provision(),
    ExportModel(),
    BuildImage(),
    Deploy(),
    Smoke(),
    Report(),
)

# What an error means that carries no exit code of its own, by the stage it ended.
EXIT_CODES = {"settings": 2, "hosts": 3, "provision": 4, "model": 5, "image": 5, "deploy": 6, "smoke": 1}
INTERRUPTED = 130
KEPT_RUNS = 20
CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Ended:
    """A run, its exit code, and the error that ended it."""

    run: Run
    exit_code: int
    error: SlipwayError | None = None


def name_of(stage: Stage) -> str:
    """A stage is called as its module: infra.hosts -> hosts."""
    return type(stage).__module__.rpartition(".")[2]


def needs(stage: Stage, method: str = "run") -> dict[str, tuple[type, bool]]:
    """Parameter -> (type of the earlier value, whether the stage can do without it)."""
    hints = typing.get_type_hints(getattr(type(stage), method))
    out: dict[str, tuple[type, bool]] = {}
    for name, kind in hints.items():
        if name in ("self", "ctx", "return"):
            continue
        options = (
            typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
        )
        wanted = [option for option in options if option is not type(None)]
        out[name] = (wanted[0], len(wanted) < len(options))
    return out


def produces(stage: Stage) -> type:
    """The type of the value a stage hands on: T of its Outcome[T]."""
    kind: type = typing.get_args(typing.get_type_hints(type(stage).run)["return"])[0]
    return kind


def new_context(config: Path | None, directory: Path, emit: Any, *, keep: bool = True) -> Context:
    """A context with a fresh run folder. The state folder lies beside slipway.yaml, else in `directory`."""
    beside = config.parent.resolve() if config is not None else directory.resolve()
    state = State(beside / ".slipway")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    run = state.runs / stamp
    number = 1
    while keep and run.exists():
        number += 1
        run = state.runs / f"{stamp}-{number}"
    if keep:
        state.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.mkdir(mode=0o700, parents=True)
        latest = state.runs / "latest"
        fresh = state.runs / ".latest"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(run.name)
        fresh.replace(latest)
        for old in sorted(path for path in state.runs.iterdir() if path.is_dir() and not path.is_symlink())[
            :-KEPT_RUNS
        ]:
            shutil.rmtree(old)
    return Context(state=state, run=run, project=CHECKOUT, emit=emit)


def run(
    ctx: Context,
    request: Request,
    *,
    first: str = "",
    last: str = "",
    stages: Sequence[Stage] = STAGES,
) -> Ended:
    """Run the stages from `first` to `last` (all without them), then always the report.

    A stage before `first` is not run: its last value is read from the state folder; settings are
    always read anew. After a failure evidence is collected from the stages that ran, which never hides
    the first error; what they made stays, and the next run goes on from there.
    """
    *chain, report = stages
    names = [name_of(stage) for stage in chain]
    begin, end = _span(names, first, last)
    values: dict[type, object] = {Request: request}
    made: dict[str, object] = {}
    results: list[Result] = []
    error: SlipwayError | None = None
    exit_code = 0
    ran: list[Stage] = []
    for index, stage in enumerate(chain):
        name = names[index]
        if index > end or exit_code:
            why = "not asked for" if index > end else "an earlier stage failed"
            results.append(Result(name, "not_run", why, 0.0))
            continue
        if 0 < index < begin:
            value = saved(ctx, stage)
            if value is not None:
                values[produces(stage)] = made[name] = value
            why = "taken from the last run" if value is not None else "no value yet"
            results.append(Result(name, "not_run", why, 0.0))
            continue
        ran.append(stage)
        result, value, error, exit_code = _one(ctx, stage, values)
        results.append(result)
        if value is not None:
            values[produces(stage)] = made[name] = value
    if exit_code:
        results = [*_after_failure(ctx, ran, results)]
    ended = Run(ok=exit_code == 0, results=tuple(results), values=made, versions=versions())
    try:
        report.run(ctx, ended)
    except Exception as broken:  # the report must not hide how the run went
        ctx.emit(Note(f"the report could not be written: {broken}"))
        ctx.emit(Detail(traceback.format_exc()))
        if not exit_code:
            raise
    return Ended(ended, exit_code, error)


def _span(names: list[str], first: str, last: str) -> tuple[int, int]:
    """Where in the chain a run begins and ends. Raises UsageError."""
    for name in (first, last):
        if name and name not in names:
            raise UsageError(f"no such stage: {name}", action=f"stages are {', '.join(names)}")
    begin, end = names.index(first) if first else 0, names.index(last) if last else len(names) - 1
    if begin > end:
        raise UsageError(f"{first} comes after {last}", action=f"the order is {', '.join(names)}")
    return begin, end


def _one(
    ctx: Context, stage: Stage, values: dict[type, object]
) -> tuple[Result, object, SlipwayError | None, int]:
    """Run one stage: its result, value, error and exit code."""
    name = name_of(stage)
    begin = time.monotonic()
    value: object = None
    error: SlipwayError | None = None
    code = 0
    changed = 0
    status: Status = "failed"
    evidence: tuple[str, ...] = ()
    try:
        settings = values.get(Settings)
        reason = stage.should_run(settings) if isinstance(stage, HasShouldRun) else ""
        if not reason:
            ctx.emit(StageStarted(name, stage.title))
        if reason:
            outcome: Outcome[Any] | None = (
                stage.provided(ctx, settings) if isinstance(stage, HasProvided) else None
            )
            value, status = (outcome.value if outcome else None), "not_run"
            reason = f"{reason}: {outcome.summary}" if outcome and outcome.summary else reason
        else:
            outcome = stage.run(ctx, **_arguments(stage, values))
            value, changed, reason = outcome.value, outcome.changed, outcome.summary
            status = "changed" if changed else "unchanged"
        if value is not None and not isinstance(value, Settings):
            write_atomically(ctx.state.values / f"{name}.json", dump(value), mode=0o600)
    except KeyboardInterrupt:
        reason, code, status = "interrupted", INTERRUPTED, "failed"
        error = SlipwayError(f"interrupted during {name}", action="the same command goes on from here")
    except SlipwayError as failure:
        error, reason, status = failure, "\n".join(failure.lines()), "failed"
        code = failure.exit_code or EXIT_CODES.get(name, 3)
        evidence = tuple(str(path) for path in failure.evidence)
        value = failure.value if isinstance(failure, GateFailed) else None  # a failed proof is still one
    except Exception as failure:  # noqa: BLE001  # a bug: kept whole in the log, told in one line
        trace = traceback.format_exc()
        ctx.emit(Detail(trace))
        log = ctx.evidence(f"{name}.traceback")
        log.write_text(trace, encoding="utf-8")
        error = SlipwayError(
            f"{name} ended in an unexpected {type(failure).__name__}: {failure}",
            action="this is a bug in slipway; please report it with the file below",
            evidence=(log,),
        )
        reason, code, status = error.what, EXIT_CODES.get(name, 3), "failed"
        evidence = (str(log),)
    seconds = time.monotonic() - begin
    ctx.emit(StageFinished(name, status, seconds, reason.splitlines()[0] if reason else ""))
    return Result(name, status, reason, seconds, changed, evidence), value, error, code


def _arguments(
    stage: Stage, values: dict[type, object], *, partial: bool = False, method: str = "run"
) -> dict[str, object]:
    out: dict[str, object] = {}
    for parameter, (kind, optional) in needs(stage, method).items():
        value = values.get(kind)
        if value is None and not optional and not partial:
            earlier = next(name_of(other) for other in STAGES if produces(other) is kind)
            raise UsageError(
                f"{name_of(stage)} needs what {earlier} makes, and there is none yet",
                action=f"`slipway up` does the whole chain, `slipway up --from {earlier}` from there on",
            )
        out[parameter] = value
    return out


def _after_failure(ctx: Context, ran: list[Stage], results: list[Result]) -> Iterable[Result]:
    """Collect evidence of every stage that ran."""
    found: list[str] = []
    troubles: list[str] = []
    for stage in ran:
        if isinstance(stage, HasCollect):
            try:
                found += [str(path) for path in stage.collect(ctx)]
            except Exception as trouble:  # noqa: BLE001  # must not hide the first error
                troubles.append(f"collecting evidence of {name_of(stage)}: {trouble}")
    for line in troubles:
        ctx.emit(Note(line))
    for result in results:
        if result.status == "failed":
            reason = "\n".join([result.reason, *troubles])
            yield replace(result, reason=reason, evidence=tuple(dict.fromkeys((*result.evidence, *found))))
        else:
            yield result


def saved(ctx: Context, stage: Stage) -> Any:
    """The value a stage made last, or None."""
    path = ctx.state.values / f"{name_of(stage)}.json"
    if not path.is_file():
        return None
    try:
        return load(produces(stage), path.read_bytes())
    except ValueError:
        return None  # written by another version: the stage has to run again


def saved_value(ctx: Context, kind: type) -> Any:
    """The last value of this type, or None."""
    return next((saved(ctx, stage) for stage in STAGES if produces(stage) is kind), None)


def plan(ctx: Context, request: Request, *, stages: Sequence[Stage] = STAGES) -> list[tuple[str, list[str]]]:
    """(stage, what its run would change) for each stage of the chain; changes nothing."""
    values: dict[type, object] = {Request: request}
    out: list[tuple[str, list[str]]] = []
    for stage in stages[:-1]:
        name = name_of(stage)
        if name == "settings":
            values[Settings] = stage.run(ctx, **_arguments(stage, values)).value
            continue
        if isinstance(stage, HasShouldRun) and (reason := stage.should_run(values[Settings])):
            if isinstance(stage, HasProvided):
                values[produces(stage)] = stage.provided(ctx, values[Settings]).value
            out.append((name, []))
            ctx.emit(Note(f"{name}: {reason}"))
            continue
        out.append((name, stage.plan(ctx, **_arguments(stage, values, partial=True, method="plan"))))
        value = saved(ctx, stage)
        if value is not None:
            values[produces(stage)] = value
    return out


def down(ctx: Context, settings: Settings, *, stages: Sequence[Stage] = STAGES) -> list[str]:
    """Remove what the stages made, last to first, then the state folder but for the reports of runs.

    Every stage is tried even when another one fails; the first failure is raised at the end, and the
    state folder then stays, so that a second `down` can finish.
    """
    removed: list[str] = []
    failed: list[SlipwayError] = []
    for stage in reversed(stages):
        if isinstance(stage, HasRemove):
            try:
                removed += stage.remove(ctx, settings)
            except SlipwayError as error:
                failed.append(error)
                ctx.emit(Note(f"{name_of(stage)}: {error.what}"))
    if failed:
        raise failed[0]
    if ctx.state.root.is_dir():
        for path in sorted(ctx.state.root.iterdir()):
            if path in (ctx.state.runs, ctx.state.lock):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed.append(f"{path.name} of the state folder")
    return removed


def versions() -> dict[str, str]:
    """What this run was made with."""
    out = {"python": platform.python_version(), "kernel": platform.release()}
    for name in (
        "slipway",
        "ansible-core",
        "ansible-runner",
        "pulumi",
        "pulumi-kubernetes",
        "tensorflow-cpu",
    ):
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return out
