"""Stage 8: all results -> run.json, junit.xml, index.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from infra.core.context import Context
from infra.core.state import write_atomically
from infra.core.types import Outcome, Result, Run
from infra.reports.document import RunValues, document
from infra.reports.junit import junit
from infra.reports.page import page


def write(
    run_dir: Path, results: tuple[Result, ...], values: Mapping[str, object], versions: Mapping[str, str]
) -> tuple[Path, ...]:
    """Tell a run that ended at any stage: run.json, junit.xml and index.html in its folder.

    values: what the stages handed on, under any key; they are told apart by type. Files are replaced
    one by one and whole, so a failure leaves older ones readable.
    """
    known = RunValues.of(values.values())
    texts = {
        "run.json": json.dumps(document(results, known, versions), indent=2, default=str) + "\n",
        "junit.xml": junit(results, known),
        "index.html": page(run_dir, results, known, versions),
    }
    for name, text in texts.items():
        write_atomically(run_dir / name, text)
    return tuple(run_dir / name for name in texts)


class Report:
    """All results in three forms. It is not a stage of its own list: it also runs when one failed."""

    title: ClassVar[str] = "Write the report"

    def run(self, ctx: Context, run: Run) -> Outcome[tuple[Path, ...]]:
        """Write the report of this run into its folder."""
        files = write(ctx.run, run.results, run.values, run.versions)
        return Outcome(files, changed=0, summary=f"{files[-1]}")

    def plan(self, ctx: Context, run: Run | None = None) -> list[str]:
        """A report changes nothing but its own run's folder."""
        return []
