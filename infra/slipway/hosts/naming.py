"""What hosts that are made here are called, and which inventory groups they are in."""

from __future__ import annotations

from slipway.core.schema import HostsSettings

_GROUPS = {
    "cp": ("control_plane", "docker", "registry"),
    "worker": ("worker",),
    "model-server": ("model_server",),
}


def names(settings: HostsSettings) -> list[str]:
    """The hosts of a lab, the control plane first."""
    counts = {"worker": settings.workers, "model-server": settings.model_servers}
    return ["cp", *(f"{kind}-{number}" for kind in counts for number in range(1, counts[kind] + 1))]


def groups(name: str) -> tuple[str, ...]:
    """The groups of a host with one of these names."""
    return _GROUPS[name.rstrip("-0123456789")]
