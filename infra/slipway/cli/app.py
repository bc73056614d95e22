"""The command line: every verb in the order of use, and the only caller of exit."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from slipway.cli import (
    chain,
    clean,
    deploy,
    hosts,
    image,
    init,
    looking,
    machines,
    model,
    model_files,
    provision,
    serve,
    setup,
    smoke,
)
from slipway.core import project
from slipway.core.console import Console
from slipway.core.errors import INTERRUPTED
from slipway.core.faults import explained, keep_traceback

EPILOG = """Settings come from slipway.yaml, SLIPWAY_* variables and --set; `slipway settings` lists them.

Exit codes: 0 proved, 1 smoke or a gate failed, 2 wrong use or settings, 3 environment, artifacts, hosts or
another run at work, 4 provision, 5 model or image, 6 serve or deploy, 130 interrupted."""
WIDTH = {"max_content_width": 100}


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"slipway {project.version()}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From bare Ubuntu or Debian hosts to TensorFlow Serving on Kubernetes, proved on every replica."""


def _group(name: str, words: str, **verbs: Callable[..., int]) -> None:
    group = typer.Typer(help=words, no_args_is_help=True)
    for verb, act in verbs.items():
        # what follows the name of a host is the command to run there
        rest = {"allow_extra_args": True, "ignore_unknown_options": True} if act is hosts.ssh else {}
        group.command(verb, context_settings={**WIDTH, **rest})(act)
    app.add_typer(group, name=name)


app = typer.Typer(
    name="slipway",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=WIDTH,
)
app.callback()(_root)
for verb in (
    chain.up,
    chain.plan,
    chain.down,
    clean.clean,
    looking.status,
    looking.doctor,
    init.init,
    setup.setup,
    looking.settings,
    looking.env,
    provision.provision,
    serve.serve,
    deploy.deploy,
    deploy.preview,
    deploy.render,
    deploy.destroy,
    smoke.smoke,
    looking.report,
):
    app.command(context_settings=WIDTH)(verb)
_group(
    "hosts",
    "Make, list, enter and remove the machines.",
    up=hosts.up,
    down=hosts.down,
    bake=hosts.bake,
    list=hosts.list_,
    ssh=hosts.ssh,
    create=machines.create,
    destroy=machines.destroy,
    **{"cloud-init": machines.cloud_init},
)
_group(
    "model",
    "Train, export, inspect, save and restore the model.",
    train=model.train,
    export=model.export,
    inspect=model.inspect,
    save=model_files.save,
    restore=model_files.restore,
)
_group("image", "Build and verify the serving image.", build=image.build, verify=image.verify)


def main() -> NoReturn:
    """Run the command line and exit with its code. Whatever ends it is told without a traceback."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = _code()
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _code() -> int:
    """Run the command line and tell what ended it. Returns the exit code."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (
        SystemExit
    ) as ended:  # typer's way of ending when nobody reads stdout any more: `slipway status | head`
        return 3 if ended.code == 1 else int(ended.code or 0)
    except Exception as failure:  # noqa: BLE001  # told in words, whatever it is
        show = getattr(failure, "show", None)  # typer's own errors of use
        if show is not None:
            show()
            return 2
        error = explained(failure, "slipway", keep_traceback)
        _let_go_of_stdout()
        Console().error(error)
        return error.exit_code or 3


def _let_go_of_stdout() -> None:
    """What stdout did not take is dropped: Python would try once more at the very end, and say so."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminated(_signal: int, _frame: object) -> NoReturn:
    """SIGTERM ends a run as Ctrl-C does: children ended, evidence kept, report written."""
    raise KeyboardInterrupt
