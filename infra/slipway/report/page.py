"""index.html: the run for people, one static page that needs nothing from outside."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from slipway.core.timing import critical_path, whole_seconds
from slipway.core.types import Proof, Result, Values
from slipway.core.verdicts import complaints, failed_gates, proofs, verdict
from slipway.report import document
from slipway.report.junit import clean

if TYPE_CHECKING:  # a command that writes no page does not wait for it
    from jinja2 import Template

ROWS = 500  # of a table: a page of thousands is slow to open, and smoke.json has each
STATUS = {"changed": "changed", "unchanged": "unchanged", "failed": "failed", "not_run": "not run"}


@dataclass(frozen=True)
class Link:
    """A file of the run. href is empty when it is not inside the run's folder: then it is only named."""

    text: str
    href: str


def page(run_dir: Path, results: tuple[Result, ...], values: Values, versions: Mapping[str, str]) -> str:
    """The page's HTML. Everything from outside (pod names, log tails) is escaped by the template."""
    done, proven = document.done(results, values), document.proven(results, values)
    return _template().render(
        run=run_dir.name,
        outcome="proven" if proven else "done" if done else "failed",
        headline=headline(results, values),
        failure=next((result for result in results if result.status == "failed"), None),
        results=results,
        status=STATUS,
        total=whole_seconds(results),
        path=critical_path(results),
        hosts=document.hosts(values),
        values=values,
        proofs=_proofs(values),
        deployed=[(name, one) for name, one in values.each if one.model or one.image or one.endpoints],
        versions=dict(versions),
        nodes=_nodes(values),
        files=_files(run_dir, results),
        evidence={result.label: [link(run_dir, path) for path in result.evidence] for result in results},
    )


@cache
def _template() -> Template:
    """The page's template, compiled once a process."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("slipway.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {"duration": duration, "plain": clean, "percent": percent, "verdict": verdict}
    return jinja.get_template("index.html.j2")


def headline(results: tuple[Result, ...], values: Values) -> str:
    """The outcome in one sentence."""
    failed = next((result for result in results if result.status == "failed"), None)
    for name, one in values.each:
        if one.proof is not None and not one.proof.ok:
            bad = failed_gates(one.proof)
            which = f"The deployment of {name}" if name else "The deployment"
            return f"{which} does not answer as it must: {', '.join(bad) or 'not proven'}"
    if failed is not None:
        return f"Failed in stage {failed.label}"
    held = [proof for proof, _ in proofs(values)]
    if any(one.proof is None for _, one in values.each):
        ran = [result.label for result in results if result.status in ("changed", "unchanged")]
        return f"Done: {', '.join(ran)}. Nothing is proven, for smoke did not run" if ran else "Nothing ran"
    count = sum(len(one.proof.replicas) for _, one in values.each if one.proof)
    what = "of their models" if values.models else "models"
    models = f" for each of {len(held)} {what}" if len(held) > 1 else ""
    return f"Proven: {count} of {count} replicas answer correctly{models}"


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
    made = [*run_dir.glob("smoke.json"), *sorted(run_dir.glob("models/*/smoke.json"))]
    names[1:1] = [str(path.relative_to(run_dir)) for path in made]
    links = {name: Link(name, f"./{quote(name)}") for name in names}
    for result in results:
        for path in result.evidence:
            found = link(run_dir, path)
            links.setdefault(found.text, found)
    return list(links.values())


def _proofs(values: Values) -> list[dict[str, Any]]:
    """The proof of each model; of, mark: what headings and anchors add where there are several."""
    return [
        {
            "proof": one,
            "replicas": _replicas(one),
            "of": f" of {whose}" if whose else "",
            "mark": f"-{number}" if number else "",
        }
        for number, (one, whose) in enumerate(proofs(values))
    ]


def _replicas(proof: Proof) -> dict[str, Any]:
    """What the page tells of replicas: counts of all, rows of as many as it holds, those at fault first."""
    told = [{"proof": replica, "complaints": complaints(replica)} for replica in proof.replicas]
    right = [one for one in told if not one["complaints"]]
    rows = told
    if len(told) > ROWS:
        rows = [*(one for one in told if one["complaints"]), *right][:ROWS]
    return {"count": len(told), "right": len(right), "rows": rows}


def _nodes(values: Values) -> list[tuple[str, str]]:
    """(what, in words) of the cluster's nodes: each, or of many how many are alike."""
    nodes = values.cluster.nodes if values.cluster else ()
    if len(nodes) <= ROWS:
        return [
            (f"node {node.name}", f"{node.version}, {_role(node.role)}, {node.address}") for node in nodes
        ]
    alike = Counter((node.version, _role(node.role)) for node in nodes)
    return [(f"{count} nodes", f"{version}, {role}") for (version, role), count in alike.most_common()]


def _role(role: str) -> str:
    return role.replace("_", " ")
