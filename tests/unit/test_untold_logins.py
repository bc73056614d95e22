"""A login in whatever a stage says reaches neither the terminal nor any file of the run."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from slipway import pipeline
from slipway.cli.printing import show
from slipway.core.console import Console
from slipway.core.context import Context
from slipway.core.errors import HostError, SlipwayError
from slipway.core.events import Detail, Note
from slipway.core.schema import Settings
from slipway.core.state import State
from slipway.core.types import Hosts, Outcome
from slipway.status.closing import closing_lines

from tests.unit.test_pipeline import stage

PASSWORD = "canary-7f3a"
ADDRESS = f"http://bob:{PASSWORD}@mirror.example/debian"
HEADER = f"Proxy-Authorization: Basic {base64.b64encode(f'bob:{PASSWORD}'.encode()).decode()}"
SECRETS = (PASSWORD, HEADER.rpartition(" ")[2])


def good(self: Any, ctx: Context, settings: Settings) -> Outcome[Hosts]:
    ctx.emit(Note(f"asking {ADDRESS}"))
    ctx.emit(Detail(HEADER))
    return Outcome(Hosts("nspawn", ()), 1, f"made from {ADDRESS}")


def wrong(error: Exception) -> Any:
    def run(self: Any, ctx: Context, settings: Settings) -> Outcome[Hosts]:
        ctx.keep_evidence("said.txt", f"{HEADER}\n{ADDRESS}\n")
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (good, "made from"),
        (wrong(HostError(f"{ADDRESS} is out", tail=f"{HEADER}\nGET {ADDRESS}", action=ADDRESS)), "is out"),
        (wrong(ValueError(f"a bug with {ADDRESS}")), "unexpected ValueError"),
    ],
)
def test_no_login_is_told(run: Any, told: str, tmp_path: Path) -> None:
    terminal = io.StringIO()
    console = Console(terminal, {}, verbose=True)
    state = State(tmp_path / ".slipway")
    ctx = Context(state, state.new_run(), tmp_path, emit=console)
    with console.recording(ctx.run / "slipway.log"):
        ended = pipeline.run(ctx, Settings(), stages=(stage("hosts", run=run),))
        if isinstance(ended.error, SlipwayError):
            console.error(ended.error)
        for line in closing_lines(ended.run, ctx):
            console.line(line)
    files = {path: path.read_text() for path in ctx.run.rglob("*") if path.is_file()}
    texts = {"terminal": terminal.getvalue()} | {str(path): text for path, text in files.items()}
    assert [where for where, text in texts.items() for secret in SECRETS if secret in text] == []
    # what the secret stood in is told all the same, or nothing was looked at
    assert told in texts["terminal"]
    assert {"slipway.log", "run.json", "junit.xml", "index.html"} <= {path.name for path in files}
    assert "://***@mirror.example" in (ctx.run / "run.json").read_text()
    assert json.loads((ctx.run / "run.json").read_text())["stages"]


def test_no_login_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show({"from": ADDRESS}, True, list)
    show({}, False, lambda: [ADDRESS])
    document, line = capsys.readouterr().out.rsplit("}\n", 1)
    assert json.loads(document + "}") == {"from": "http://***@mirror.example/debian"}
    assert line == "http://***@mirror.example/debian\n"
