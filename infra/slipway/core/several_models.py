"""What several models must not both have: a name, a place at a Gateway, a registry of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipway.core.schema import Settings

Problem = tuple[str, str]  # the key, and what is wrong with it


def clashes(settings: Settings) -> list[Problem]:
    """What of the settings cannot be had by several models at once; nothing where there are no `models`."""
    if not settings.models:
        return []
    out: list[Problem] = []
    if "name" in settings.model.model_fields_set:
        out.append(("model.name", "is not used with models: each is called by its key there"))
    each = dict(settings.each())
    return out + _names(each) + _routes(each) + _registries(settings)


def _names(each: dict[str, Settings]) -> list[Problem]:
    """Two of one name would meet in every object and folder that is called after it."""
    out: list[Problem] = []
    taken: dict[str, str] = {}
    for key, one in each.items():
        name = one.model.name
        if name in taken:
            out.append((f"models.{key}.model.name", f"models.{taken[name]} is called {name} already"))
        taken.setdefault(name, key)
    return out


def _routes(each: dict[str, Settings]) -> list[Problem]:
    """A Gateway tells models apart by host name or listener; of two routes for one it serves the older."""
    out: list[Problem] = []
    taken: dict[tuple[str | None, ...], tuple[str, str]] = {}
    for key, one in each.items():
        deploy = one.deploy
        if deploy.gateway is None:
            continue
        gateway = (deploy.gateway, deploy.gateway_namespace or deploy.namespace)
        for kind, listener, host in (
            ("rest", deploy.rest_listener, deploy.rest_hostname),
            ("grpc", deploy.grpc_listener, deploy.grpc_hostname),
        ):
            other, its_kind = taken.setdefault((*gateway, listener, host), (key, kind))
            if other == key:
                continue
            name = f"deploy.{kind}_hostname"
            which = f"{host} at Gateway {deploy.gateway}" if host else f"all of Gateway {deploy.gateway}"
            out.append(
                (
                    f"models.{key}.{name}",
                    f"{which} is {its_kind}_hostname of models.{other} already: set "
                    f"models.{key}.{name} to another host name, or {kind}_listener to another listener",
                )
            )
    return out


def _registries(settings: Settings) -> list[Problem]:
    """There is one: hosts and nodes are set up for it, and a namespace holds the one login that pulls."""
    return [
        (
            f"models.{key}.image.{name}",
            f"is not a model's own: hosts, nodes and namespaces have one registry; set image.{name}",
        )
        for key, own in settings.models.items()
        for name in ("registry", "username", "password_file", "ca_file")
        if own.sets(f"image.{name}")
    ]
