"""What of the playbooks decides what is baked into a root."""

from __future__ import annotations

from pathlib import Path

from slipway.artifacts.cache import digest_of

# bake.yml, and what it runs
_ROLES = ("apt_source", "docker", "host", "kubernetes_node", "registry")
_COLLECTION = "collections/ansible_collections/slipway/serving"
_PARTS = (
    "bake.yml",
    f"{_COLLECTION}/plugins",
    *(f"{_COLLECTION}/roles/{role}/{part}" for role in _ROLES for part in ("defaults", "tasks", "vars")),
)


def recipe(playbooks: Path) -> str:
    """A digest over the playbook and the roles that bake."""
    files = sorted(
        path
        for part in _PARTS
        for path in ((playbooks / part).rglob("*") if (playbooks / part).is_dir() else [playbooks / part])
        if path.is_file() and path.suffix != ".pyc"
    )
    return digest_of(
        *(text for path in files for text in (str(path.relative_to(playbooks)), path.read_bytes()))
    )
