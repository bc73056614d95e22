"""What a Proof says of its gates and replicas, in words: the same for console, junit.xml and the page."""

from __future__ import annotations

from slipway.core.types import Gate, Proof, ReplicaProof, Values

LINES = 50  # replicas told one by one; who reads on reads smoke.json


def complaints(replica: ReplicaProof) -> list[str]:
    """What one replica did not do as it must; empty if it answered everything as recorded."""
    out = []
    if replica.errors:
        out.append(f"{replica.errors} of {replica.requests} requests failed")
    if replica.differences:
        out.append(f"{replica.differences} of {replica.requests} answers differ from the recorded ones")
    if replica.error:
        out.append(replica.error)
    if not replica.requests and not out:
        out.append("answered nothing")
    return out


def place(replica: ReplicaProof) -> str:
    """Where a replica is: its pod and node, or its address if it is not a pod of a cluster."""
    return f"pod {replica.pod} on node {replica.node or 'unknown'}" if replica.pod else replica.endpoint


def verdict(gate: Gate) -> str:
    """How a gate went: held, failed and what was found, or only what was found, where that is allowed."""
    if gate.ok:
        return gate.verdict or "held"
    return ", ".join(filter(None, ["failed", gate.verdict]))


def gate_line(gate: Gate) -> str:
    """A gate's value beside its limit, with the note that goes with it."""
    words = gate_note(gate)
    return f"{gate.name}: {gate.value:g}, the limit is {gate.limit:g}{f' ({words})' if words else ''}"


def gate_note(gate: Gate) -> str:
    """What the numbers of a gate cannot say."""
    return ": ".join(filter(None, [gate.verdict, gate.note]))


def which(proof: Proof, whole: Proof) -> str:
    """Which of several models a proof is of, to go before what is said of it; nothing where there is one."""
    return f"model {proof.model}: " if whole.beside else ""


def proofs(values: Values) -> list[tuple[Proof, str]]:
    """Each model's proof with whose it is, in words that tell them apart; none needed for a single one.

    A model beside another in one server goes by both names where there are several servers.
    """
    out = []
    for name, made in values.each:
        for one in made.proof.each if made.proof else ():
            alone = name if one is made.proof else f"{one.model} beside {name}"
            out.append((one, alone if name else one.model if made.proof and made.proof.beside else ""))
    return out


def failed_gates(proof: Proof) -> list[str]:
    """The names of the gates that failed, each with its model where there are several."""
    return [f"{which(one, proof)}{gate.name}" for one in proof.each for gate in one.gates if not gate.ok]


def replica_lines(proof: Proof) -> list[str]:
    """One line for each replica at fault in one model's answers, naming pod and node."""
    return [f"{place(one)}: {'; '.join(said)}" for one in proof.replicas if (said := complaints(one))]


def bad_lines(proof: Proof) -> list[str]:
    """One line for each failed gate, then one for each replica at fault, of many for the first of them."""
    return [
        f"{which(one, proof)}{line}"
        for one in proof.each
        for line in (
            *(f"gate {gate_line(gate)}" for gate in one.gates if not gate.ok),
            *_first(replica_lines(one)),
        )
    ]


def _first(lines: list[str]) -> list[str]:
    if len(lines) <= LINES:
        return lines
    return [*lines[:LINES], f"and {len(lines) - LINES} more replicas, which smoke.json names"]
