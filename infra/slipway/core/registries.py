"""Which registry the image is pushed to and nodes pull it from: the user's own before the lab's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from slipway.core.context import Context
from slipway.core.errors import EnvironmentFault, UsageError
from slipway.core.schema import Settings
from slipway.core.types import Cluster, Hosts, Login, Registry
from slipway.core.user_files import text_of

PORT = 5000
USER = "slipway"
PULL_USER = "slipway-pull"
_LONGEST_PASSWORD = 1 << 14  # bytes; a cloud's token has some 2,000
PULL_SECRET = "registry-login"  # noqa: S105  # the name of the login in the cluster


def brought(settings: Settings) -> Registry | None:
    """The user's own registry, None where the settings name none."""
    image = settings.image
    if image.registry is None:
        return None
    return Registry(image.registry, image.username, image.password_file, image.ca_file)


def provided(ctx: Context, settings: Settings, hosts: Hosts | None) -> Registry | None:
    """The registry that goes with a cluster on these hosts: the user's, else the lab's own, else None.

    Under which address its host is known to the others is decided where it is set up: see `as_told`.
    """
    own = hosts.group("registry") if hosts else ()
    if settings.image.registry is not None or not own:
        return brought(settings)
    kept = ctx.state.registry
    return Registry(
        f"{own[0].address}:{PORT}",
        USER,
        kept / "password",
        kept / "ca.crt",
        pull=Login(PULL_USER, kept / "pull-password"),
    )


def as_told(registry: Registry | None, told: Mapping[str, str]) -> Registry | None:
    """The lab's own registry under the address that hosts know it by, and where it is reached from here.

    told: address and external, as the play says them; empty if it does not.
    """
    if registry is None or registry.pull is None or not told:
        return registry
    reached = told["external"] if told["external"] != told["address"] else None
    return replace(registry, address=told["address"], reached=reached)


def as_nodes_see_it(registry: Registry) -> Registry:
    """The same registry with the login that only pulls, if it has one, in place of the one that pushes."""
    if registry.pull is None:
        return registry
    return replace(
        registry, username=registry.pull.username, password_file=registry.pull.password_file, pull=None
    )


def password(registry: Registry) -> str:
    """The password of a registry's login, as it is in its file but for the line's end.

    Raises EnvironmentFault for a file that cannot be read or is no line of text.
    """
    if registry.password_file is None:
        raise EnvironmentFault(
            f"no password for {registry.username} at {registry.address}",
            action="put it into a file only you can read, and name that: image.password_file",
        )
    action = "image.password_file must be a file this user can read, with the password on its only line"
    try:
        text = text_of(registry.password_file, action=action, largest=_LONGEST_PASSWORD).strip("\r\n")
    except UsageError as error:
        raise EnvironmentFault(f"cannot read the registry's password: {error.what}", action=action) from error
    if not text or not text.isprintable():
        raise EnvironmentFault(
            f"cannot read the registry's password: {registry.password_file} holds "
            f"{'more than a line of text' if text else 'nothing'}",
            action=action,
        )
    return text


def in_use(settings: Settings, cluster: Cluster | None) -> Registry | None:
    """The registry of an image for this cluster: settings win over what the cluster was made with."""
    return brought(settings) or (cluster.registry if cluster is not None else None)
