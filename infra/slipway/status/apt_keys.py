"""The keys of third parties' apt sources on a lab's hosts: are they the pinned ones, when do they end."""

from __future__ import annotations

from pathlib import Path

import yaml

from slipway.clients import openpgp
from slipway.core.project import COLLECTION

# Name of the source on hosts, to where below the roles its key is pinned, and the variable that does it
PINS = {
    "docker": ("docker/vars/main.yml", "_docker_key_fingerprint"),
    "kubernetes": ("kubernetes_node/vars/main.yml", "_kubernetes_node_key_fingerprint"),
    "tensorflow-serving": ("model_server/defaults/main.yml", "model_server_key_fingerprint"),
}


def pins(project: Path) -> dict[str, str]:
    """Source to the fingerprint its key must have, as the roles pin it: never what a host says it is."""
    out = {}
    for source, (file, variable) in PINS.items():
        out[source] = str(yaml.safe_load((project / COLLECTION / "roles" / file).read_text())[variable])
    return out


def read(project: Path, source: str, content: bytes) -> openpgp.Key:
    """A key file of that source. Raises KeyError for a source no role pins the key of."""
    return openpgp.read(project, content, pins(project)[source])
