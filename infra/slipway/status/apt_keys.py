"""The keys of third parties' apt sources on a lab's hosts: are they the pinned ones, when do they end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from slipway.clients import openpgp

COLLECTION = Path("playbooks/collections/ansible_collections/slipway/serving")
# Name of the source on hosts, to where below the roles its key is pinned, and the variable that does it
PINS = {
    "docker": ("docker/vars/main.yml", "_docker_key_fingerprint"),
    "kubernetes": ("kubernetes_node/vars/main.yml", "_kubernetes_node_key_fingerprint"),
    "tensorflow-serving": ("model_server/defaults/main.yml", "model_server_key_fingerprint"),
}
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class AptKey:
    """What a key file on a host is worth. problem: why it may not be trusted; empty when it may."""

    ends: datetime
    problem: str


def pins(project: Path) -> dict[str, str]:
    """Source to the fingerprint its key must have, as the roles pin it: never what a host says it is."""
    out = {}
    for source, (file, variable) in PINS.items():
        out[source] = str(yaml.safe_load((project / COLLECTION / "roles" / file).read_text())[variable])
    return out


def read(project: Path, source: str, content: bytes) -> AptKey:
    """A key file of that source. Raises KeyError for a source no role pins the key of."""
    module = openpgp.reader(project)
    problem = str(module.problem(content, pins(project)[source]))
    if problem:
        return AptKey(NEVER, problem)
    ends = float(module.ends(module.dearmor(content)))
    return AptKey(NEVER if ends == float("inf") else datetime.fromtimestamp(ends, UTC), "")
