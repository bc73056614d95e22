"""Which registry the image is pushed to and nodes pull it from: the user's own before the lab's."""

from __future__ import annotations

from infra.core.context import Context
from infra.core.schema import Settings
from infra.core.types import Cluster, Hosts, Registry

PORT = 5000
USER = "slipway"


def brought(settings: Settings) -> Registry | None:
    """The user's own registry, None where the settings name none."""
    image = settings.image
    if image.registry is None:
        return None
    return Registry(image.registry, image.username, image.password_file, image.ca_file)


def provided(ctx: Context, settings: Settings, hosts: Hosts | None) -> Registry | None:
    """The registry that goes with a cluster on these hosts: the user's, else the lab's own, else none."""
    own = hosts.group("registry") if hosts else ()
    if settings.image.registry is not None or not own:
        return brought(settings)
    kept = ctx.state.registry
    return Registry(f"{own[0].address}:{PORT}", USER, kept / "password", kept / "ca.crt")


def in_use(settings: Settings, cluster: Cluster | None) -> Registry | None:
    """The registry of an image for this cluster: one named since the cluster was made counts at once."""
    return brought(settings) or (cluster.registry if cluster is not None else None)
