"""junit.xml: stages, gates and replicas as test cases, so that any CI shows what failed and where."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from slipway.core.types import Gate, Proof, ReplicaProof, Result, Values
from slipway.core.verdicts import complaints, gate_line, gate_note, place, proofs, replica_lines

# Terminal colours first (their escape character alone is illegal too), then what XML 1.0 cannot hold.
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: tuple[Result, ...], values: Values) -> str:
    """The whole run as one `testsuites` document."""
    root = ET.Element("testsuites", name="slipway")
    _suite(root, "stages", [_stage(result) for result in results])
    for proof, whose in proofs(values):
        of = f" of {whose}" if whose else ""
        _suite(root, f"gates{of}", [_gate(gate, proof) for gate in proof.gates])
        _suite(root, f"replicas{of}", [_replica(replica, proof) for replica in proof.replicas])
    _count(root, list(root.iter("testcase")))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def clean(text: str) -> str:
    """Text without terminal colours and without characters XML cannot hold."""
    return _ILLEGAL.sub("\ufffd", _ANSI.sub("", text))


def _stage(result: Result) -> ET.Element:
    case = _case("stages", result.label, result.seconds)
    if result.status == "failed":
        _failure(case, result.reason.splitlines()[0] if result.reason else "failed", result.reason)
    elif result.status == "not_run":
        ET.SubElement(case, "skipped", message=clean(result.reason))
    return case


def _gate(gate: Gate, proof: Proof) -> ET.Element:
    case = _case("gates", gate.name)
    if not gate.ok:
        _failure(case, gate_line(gate), "\n".join(replica_lines(proof)))
    elif gate.verdict:
        ET.SubElement(case, "skipped", message=clean(gate_note(gate)))
    return case


def _replica(replica: ReplicaProof, proof: Proof) -> ET.Element:
    case = _case("replicas", replica.pod)
    what = complaints(replica)
    if what and not proof.ok:  # the gates say how much trouble is allowed
        _failure(case, f"{place(replica)}: {'; '.join(what)}", "\n".join(what))
    return case


def _case(suite: str, name: str, seconds: float = 0.0) -> ET.Element:
    return ET.Element("testcase", classname=f"slipway.{suite}", name=clean(name), time=f"{seconds:.3f}")


def _failure(case: ET.Element, message: str, text: str) -> None:
    ET.SubElement(case, "failure", message=clean(message)).text = clean(text) or None


def _suite(root: ET.Element, name: str, cases: list[ET.Element]) -> None:
    suite = ET.SubElement(root, "testsuite", name=name)
    suite.extend(cases)
    _count(suite, cases)


def _count(element: ET.Element, cases: list[ET.Element]) -> None:
    element.set("tests", str(len(cases)))
    element.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    element.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")
