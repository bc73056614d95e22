"""index.html: the run for people, one static page that needs nothing from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from infra.core.types import Proof, Result
from infra.reports import document
from infra.reports.document import RunValues
from infra.reports.junit import clean, troubles

STATUS = {"changed": "changed", "unchanged": "unchanged", "failed": "failed", "not_run": "not run"}


@dataclass(frozen=True)
class Link:
    """A file of the run. href is empty when it is not inside the run's folder: then it is only named."""

    text: str
    href: str


def page(run_dir: Path, results: tuple[Result, ...], values: RunValues, versions: Mapping[str, str]) -> str:
    """The page's HTML. Everything from outside (pod names, log tails) is escaped by the template."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("infra.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"duration": duration, "plain": clean, "percent": percent}
    done, proven = document.done(results, values), document.proven(results, values)
    return jinja.get_template("index.html.j2").render(
        run=run_dir.name,
        outcome="proven" if proven else "done" if done else "failed",
        headline=headline(results, values),
        failure=next((result for result in results if result.status == "failed"), None),
        results=results,
        status=STATUS,
        total=sum(result.seconds for result in results),
        hosts=document.hosts(values),
        values=values,
        replicas=_replicas(values.proof),
        versions=dict(versions),
        files=_files(run_dir, results),
        evidence={result.name: [link(run_dir, path) for path in result.evidence] for result in results},
    )


def headline(results: tuple[Result, ...], values: RunValues) -> str:
    """The outcome in one sentence."""
    proof = values.proof
    failed = next((result for result in results if result.status == "failed"), None)
    if proof is not None and not proof.ok:
        bad = [gate.name for gate in proof.gates if not gate.ok]
        return f"The deployment does not answer as it must: {', '.join(bad) or 'not proven'}"
    if failed is not None:
        return f"Failed in stage {failed.name}"
    if proof is None:
        ran = [result.name for result in results if result.status in ("changed", "unchanged")]
        return f"Done: {', '.join(ran)}. Nothing is proven, for smoke did not run" if ran else "Nothing ran"
    return f"Proven: {len(proof.replicas)} of {len(proof.replicas)} replicas answer correctly"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def percent(share: float) -> str:
    """A share of 1 as a percentage, never rounded up to 100 %."""
    return f"{math.floor(round(share * 1000, 6)) / 10:g} %"


def link(run_dir: Path, evidence: str) -> Link:
    """A link only to files inside the run's folder: nothing else is there where the page is read."""
    path = Path(evidence)
    absolute = path if path.is_absolute() else run_dir / path
    try:
        inside = absolute.resolve().relative_to(run_dir.resolve())
    except ValueError:
        return Link(evidence, "")
    # "./" first, or a file called "javascript:..." would be a scheme
    return Link(str(inside), f"./{quote(str(inside))}" if absolute.exists() else "")


def _files(run_dir: Path, results: tuple[Result, ...]) -> list[Link]:
    names = ["run.json", "junit.xml"]
    if (run_dir / "smoke.json").exists():
        names.insert(1, "smoke.json")
    links = {name: Link(name, f"./{name}") for name in names}
    for result in results:
        for path in result.evidence:
            found = link(run_dir, path)
            links.setdefault(found.text, found)
    return list(links.values())


def _replicas(proof: Proof | None) -> list[dict[str, Any]]:
    if proof is None:
        return []
    return [{"proof": replica, "troubles": troubles(replica)} for replica in proof.replicas]
